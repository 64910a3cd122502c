"""Which files below a folder are opened, as the kernel sees it: by Python, Rust and C++ alike."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_IN_OPEN, _IN_ISDIR, _IN_NONBLOCK = 0x20, 0x40000000, 0o4000


@contextmanager
def opened_below(folder: Path) -> Iterator[set[str]]:
    """Yield a set that holds, after the block, the names of the files below that were opened."""
    libc = ctypes.CDLL(None, use_errno=True)
    handle = libc.inotify_init1(_IN_NONBLOCK)
    assert handle >= 0, os.strerror(ctypes.get_errno())
    watched: dict[int, Path] = {}
    for path in [folder, *(one for one in folder.rglob("*") if one.is_dir())]:
        found = libc.inotify_add_watch(handle, os.fsencode(path), _IN_OPEN)
        assert found >= 0, os.strerror(ctypes.get_errno())
        watched[found] = path.relative_to(folder)
    names: set[str] = set()
    try:
        yield names
        while True:
            try:
                events = os.read(handle, 2**16)
            except BlockingIOError:
                break
            at = 0
            while at < len(events):
                where, mask, _, length = struct.unpack_from("iIII", events, at)
                name = events[at + 16 : at + 16 + length].rstrip(b"\0").decode()
                at += 16 + length
                assert where >= 0, "the kernel lost events"
                if name and not mask & _IN_ISDIR:
                    names.add((watched[where] / name).as_posix())
    finally:
        os.close(handle)
