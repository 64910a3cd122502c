"""A kept result is what was put, or nothing."""

from __future__ import annotations

from pathlib import Path

from probes.core.checked_file import CheckedFiles

KEY, OTHER = "ab" * 32, "cd" * 32


def test_what_was_put_comes_back(tmp_path: Path) -> None:
    files = CheckedFiles(tmp_path / "kept")
    assert files.get(KEY) is None
    files.put(KEY, {"a": [1, "\u2581A"], "b": None})
    assert files.get(KEY) == {"a": [1, "\u2581A"], "b": None}
    assert files.get(OTHER) is None


def test_a_file_that_does_not_hold_counts_as_absent_and_is_made_again(tmp_path: Path) -> None:
    files = CheckedFiles(tmp_path)
    files.put(KEY, {"tokens": 123})
    (file,) = tmp_path.rglob("*.json")
    whole = file.read_bytes()
    for damaged in (whole.replace(b"123", b"124"), whole[:-9], b"", b"[]", b"\xff"):
        file.write_bytes(damaged)
        assert files.get(KEY) is None
    files.put(KEY, {"tokens": 123})
    assert files.get(KEY) == {"tokens": 123}
    moved = tmp_path / OTHER[:2] / f"{OTHER}.json"
    moved.parent.mkdir()
    moved.write_bytes(whole)  # sound, but the result of another key
    assert files.get(OTHER) is None
