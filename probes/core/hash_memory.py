"""Hashes of large files that earlier processes read, by the state of the file: `hashes.jsonl`.

A state is trusted only where nobody but the kernel sets a file's time of change: on a local file
system that is mounted for writing. Images (squashfs, ISO, EROFS, anything read-only or on a loop
device) may be exchanged for others with equal times and inodes; overlays show the times of such
layers; network and FUSE file systems pass on what a server says. Files there are read every time.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from probes.core.errors import UNSOUND, MachineError
from probes.core.files import atomic_write

SETTLED_NS = 3 * 10**9
"""A file changed so recently may change again within the same tick of its disk's clock."""
BYTES_MOST = 4 * 2**20
"""Size from which the file is made compact; of a larger one only the end is read."""
_VERSION = 2
_LOCAL = frozenset("ext2 ext3 ext4 xfs btrfs zfs f2fs bcachefs jfs tmpfs".split())
_IMAGES = ("/dev/loop", "/dev/nbd")  # devices that stand for a file, which may be exchanged
_TRIES, _TRY_S = 200, 0.005  # a second for others to write theirs
_SAMPLES, _SAMPLE = 16, 2**16
_SHA256 = re.compile("[0-9a-f]{64}")


class FileState(NamedTuple):
    """What is known of a file without reading it; an equal state stands for equal content."""

    path: str
    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    device: int
    mount: str
    """Type, source and number of its file system."""
    sample: str
    """Hash of some stretches: another file of equal size differs nearly everywhere."""


