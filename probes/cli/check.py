"""`probes check`: compare a run with a baseline."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from probes.analysis.measures import MEASURES
from probes.cli import flags
from probes.core.errors import ProbesError
from probes.core.files import atomic_write
from probes.core.tables import listing, wrapped
from probes.regression import show
from probes.regression.baseline import NAMES, TIE_TOLERANCE, Baseline, to_json
from probes.regression.capture import capture
from probes.regression.checking import BAND, check, renew, with_bands
from probes.regression.junit_xml import junit
from probes.regression.markdown import summary
from probes.regression.reading import read
from probes.regression.reruns import (
    OperatingCharacteristics,
    operating_characteristics,
    warnings,
)
from probes.regression.snapshot import SCRIPTED, Snapshot

PASSED, FAILED = 0, 1

_DESCRIPTION = f"""\
Compare a run with a baseline: have its accuracies, gains, drops, transfers and differences in
differences (DiD) changed?

--gate statistical (the default) gives every metric one of three outcomes:
  changed       the cluster-robust 95 % interval of its paired change excludes 0 (and p, by Holm
                within the metric's family, is at most 0.05), and the change is larger than the band
  not excluded  the data cannot rule out a change larger than the band
  same          the interval lies within the band, -BAND .. +BAND, or no item changed
It fails if a metric changed, for the worse or the better; with --strict, also if a change is not
excluded. The output ends with how often that happens by chance, and which regressions are found. A
choice between two options that are within --tie-tolerance nats of each other in both runs may go
either way.

--gate exact passes if every record is the same: cache key, status, choice, tokens,
log-probabilities within 1e-4. It judges only on the baseline's platform (processor class, versions
of torch and transformers, dtype, ...); elsewhere the exit code is 2, unless --fallback statistical
lets the statistical gate decide.

--update writes the baseline from the run instead, and warns where it has too few items for its
bands. Bands, families and tie tolerance of the file that it replaces are kept; in a new file every
metric has a band of {BAND:g} points. Bands are the first lines of the file, one metric a line: edit
them, or delete what is not to be guarded.
"""
_EPILOG = """\
examples:
  probes check results/runs/DAY/RUN --against results/baselines/mine.json --update --band did=4
  probes check results/runs/DAY/RUN --against results/baselines/mine.json --junit check.xml

