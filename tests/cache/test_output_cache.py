"""The store: what is put is found, by every process, whatever crashed or is damaged."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import multiprocessing
import os
import sqlite3
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest

from probes.cache import sqlite_file
from probes.cache.output_cache import Store, key, versioned
from probes.cache.rows import StoredRow, output_of
from probes.core.errors import MachineError, ProbesError
from probes.core.types import (
    Decoding,
    FrameRef,
    Intervention,
    Output,
    Request,
    ScoringSpec,
    TextSpan,
)

ROOT = Path(__file__).resolve().parents[2]
GOOD = Output(
    option_logprobs=(-0.1, -2.5e-17, float("-inf")),
    option_tokens=(1, 2, 3),
    text='é "\n\ud800',
    input_tokens=7,
    output_tokens=2,
    seconds=0.25,
)
BAD = Output(status="error", error="out of memory")
PROMPT = Request((FrameRef("aa"), "what?"), ("A", "B"))
LETTER = ScoringSpec("letter")


def name(number: int) -> str:
    return f"{number:064x}"


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*.sqlite*"))


def failures(folder: Path) -> dict[str, Output]:
    """Return the stored failures by key."""
    found: dict[str, Output] = {}
    for path in folder.glob("*.sqlite"):
        with contextlib.closing(sqlite3.connect(path)) as connection:
            rows = connection.execute("select key, base, output from errors").fetchall()
        found |= {key: output_of(StoredRow(key, base, row.encode()))[0] for key, base, row in rows}
    return found


def test_what_is_put_is_found_to_the_last_bit(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        store.put([(name(1), GOOD)])
        assert store.get([name(1), name(2)]) == {name(1): GOOD}
        assert store.has([name(1), name(2)]) == {name(1)}
    with Store(tmp_path) as again:
        assert again.get([name(1)]) == {name(1): GOOD}


def test_an_empty_store_makes_no_files(tmp_path: Path) -> None:
    with Store(tmp_path / "none") as store:
        assert store.get([name(1)]) == {}
        store.put([])
    assert not (tmp_path / "none").exists()


def test_failures_are_kept_but_never_served(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        store.put([(name(1), BAD), (name(2), GOOD)])
        assert store.get([name(1)]) == {}
        assert store.has([name(1)]) == set()
        assert failures(tmp_path) == {name(1): BAD}
        store.put([(name(1), GOOD)])
        assert failures(tmp_path) == {}
        assert store.get([name(1)]) == {name(1): GOOD}


def test_the_first_answer_stays(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        store.put([(name(1), GOOD)])
        store.put([(name(1), dataclasses.replace(GOOD, text="another"))])
        assert store.get([name(1)])[name(1)].text == GOOD.text


def test_many_keys_are_asked_at_once(tmp_path: Path) -> None:
    count = 3_005  # a query has room for 999 or 32,766 values, as SQLite was built
    with Store(tmp_path) as store:
        store.put((name(i), GOOD) for i in range(0, count, 2))
        assert len(store.get(name(i) for i in range(count))) == (count + 1) // 2


def test_two_writers_have_a_file_each_and_read_each_others(tmp_path: Path) -> None:
    with Store(tmp_path) as a, Store(tmp_path) as b:
        a.put([(name(1), GOOD)])
        b.put([(name(2), GOOD), (name(3), BAD)])
        assert len(list(tmp_path.glob("*.sqlite"))) == 2
        assert (
            set(a.get([name(1), name(2)])) == set(b.get([name(1), name(2)])) == {name(1), name(2)}
        )
        a.put([(name(3), GOOD)])
        assert b.get([name(3)]) == {name(3): GOOD}  # though the failure is still in the other file


def test_a_later_writer_continues_in_a_file_that_is_free(tmp_path: Path) -> None:
    for number in range(3):
        with Store(tmp_path) as store:
            store.put([(name(number), GOOD)])
    assert len(list(tmp_path.glob("*.sqlite"))) == 1


def _write(folder: Path, first: int) -> None:
    with Store(folder) as store:
        for number in range(first, first + 50):
            store.put([(name(number), GOOD)])


def test_processes_may_write_at_the_same_time(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_write, args=(tmp_path, 100 * n)) for n in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    with Store(tmp_path) as store:
        assert len(store.get(name(i) for i in range(300))) == 100


@pytest.mark.parametrize("journal", ["wal", "delete"])
def test_a_killed_process_loses_nothing_that_was_put(
    journal: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROBES_STORE_JOURNAL", journal)
    script = f"""
        import os, signal
        from pathlib import Path
        from probes.cache.output_cache import Store
        from probes.core.types import Output
        store = Store(Path({str(tmp_path)!r}))
        store.put([("{name(1)}", Output(text="kept")), ("{name(2)}", Output(text="kept"))])
        writer = store._open_writer()
        writer.execute("insert into outputs values ('{name(3)}', '', 'half a transaction')")
        os.kill(os.getpid(), signal.SIGKILL)
    """
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], env=environment)
    assert done.returncode == -9
    with Store(tmp_path) as store:
        assert set(store.get([name(1), name(2), name(3)])) == {name(1), name(2)}
        store.put([(name(3), GOOD)])  # the dead process holds no lock
        assert store.get([name(3)]) == {name(3): GOOD}
    assert len(list(tmp_path.glob("*.sqlite"))) == 1


def test_the_journal_is_that_of_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def mode() -> str:
        folder = tmp_path / os.urandom(4).hex()
        with Store(folder) as store:
            store.put([(name(1), GOOD)])
            (found,) = store._open_writer().execute("pragma journal_mode").fetchone()
        return bytes(found).decode()

    monkeypatch.delenv("PROBES_STORE_JOURNAL", raising=False)
    monkeypatch.setattr(sqlite_file, "disk_type", lambda folder: "ext4")
    assert mode() == "wal"
    monkeypatch.setattr(sqlite_file, "disk_type", lambda folder: "nfs4")
    assert mode() == "delete"
    monkeypatch.setenv("PROBES_STORE_JOURNAL", "WAL")
    assert mode() == "wal"
    monkeypatch.setenv("PROBES_STORE_JOURNAL", "fast")
    with pytest.raises(ProbesError, match="wal or delete"):
        mode()


def test_the_innermost_mount_decides_the_type_of_disk(tmp_path: Path) -> None:
    mounts = tmp_path / "mounts"
    spaced = str(tmp_path / "a b").replace(" ", "\\040")
    mounts.write_text(
        f"dev / ext4 rw 0 0\nhost:/x {tmp_path} nfs4 rw 0 0\nx {spaced} tmpfs rw 0 0\n\nodd\n"
    )
    (tmp_path / "a b").mkdir()
    assert sqlite_file.disk_type(tmp_path / "store", mounts) == "nfs4"
    assert sqlite_file.disk_type(tmp_path / "a b" / "store", mounts) == "tmpfs"
    assert sqlite_file.disk_type(Path("/elsewhere"), mounts) == "ext4"
    assert sqlite_file.disk_type(Path("/elsewhere"), tmp_path / "none") == ""


def damaged_file(folder: Path) -> Path:
    with Store(folder) as store:
        store.put((name(i), GOOD) for i in range(200))
    (path,) = folder.glob("*.sqlite")
    return path


def test_a_damaged_file_is_named_and_set_aside_and_the_others_are_read(tmp_path: Path) -> None:
    path = damaged_file(tmp_path)
    path.rename(tmp_path / "z-other.sqlite")
    (tmp_path / "a-broken.sqlite").write_bytes(b"not a database at all, but long enough" * 100)
    with Store(tmp_path) as store:
        with pytest.warns(UserWarning, match=r"a-broken\.sqlite"):
            assert len(store.get([name(1), name(2)])) == 2
        assert [p for p in files(tmp_path) if p.startswith("a-broken.sqlite.damaged-")]
        assert len(store.get([name(1), name(2)])) == 2  # without another warning


def test_a_page_that_went_bad_is_found_when_it_is_read(tmp_path: Path) -> None:
    path = damaged_file(tmp_path)
    data = bytearray(path.read_bytes())
    data[8192:] = os.urandom(len(data) - 8192)
    path.write_bytes(data)
    with Store(tmp_path) as store, pytest.warns(UserWarning, match="computed again"):
        assert len(store.get(name(i) for i in range(200))) < 200


def hashed(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()


@pytest.mark.parametrize("pages", [1, 3])
def test_what_can_still_be_read_of_a_damaged_file_is_kept(pages: int, tmp_path: Path) -> None:
    keys = [hashed(i) for i in range(3_000)]
    with Store(tmp_path) as store:
        store.put((name, GOOD) for name in keys)
        store.put([(hashed(-1), BAD)])
    (path,) = tmp_path.glob("*.sqlite")
    data = bytearray(path.read_bytes())
    for number in range(pages):
        start = len(data) // 4096 * (number + 1) // 4 * 4096
        data[start : start + 4096] = os.urandom(4096)
    path.write_bytes(data)
    with Store(tmp_path) as store:
        with pytest.warns(UserWarning, match=r"\d+ of its outputs could still be read"):
            found = store.get(keys)
        assert len(keys) - 600 * pages < len(found) < len(keys)
        assert set(found.values()) == {GOOD}
        assert failures(tmp_path) == {hashed(-1): BAD}
        lost = set(keys) - set(found)
        store.put((name, GOOD) for name in lost)
    with Store(tmp_path) as again:  # sound now, without another warning
        assert again.has(keys) == set(keys)


BAD_ROWS = {
    "no output": "update outputs set output = '[1]' where key < ?",
    "no text": "update outputs set output = null where key < ?",
    "a number": "update outputs set output = 7 where key < ?",
    "bytes": "update outputs set output = x'ff00' where key < ?",
    "not UTF-8": "update outputs set output = cast(x'ff00' as text) where key < ?",
    "cut": "update outputs set output = substr(output, 1, 40) where key < ?",
    "another base": "update outputs set base = key where key < ?",
    "a failure": "insert or replace into outputs select * from errors where key < ?",
    # Each row gets the text of the one behind it: all checksums were those of some text.
    "another's text": "update outputs set output = (select o.output from outputs as o "
    "where o.key > outputs.key order by o.key limit 1) where key < ?",
}


@pytest.mark.parametrize("damage", BAD_ROWS.values(), ids=BAD_ROWS)
def test_rows_that_do_not_hold_are_missing_are_told_once_and_give_way(
    damage: str, tmp_path: Path
) -> None:
    """As missing for `has` as for `get`; the sound rows of the file stay where they are."""
    given = {name(i): dataclasses.replace(GOOD, input_tokens=i) for i in range(200)}
    with Store(tmp_path) as store:
        store.put(given.items())
        store.put((name(i), BAD) for i in range(200, 210))
    (path,) = tmp_path.glob("*.sqlite")
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(f"update errors set key = '{name(0)}' where key = '{name(200)}'")
        connection.execute(damage, (name(100),))
    bad = {name(0)} if "errors" in damage else {name(i) for i in range(100)}
    with Store(tmp_path) as store:
        with pytest.warns(UserWarning, match=f"{len(bad)} stored answers are not what") as told:
            assert store.has(given) == given.keys() - bad
        assert len(told) == 1
        assert store.get(given) == {key: given[key] for key in given.keys() - bad}
        store.put((key, given[key]) for key in bad)
        assert store.get(given) == given
    with Store(tmp_path) as again:
        assert again.get(given) == given
    assert files(tmp_path) == [path.name]  # nothing was renamed for it


def test_a_file_that_cannot_be_renamed_is_set_aside_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a-broken.sqlite").write_bytes(b"not a database at all, but long enough" * 100)

    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(Path, "rename", refuse)
    with Store(tmp_path) as store:
        with pytest.warns(UserWarning, match="a-broken"):
            assert store.get([name(1)]) == {}
        store.put([(name(1), GOOD)])
        assert store.get([name(1)]) == {name(1): GOOD}


def test_what_another_process_has_stored_stays(tmp_path: Path) -> None:
    with Store(tmp_path) as first, Store(tmp_path) as second:
        first.put([(name(9), GOOD)])  # the first file is that of `first`
        second.put([(name(1), GOOD)])
        first.put([(name(1), dataclasses.replace(GOOD, text="another"))])
        assert first.get([name(1)]) == second.get([name(1)]) == {name(1): GOOD}


def test_a_file_that_is_being_created_is_never_taken_for_a_foreign_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tables appear between two looks at the file."""
    path = tmp_path / "a.sqlite"
    path.touch()
    seen: list[str] = []

    class Slow(sqlite3.Connection):
        def execute(self, text: str, *rest: object) -> sqlite3.Cursor:
            if "sqlite_master" in text and not seen:
                seen.append(text)
                maker = sqlite3.connect(path, timeout=0)
                with contextlib.suppress(sqlite3.OperationalError):  # locked: it has to wait
                    maker.executescript(sqlite_file.CREATE)
                maker.close()
            return super().execute(text, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(
        sqlite_file, "connect", lambda p: sqlite3.connect(p, factory=Slow, check_same_thread=False)
    )
    with Store(tmp_path) as store:
        assert store.get([name(1)]) == {}
    assert seen


def test_another_users_file_is_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Store(tmp_path) as store:
        store.put([(name(1), GOOD)])
    (lock,) = tmp_path.glob("*-0.lock")
    open_file = Path.open

    def foreign(self: Path, *arguments: Any, **names: Any) -> Any:
        if self == lock:
            raise PermissionError(13, "Permission denied", str(self))
        return open_file(self, *arguments, **names)

    monkeypatch.setattr(Path, "open", foreign)
    with Store(tmp_path) as store:
        store.put([(name(2), GOOD)])
        assert store.has([name(1), name(2)]) == {name(1), name(2)}
    assert len(list(tmp_path.glob("*.sqlite"))) == 2
    lock.unlink()
    with Store(tmp_path) as store, pytest.raises(MachineError, match="Permission denied"):
        store.put([(name(3), GOOD)])


def test_a_full_disk_is_the_machines_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Store(tmp_path) as store:
        store.put([(name(1), GOOD)])
        store._open_writer().execute("pragma max_page_count = 3")
        with pytest.raises(MachineError, match="full"):
            store.put((name(i), GOOD) for i in range(2, 500))
        assert store.has(name(i) for i in range(500)) == {name(1)}  # all of them, or none


def test_writing_where_nothing_can_be_stored_fails_before_it_begins(tmp_path: Path) -> None:
    (tmp_path / "store").touch()
    with Store(tmp_path / "store") as store, pytest.raises(MachineError), store.writing():
        raise AssertionError("not reached")


def test_a_row_that_is_not_json_is_damage_too(tmp_path: Path) -> None:
    path = damaged_file(tmp_path)
    connection = sqlite3.connect(path)
    with connection:
        connection.execute("update outputs set output = '{\"text\"'")
    connection.close()
    with Store(tmp_path) as store, pytest.warns(UserWarning, match=path.name):
        assert store.get([name(1)]) == {}


def test_writing_continues_in_a_new_file_where_the_own_one_is_damaged(tmp_path: Path) -> None:
    damaged_file(tmp_path).write_bytes(b"not a database" * 1000)
    with Store(tmp_path) as store:
        with pytest.warns(UserWarning, match="renamed"):
            store.put([(name(1), GOOD)])
        assert store.get([name(1), name(2)]) == {name(1): GOOD}


def test_an_empty_file_is_another_process_at_its_beginning(tmp_path: Path) -> None:
    (tmp_path / "a.sqlite").touch()
    with Store(tmp_path) as store:
        assert store.get([name(1)]) == {}
        store.put([(name(1), GOOD)])
        assert store.get([name(1)]) == {name(1): GOOD}


OLDER = """
    create table outputs (key text primary key, output text) without rowid;
    create table errors (key text primary key, output text) without rowid;
    pragma user_version = 2;
"""
BIRDS = "create table birds (name text)"


@pytest.mark.parametrize(
    ("tables", "says"),
    [(OLDER, "older version.*may be deleted"), (BIRDS, "another program"), ("", "a folder")],
)
def test_a_file_that_is_not_this_versions_is_left_alone_and_told_once(
    tables: str, says: str, tmp_path: Path
) -> None:
    own = damaged_file(tmp_path)  # of the name that this process would take
    own.unlink()
    if tables:
        with contextlib.closing(sqlite3.connect(own)) as connection:
            connection.executescript(tables)
        before = own.read_bytes()
    else:
        own.mkdir()
    with Store(tmp_path) as store, pytest.warns(UserWarning, match=says) as told:
        assert store.get([name(1)]) == {}
        store.put([(name(1), GOOD)])
        assert store.get([name(1)]) == {name(1): GOOD}
    assert len(told) == 1
    assert own.is_dir() or own.read_bytes() == before
    with Store(tmp_path) as store, pytest.warns(UserWarning, match=says):
        store.put([(name(2), GOOD)])
        assert store.has([name(1), name(2)]) == {name(1), name(2)}


@pytest.mark.parametrize(
    "damage",
    [
        "pragma user_version = 77",
        "alter table outputs rename column output to text",
        "drop table errors",
        "drop index outputs_by_base",
        "create table birds (name text)",
    ],
)
def test_a_file_whose_tables_have_changed_is_made_anew_with_all_its_rows(
    damage: str, tmp_path: Path
) -> None:
    path = damaged_file(tmp_path)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute(damage)
    keys = [name(i) for i in range(200)]
    with Store(tmp_path) as store:
        with pytest.warns(UserWarning, match="200 of its outputs could still be read"):
            assert store.get(keys) == dict.fromkeys(keys, GOOD)
        store.put([(name(200), GOOD)])
    with Store(tmp_path) as again:
        assert len(again.get([*keys, name(200)])) == 201


def test_a_file_where_the_folder_should_be_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "store").touch()
    with Store(tmp_path / "store") as store, pytest.raises(ProbesError, match="PROBES_HOME"):
        store.put([(name(1), GOOD)])


