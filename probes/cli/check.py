"""`probes check`: compare a run with a baseline."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from probes.analysis.measures import MEASURES
from probes.cli import flags
from probes.core.errors import ProbesError
from probes.core.files import atomic_write
from probes.regression import show
from probes.regression.baseline import NAMES, TIE_TOLERANCE, Baseline, to_json
from probes.regression.capture import capture
from probes.regression.checking import BAND, check, renew, with_bands
from probes.regression.reading import read
from probes.regression.snapshot import Snapshot

PASSED, FAILED = 0, 1

_DESCRIPTION = f"""\
Compare a run with a baseline: have its accuracies, gains, drops, transfers and differences in
differences (DiD) moved?

--gate statistical (the default) passes a metric if no item of it changed, or if the cluster-robust
95 % interval of its paired change lies within the declared band, -BAND .. +BAND points. Changes for
the better leave a band too. A choice between two options that are within --tie-tolerance nats of
each other in both runs may go either way.

--gate exact passes if every record is the same: cache key, status, choice, tokens,
log-probabilities within 1e-4. It decides only on the baseline's platform (processor class, versions
of torch and transformers, dtype, ...); elsewhere the statistical gate does, and the output says so.

--update writes the baseline from the run instead. Bands and tie tolerance of the file that it
replaces are kept; in a new file every metric may move {BAND:g} points. Bands are the first lines of
the file, one metric a line: edit them, or delete what is not to be guarded.
"""
_EPILOG = """\
examples:
  probes check results/runs/DAY/RUN --against results/baselines/mine.json --update --band did=8
  probes check results/runs/DAY/RUN --against results/baselines/mine.json --junit check.xml

Exit codes: 0 passed (or written), 1 failed, 2 wrong usage, or the run answers other questions than
the baseline. docs/ci.md explains the gates and shows a workflow for CI.
"""


def main(arguments: Sequence[str]) -> int:
    """Run `probes check` with these arguments and return the exit code."""
    given = parser().parse_args(arguments)
    if given.update and given.junit:
        raise ProbesError(
            "--update checks nothing, so --junit has nothing to report",
            "probes check",
            "leave out one",
        )
    if given.measure and not given.update:
        raise ProbesError(
            "a check takes the measures that the baseline declares", "--measure", "add --update"
        )
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
    run = capture(given.path, edited=given.edited, partial=given.partial)
    # Of two bands for one metric the later one counts.
    bands = dict(given.band or ())
    if given.update:
        return _update(given, run, bands)
    baseline = _tolerant(with_bands(read(given.against), bands), given.tie_tolerance)
    found = check(baseline, run, given.gate, str(given.path))
    print("\n".join(show.lines(found, str(given.path), str(given.against), given.items)))
    # After the lines: a file that cannot be written must not hide what was found.
    if given.junit:
        data = show.junit(found, str(given.path), str(given.against), given.items)
        _write(given.junit, data)
    return PASSED if found.passed else FAILED


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
    parser.add_argument(
        "--gate",
        choices=("statistical", "exact"),
        default="statistical",
        help="what decides (default: %(default)s)",
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
    parser.add_argument(
        "--items",
        type=_count,
        default=20,
        metavar="N",
        help="changed answers to list (default: %(default)s); the rest are counted",
    )
    parser.add_argument("--junit", type=Path, metavar="FILE", help="write JUnit XML too")
    parser.add_argument("--update", action="store_true", help="write the baseline from this run")
    flags.add_edited(parser)
    flags.add_partial(parser)
    return parser


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
    made, notes = renew(old, run, bands, given.measure or ())
    new = _tolerant(made, given.tie_tolerance)
    data = to_json(new).encode()
    _write(file, data)
    print(f"baseline of {path}: {file}")
    print(
        f"{len(run.items)} items, {len(run.cells)} cells, {run.records} records, "
        f"{len(new.bands)} metrics, {len(data) / 1e6:.2f} MB"
    )
    for note in notes:
        print(f"note: {note}")
    if run.cached:
        print("note: every answer came from the store: none was computed by the present code")
    return PASSED


def _write(path: Path, data: bytes) -> None:
    try:
        atomic_write(path, data)
    except OSError as error:
        raise ProbesError(
            f"the file cannot be written: {error.strerror}", str(path), "name another file"
        ) from error
