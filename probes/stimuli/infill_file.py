"""Infills as JSON lines: written elsewhere, read here."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from probes.core.errors import ProbesError
from probes.core.text import listed, nearest, whole_text
from probes.core.types import (
    EMPTY_REPLIES,
    NO_INFILL,
    Clip,
    ClipKey,
    Infill,
    InfillStatus,
    ItemKey,
)
from probes.stimuli.infills import tidy

_TEXTS = "item_id task text frame_a frame_b common event generator error status"
_FIELDS = dict.fromkeys(_TEXTS.split(), str) | {"frames": int, "gap": int, "draw": int}
_STATUSES = tuple(one for one in get_args(InfillStatus) if one != "not_applicable")
_NEEDED = ("item_id", "frames", "gap", "text")


def load_file(
    path: Path, clips: Mapping[ClipKey, Clip], known: Collection[ItemKey], draws: int = 1
) -> list[dict[ClipKey, tuple[Infill, ...]]]:
    """Read infills that were written elsewhere and check them against the planned clips.

    One JSON object a line: `item_id`, `frames` (number of frames), `gap` (0 is between the
    first two frames) and `text` (empty: the gap is bare); optional are `task` (needed where items
    of two tasks have the id), `common`, `event`, `generator`, `status` (`ok`, `empty` or `failed`),
    `error` (why a step failed: without `status`, an empty text with an error is a failure), `draw`
    (which of several texts of the gap, from 0; those of more draws than are asked for are left
    aside), and `frame_a`, `frame_b` (sha256), which must then be the clip's.

    Args:
        path: the file.
        clips: every clip that needs infills, donors' included.
        known: all items of the run's tasks; rows of items that are not planned are left aside.
        draws: texts that every gap needs.

    Returns:
        By draw, the infills of every clip, frames - 1 each.

    Raises:
        ProbesError: for a malformed line, an unknown item, one of several tasks without its task,
            a gap that is out of range, given twice or missing, or frames other than the clip's.
    """
    tasks: dict[str, list[str]] = defaultdict(list)
    for task, item_id in sorted(known):
        tasks[item_id].append(task)
    gaps = {key: range(len(clip.hashes) - 1) for key, clip in clips.items()}
    # Gaps at the ends of rows have no text: they are there from the start, and never lacking.
    found: dict[tuple[ClipKey, int, int], tuple[int, Infill]] = {
        (key, gap, draw): (0, NO_INFILL)
        for key, clip in clips.items()
        for gap in clip.breaks
        for draw in range(draws)
    }
    for number, line in _lines(path):
        where = f"{path}, line {number}"
        row = _row(line, where)
        key = _item(row, tasks, where).clip(row["frames"])
        place = (key, row["gap"], row.get("draw", 0))
        _check_place(row, key, clips.get(key), where)
        if place in found:
            what = f"gap {row['gap']} of item {row['item_id']!r} at {row['frames']} frames"
            what += f" (draw {place[2]})" if place[2] else ""
            fix = f"keep this line or line {found[place][0]}"
            raise ProbesError(f"{what} is given twice", where, fix)
        found[place] = number, _infill(row, where)
    _refuse_missing(gaps, found, tasks, path, draws)
    return [
        {key: tuple(found[key, gap, draw][1] for gap in some) for key, some in gaps.items()}
        for draw in range(draws)
    ]


def _refuse_missing(
    gaps: Mapping[ClipKey, range],
    found: Collection[tuple[ClipKey, int, int]],
    tasks: Mapping[str, Sequence[str]],
    path: Path,
    draws: int,
) -> None:
    """Refuse a file that lacks a text of some draw of a gap that needs one."""
    lacking = [
        f"{_named(key.item, tasks)} ({key.frames} frames, gap {gap}"
        + (f", draw {draw})" if draws > 1 else ")")
        for key, some in gaps.items()
        for gap in some
        for draw in range(draws)
        if (key, gap, draw) not in found
    ]
    if lacking:
        what = f"{len(lacking)} infills are missing: {', '.join(lacking[:3])}"
        what += " ..." if len(lacking) > 3 else ""
        raise ProbesError(what, str(path), "add a line for each; an empty text leaves a gap bare")


def _named(item: ItemKey, tasks: Mapping[str, Sequence[str]]) -> str:
    """Return an item's id, with its task where another one has an item of that id."""
    return item.id if len(tasks[item.id]) == 1 else f"{item.id} of task {item.task}"


