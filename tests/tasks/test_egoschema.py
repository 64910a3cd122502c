"""The reader takes the official layout and refuses everything else, before anything is decoded."""

from __future__ import annotations

import json
import os
import shutil
import struct
import warnings
from pathlib import Path
from typing import Any

import pytest

from probes.core.errors import ProbesError
from probes.core.types import Item, Video
from probes.tasks.egoschema.reader import load, submission

UIDS = [f"0000{n}-aaaa-bbbb" for n in range(4)]
ANSWERED = UIDS[:3]


def mp4(*boxes: tuple[bytes, bytes]) -> bytes:
    return b"".join(struct.pack(">I4s", 8 + len(data), kind) + data for kind, data in boxes)


# The reader looks at the outer boxes only; tests/media/test_frame_store.py has real videos.
VIDEO = mp4((b"ftyp", b"isom0000"), (b"moov", bytes(64)), (b"mdat", bytes(300)))


def question(uid: str, **changes: Any) -> dict[str, Any]:
    entry = {"q_uid": uid, "google_drive_id": "x", "question": f"What does c do in {uid}?"}
    return entry | {f"option {i}": f"c does {i}" for i in range(5)} | changes


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write(tmp_path, "questions", [question(uid) for uid in UIDS])
    write(tmp_path, "subset_answers", {uid: n for n, uid in enumerate(ANSWERED)})
    write(
        tmp_path,
        "uid_to_ego4d",
        {
            uid: {"video_uid": f"rec{n // 2}", "starting_sec": 180 * n, "ending_sec": 180 * n + 180}
            for n, uid in enumerate(UIDS)
        },
    )
    (tmp_path / "videos").mkdir()
    for uid in UIDS:
        (tmp_path / "videos" / f"{uid}.mp4").write_bytes(VIDEO)
    return tmp_path


def write(root: Path, name: str, value: object) -> None:
    (root / f"{name}.json").write_text(value if isinstance(value, str) else json.dumps(value))


def test_items(root: Path) -> None:
    items = load(root)
    assert items[1] == Item(
        id=UIDS[1],
        task="egoschema",
        question=f"What does c do in {UIDS[1]}?",
        options=("c does 0", "c does 1", "c does 2", "c does 3", "c does 4"),
        answer=1,
        media=Video(root.resolve() / "videos" / f"{UIDS[1]}.mp4"),
        stratum="",
        cluster="rec0",
        meta=(("end_sec", "360"), ("start_sec", "180")),
    )
    assert [item.id for item in items] == ANSWERED
    assert [item.cluster for item in items] == ["rec0", "rec0", "rec1"]


def test_unanswered_items_are_added_on_demand(root: Path) -> None:
    items = load(root, unanswered=True, task="own")
    assert [(item.id, item.answer) for item in items] == list(
        zip(UIDS, [0, 1, 2, None], strict=True)
    )
    assert {item.task for item in items} == {"own"}


def test_the_type_is_the_stratum(root: Path) -> None:
    write(root, "questions", [question(uid, type=f"kind{n % 2}") for n, uid in enumerate(UIDS)])
    assert [item.stratum for item in load(root)] == ["kind0", "kind1", "kind0"]


def test_only_items_that_are_run_need_a_video(root: Path) -> None:
    (root / "videos" / f"{UIDS[3]}.mp4").unlink()
    assert len(load(root)) == 3
    with pytest.raises(ProbesError, match="1 videos are missing"):
        load(root, unanswered=True)


@pytest.mark.parametrize(
    "entry",
    [
        "rec",
        {"video_uid": "rec"},
        {"ego4d_uid": "rec"},
        {"video_id": "rec", "start_sec": 3},
        ["rec", 0, 180],
        [{"video_uid": "rec"}, 0],
    ],
    ids=str,
)
def test_forms_of_a_recording(root: Path, entry: object) -> None:
    write(root, "uid_to_ego4d", dict.fromkeys(UIDS, entry))
    assert {item.cluster for item in load(root)} == {"rec"}