def test_without_file_locks_every_writer_has_its_own_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(*_: object) -> None:
        raise OSError("no locks here")

    monkeypatch.setattr(sqlite_file.fcntl, "flock", no_locks)
    for number in range(2):
        with Store(tmp_path) as store:
            store.put([(name(number), GOOD)])
    assert len(list(tmp_path.glob("*.sqlite"))) == 2


def test_writing_stores_everything_and_at_once(tmp_path: Path) -> None:
    with Store(tmp_path) as store, Store(tmp_path) as reader:
        with store.writing() as put:
            for number in range(100):
                put(name(number), GOOD)
            for _ in range(500):  # five seconds at most
                if len(reader.has(name(i) for i in range(100))) == 100:
                    break
                time.sleep(0.01)
            assert len(reader.has(name(i) for i in range(100))) == 100
        assert len(store.get(name(i) for i in range(100))) == 100


def test_what_was_written_is_stored_though_the_caller_fails(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        with pytest.raises(KeyboardInterrupt), store.writing() as put:
            put(name(1), GOOD)
            raise KeyboardInterrupt
        assert store.has([name(1)]) == {name(1)}


def test_a_disk_that_fails_stops_the_caller(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Store(tmp_path) as store:
        error = ProbesError("the disk is full")
        monkeypatch.setattr(store, "put", lambda batch: (_ for _ in ()).throw(error))
        with pytest.raises(ProbesError, match="full"), store.writing() as put:
            put(name(1), GOOD)


def changed(**fields: object) -> str:
    given = {"request": PROMPT, "fingerprint": "f", "scoring": LETTER, "adapter": "a-1"} | fields
    return key(**given)  # type: ignore[arg-type]


def test_a_key_covers_everything_that_an_output_depends_on() -> None:
    variants = [
        changed(),
        changed(request=Request((FrameRef("ab"), "what?"), ("A", "B"))),
        changed(request=Request((FrameRef("aa"), "what? "), ("A", "B"))),
        changed(request=Request((FrameRef("aa"), "wh", "at?"), ("A", "B"))),
        changed(request=Request(("aa", "what?"), ("A", "B"))),
        changed(request=Request((FrameRef("aa"), "what?"), ("AB",))),
        changed(fingerprint="g"),
        changed(scoring=ScoringSpec("cloze")),
        changed(scoring=ScoringSpec("letter", 1)),
        changed(scoring=ScoringSpec("letter", 0, "The answer is")),
        changed(adapter="a-2"),
        changed(libraries={"torch": "2.9"}),
        changed(libraries={"torch": "2.10"}),
        changed(libraries={"torch": "2.9", "transformers": "5.0"}),
        *(
            changed(request=dataclasses.replace(PROMPT, **{name: kind("cut", *more)}))
            for name, kind in (("intervention", Intervention), ("decoding", Decoding))
            for more in ((), ((("layers", "0-1"),),), ((("layers", "0-1"),), "2"))
        ),
    ]
    assert len(set(variants)) == len(variants)
    # Nobody reads the spans of a plain request; what is not there is no part of a key either: keys
    # of requests without an intervention are those that version 0.1.0 wrote.
    spanned = dataclasses.replace(PROMPT, spans=(TextSpan("question", 1, 0, 5),))
    assert changed(request=spanned) == changed()
    for more in ({"intervention": Intervention("cut")}, {"decoding": Decoding("cut")}):
        others = [(), spanned.spans, (TextSpan("infill 0", 1, 0, 5),)]
        keys = {changed(request=dataclasses.replace(PROMPT, spans=one, **more)) for one in others}
        assert len(keys) == 3
    assert changed() == "fddf93c3dfeb703f9aadc8ca140535a3512eee9363177f0a820c183cca4c6af7"
    assert changed() == key(PROMPT, "f", LETTER, "a-1")
    assert changed(libraries={"a": "1", "b": "2"}) == versioned(changed(), {"b": "2", "a": "1"})
    assert all(len(one) == 64 and int(one, 16) >= 0 for one in variants)
