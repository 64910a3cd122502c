"""`probes compare-published`: compare a run with the published tables of the study."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from probes import analysis
from probes.analysis.columns import without_model
from probes.analysis.draws import coverage
from probes.analysis.published import ITEMS
from probes.analysis.published_comparison import PAIRS, compare, notes, table
from probes.analysis.tables import SPELLED_OUT
from probes.cli import flags
from probes.core.errors import ProbesError
from probes.core.tables import listing, wrapped
from probes.records.binding import edited_line

FAMILIES = tuple(ITEMS)


def main(arguments: Sequence[str]) -> int:
    """Run `probes compare-published` with these arguments and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="probes compare-published",
        description="Compare a run with the study's tables, figure by figure: accuracies, gains, "
        "drops, transfer and difference in differences (DiD), ours with clustered intervals, the "
        "published ones with intervals from their numbers of items, and the unpaired difference.",
        epilog=f"example: probes compare-published results/runs/DAY/RUN --family {FAMILIES[0]}",
    )
    parser.add_argument("path", type=Path, help="a run folder, or a folder above those of a sweep")
    parser.add_argument(
        "--family",
        help=f"{' or '.join(FAMILIES)}: which of the study's pairs the run's pair is "
        f"(default: by name: {', '.join(f'{a} is {b}' for a, b in PAIRS.items())})",
    )
    parser.add_argument(
        "--scripted", action="store_true", help="compare answers that no model gave, as a rehearsal"
    )
    flags.add_edited(parser)
    flags.add_partial(parser)
    given = parser.parse_args(arguments)
    frame = analysis.load(given.path, edited=given.edited, partial=given.partial)
    if (mark := without_model(frame)) and not given.scripted:
        raise ProbesError(
            f"{mark}: there is nothing to set against the study's models",
            str(given.path),
            "run it with backend=hf or server; --scripted compares it all the same, as a rehearsal",
        )
    compared = compare(frame, given.family)
    if compared.empty:
        raise _nothing(frame, given.family, str(given.path))
    spelled_out = [SPELLED_OUT] if (compared["name"] == "did").any() else []
    remarks = [*notes(compared), *spelled_out, coverage(frame)]
    below = (line for note in remarks for line in wrapped(note, indent=""))
    above = [edited_line(edited), ""] if (edited := frame.attrs.get("edited")) else []
    shown = table(compared)
    shown = replace(shown, title=f"{shown.title} [{mark}]") if mark else shown
    print("\n".join([*above, *listing([shown]), *below]))
    flags.show_partial(frame.attrs.get("partial", ()))
    return 0


def _nothing(frame: pd.DataFrame, family: str | None, where: str) -> ProbesError:
    pairs = ", ".join(sorted({str(one) for one in frame["pair"]}))
    tasks = ", ".join(sorted({str(one) for one in frame["task"]}))
    replaced = frame.attrs.get("replaced", {})
    if family or any(pair in PAIRS and pair not in replaced for pair in frame["pair"]):
        return ProbesError(
            f"the run (task {tasks}) has no cell in common with the study's tables",
            where,
            "run task egoschema at 5 or 10 frames under the suite `study`, or i-RAVEN",
        )
    return ProbesError(
        f"the study reports nothing of the pair {pairs}",
        where,
        f"if it is one of the study's under another name, add --family {FAMILIES[0]}",
    )
