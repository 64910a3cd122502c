"""A table of which of lmms-eval's tasks are taken, and a run scored by the task's own scorer."""

from __future__ import annotations

import textwrap
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from importlib import metadata
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

from probes.core.errors import ProbesError
from probes.core.text import nearest
from probes.records import schema
from probes.records.manifest import read_manifest
from probes.records.schema import Record
from probes.tasks.lmms_eval import reader, structure
from probes.tasks.lmms_eval.structure import Finding

NAMES = """
egoschema egoschema_subset nextqa_mc_test nextqa_oe_test videomme videomme_w_subtitle videomme_v2
mvbench_action_antonym mvbench_action_sequence mvbench_episodic_reasoning mvbench_moving_attribute
tempcompass_multi_choice tempcompass_yes_no tempcompass_caption_matching longvideobench_val_v
longvideobench_val_i mlvu_dev mlvu_test vsibench vsibench_multiimage video_mmmu_perception
video_mmmu_comprehension video_mmmu_adaptation mmvu_val tvbench_action_antonym
tvbench_object_count video_holmes perceptiontest_val_mc perceptiontest_test_mc
perceptiontest_val_mcppl egoplan egoplan2 lvbench temporalbench_short_qa temporalbench_long_qa
moviechat_global cinepile vinoground worldsense minerva tomato motionbench_full videomathqa_mcq
videomathqa_mbin scivideobench mmworld stare_full egotempo hd_epic_gaze_gaze_estimation timescope
longtimescope mmsi_bench mmsi_video neptune_full_v camerabench_vqa intphys2
mvp_mini_intuitive_physics vrbench_mcq cgbench videonet_mcq_val perceptioncomp egotaskqa
muirbench blink_counting mmstar ai2d scienceqa_img realworldqa cv_bench_2d mmbench_en_dev mmmu_val
seedbench hrbench4k vstar_bench visulogic
""".split()
"""What is listed unless tasks are named: the multiple-choice families, and some others."""

COLUMNS = ("task", "shows", "options", "answer", "verdict", "why")
_PAGE = Path(__file__).with_name("page.md")
"""What the page says before its table."""


class ScoreComparison(NamedTuple):
    """The accuracy here and by the task's own scorer over the records of a cell, in [0, 1]."""

    role: str
    arm: str
    frames: int
    records: int
    ours: float
    own: float


def classified(names: Sequence[str], include_path: str | None) -> list[Finding]:
    """Find out which tasks the adapter takes.

    Args:
        names: of tasks; the multiple-choice families by default.
        include_path: folder of YAML files to look into instead of lmms-eval's own.

    Raises:
        ProbesError: there is no such task.
    """
    manager = reader.manager(reader.folder(include_path))
    if not names:
        names = NAMES if include_path is None else manager.all_subtasks
    for name in names:
        if name not in manager.all_subtasks:
            fix = "`python -m lmms_eval --tasks list_subtasks` names all"
            fix = nearest(name, manager.all_subtasks, otherwise=fix)
            raise ProbesError(f"there is no task {name!r}", f"lmms-eval {_version()}", fix)
    return [structure.classify(name, manager) for name in names]


def rows(findings: Iterable[Finding]) -> list[tuple[str, ...]]:
    """Return the findings as rows of a table."""
    table = (
        (one.name, one.shown, one.options, one.rule and one.rule.reading, one.verdict, one.reason)
        for one in findings
    )
    return [tuple(cell or "-" for cell in row) for row in table]


def page(findings: Sequence[Finding]) -> str:
    """Return the table as a page of documentation."""
    number = Counter(one.verdict for one in findings)
    verdicts = ("accepted", "guessing", "refused", "unsettled")
    counts = ", ".join(f"{number[verdict]} {verdict}" for verdict in verdicts)
    table = [COLUMNS, ("---",) * len(COLUMNS), *rows(findings)]
    rendered = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in table]
    head = _PAGE.read_text("utf-8").format(
        version=_version(), counts=f"{len(findings)} tasks, {counts}"
    )
    return "\n".join([head, *rendered])


def lines(header: Sequence[str], table: Sequence[Sequence[str]]) -> list[str]:
    """Return a table as lines of text; the last column is shortened."""
    rows = [header, *table]
    widths = [max(len(row[at]) for row in rows) for at in range(len(header) - 1)]
    texts = []
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        last = textwrap.shorten(row[-1], 72, placeholder=" ...")
        texts.append("  ".join([*cells, last]).rstrip())
    return texts


def compare(run: Path) -> list[ScoreComparison]:
    """Return a run's accuracies with the task's own score of the same answers.

    Args:
        run: folder of a run of a task of lmms-eval.

    Raises:
        ProbesError: it is not such a run, or its task cannot be loaded.
    """
    task = (read_manifest(run).get("config") or {}).get("task") or {}
    records = schema.read_records(run)
    if task.get("reader") != "lmms":
        raise ProbesError("this run's task is not one of lmms-eval", str(run), "name another run")
    folder = reader.folder(task["include_path"])
    own = reader.own_scores(folder, task["name"], list(map(_answer, records)))
    cells = defaultdict(list)
    for row, credited in zip(records, own, strict=True):
        if row.correct is not None:
            cells[row.role, row.arm, row.frames].append((row.correct, credited))
    return [
        ScoreComparison(*cell, len(both), *map(fmean, zip(*both, strict=True)))
        for cell, both in cells.items()
    ]


def _answer(row: Record) -> reader.GivenAnswer:
    # A reply to rotated options names another letter; the choice is in the item's own order.
    generated = row.scoring == "generate" and not row.rotation
    return reader.GivenAnswer(row.item_id, row.choice, row.text if generated else None)


def at_end_of_run(run: Path) -> list[str]:
    """Return the lines that a run ends with: the task's own score, or why there is none."""
    try:
        return ["Accuracy here, and by the task's own scorer of the same answers", *scores(run)]
    except ProbesError as error:
        # Said, not raised: the run is finished and its records are written.
        return [f"The task's own score is not known: {error.what}"]


def scores(run: Path) -> list[str]:
    """Return a run's accuracies and the task's own score of the same answers, as lines."""
    table = [
        (row.role, row.arm, str(row.frames), str(row.records), f"{row.ours:.1%}", f"{row.own:.1%}")
        for row in compare(run)
    ]
    return lines(("role", "arm", "frames", "n", "here", "own"), table)


def _version() -> str:
    return metadata.version("lmms-eval")