def test_no_recordings_is_a_warning(root: Path) -> None:
    (root / "uid_to_ego4d.json").unlink()
    with pytest.warns(UserWarning, match="4 clips have no source recording"):
        assert [item.cluster for item in load(root)] == ANSWERED
    write(root, "uid_to_ego4d", dict.fromkeys(UIDS[1:], "rec"))
    with pytest.warns(UserWarning, match="1 clips have no source recording"):
        assert [item.cluster for item in load(root)] == [UIDS[0], "rec", "rec"]
    write(root, "uid_to_ego4d", dict.fromkeys(UIDS, "rec"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load(root)


def test_videos_may_be_on_another_disk(
    root: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = tmp_path_factory.mktemp("disk") / "videos"
    shutil.move(root / "videos", elsewhere)
    (root / "videos").symlink_to(elsewhere)
    item = load(root)[0]
    assert item.media.path.relative_to(root.resolve()) == Path("videos") / f"{UIDS[0]}.mp4"
    assert item.media.path.read_bytes() == VIDEO


@pytest.mark.parametrize("name", ["questions", "subset_answers"])
def test_missing_files(root: Path, name: str) -> None:
    (root / f"{name}.json").unlink()
    refused(root, "missing", f"{name}.json")


def test_missing_folders(root: Path) -> None:
    shutil.rmtree(root / "videos")
    refused(root, "folder of videos", "videos")
    refused(root / "nowhere", "no such folder", "nowhere")


def refused(root: Path, what: str, where: str, *named: str, unanswered: bool = False) -> None:
    with pytest.raises(ProbesError) as caught:
        load(root, unanswered=unanswered)
    error = caught.value
    assert what in error.what
    assert error.where.endswith(where)
    assert error.fix
    for name in named:
        assert name in error.what


@pytest.mark.parametrize(
    ("name", "text", "what"),
    [
        ("questions", "[{", "not valid JSON"),
        ("questions", "\xff\xfe", "not valid JSON"),
        ("questions", "[" * 100_000, "not valid JSON"),
        ("questions", "{}", "a JSON dict where a list is expected"),
        ("questions", "", "not valid JSON"),
        ("questions", "[]", "none of the questions"),
        ("subset_answers", "[]", "a JSON list where a dict is expected"),
        ("subset_answers", '{"a": 1, "a": 2}', "'a' occurs twice"),
        ("subset_answers", "{}", "none of the questions has a public answer"),
        ("uid_to_ego4d", "null", "a JSON NoneType where a dict is expected"),
    ],
)
def test_malformed_json(root: Path, name: str, text: str, what: str) -> None:
    if text == "[]" and name == "questions":
        write(root, "subset_answers", {})
    (root / f"{name}.json").write_text(text, encoding="latin-1")
    refused(root, what, ".json")


@pytest.mark.parametrize(
    ("entry", "what", "named"),
    [
        ("text", "entries are not objects", "entry 1"),
        ({"question": "who?"}, "have no q_uid", "entry 1"),
        (question("x", q_uid=7), "have no q_uid", "entry 1"),
        (question(UIDS[0]), "occur more than once", UIDS[0]),
        (question("x", question=None), "have no text", "x"),
        (question("x", question="  "), "have no text", "x"),
        ({k: v for k, v in question("x").items() if k != "option 4"}, "do not have all 5", "x"),
        (question("x", **{"option 2": 3}), "do not have all 5", "x"),
        (question("x", **{"option 2": ""}), "do not have all 5", "x"),
        (question("x", type=3), "types are not text", "x"),
    ],
)
def test_wrong_questions(root: Path, entry: object, what: str, named: str) -> None:
    write(root, "questions", [question(UIDS[0]), entry, *map(question, UIDS[1:])])
    refused(root, what, "questions.json", named)


@pytest.mark.parametrize(
    "uid",
    [
        "../secret",
        "/etc/passwd",
        "a/b",
        "a\\b",
        "a\0b",
        "..",
        ".",
        "",
        ".hidden",
        "a\n",
        "C:x",
        "é",
        "x" * 300,
    ],
)
def test_a_q_uid_cannot_leave_the_folder(root: Path, uid: str) -> None:
    secret = root.parent / "secret.mp4"
    secret.write_bytes(VIDEO)
    write(root, "questions", [*map(question, UIDS), question(uid)])
    refused(root, "leave the folder", "questions.json", repr(uid), unanswered=True)


def test_a_link_cannot_leave_the_folder(root: Path) -> None:
    secret = root / "secret.mp4"
    secret.write_bytes(VIDEO)
    video = root / "videos" / f"{UIDS[1]}.mp4"
    video.unlink()
    video.symlink_to(secret)
    refused(root, "1 videos are links that leave the folder", "videos", video.name)
    video.unlink()
    video.symlink_to(root / "videos" / f"{UIDS[0]}.mp4")
    assert len(load(root)) == 3


@pytest.mark.parametrize("answer", [5, -1, "3", 1.0, True, None, [1]], ids=str)
def test_answers_out_of_range(root: Path, answer: object) -> None:
    write(root, "subset_answers", {UIDS[0]: 1, UIDS[1]: answer})
    refused(root, "1 answers are not integers 0..4", "subset_answers.json", UIDS[1])


def test_answers_to_unknown_questions(root: Path) -> None:
    write(root, "subset_answers", {UIDS[0]: 1, "other": 1})
    refused(root, "1 answers belong to no entry", "subset_answers.json", "other")


@pytest.mark.parametrize("entry", [3, {}, {"video_uid": 7}, [], [[]], "", None], ids=str)
def test_wrong_recordings(root: Path, entry: object) -> None:
    write(root, "uid_to_ego4d", dict.fromkeys(UIDS, "rec") | {UIDS[2]: entry})
    refused(root, "1 entries name no source recording", "uid_to_ego4d.json", UIDS[2])


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "is empty"),
        (VIDEO[:-1], "is cut off: 1 bytes"),
        (VIDEO[:40], "is cut off"),
        (mp4((b"ftyp", b"isom0000"), (b"mdat", bytes(300))), "has no index"),
        (b"<html>quota exceeded</html>", "is not an MP4 file"),
    ],
)
def test_broken_videos(root: Path, content: bytes, what: str) -> None:
    (root / "videos" / f"{UIDS[2]}.mp4").write_bytes(content)
    refused(root, "1 videos are broken", "videos", f"{UIDS[2]}.mp4 {what}")


@pytest.mark.parametrize("kind", ["folder", "pipe", "circle"])
def test_videos_that_are_not_files(root: Path, kind: str) -> None:
    video = root / "videos" / f"{UIDS[2]}.mp4"
    video.unlink()
    if kind == "folder":
        video.mkdir()
    elif kind == "pipe":
        os.mkfifo(video)  # opening it would wait forever
    else:
        video.symlink_to(video)
    refused(root, "1 videos are broken", "videos", video.name)


def test_problems_of_one_kind_are_reported_together(root: Path) -> None:
    for uid in ANSWERED:
        (root / "videos" / f"{uid}.mp4").unlink()
    refused(root, "3 videos are missing", "videos", *ANSWERED)
    uids = [f"u{n}" for n in range(40)]
    write(root, "questions", [question(uid, question="") for uid in uids])
    refused(root, "40 questions have no text", "questions.json", *uids[:5], "and 35 more")


def test_submission() -> None:
    data = submission({"a": 3, "b": None, "c": 0})
    assert json.loads(data) == {"a": 3, "b": -1, "c": 0}
    with pytest.raises(ProbesError, match="'d'"):
        submission({"a": 3, "d": 5})
