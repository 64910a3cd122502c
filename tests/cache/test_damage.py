"""Seeded damages of every kind: no wrong output is served, and asking again heals the store."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import multiprocessing
import random
import shutil
import sqlite3
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from probes.cache import background_writer, recovery
from probes.cache.output_cache import Store
from probes.core.errors import MachineError
from probes.core.types import Origin, Output

PAGE = 4096
COUNT = 300
ORIGIN = Origin((("torch", "2.9"),), "cpu avx2", "float32", "sdpa")
BAD = Output(status="error", error="out of memory")


def key(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()


def base(number: int) -> str:
    """Every second row has a key of its own versions."""
    return key(-number) if number % 2 else ""


GIVEN = {
    key(i): Output(
        option_logprobs=(-i / 7, -0.5),
        option_tokens=(1, 2),
        # One of ten is longer than SQLite keeps in one piece.
        text="«long» " * (400 if i % 10 == 0 else 1) + str(i),
        input_tokens=i,
        origin=ORIGIN if i % 3 else None,
    )
    for i in range(COUNT)
}
BASES = {base(i): key(i) for i in range(COUNT) if i % 2}
LATER = {k: dataclasses.replace(one, seconds=9.0) for k, one in GIVEN.items()}
"""What a model answers when it is asked again: never to the last digit the same."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of two files, as two processes write them at the same time."""
    folder = tmp_path_factory.mktemp("whole")
    rows = [(key(i), GIVEN[key(i)], base(i)) for i in range(COUNT)]
    with Store(folder) as first, Store(folder) as second:
        first.put([*rows[: COUNT // 2], (key(1_000), BAD)])
        second.put(rows[COUNT // 2 :])
    assert len(list(folder.glob("*.sqlite"))) == 2
    return folder


Damage = Callable[[random.Random, Path, list[Path]], None]


def changed(path: Path, change: Callable[[bytearray], None]) -> None:
    data = bytearray(path.read_bytes())
    change(data)
    path.write_bytes(data)


def sql(path: Path, *statements: str) -> None:
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        for one in statements:
            connection.execute(one)


def flip_bits(draw: random.Random, path: Path, _: list[Path]) -> None:
    def change(data: bytearray) -> None:
        for _ in range(draw.choice((1, 1, 5, 50))):
            data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)

    changed(path, change)


def flip_in_header(draw: random.Random, path: Path, _: list[Path]) -> None:
    def change(data: bytearray) -> None:
        data[draw.randrange(112)] ^= 1 << draw.randrange(8)

    changed(path, change)


def swap_pages(draw: random.Random, path: Path, _: list[Path]) -> None:
    def change(data: bytearray) -> None:
        one, two = (PAGE * n for n in draw.sample(range(1, len(data) // PAGE), 2))
        data[one : one + PAGE], data[two : two + PAGE] = (
            data[two : two + PAGE],
            data[one : one + PAGE],
        )

    changed(path, change)


def copy_page(draw: random.Random, path: Path, _: list[Path]) -> None:
    def change(data: bytearray) -> None:
        one, two = (PAGE * n for n in draw.sample(range(len(data) // PAGE), 2))
        data[one : one + PAGE] = data[two : two + PAGE]

    changed(path, change)


def zero(draw: random.Random, path: Path, _: list[Path]) -> None:
    def change(data: bytearray) -> None:
        at, size = draw.randrange(len(data)), draw.choice((1, 100, PAGE, 10 * PAGE))
        data[at : at + size] = bytes(len(data[at : at + size]))

    changed(path, change)


def cut(draw: random.Random, path: Path, _: list[Path]) -> None:
    def change(data: bytearray) -> None:
        del data[draw.choice((0, 1, 100, PAGE, draw.randrange(len(data)))) :]

    changed(path, change)


def swap_rows(draw: random.Random, path: Path, _: list[Path]) -> None:
    column = draw.choice(("output", "base"))
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        rows = connection.execute(f"select key, {column} from outputs").fetchall()
        for (one, a), (two, b) in (draw.sample(rows, 2) for _ in range(draw.choice((1, 20)))):
            connection.execute(f"update outputs set {column} = ? where key = ?", (b, one))
            connection.execute(f"update outputs set {column} = ? where key = ?", (a, two))


def change_rows(draw: random.Random, path: Path, _: list[Path]) -> None:
    value = draw.choice(("null", "7", "x'ff'", "substr(output, 3)", "upper(output)", "''", "'{}'"))
    some = f"key < '{draw.choice('123456789abcdef')}'"
    sql(path, f"update outputs set output = {value} where {some}")


def mix_tables(draw: random.Random, path: Path, _: list[Path]) -> None:
    sql(path, "insert or replace into outputs select * from errors", "delete from errors")


def change_tables(draw: random.Random, path: Path, _: list[Path]) -> None:
    sql(
        path,
        draw.choice(
            (
                "drop table outputs",
                "drop index outputs_by_base",
                "alter table outputs rename column base to root",
                "alter table outputs add column more text",
                "pragma user_version = 9",
                "create table birds (name text)",
            )
        ),
    )


def leave_logs(draw: random.Random, path: Path, _: list[Path]) -> None:
    for ending in draw.sample(("-wal", "-shm", "-journal"), 2):
        junk = draw.choice((b"", draw.randbytes(100), draw.randbytes(40_000)))
        path.with_name(path.name + ending).write_bytes(junk)


def one_for_the_other(draw: random.Random, path: Path, files: list[Path]) -> None:
    # Read first: both may be one file by now.
    path.write_bytes(draw.choice([one for one in files if one != path]).read_bytes())


def a_second_copy(draw: random.Random, path: Path, _: list[Path]) -> None:
    name = draw.choice(("a", "zz"))
    path.with_name(f"{name}.sqlite").write_bytes(path.read_bytes())
    draw.choice((flip_bits, swap_rows, cut))(draw, path.with_name(f"{name}.sqlite"), [])


def no_file(draw: random.Random, path: Path, _: list[Path]) -> None:
    path.unlink()
    if draw.random() < 0.5:
        path.mkdir()


def noise(draw: random.Random, path: Path, _: list[Path]) -> None:
    path.write_bytes(draw.randbytes(draw.choice((1, 512, 50_000))))


DAMAGES: tuple[Damage, ...] = (
    *(flip_bits, flip_in_header, swap_pages, copy_page, zero, cut, swap_rows, change_rows),
    *(mix_tables, change_tables, leave_logs, one_for_the_other, a_second_copy, no_file, noise),
)


def healed(folder: Path) -> set[str]:
    """Look everything up, ask again what is missing, and see that all is right and stays so.

    Returns:
        The keys that had to be asked again.
    """
    with Store(folder) as store:
        there = store.has(GIVEN)
        found = store.get(GIVEN)
        assert found.keys() == there  # the same to planning as to answering
        assert all(GIVEN[k] == one for k, one in found.items())
        by_base = store.of_other_versions(BASES)
        for one, outputs in by_base.items():
            assert outputs == {BASES[one]: GIVEN[BASES[one]]}
        missing = GIVEN.keys() - there
        store.put((k, LATER[k]) for k in missing)
        expected = {k: (LATER if k in missing else GIVEN)[k] for k in GIVEN}
        assert store.get(GIVEN) == expected
    with warnings.catch_warnings(), Store(folder) as again:
        # Healed: nothing is told any more, but of what is left where it is.
        warnings.filterwarnings("error", message="(?!.*files of the store that are not used)")
        assert again.has(GIVEN) == GIVEN.keys()
        assert again.get(GIVEN) == expected
        again.put((k, LATER[k]) for k in GIVEN)
        assert again.get(GIVEN) == expected  # an answer once served stays
    return missing


def damaged(whole: Path, folder: Path, seed: int) -> str:
    draw = random.Random(seed)
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(whole, folder)
    names = []
    for _ in range(draw.choice((1, 1, 2))):
        files = [path for path in sorted(folder.glob("*.sqlite")) if path.is_file()]
        kind = DAMAGES[seed % len(DAMAGES)] if not names else draw.choice(DAMAGES)
        names.append(kind.__name__)
        # What one damage has left, another may not be able to change.
        with contextlib.suppress(*((sqlite3.Error, ValueError, IndexError) if names[1:] else ())):
            kind(draw, draw.choice(files), files)
    return f"seed {seed}: {', '.join(names)}"


def check_damages(whole: Path, folder: Path, seeds: range) -> None:
    for seed in seeds:
        what = damaged(whole, folder, seed)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                healed(folder)
        except Exception as error:
            raise AssertionError(what) from error


def test_sixty_damages(whole: Path, tmp_path: Path) -> None:
    check_damages(whole, tmp_path / "store", range(60))


@pytest.mark.slow
def test_six_hundred_damages(whole: Path, tmp_path: Path) -> None:
    check_damages(whole, tmp_path / "store", range(60, 660))


@pytest.mark.parametrize("seed", range(6))
def test_pages_that_changed_places_are_noticed_and_no_row_is_lost(
    seed: int, whole: Path, tmp_path: Path
) -> None:
    """Every page is sound by itself, and SQLite finds no fault until it looks for the order."""
    folder = tmp_path / "store"
    shutil.copytree(whole, folder)
    path = sorted(folder.glob("*.sqlite"))[0]
    leaves = [
        number
        for number in range(1, path.stat().st_size // PAGE)
        if path.read_bytes()[number * PAGE] == 10
    ]
    one, two = random.Random(seed).sample(leaves, 2)

    def change(data: bytearray) -> None:
        a, b = slice(one * PAGE, (one + 1) * PAGE), slice(two * PAGE, (two + 1) * PAGE)
        data[a], data[b] = data[b], data[a]

    changed(path, change)
    with Store(folder) as store, pytest.warns(UserWarning, match="is damaged"):
        # The index of bases has leaves too: whichever were swapped, both look-ups are right.
        assert store.has([*GIVEN, key(5_000)]) == GIVEN.keys()
        assert store.get(GIVEN) == GIVEN
        assert store.of_other_versions(BASES).keys() == BASES.keys()


def test_a_file_without_its_first_page_keeps_its_rows(whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "store"
    shutil.copytree(whole, folder)
    for path in folder.glob("*.sqlite"):
        changed(path, lambda data: data.__setitem__(slice(0, PAGE), bytes(PAGE)))
    with Store(folder) as store, pytest.warns(UserWarning, match="is damaged"):
        assert store.get(GIVEN) == GIVEN  # long ones too, which go over several pages


def _meet(folder: Path, ready: object, results: object) -> None:
    warnings.simplefilter("ignore")
    with Store(folder) as store:
        ready.wait()  # type: ignore[attr-defined]
        there = store.has(GIVEN)
        store.put((k, LATER[k]) for k in GIVEN.keys() - there)
        found = store.get(GIVEN)
        results.put(  # type: ignore[attr-defined]
            found.keys() == GIVEN.keys()
            and all(found[k] == GIVEN[k] for k in there)
            and all(found[k] == LATER[k] for k in GIVEN.keys() - there)
        )


def test_processes_that_meet_one_damage_at_once_repair_it_once(whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "store"
    shutil.copytree(whole, folder)
    path = sorted(folder.glob("*.sqlite"))[0]
    changed(path, lambda data: data.__setitem__(slice(0, PAGE), bytes(PAGE)))
    context = multiprocessing.get_context("spawn")
    ready, results = context.Barrier(3), context.Queue()
    workers = [context.Process(target=_meet, args=(folder, ready, results)) for _ in range(3)]
    for worker in workers:
        worker.start()
    assert [results.get(timeout=60) for _ in workers] == [True] * 3
    for worker in workers:
        worker.join(60)
    assert len(list(folder.glob("*.damaged-*"))) == 1
    with warnings.catch_warnings(), Store(folder) as store:
        warnings.simplefilter("error")
        assert store.has(GIVEN) == GIVEN.keys()


def test_what_another_process_writes_while_its_file_is_repaired_is_kept(
    whole: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "store"
    with Store(folder) as writer, Store(folder) as reader:
        writer.put((k, GIVEN[k]) for k in list(GIVEN)[:150])
        (path,) = folder.glob("*.sqlite")
        # The reader takes the file for damaged and replaces it; its owner does not know of it.
        with pytest.warns(UserWarning, match="is damaged"), pytest.MonkeyPatch.context() as patch:
            patch.setattr("probes.cache.repair.is_sound", lambda path: False)
            reader._replace_damaged(path, sqlite3.DatabaseError("made up"))
        writer.put((k, GIVEN[k]) for k in list(GIVEN)[150:])
        assert reader.get(GIVEN) == writer.get(GIVEN) == GIVEN
    with Store(folder) as again:
        assert again.get(GIVEN) == GIVEN


def test_a_store_that_is_moved_away_stops_the_writer_and_can_be_gone_on_with(
    tmp_path: Path,
) -> None:
    folder, away = tmp_path / "store", tmp_path / "away"
    with Store(folder) as store:
        store.put([(key(1), GIVEN[key(1)])])
        folder.rename(away)
        for use in (
            lambda: store.put([(key(2), GIVEN[key(2)])]),
            lambda: store.has([key(1)]),
            lambda: store.get([key(1)]),
        ):
            with pytest.raises(MachineError, match="no longer where it was") as caught:
                use()
            assert caught.value.where == str(folder)
            assert "the same command" in caught.value.fix
    assert not folder.exists()
    away.rename(folder)
    with Store(folder) as store:
        assert store.get([key(1)]) == {key(1): GIVEN[key(1)]}


def test_a_file_that_is_taken_away_is_written_anew(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        store.put([(key(1), GIVEN[key(1)])])
        (path,) = tmp_path.glob("*.sqlite")
        path.rename(tmp_path / "elsewhere")
        store.put([(key(2), GIVEN[key(2)])])
        assert store.get([key(1), key(2)]) == {key(2): GIVEN[key(2)]}


def test_a_disk_that_hangs_is_not_waited_for_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background_writer, "MOST_S", 0.2)
    disk = threading.Event()
    insert = Store._insert

    def hang(self: Store, good: Any, failed: Any) -> None:
        assert not good or disk.wait(30)
        insert(self, good, failed)

    monkeypatch.setattr(Store, "_insert", hang)
    with (
        Store(tmp_path) as store,
        pytest.raises(MachineError, match="has taken no answers"),
        store.writing() as put,
    ):
        put(key(1), GIVEN[key(1)])
    disk.set()  # `close` did not wait either, and what was under way is stored in the end
    with Store(tmp_path) as again:
        for _ in range(500):
            if again.has([key(1)]):
                break
            time.sleep(0.01)
        assert again.get([key(1)]) == {key(1): GIVEN[key(1)]}


def test_rows_among_bytes_are_those_that_were_written(whole: Path) -> None:
    found = {row.key for path in whole.glob("*.sqlite") for _, row in recovery._by_bytes(path)}
    assert found >= GIVEN.keys()
