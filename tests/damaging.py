"""What disks, copies and people do to files: random damages, each known by its seed."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path

PAGE = 4_096
"""Bytes; the size of SQLite's pages, and of most disks' blocks."""


def flip_a_bit(path: Path, draw: random.Random) -> None:
    data = bytearray(path.read_bytes())
    data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    path.write_bytes(data)


def change_a_digit(path: Path, draw: random.Random) -> None:
    """Put another hexadecimal digit where one stands: the content stays well-formed."""
    data = bytearray(path.read_bytes())
    places = [at for at, byte in enumerate(data) if chr(byte) in "0123456789abcdef"]
    if not places:
        flip_a_bit(path, draw)
        return
    at = draw.choice(places)
    data[at] = ord(draw.choice([one for one in "0123456789abcdef" if one != chr(data[at])]))
    path.write_bytes(data)


def swap_digits(path: Path, draw: random.Random) -> None:
    """Exchange two runs of 8 bytes."""
    data = bytearray(path.read_bytes())
    if len(data) < 32:
        flip_a_bit(path, draw)
        return
    a, b = sorted(draw.sample(range(len(data) - 8), 2))
    if b - a < 8 or data[a : a + 8] == data[b : b + 8]:
        flip_a_bit(path, draw)
        return
    data[a : a + 8], data[b : b + 8] = data[b : b + 8], data[a : a + 8]
    path.write_bytes(data)


def swap_pages(path: Path, draw: random.Random) -> None:
    data = bytearray(path.read_bytes())
    pages = len(data) // PAGE
    if pages < 3:
        swap_digits(path, draw)
        return
    a, b = (at * PAGE for at in draw.sample(range(1, pages), 2))
    data[a : a + PAGE], data[b : b + PAGE] = data[b : b + PAGE], data[a : a + PAGE]
    path.write_bytes(data)


def zero_a_range(path: Path, draw: random.Random) -> None:
    data = bytearray(path.read_bytes())
    start = draw.randrange(len(data))
    end = min(len(data), start + draw.choice([1, 16, 512, PAGE]))
    if not any(data[start:end]):
        flip_a_bit(path, draw)
        return
    data[start:end] = bytes(end - start)
    path.write_bytes(data)


def cut_off(path: Path, draw: random.Random) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: draw.randrange(len(data))])


def add_rubbish(path: Path, draw: random.Random) -> None:
    with path.open("ab") as file:
        file.write(draw.randbytes(draw.choice([1, 40, PAGE])))


def remove(path: Path, draw: random.Random) -> None:
    path.unlink()


def exchange(path: Path, draw: random.Random) -> None:
    """Exchange the contents of two files of one kind, or copy one over the other."""
    folder = path.parent.parent
    others = [
        one
        for one in sorted(folder.rglob(f"*{path.suffix}"))
        if one.is_file() and one.read_bytes() != path.read_bytes()
    ]
    if not others:
        flip_a_bit(path, draw)
        return
    other = draw.choice(others)
    mine, theirs = path.read_bytes(), other.read_bytes()
    path.write_bytes(theirs)
    if draw.random() < 0.5:
        other.write_bytes(mine)


def put_a_folder_there(path: Path, draw: random.Random) -> None:
    path.unlink()
    path.mkdir()


DAMAGES: tuple[Callable[[Path, random.Random], None], ...] = (
    flip_a_bit,
    change_a_digit,
    swap_digits,
    swap_pages,
    zero_a_range,
    cut_off,
    add_rubbish,
    remove,
    exchange,
    put_a_folder_there,
)


def copied(folder: Path, to: Path) -> Path:
    """Copy a folder in place of what is at `to`."""
    shutil.rmtree(to, ignore_errors=True)
    return Path(shutil.copytree(folder, to))


def damage(folder: Path, seed: int, kinds: dict[str, str]) -> str:
    """Damage one file below a folder; return what was done.

    Args:
        folder: with the files.
        seed: of every choice.
        kinds: pattern by kind of file; every kind is as likely as the others.
    """
    draw = random.Random(seed)
    found = {name: sorted(folder.glob(pattern)) for name, pattern in kinds.items()}
    found = {name: [p for p in paths if p.is_file()] for name, paths in found.items()}
    name = draw.choice([name for name, paths in found.items() if paths])
    # No more than once in a hundred a file is empty; then there is nothing to damage in it.
    path = draw.choice([p for p in found[name] if p.stat().st_size] or found[name])
    # A database is written in place and the likeliest to be hit while a machine goes down.
    change = draw.choice(DAMAGES) if path.stat().st_size else remove
    change(path, draw)
    return f"seed {seed}: {change.__name__} of {path.relative_to(folder)}"
