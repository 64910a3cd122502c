"""Files are written whole or not at all, and a setting's path is a path."""

from __future__ import annotations

import errno
import io
from pathlib import Path
from typing import Any

import pytest

from probes.core.errors import MachineError, ProbesError
from probes.core.files import atomic_write, home, named_path


def test_a_write_that_fails_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "table"
    atomic_write(file, b"old")

    class Full(io.BufferedWriter):
        def write(self, data: Any) -> int:
            super().write(data[: len(data) // 2])
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", lambda self, mode: Full(io.FileIO(self, mode)))
        with pytest.raises(MachineError, match="No space left") as caught:
            atomic_write(file, b"new")
    assert caught.value.where == str(file)
    assert [path.name for path in tmp_path.iterdir()] == ["table"]
    assert file.read_bytes() == b"old"


def test_a_folder_that_is_a_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(MachineError, match="cannot be written"):
        atomic_write(tmp_path / "file" / "table", b"new")


def test_the_home_is_the_variables_folder_or_in_the_users_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROBES_HOME", str(tmp_path / "a" / ".." / "b"))
    assert home() == tmp_path.resolve() / "b"
    monkeypatch.delenv("PROBES_HOME")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert home() == tmp_path / "cache" / "interframe-probes"


def test_a_path_need_not_exist_but_must_be_one(tmp_path: Path) -> None:
    assert named_path(str(tmp_path / "none"), "task.root") == tmp_path / "none"
    for text in ("~no-such-user-at-all/x", "x" * 5_000, "a\0b"):
        with pytest.raises(ProbesError, match="not a usable path") as caught:
            named_path(text, "task.root")
        assert caught.value.where == "task.root"
