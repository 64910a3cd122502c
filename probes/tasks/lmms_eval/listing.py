"""A table of which of lmms-eval's tasks are taken, and a run scored by the task's own scorer."""

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
"""What is listed unless tasks are named: the multiple-choice families, and some others."""

COLUMNS = ("task", "shows", "options", "answer", "verdict", "why")
_PAGE = """\
# lmms-eval's tasks in this harness

Written by `probes tasks lmms --markdown` with lmms-eval {version}:
{counts}.

No data was read: each task's own functions were run on invented docs, and the adapter's rule
(tasks/lmms/README.md) was tried on them. Where the data is present, `task=lmms task.name=NAME`
checks the rule on real docs before a run starts, and that decides. Rows with
`a fetched file` need the hub to be reachable when the list is written: no `HF_HUB_OFFLINE=1`.

- **accepted**: its own scorer credits the right answer and nothing else. Options: `its text` lists
  them, `doc_to_choice` gives them, or `its data`: the task asks to choose, and the questions in its
  data have to list the options. The column `answer` says how its target names the right answer.
- **guessing**: accepted too, but its own scorer also credits replies that name nothing. Here such a
  reply is unparsed and wrong.
- **refused**, with the reason.
- **unsettled**: real docs decide, because its code needs more than invented ones, a package or a
  file, or because it is not known whether its questions list options.

## The task's own score

A run of `task=lmms` ends with its accuracies and, next to them, the task's own score of the same
answers (`probes tasks lmms --run RUN` prints them again): of the reply under `scoring=generate`,
else of the chosen option in the form of reply that its scorer credits. The two differ where the
scorer guesses at a reply that names nothing, or reads one that the strict parser leaves unparsed.

## The same replies as lmms-eval's own command

`python -m lmms_eval --model qwen2_5_vl` and `probes run task=lmms scoring=generate` of one random
Qwen2.5-VL on one task of pictures: 24 of 24 replies are equal, character by character, and so are
those of `--model probes --model_args arm=vcot,...` and the run's arm
(`tests/integrations/test_lmms_parity.py`). This needs equal inputs:

- **Prompt.** A run asks with its prompt set, lmms-eval with the task's own text. The test's prompt
  set (`prompt_set=DIR`) repeats the task's text; with the default set no reply of 24 is equal.
- **Frames.** Both get the same pictures, but not the same frames of a video: the wrapper samples
  them by its own rule and shows them as one video, two frames to a token; a run shows every frame
  by itself, with room for text after it. On videos the two commands therefore ask different things.
- **Size.** The wrapper resizes by its own `min_pixels` and `max_pixels`, a run by the checkpoint's.
- **Precision and batches.** The wrapper loads bfloat16. With `pair.dtype=float32` 14 of the 24 are
  equal: greedy text of random weights changes at every near tie. bfloat16 also rounds differently
  in larger batches, so `backend.batch_size=1`.
- **Length.** `max_new_tokens` is the task's in lmms-eval, and the run's setting here.

## The tasks
"""


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
            raise ProbesError(
                f"there is no task {name!r}",
                f"lmms-eval {_version()}",
                "`python -m lmms_eval --tasks list_subtasks` names all",
            )
    return [structure.classify(name, manager) for name in names]


def rows(findings: Iterable[Finding]) -> list[tuple[str, ...]]:
    """Return the findings as rows of a table."""
    return [
        (
            one.name,
            one.shown or "-",
            one.options or "-",
            one.rule.reading if one.rule else "-",
            one.verdict,
            one.reason or "-",
        )
        for one in findings
    ]


def page(findings: Sequence[Finding]) -> str:
    """Return the table as a page of documentation."""
    number = Counter(one.verdict for one in findings)
    verdicts = ("accepted", "guessing", "refused", "unsettled")
    counts = ", ".join(f"{number[verdict]} {verdict}" for verdict in verdicts)
    table = [COLUMNS, ("---",) * len(COLUMNS), *rows(findings)]
    rendered = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in table]
    head = _PAGE.format(version=_version(), counts=f"{len(findings)} tasks, {counts}")
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
    import pyarrow.parquet as pq

    try:
        task = json.loads((run / "manifest.json").read_bytes())["config"]["task"]
        records: list[dict[str, Any]] = pq.read_table(run / "records.parquet").to_pylist()
    except (OSError, ValueError, KeyError, TypeError) as error:
        what = f"this is not a finished run: {error}"
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


def at_end_of_run(run: Path) -> list[str]:
    """Return the lines that a run ends with: the task's own score, or why there is none."""
    try:
        return ["Accuracy here, and by the task's own scorer of the same answers", *scores(run)]
    except ProbesError as error:
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