def state_of(path: Path, handle: int) -> FileState | None:
    """Return the state of an open file; None where it cannot be trusted.

    Args:
        path: by which it was opened.
        handle: its descriptor.
    """
    stat, system = os.fstat(handle), os.fstatvfs(handle)
    if system.f_flag & os.ST_RDONLY:
        return None
    # Times in the future are no state either: a later change may come before them.
    if max(stat.st_mtime_ns, stat.st_ctime_ns) > time.time_ns() - SETTLED_NS:
        return None
    kind, source = _mount_of(handle)
    if kind not in _LOCAL or source.startswith(_IMAGES):
        return None
    digest, step = hashlib.sha256(), max(1, (stat.st_size - _SAMPLE) // (_SAMPLES - 1))
    for number in range(_SAMPLES):
        digest.update(os.pread(handle, _SAMPLE, number * step))
    return FileState(
        str(path.absolute()),
        stat.st_size,
        stat.st_mtime_ns,
        stat.st_ctime_ns,
        stat.st_ino,
        stat.st_dev,
        f"{kind} {source} {system.f_fsid}",
        digest.hexdigest(),
    )


def _mount_of(handle: int) -> tuple[str, str]:
    """Return type and source of the file system of an open file; empty where nobody says."""
    try:
        facts = Path(f"/proc/self/fdinfo/{handle}").read_text()
        (number,) = re.findall(r"^mnt_id:\s*(\d+)$", facts, re.MULTILINE)
        mounts = Path("/proc/self/mountinfo").read_text("utf-8", "surrogateescape")
        # ID parent major:minor root place options [fields] - type source more
        line = next(one for one in mounts.splitlines() if one.split(" ", 1)[0] == number)
        kind, source = line.partition(" - ")[2].split(" ")[:2]
    except (OSError, StopIteration, ValueError):
        return "", ""
    return kind, source


class HashMemory:
    """The hashes in a file that several processes read and write at once.

    A line that does not hold, of whatever shape, counts as absent; the file is written anew when
    it has some, or has grown large. Where it cannot be read or written, nothing is remembered.

    Args:
        file: `hashes.jsonl`; made when there is something to remember.
    """

    def __init__(self, file: Path) -> None:
        self._file = file

    def get(self, state: FileState) -> str | None:
        """Return the sha256 (hex) of a file in that state, if an earlier process read it."""
        return self._read(state.path)[0].get(state.path, {}).get(state)

    def put(self, state: FileState, digest: str) -> None:
        """Remember the sha256 of a file in a state: one line in one write."""
        with contextlib.suppress(OSError), self._locked() as handle:
            # The line feed comes first, so that what a killed process left cannot spoil this line.
            os.write(handle, b"\n" + _line(state, digest))
            self._heal()

    def forget(self, path: Path) -> None:
        """Remember nothing of a path any more."""
        name = str(path.absolute())
        # Without a line there is nothing to write, as with a home that can only be read.
        if self._read(name)[0]:
            with contextlib.suppress(OSError), self._locked():
                self._heal(without=name)

    def _heal(self, without: str = "") -> None:
        """Write the file anew where it holds rubbish or too much; called under the lock."""
        known, rubbish = self._read()
        if known.pop(without, None) is None and not rubbish:
            return
        # Of a path the last state alone: a file does not go back to an earlier one.
        lines = [_line(*list(states.items())[-1]) for states in known.values()]
        while sum(map(len, lines)) > BYTES_MOST // 2:  # the oldest first
            lines = lines[len(lines) // 2 + 1 :]
        with contextlib.suppress(MachineError):
            atomic_write(self._file, b"".join(b"\n" + line for line in lines))

    def _read(self, path: str | None = None) -> tuple[dict[str, dict[FileState, str]], bool]:
        """Return hashes by path and state, and whether the file should be written anew.

        Args:
            path: whose hashes are wanted; the other lines are then not looked at.
        """
        found: dict[str, dict[FileState, str]] = {}
        try:
            with self._file.open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, size - BYTES_MOST))
                lines = file.read(BYTES_MOST).split(b"\n")
        except OSError:
            return found, False
        wanted = b"" if path is None else json.dumps(path).encode()
        rubbish = size > BYTES_MOST
        for line in filter(None, lines):
            if wanted not in line:
                continue
            if (entry := _entry(line)) is None:
                rubbish = True
            elif path in (None, entry[0].path):
                found.setdefault(entry[0].path, {})[entry[0]] = entry[1]
        return found, rubbish

    @contextlib.contextmanager
    def _locked(self) -> Iterator[int]:
        """Open the file for appending while no other process writes it.

        Raises:
            OSError: it cannot be written, or its folder is not there.
        """
        for _ in range(_TRIES):
            handle = os.open(self._file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
            locked = False
            try:
                # Never waited for: whoever holds the lock may have been stopped.
                with contextlib.suppress(BlockingIOError):
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    # Another process may have put a new file there before the lock was ours.
                    locked = _is_at(self._file, handle)
                if locked:
                    yield handle
                    return
            finally:
                os.close(handle)
            time.sleep(_TRY_S)
        raise BlockingIOError("another process keeps the file locked")


def _is_at(path: Path, handle: int) -> bool:
    mine, there = os.fstat(handle), path.stat()
    return (mine.st_dev, mine.st_ino) == (there.st_dev, there.st_ino)


def _line(state: FileState, digest: str) -> bytes:
    text = json.dumps([_VERSION, *state, digest]).encode()
    return b"%s %s" % (text, hashlib.sha256(text).hexdigest().encode())


def _entry(line: bytes) -> tuple[FileState, str] | None:
    """Return what a line says; None where it is not exactly what `_line` makes."""
    text, _, check = line.rpartition(b" ")
    if check != hashlib.sha256(text).hexdigest().encode():
        return None
    try:
        version, *facts, digest = json.loads(text)
        state = FileState(*facts)
    except UNSOUND:
        return None
    kinds = (str, int, int, int, int, int, str, str)
    # `type`, as a bool is an int to `isinstance`, and 1 == 1.0 == True would make one key of all.
    if type(version) is not int or tuple(map(type, state)) != kinds:
        return None
    sound = version == _VERSION and type(digest) is str and _SHA256.fullmatch(digest)
    return (state, digest) if sound else None
