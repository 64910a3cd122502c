"""EgoSchema's official layout, read into items: for the real data set and for EgoWorld.

    questions.json        list of {q_uid, google_drive_id, question, "option 0" ... "option 4"}
    subset_answers.json   q_uid -> 0..4, the public answers
    uid_to_ego4d.json     q_uid -> source recording
    videos/<q_uid>.mp4

Everything that can be checked without decoding is checked here, before any model is loaded, and all
problems of one kind are reported together.
"""

from __future__ import annotations

import json
import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from probes.core.errors import ProbesError
from probes.core.text import whole_text
from probes.core.types import Item, Video
from probes.media.video_decoders import mp4_fault
from probes.tasks.validation import refuse

OPTIONS = 5
# One plain file name on every system: no separator, no leading dot, no control character.
_UID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_LAYOUT = "see tasks/egoschema/README.md for the layout"
_RECORDING_FIELDS = ("video_uid", "ego4d_uid", "video_id")


def load(
    root: Path, *, unanswered: bool = False, task: str = "egoschema", made: bool = False
) -> list[Item]:
    """Read a folder in EgoSchema's layout.

    Args:
        root: the folder.
        unanswered: also the questions with a withheld answer.
        task: name that the items carry.
        made: whether the videos are checked by what was made of them: then none is opened here.

    Returns:
        Items in the order of `questions.json`; `cluster` is the source recording, `stratum` the
        question's optional `type`.

    Raises:
        ProbesError: a file is missing or malformed, or the files contradict each other.
    """
    root = root.expanduser().resolve()
    if not root.is_dir():
        raise ProbesError("there is no such folder", str(root), "set task.root to the data set")
    questions = _questions(root / "questions.json")
    answers = _answers(root / "subset_answers.json", questions)
    recordings = _recordings(root / "uid_to_ego4d.json", questions)
    wanted = [uid for uid in questions if unanswered or uid in answers]
    if not wanted:
        raise ProbesError(
            "none of the questions has a public answer",
            str(root / "subset_answers.json"),
            "complete the file, or set task.unanswered=true",
        )
    paths = _videos(root / "videos", wanted, opened=not made)
    return [
        Item(
            id=uid,
            task=task,
            question=questions[uid]["question"],
            options=tuple(questions[uid][f"option {i}"] for i in range(OPTIONS)),
            answer=answers.get(uid),
            media=Video(paths[uid]),
            stratum=questions[uid].get("type", ""),
            cluster=recordings[uid][0],
            meta=recordings[uid][1],
        )
        for uid in wanted
    ]


def submission(choices: Mapping[str, int | None]) -> bytes:
    """Return EgoSchema's submission file: JSON, q_uid -> index of the chosen option.

    An item without a choice (unparsed or failed) is -1, which is no item's answer: it counts as
    wrong, as everywhere in this project, and is never guessed.

    Raises:
        ProbesError: a choice is neither None nor 0..4.
    """
    bad = [uid for uid, choice in choices.items() if choice is not None and not _is_index(choice)]
    refuse(bad, "choices are not 0..4", "the records", "make the run again")
    filled = {uid: -1 if choice is None else int(choice) for uid, choice in choices.items()}
    return (json.dumps(filled, indent=1) + "\n").encode()


def _questions(path: Path) -> dict[str, dict[str, Any]]:
    entries = _json(path, list)
    fix = f"correct these entries; {_LAYOUT}"
    # Names come before the checks: an entry may be no object, or have no uid.
    where = [
        f"entry {n}"
        if not isinstance(e, dict) or not isinstance(e.get("q_uid"), str)
        else e["q_uid"]
        for n, e in enumerate(entries)
    ]
    named = list(zip(where, entries, strict=True))

    # Every check relies on the ones before it, so the first kind of problem is reported alone.
    def refuse_where(is_wrong: Callable[[dict[str, Any]], bool], what: str) -> None:
        refuse([name for name, entry in named if is_wrong(entry)], what, str(path), fix)

    refuse_where(lambda e: not isinstance(e, dict), "entries are not objects")
    refuse_where(lambda e: not isinstance(e.get("q_uid"), str), "questions have no q_uid")
    refuse_where(
        lambda e: not _UID.fullmatch(e["q_uid"]),
        "q_uids are not file names in videos/ or would leave the folder (letters, digits, '_', "
        "'-' and '.' only)",
    )
    twice = [uid for uid, n in Counter(e["q_uid"] for e in entries).items() if n > 1]
    refuse(twice, "q_uids occur more than once", str(path), "keep one entry of each")
    refuse_where(lambda e: not _is_text(e.get("question")), "questions have no text")
    refuse_where(
        lambda e: any(not _is_text(e.get(f"option {i}")) for i in range(OPTIONS)),
        f"questions do not have all {OPTIONS} options ('option 0' to 'option {OPTIONS - 1}')",
    )
    refuse_where(
        lambda e: not isinstance(e.get("type", ""), str) or not _is_whole(e.get("type", "")),
        "question types are not text",
    )
    return {entry["q_uid"]: entry for entry in entries}


