"""`probes data`: make clips of the small world, or i-RAVEN problems."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from probes.core.progress import on_terminal
from probes.tasks.made import claim


def egoworld(arguments: Sequence[str]) -> int:
    """Run `probes data egoworld` with these arguments and return the exit code."""
    from probes.tasks.egoworld import generate

    parser = argparse.ArgumentParser(
        prog="probes data egoworld",
        description="Make first-person clips of the small world, with questions, in EgoSchema's "
        "layout. The same arguments make the same data; all stories are of the evaluation split.",
        epilog="example: probes data egoworld world --videos 500 --seed 7 && "
        "probes run task=egoschema task.root=world scoring=cloze",
    )
    parser.add_argument(
        "dir", type=Path, help="folder for the data: new, empty, or not finished yet"
    )
    parser.add_argument("--videos", type=int, required=True, help="clips, one question each")
    parser.add_argument("--seed", type=int, required=True, help="seed of all random choices")
    parser.add_argument(
        "--height", type=int, default=128, help="pixels, even (default: %(default)s)"
    )
    parser.add_argument("--width", type=int, help="pixels, even (default: as --height)")
    parser.add_argument(
        "--fps", type=float, default=4.0, help="frames a second (default: %(default)s)"
    )
    parser.add_argument(
        "--seconds", type=float, default=18.0, help="length of a clip (default: %(default)s)"
    )
    given = parser.parse_args(arguments)
    settings = {name: value for name, value in vars(given).items() if name != "dir"}
    note = given.dir / "egoworld.json"
    # The note alone is no data: the next call may then have other settings.
    others = given.dir.exists() and (
        not given.dir.is_dir() or any(path != note for path in given.dir.iterdir())
    )
    claim(note, settings, others)
    if not (given.dir / "questions.json").exists():  # written last: the folder is not complete
        with on_terminal().phase("clips", given.videos) as phase:
            generate.make(given.dir, generate.ClipSettings(**settings), phase.report)
    print(f"{given.videos} clips with questions: {given.dir}")
    return 0


def iraven(arguments: Sequence[str]) -> int:
    """Run `probes data iraven` with these arguments and return the exit code."""
    from probes.tasks.iraven import generate

    parser = argparse.ArgumentParser(
        prog="probes data iraven",
        description="Make i-RAVEN problems, DIR/<configuration>/RAVEN_<k>_<split>.npz and .xml. A "
        "problem depends on the seed, its configuration and k only; files that exist are kept.",
        epilog="example: probes data iraven problems --per-config 100 --seed 0",
    )
    parser.add_argument("dir", type=Path, help="folder for the problems")
    parser.add_argument("--per-config", type=int, required=True, help="problems per configuration")
    parser.add_argument("--seed", type=int, required=True, help="seed of all random choices")
    parser.add_argument(
        "--configs", help="configurations, separated by commas (default: all seven)"
    )
    parser.add_argument("--workers", type=int, default=1, help="processes (default: %(default)s)")
    parser.add_argument(
        "--no-twins",
        action="store_true",
        help="draw problems again that have a distractor which looks exactly like the answer",
    )
    given = parser.parse_args(arguments)
    with on_terminal().phase("problems") as phase:
        written = generate.make(
            given.dir,
            given.per_config,
            given.seed,
            given.configs.split(",") if given.configs else None,
            given.workers,
            not given.no_twins,
            phase.report,
        )
    print(f"{written} problems written: {given.dir}")
    return 0