def _item(row: Mapping[str, Any], tasks: Mapping[str, Sequence[str]], where: str) -> ItemKey:
    """Return whose infill a row is; its task may be left out where one task has the id.

    Args:
        row: the line's fields.
        tasks: by id, the tasks that have an item of it.
        where: the line.
    """
    item_id, task = row["item_id"], row.get("task")
    if item_id not in tasks:
        fix = nearest(item_id, tasks, otherwise="use ids of the task's items")
        raise ProbesError(f"unknown item {item_id!r}", where, fix)
    if task is None and len(having := tasks[item_id]) > 1:
        what = f"item {item_id!r} is one of each of the tasks {listed(having)}"
        raise ProbesError(what, where, 'say whose it is: add the field "task"')
    if task is not None and task not in tasks[item_id]:
        fix = nearest(task, tasks[item_id])
        raise ProbesError(f"task {task!r} has no item {item_id!r}", where, fix)
    return ItemKey(tasks[item_id][0] if task is None else task, item_id)


def _check_place(row: Mapping[str, Any], key: ClipKey, clip: Clip | None, where: str) -> None:
    """Refuse a row of no gap of its clip, or of other frames; a clip that is None is not needed."""
    item_id, frames, gap = key.item_id, key.frames, row["gap"]
    if not 0 <= gap < frames - 1 or (clip and gap in clip.breaks):
        what = f"gap {gap} is not among the gaps of {frames} frames"
        fix = "count gaps from 0 to frames - 2"
        if clip and clip.breaks:
            fix += f"; there is no text between two rows (gaps {', '.join(map(str, clip.breaks))})"
        raise ProbesError(what, where, fix)
    if clip is None:
        return
    if row.get("draw", 0) < 0:
        raise ProbesError(f"there is no draw {row['draw']}", where, "count draws from 0")
    # Texts of frames that were sampled otherwise would be shown as if they fitted.
    for name, sha in (("frame_a", clip.hashes[gap]), ("frame_b", clip.hashes[gap + 1])):
        if row.get(name, sha) != sha:
            what = f"{name} is not the frame that is shown at gap {gap} of {item_id!r}"
            fix = "write the infills anew for these frames, or leave the hashes out"
            raise ProbesError(what, where, fix)


def _infill(row: Mapping[str, Any], where: str) -> Infill:
    text, error = tidy(row["text"]), row.get("error", "")
    # Files written before there was a status have the error alone.
    empty = not error or error in EMPTY_REPLIES
    default: InfillStatus = "ok" if text else "empty" if empty else "failed"
    status = row.get("status", default)
    if status not in _STATUSES or (status == "ok") != bool(text):
        what = f"status {status!r} does not go with {'a' if text else 'an empty'} text"
        raise ProbesError(what, where, f"leave it out, or use one of {', '.join(_STATUSES)}")
    return Infill(
        text=text,
        common=tidy(row.get("common", "")),
        event=tidy(row.get("event", "")),
        generator=row.get("generator", "file"),
        status=status,
        error=error,
    )


def _lines(path: Path) -> list[tuple[int, str]]:
    try:
        # Half a character passes here, so that `_row` can name its line.
        text = path.read_bytes().decode("utf-8", "surrogatepass")
    except OSError as error:
        what = f"the infill file cannot be read: {error.strerror}"
        raise ProbesError(what, str(path), "set infill.file to a JSON lines file") from error
    except UnicodeDecodeError as error:
        raise ProbesError("the infill file is not UTF-8", str(path), "save it as UTF-8") from error
    # Not splitlines(): JSON strings may hold other line separators.
    return [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]


def _row(line: str, where: str) -> dict[str, Any]:
    fix = "write one JSON object a line, with item_id, frames, gap and text"
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ProbesError(f"not JSON: {error}", where, fix) from error
    if not isinstance(row, dict):
        raise ProbesError("not a JSON object", where, fix)
    if lacking := [name for name in _NEEDED if name not in row]:
        raise ProbesError(f"{lacking[0]!r} is missing", where, fix)
    for name, value in row.items():
        kind = _FIELDS.get(name)
        if kind is None:
            allowed = ", ".join(_FIELDS)
            raise ProbesError(f"unknown field {name!r}", where, f"fields are {allowed}")
        if isinstance(value, str) and whole_text(value) != value:
            raise ProbesError(f"{name!r} holds half a character", where, "write whole ones")
        if type(value) is not kind:  # not isinstance: true is no number of frames
            raise ProbesError(f"{name!r} is not of type {kind.__name__}", where, fix)
    return row