def _answers(path: Path, questions: Mapping[str, object]) -> dict[str, int]:
    answers: dict[str, int] = _json(path, dict)
    bad = [f"{uid}: {a!r}" for uid, a in answers.items() if not _is_index(a)]
    refuse(bad, f"answers are not integers 0..{OPTIONS - 1}", str(path), "correct them")
    # Mixed releases would otherwise only show in a smaller number of items.
    unknown = [uid for uid in answers if uid not in questions]
    fix = "take both files from the same release of the data set"
    refuse(unknown, "answers belong to no entry of questions.json", str(path), fix)
    return answers


def _recordings(
    path: Path, questions: Iterable[str]
) -> dict[str, tuple[str, tuple[tuple[str, str], ...]]]:
    """Return the recording of every question, with start and end in it where the file has them."""
    given = _json(path, dict) if path.exists() else {}
    found, missing, bad = {}, [], []
    for uid in questions:
        name, meta = _recording(given.get(uid, uid))
        if uid not in given:
            missing.append(uid)
        elif not name or not all(map(_is_whole, (name, *(value for _, value in meta)))):
            bad.append(uid)
        # Without an entry the clip's own name: intervals then take it for independent.
        found[uid] = (name, meta)
    fix = f"give the recording's uid; {_LAYOUT}"
    refuse(bad, "entries name no source recording", str(path), fix)
    if missing:
        warnings.warn(
            f"{path}: {len(missing)} clips have no source recording; each counts as a recording of "
            "its own, which makes intervals too narrow where clips share one",
            stacklevel=3,
        )
    return found


def _recording(entry: object) -> tuple[str, tuple[tuple[str, str], ...]]:
    if isinstance(entry, list):
        entry = entry[0] if entry else ""
    if isinstance(entry, str):
        return entry, ()
    if not isinstance(entry, dict):
        return "", ()
    name = next((entry[field] for field in _RECORDING_FIELDS if field in entry), "")
    # The official file has starting_sec and ending_sec.
    spellings = {end: (end, end.replace("_", "ing_")) for end in ("end_sec", "start_sec")}
    meta = tuple(
        (end, str(entry[field]))
        for end, fields in spellings.items()
        for field in fields
        if field in entry
    )
    return name if isinstance(name, str) else "", meta


def _videos(folder: Path, uids: Iterable[str], *, opened: bool) -> dict[str, Path]:
    # `videos` itself may be a link to another disk; a file in it may not lead out of it.
    inside = folder.resolve()
    if not inside.is_dir():
        raise ProbesError("there is no folder of videos", str(folder), _LAYOUT)
    paths = {uid: folder / f"{uid}.mp4" for uid in uids}
    gone, out, bad = [], [], []
    for path in paths.values():
        try:
            # Strict: without it a link to nothing would pass as a path.
            target = path.resolve(strict=True)
            if not target.is_relative_to(inside):
                out.append(path.name)
            elif not target.is_file():
                bad.append(f"{path.name} is not a file")
            elif opened and (fault := mp4_fault(target)):
                bad.append(f"{path.name} {fault}")
        except FileNotFoundError:
            gone.append(path.name)
        except (OSError, RuntimeError) as error:  # RuntimeError: links in a circle
            bad.append(f"{path.name} cannot be read ({error})")
    where = str(folder)
    refuse(gone, "videos are missing", where, "download them, or take them out of the JSON files")
    refuse(out, "videos are links that leave the folder", where, "put the files there themselves")
    refuse(bad, "videos are broken", where, "download them again")
    return paths


def _json(path: Path, kind: type) -> Any:
    """Read a JSON file with a top level of type `kind`."""
    if not path.exists():
        raise ProbesError("a file of the data set is missing", str(path), _LAYOUT)
    try:
        # Of two equal names json keeps the last: a question would be lost without a word.
        value = json.loads(path.read_bytes(), object_pairs_hook=_unique)
    # RecursionError: brackets nested deeper than json can follow.
    except (OSError, ValueError, RecursionError) as error:
        what = f"this is not valid JSON: {error}"
        raise ProbesError(what, str(path), "download it again") from None
    if not isinstance(value, kind):
        what = f"this holds a JSON {type(value).__name__} where a {kind.__name__} is expected"
        raise ProbesError(what, str(path), _LAYOUT)
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(n for n in names if names.count(n) > 1)!r} occurs twice")
    return found


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip()) and _is_whole(value)


def _is_whole(text: str) -> bool:
    return whole_text(text) == text


def _is_index(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < OPTIONS
