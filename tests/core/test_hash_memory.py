"""Whatever stands in the file of hashes: what is read from it is what was put there."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import random
from pathlib import Path
from typing import Any

import pytest

from probes.core import hash_memory
from probes.core.hash_memory import FileState, HashMemory

STATE = FileState("/films/one", 2**27, 5, 6, 7, 8, "ext4 /dev/sda1 9", "5a")


def sha(number: object) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()


def line(content: Any) -> bytes:
    """Return a line with a right checksum."""
    text = content if isinstance(content, bytes) else json.dumps(content).encode()
    return text + b" " + hashlib.sha256(text).hexdigest().encode()


def state(number: int) -> FileState:
    return STATE._replace(path=f"/films/{number}", inode=number)


def test_what_is_put_is_found_by_any_process(tmp_path: Path) -> None:
    memory = HashMemory(tmp_path / "hashes.jsonl")
    assert memory.get(STATE) is None
    memory.put(STATE, sha(1))
    odd = STATE._replace(path="/films/half \udcff a \n line 5a")
    memory.put(odd, sha(2))
    again = HashMemory(tmp_path / "hashes.jsonl")
    assert (again.get(STATE), again.get(odd)) == (sha(1), sha(2))
    for name, value in zip(STATE._fields, STATE, strict=True):
        other = value + 1 if isinstance(value, int) else f"{value}x"
        assert again.get(STATE._replace(**{name: other})) is None, name


BAD = [
    b"[",
    b'["half a line", 20',
    b"\xff\xfe 00000000",
    b"\0" * 100,
    b"null",
    b" ",
    b"x" * 100_000,
    line(b""),
    line(b"null"),
    line(b"[" * 100_000),
    line(b"[" + b"9" * 5_000 + b"]"),
    line([2]),
    line([2, *STATE]),
    line([2, *STATE, None]),
    line([2, *STATE, "A" * 64]),
    line([2, *STATE, sha(1)[:-1]]),
    line([2, *STATE, sha(1), "more"]),
    line([True, *STATE, sha(1)]),
    line([1, *STATE, sha(1)]),
    line([2.0, *STATE, sha(1)]),
    line([2, *STATE._replace(size=None), sha(1)]),
    line([2, *STATE._replace(size=float(2**27)), sha(1)]),
    line([2, *STATE._replace(inode=True), sha(1)]),
    line([2, *STATE._replace(path=[]), sha(1)]),
    line({"path": STATE.path}),
    line([*STATE[:5], sha(1)]),  # the format of earlier versions
    line([2, *STATE, sha(1)])[:-1] + b"x",
]


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: repr(bad[:40]))
def test_any_other_line_counts_as_absent_and_goes(tmp_path: Path, bad: bytes) -> None:
    file = tmp_path / "hashes.jsonl"
    memory = HashMemory(file)
    memory.put(state(1), sha(1))
    with file.open("ab") as opened:
        opened.write(b"\n" + bad)
    assert memory.get(STATE) is None
    assert memory.get(state(1)) == sha(1)
    memory.put(state(2), sha(2))
    assert file.read_bytes() == b"".join(b"\n" + line([2, *state(n), sha(n)]) for n in (1, 2))


def test_damage_anywhere_never_gives_another_hash(tmp_path: Path) -> None:
    file, rng = tmp_path / "hashes.jsonl", random.Random(5)
    memory = HashMemory(file)
    for number in range(4):
        memory.put(state(number), sha(number))
    whole = file.read_bytes()
    for _ in range(300):
        data = bytearray(whole)
        for _ in range(rng.randint(1, 3)):
            at = rng.randrange(len(data))
            data[at : at + rng.randint(0, 2)] = rng.randbytes(rng.randint(0, 2))
        file.write_bytes(data[: rng.choice((None, rng.randrange(len(data))))])
        for number in range(4):
            assert memory.get(state(number)) in (None, sha(number))
        memory.put(state(9), sha(9))
        assert None not in map(hash_memory._entry, filter(None, file.read_bytes().split(b"\n")))


def test_the_file_does_not_grow_without_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hash_memory, "BYTES_MOST", 5_000)
    file = tmp_path / "hashes.jsonl"
    memory = HashMemory(file)
    for number in range(100):
        memory.put(state(number), sha(number))
        assert file.stat().st_size < 5_400
        assert memory.get(state(number)) == sha(number)
    assert memory.get(state(0)) is None
    with file.open("ab") as opened:  # of a file of any size the end alone is read
        opened.truncate(2**33)
    assert memory.get(state(99)) is None
    memory.put(state(99), sha(99))
    assert memory.get(state(99)) == sha(99)
    assert file.stat().st_size < 5_400


def _put(file: Path, first: int) -> None:
    for number in range(first, first + 60):
        HashMemory(file).put(state(number), sha(number))
        with file.open("ab") as opened:  # every process finds a reason to write the file anew
            opened.write(b"\nrubbish")


def test_processes_may_put_and_clean_at_the_same_time(tmp_path: Path) -> None:
    file = tmp_path / "hashes.jsonl"
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_put, args=(file, 100 * k)) for k in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    memory = HashMemory(file)
    numbers = [100 * k + n for k in range(3) for n in range(60)]
    assert [memory.get(state(n)) for n in numbers] == [sha(n) for n in numbers]


def test_a_path_is_forgotten_alone(tmp_path: Path) -> None:
    memory = HashMemory(tmp_path / "hashes.jsonl")
    for number in range(3):
        memory.put(state(number), sha(number))
    memory.forget(Path("/films/1"))
    assert [memory.get(state(n)) for n in range(3)] == [sha(0), None, sha(2)]
    before = (tmp_path / "hashes.jsonl").stat()
    memory.forget(Path("/films/1"))
    assert (tmp_path / "hashes.jsonl").stat() == before  # nothing to forget, nothing to write
