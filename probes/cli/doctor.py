"""`probes doctor`: whether a pair's members can be compared, before its numbers are believed."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence

from probes.analysis.comparability import Comparability, passes_line
from probes.config import compose
from probes.config.settings import RunConfig
from probes.core.errors import ProbesError
from probes.core.examination import MemberCheck
from probes.core.progress import on_terminal
from probes.core.tables import wrapped

DONE, USAGE = 0, 2
_DESCRIPTION = """\
Look at the members of a configuration before their answers are believed. Three made prompts
(frames alone, frames with text between, text alone) are compared with what each member's own
processor makes of them: ids and pixel values. Then how the prompt ends, which letter tokens are
scored, whether the planned prompts fit into the context, and all settings in which the members
differ. Takes the overrides of `probes run`. Files are read, weights only with --weights.
"""
_EPILOG = """\
Exit codes: 0 looked at, whatever the verdict; 2 a prompt that opens a thought under letter or
cloze, letters that cannot be scored, a prompt beyond the context, or a member that cannot load.

examples:
  probes doctor
  probes doctor pair=llava_next_7b task=egoschema task.root=/data/egoschema --weights
  probes doctor pair.image.repo=/models/a pair.video.repo=/models/b --json
"""


def main(arguments: Sequence[str]) -> int:
    """Run `probes doctor` with these arguments and return the exit code.

    Raises:
        ProbesError: a configuration that makes no sense.
    """
    compose.quiet()
    overrides = [a for a in arguments if a.startswith("~") or ("=" in a and not a.startswith("-"))]
    given = parser().parse_args([a for a in arguments if a not in overrides])
    folder = [f"--config-dir={given.config_dir}"] if given.config_dir else []
    cfg = compose.compose([*overrides, *folder])
    found = examined(cfg, weights=given.weights)
    if given.json:
        said = {one.name: list(one.remarks) for one in found.members}
        print(json.dumps(found.plain() | {"remarks": said}, indent=2, default=str))
    else:
        print("\n".join(report(cfg, found)))
    return USAGE if any(one.errors for one in found.members) else DONE


def examined(cfg: RunConfig, *, weights: bool = False) -> Comparability:
    """Look at the members of a configuration, and at its longest prompts.

    Args:
        cfg: checked configuration.
        weights: whether members are loaded, one after the other, to answer the made prompts.
    """
    from probes.engine import doctor
    from probes.engine.answering import scoring_of
    from probes.engine.context import settled_config
    from probes.engine.doctor_plan import with_longest
    from probes.models import open_backend

    cfg = settled_config(cfg)
    progress, checks = on_terminal(), {}
    for spec in cfg.pair.members:
        looking = doctor.Doctor(cfg, scoring_of(cfg, spec))
        with progress.phase(f"look at {spec.name}"):
            try:
                backend = open_backend(cfg.backend, spec)
                check = looking.member(spec, backend)
                if weights and check.seen is not None:
                    asked, frames = looking.prompts, looking.frames
                    answers = dict(backend.score(asked, frames, looking.scoring))
                    pairs = {one: answers[at] for at, one in enumerate(asked)}
                    check = looking.with_passes(check, spec, backend, pairs, frames)
                    check = looking.with_remarks(check, spec, backend)
                    backend.close()
            except ProbesError as error:
                check = MemberCheck(spec.name, errors=(doctor.does_not_load(error),))
        checks[spec.name] = check
    return doctor.verdict(with_longest(cfg, checks, progress))


def report(cfg: RunConfig, found: Comparability) -> Iterator[str]:
    """Yield the lines of the report: members, then the verdict with what it rests on."""
    yield f"pair {cfg.pair.name}, scoring {cfg.scoring}, backend {cfg.backend.name}"
    for spec, check in zip(cfg.pair.members, found.members, strict=True):
        yield ""
        yield f"{check.name} ({spec.role}): {spec.repo}"
        for line in _member(check):
            yield from wrapped(f"  {line}", indent="    ")
    yield ""
    yield f"verdict: {found.verdict}"
    for title, lines in (
        ("faults", found.faults),
        ("differences", found.differences),
        ("not seen", found.unseen),
    ):
        yield from [f"{title}:"] if lines else []
        for line in lines:
            yield from wrapped(f"- {line}")


def _member(check: MemberCheck) -> Iterator[str]:
    """Yield what was found of one member."""
    yield from check.remarks
    if (seen := check.seen) is None:
        return
    lengths = ", ".join(str(len(one.ids)) for one in seen.prompts)
    yield f"made prompts: {lengths} tokens, a frame counted as one"
    prompts = seen.prompts
    for what, states in (
        ("ids", [one.own_ids.state for one in prompts]),
        ("pixel values", [one.own_pixels.state for one in prompts]),
    ):
        state = next((one for one in ("differs", "unseen") if one in states), "equal")
        words = {
            "equal": "are those",
            "differs": "are not those",
            "unseen": "were not all seen next to those",
        }
        yield f"{what} {words[state]} of its own class's processor"
    yield f"the prompt ends in {seen.ending!r}"
    if seen.letters:
        forms = (
            f"{letter}: " + ", ".join(f"{at} {piece!r}" for at, piece in found)
            for letter, found in seen.letters.items()
        )
        yield f"scored letters: {'; '.join(forms)}"
    longest = f", longest planned prompt {check.longest:,}" if check.longest else ""
    yield f"context {seen.context:,} tokens{longest}"
    if text := passes_line(check):
        yield text
    if check.passes and check.passes.letter_mass is not None:
        yield f"probability of all letters together: {check.passes.letter_mass:.3g}"


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command's options; overrides are not among them."""
    parser = argparse.ArgumentParser(
        prog="probes doctor",
        usage="probes doctor [--weights] [--json] [--config-dir DIR] [group=option ...]"
        " [setting=value ...]",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--weights",
        action="store_true",
        help="load each member, and compare its answers to the made prompts with plain forward"
        " passes of its class",
    )
    parser.add_argument("--json", action="store_true", help="print all of it as JSON")
    parser.add_argument("--config-dir", metavar="DIR", help="as for `probes run`")
    return parser
