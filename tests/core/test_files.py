"""Files are written whole or not at all, and a setting's path is a path."""

from __future__ import annotations

import errno
import io
from pathlib import Path
from typing import Any

import pytest

from probes.core.errors import MachineError, ProbesError
from probes.core.files import StandingFolder, atomic_write, home, link_or_copy, named_path


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


def test_a_link_replaces_what_is_there(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "folder" / "target"
    source.write_bytes(b"right")
    link_or_copy(source, target)
    assert target.samefile(source)
    link_or_copy(source, target)  # two names of one file
    assert target.samefile(source)
    target.unlink()
    target.write_bytes(b"wrong")
    link_or_copy(source, target)
    assert target.read_bytes() == b"right" and target.samefile(source)
    assert [path.name for path in target.parent.iterdir()] == ["target"]
    with pytest.raises(FileNotFoundError):
        link_or_copy(tmp_path / "none", target)
    assert target.read_bytes() == b"right"


class Failing(io.BytesIO):
    def read(self, size: int | None = -1) -> bytes:
        raise OSError(errno.EIO, "Input/output error")


@pytest.mark.parametrize("how", ["open", "read"])
def test_a_source_that_cannot_be_read_is_not_the_targets_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(b"x")
    target.write_bytes(b"old")

    def no_links(*_: Any) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    def opened(self: Path, mode: str) -> Any:
        if self != source:
            return open(self, mode)  # noqa: PTH123
        if how == "open":
            raise PermissionError(errno.EACCES, "Permission denied")
        return Failing()

    monkeypatch.setattr("os.link", no_links)
    link_or_copy(source, tmp_path / "other")
    assert (tmp_path / "other").read_bytes() == b"x"
    monkeypatch.setattr(Path, "open", opened)
    with pytest.raises(MachineError, match="cannot be read") as caught:
        link_or_copy(source, target)
    assert caught.value.where == str(source)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other", "source", "target"]
    assert target.read_bytes() == b"old"


def test_a_folder_that_is_deleted_or_replaced_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "home"
    folder = StandingFolder(path)
    folder.check()
    assert path.is_dir()  # made for its first use
    for seen in (folder, StandingFolder(path)):
        seen.check()
        path.rename(tmp_path / "elsewhere")
        with pytest.raises(MachineError, match="deleted or replaced") as caught:
            seen.check()
        assert caught.value.where == str(path)
        path.mkdir()
        with pytest.raises(MachineError, match="deleted or replaced"):
            seen.check()
        path.rmdir()
        (tmp_path / "elsewhere").rename(path)
        seen.check()
    (tmp_path / "file").touch()
    with pytest.raises(MachineError, match="cannot be made"):
        StandingFolder(tmp_path / "file" / "home").check()