Exit codes: 0 passed (or written), 1 failed, 2 cannot be judged (wrong usage, other questions than
the baseline's, too many answers that failed by machine, the exact gate on another platform).
docs/ci.md explains the gates and shows a workflow for CI.
"""


def main(arguments: Sequence[str]) -> int:
    """Run `probes check` with these arguments and return the exit code."""
    given = parser().parse_args(arguments)
    _require_usable(given)
    for file in filter(None, (given.junit, given.summary)):
        # Where nothing can be judged, no earlier result stays. Writing says what is wrong with it.
        with suppress(OSError):
            file.unlink(missing_ok=True)
    run = capture(given.path, edited=given.edited, partial=given.partial)
    # Of two bands for one metric the later one counts.
    bands = dict(given.band or ())
    if given.update:
        return _update(given, run, bands)
    baseline = _tolerant(with_bands(read(given.against), bands), given.tie_tolerance)
    path, against = str(given.path), str(given.against)
    found = check(baseline, run, given.gate, path, strict=given.strict, fallback=given.fallback)
    # The exact gate asks for no bands, and so has none of these rates.
    rates = operating_characteristics(baseline) if found.gate == "statistical" else None
    print("\n".join(show.lines(found, path, against, given.items)))
    if rates:
        print("\n".join(_told(baseline, rates)))
    # After the lines: a file that cannot be written must not hide what was found.
    if given.junit:
        _write(given.junit, junit(found, path, against, given.items))
    if given.summary:
        _write(given.summary, summary(found, path, against, given.items, rates).encode())
    return PASSED if found.passed else FAILED


def _told(baseline: Baseline, rates: OperatingCharacteristics) -> list[str]:
    """Return the operating characteristics as lines, below an empty one."""
    table = show.rates_table(baseline, rates)
    return ["", *listing([table], show.rates_notes(rates), show.WIDTH)]


def _require_usable(given: argparse.Namespace) -> None:
    """Raise ProbesError for options that do not go together."""
    for name in ("junit", "summary", "strict", "fallback"):
        if given.update and getattr(given, name):
            raise ProbesError(
                f"--update checks nothing, so --{name} has nothing to do",
                "probes check",
                "leave out one",
            )
    misused = {
        "--fallback": (given.fallback and given.gate != "exact", "add --gate exact"),
        "--measure": (given.measure and not given.update, "add --update"),
        "--scripted": (given.scripted and not given.update, "add --update"),
    }
    for option, (is_misused, fix) in misused.items():
        if is_misused:
            raise ProbesError("this option does nothing here", option, f"{fix}, or leave it out")
    if given.edited and given.update:
        raise ProbesError(
            "a baseline is not made from edited tables",
            "--edited",
            "leave it out: the message then says how the run is written again",
        )
    if given.partial and given.update:
        raise ProbesError(
            "a baseline is made of a whole run",
            "--partial",
            "leave it out, and run the shards that are missing",
        )


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command's arguments."""
    parser = argparse.ArgumentParser(
        prog="probes check",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("path", type=Path, help="a run folder, or a folder above those of a sweep")
    parser.add_argument("--against", type=Path, required=True, metavar="FILE", help="the baseline")
    _add_judging(parser)
    _add_writing(parser)
    flags.add_edited(parser)
    flags.add_partial(parser)
    return parser


def _add_judging(parser: argparse.ArgumentParser) -> None:
    """Add what decides the outcomes."""
    parser.add_argument(
        "--gate",
        choices=("statistical", "exact"),
        default="statistical",
        help="what decides (default: %(default)s)",
    )
    parser.add_argument(
        "--fallback",
        choices=("statistical",),
        help="with --gate exact: what decides elsewhere than on the baseline's platform",
    )
    parser.add_argument(
        "--strict", action="store_true", help="fail also where a change is not excluded"
    )
    parser.add_argument(
        "--band",
        type=_band,
        action="append",
        metavar="[METRIC=]POINTS",
        help=f"another band for all metrics, or for one kind ({', '.join(NAMES)}, or a measure, in "
        "its unit); repeatable",
    )
    parser.add_argument(
        "--measure",
        action="append",
        metavar="NAME",
        help="with --update: guard this measure too, e.g. margin; give its --band; repeatable",
    )
    parser.add_argument(
        "--tie-tolerance",
        type=_nats,
        metavar="NATS",
        help=f"instead of the baseline's; {TIE_TOLERANCE:g} in a new one",
    )


def _add_writing(parser: argparse.ArgumentParser) -> None:
    """Add what is written, and where."""
    parser.add_argument(
        "--items",
        type=_count,
        default=20,
        metavar="N",
        help="changed answers to list (default: %(default)s); the rest are counted",
    )
    parser.add_argument("--junit", type=Path, metavar="FILE", help="write JUnit XML too")
    parser.add_argument("--summary", type=Path, metavar="FILE", help="write it as Markdown too")
    parser.add_argument("--update", action="store_true", help="write the baseline from this run")
    parser.add_argument(
        "--scripted",
        action="store_true",
        help="with --update: take a run that no model answered; the baseline then says so",
    )


def _number(text: str) -> float:
    # float() also reads "nan" and "inf", and nothing leaves a band of these.
    value = float(text)
    if not math.isfinite(value) or value < 0:
        raise ValueError
    return value


def _nats(text: str) -> float:
    try:
        return _number(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 on") from None


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 on")
    return int(text)


def _band(text: str) -> tuple[str, float]:
    # Without an equal sign the name is empty: the band of all metrics.
    name, equals, value = text.rpartition("=")
    known = dict.fromkeys((*NAMES, *MEASURES.names()))
    if equals and name not in known:
        raise argparse.ArgumentTypeError(f"no metric is called {name!r}; use {', '.join(known)}")
    try:
        return name, _number(value)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not [METRIC=]POINTS") from None


def _tolerant(baseline: Baseline, tie_tolerance: float | None) -> Baseline:
    return baseline if tie_tolerance is None else replace(baseline, tie_tolerance=tie_tolerance)


def _update(given: argparse.Namespace, run: Snapshot, bands: dict[str, float]) -> int:
    path, file = given.path, given.against
    # Before it is replaced: the bands that people edited are in it.
    old = read(file) if file.exists() else None
    made, notes = renew(old, run, bands, given.measure or (), scripted=given.scripted)
    new = _tolerant(made, given.tie_tolerance)
    data = to_json(new).encode()
    _write(file, data)
    print(f"baseline of {path}: {file}")
    print(
        f"{len(run.items)} items, {len(run.cells)} cells, {run.records} records, "
        f"{len(new.bands)} metrics, {len(data) / 1e6:.2f} MB"
    )
    rates = operating_characteristics(new)
    notes += warnings(rates) if rates else []
    if run.scripted:
        notes.append(f"no model answered this run ({SCRIPTED})")
    if run.cached:
        notes.append("every answer came from the store: none was computed by the present code")
    for note in notes:
        print("\n".join(wrapped(f"note: {note}", indent="    ")))
    if rates:
        print("\n".join(_told(new, rates)))
    return PASSED


def _write(path: Path, data: bytes) -> None:
    try:
        atomic_write(path, data)
    except OSError as error:
        raise ProbesError(
            f"the file cannot be written: {error.strerror}", str(path), "name another file"
        ) from error
