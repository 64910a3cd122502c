"""Which of lmms-eval's tasks this harness takes, in one table, and a run by a task's own scorer."""

from __future__ import annotations

import json
import textwrap
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from probes.core.errors import ProbesError
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
"""What is listed unless tasks are named: the multiple-choice families, and some that are not."""

COLUMNS = ("task", "shows", "options", "key", "verdict", "why")
_PAGE = """\
# lmms-eval's tasks in this harness

Written by `probes tasks lmms --markdown` with lmms-eval {version}:
{counts}.

No data was read: each task's own functions were run on invented docs, and the adapter's rule
(tasks/lmms/README.md) was tried on them. With data at hand, `task=lmms task.name=NAME` holds the
rule against real docs before a run starts, and that decides.

- **accepted**: its own scorer credits the key and nothing else. Options: `its text` lists them,
  `doc_to_choice` gives them, or `its data`: the task asks to choose, and the questions in its data
  have to list the options.
- **guessing**: accepted too, but its own scorer also credits replies that name nothing. Here such a
  reply is unparsed and wrong.
- **refused**: and why.
- **unsettled**: real docs decide, because its code needs more than invented ones, a package or a
  file, or because nothing tells whether its questions list options.

## The task's own score

A run of `task=lmms` ends with its accuracies beside what the task's own scorer makes of the same
answers (`probes tasks lmms --run RUN` says it again later): of the reply under `scoring=generate`,
else of the chosen option in the form of reply that it credits. The two differ where the scorer
guesses at a reply that names nothing, or reads one that the strict parser leaves unparsed.

## The same replies as lmms-eval's own command

`python -m lmms_eval --model qwen2_5_vl` and `probes run task=lmms scoring=generate` of one random
Qwen2.5-VL on one task of pictures: 24 of 24 replies are equal, character by character, and so are
those of `--model probes --model_args arm=vcot,...` and the run's arm
(`tests/integrations/test_lmms_parity.py`). That takes equal inputs:

- **Words.** A run asks with its prompt set, lmms-eval with the task's own text. The test's prompt
  set (`prompt_set=DIR`) repeats the task's words; with the default set no reply of 24 is equal.
- **Frames.** Pictures arrive as they are. A video does not: the wrapper samples frames by a rule of
  its own and shows them as one video, two frames to a token; a run shows every frame by itself,
  with room for text behind it. On videos the two commands therefore ask different things.
- **Size.** The wrapper resizes by its own `min_pixels` and `max_pixels`, a run by the checkpoint's.
- **Precision and batches.** The wrapper loads bfloat16. With `pair.dtype=float32` 14 of the 24 are
  equal: greedy text of random weights turns at every near tie. bfloat16 also rounds otherwise in
  larger batches, so `backend.batch_size=1`.
- **Length.** `max_new_tokens` is the task's in lmms-eval, and the run's key here.

## The tasks
"""


class ScoreComparison(NamedTuple):
    """Ours and the task's own accuracy over the records of a cell, in [0, 1]."""

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
            raise ProbesError(
                f"there is no task {name!r}",
                f"lmms-eval {_version()}",
                "`python -m lmms_eval --tasks list_subtasks` names all",
            )
    return [structure.classify(name, manager) for name in names]


def rows(findings: Iterable[Finding]) -> list[tuple[str, ...]]:
    """Return the table of what was found, as texts."""
    return [
        (
            one.name,
            one.shown or "-",
            one.options or "-",
            one.rule.key if one.rule else "-",
            one.verdict,
            one.reason or "-",
        )
        for one in findings
    ]


def page(findings: Sequence[Finding]) -> str:
    """Return the table as a page of documentation."""
    tally = Counter(one.verdict for one in findings)
    verdicts = ("accepted", "guessing", "refused", "unsettled")
    counts = ", ".join(f"{tally[verdict]} {verdict}" for verdict in verdicts)
    table = [COLUMNS, ("---",) * len(COLUMNS), *rows(findings)]
    rendered = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in table]
    head = _PAGE.format(version=_version(), counts=f"{len(findings)} tasks, {counts}")
    return "\n".join([head, *rendered])


def lines(header: Sequence[str], table: Sequence[Sequence[str]]) -> list[str]:
    """Return a table as lines; the last column is cut."""
    sizes = [max(len(row[at]) for row in [header, *table]) for at in range(len(header) - 1)]
    return [
        "  ".join(
            [
                *(cell.ljust(size) for cell, size in zip(row, sizes, strict=False)),
                textwrap.shorten(row[-1], 72, placeholder=" ..."),
            ]
        ).rstrip()
        for row in [header, *table]
    ]


def compare(run: Path) -> list[ScoreComparison]:
    """Set a run's accuracies beside what the task's own scorer makes of the same answers.

    Args:
        run: folder of a run of a task of lmms-eval.

    Raises:
        ProbesError: it is no such run, or its task cannot be loaded.
    """
    import pyarrow.parquet as pq

    try:
        task = json.loads((run / "manifest.json").read_bytes())["config"]["task"]
        records: list[dict[str, Any]] = pq.read_table(run / "records.parquet").to_pylist()
    except (OSError, ValueError, KeyError, TypeError) as error:
        what = f"this is no finished run: {error}"
        raise ProbesError(what, str(run), "name its folder") from error
    if task.get("reader") != "lmms":
        raise ProbesError("this run's task is not one of lmms-eval", str(run), "name another run")
    own = reader.own_scores(
        reader.folder(task["include_path"]), task["name"], [_answer(row) for row in records]
    )
    cells = defaultdict(list)
    for row, credited in zip(records, own, strict=True):
        if row["correct"] is not None:
            cells[row["role"], row["arm"], row["frames"]].append((row["correct"], credited))
    return [
        ScoreComparison(*cell, len(both), *map(fmean, zip(*both, strict=True)))
        for cell, both in cells.items()
    ]


def _answer(row: Mapping[str, Any]) -> reader.GivenAnswer:
    # A reply to rotated options names another letter; the choice is in the item's own order.
    generated = row["scoring"] == "generate" and not row["rotation"]
    return reader.GivenAnswer(row["item_id"], row["choice"], row["text"] if generated else None)


def beside(run: Path) -> list[str]:
    """Return what the end of a run says of the task's own score: a table, or why there is none."""
    try:
        return ["Accuracy here, and by the task's own scorer of the same answers", *scores(run)]
    except ProbesError as error:
        return [f"The task's own score is not known: {error.what}"]


def scores(run: Path) -> list[str]:
    """Return a run's accuracies and those by the task's own scorer, as lines of a table."""
    table = [
        (row.role, row.arm, str(row.frames), str(row.records), f"{row.ours:.1%}", f"{row.own:.1%}")
        for row in compare(run)
    ]
    return lines(("role", "arm", "frames", "n", "here", "own"), table)


def _version() -> str:
    return metadata.version("lmms-eval")
