"""Outputs by the hash of everything they depend on: resume, cache and sweep-skip are one look-up.

A folder of SQLite files, one per process that writes at the same time; readers look into all of
them. A process takes the first file that nobody else on its host holds, so their number stays that
of the writers, not of the runs. Texts are JSON; nothing is ever unpickled.
"""

from __future__ import annotations

import contextlib
import itertools
import sqlite3
import threading
import uuid
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any, TypeVar

from probes.cache import recovery
from probes.cache import sqlite_file as files
from probes.core.errors import MachineError
from probes.core.hashing import sha256_json
from probes.core.types import FrameRef, Output, Prompt, ScoringSpec

T = TypeVar("T")


def key(prompt: Prompt, fingerprint: str, scoring: ScoringSpec, adapter: str) -> str:
    """Return the hex sha256 of all that an output depends on.

    Args:
        prompt: frames count by the hash of their pixels.
        fingerprint: of the member: weights, config, processor, dtype.
        scoring: how the prompt becomes an output.
        adapter: version of the backend's behaviour.
    """
    parts = [{"frame": p.sha256} if isinstance(p, FrameRef) else p for p in prompt.parts]
    return sha256_json(
        {
            "parts": parts,
            "options": prompt.options,
            "fingerprint": fingerprint,
            "scoring": asdict(scoring),
            "adapter": adapter,
        }
    )


class Store:
    """The outputs in a folder. Safe to use by many processes, and by threads of one.

    Args:
        folder: made on the first write.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = threading.RLock()
        self._readers: dict[Path, sqlite3.Connection] = {}
        self._aside: set[Path] = set()
        self._writer: sqlite3.Connection | None = None
        self._written: Path | None = None
        self._held: IO[str] | None = None

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def get(self, keys: Iterable[str]) -> dict[str, Output]:
        """Return the stored outputs of those keys that have one; failures never count as one."""
        return self._look_up("outputs", keys)

    def has(self, keys: Iterable[str]) -> set[str]:
        """Return those keys that `get` would find."""
        return set(self._in_all("outputs", "key, ''", keys, str))

    def errors(self, keys: Iterable[str]) -> dict[str, Output]:
        """Return the failures of those keys that have failed and were not answered since."""
        failed = self._look_up("errors", keys)
        healed = self.has(failed)
        return {name: output for name, output in failed.items() if name not in healed}

    def put(self, outputs: Iterable[tuple[str, Output]]) -> None:
        """Store outputs in one transaction: after a crash all of them are there, or none.

        An output that is there already stays, whoever wrote it; a failure is replaced by whatever
        comes later. Two processes that compute the same output at the same moment may both store
        it, each in its own file: one of the two is then served, always the same.

        Raises:
            MachineError: the disk is full, read-only or locked for too long.
            ProbesError: a file of the store was written by another version.
        """
        good: list[tuple[str, str]] = []
        failed: list[tuple[str, str]] = []
        for name, output in outputs:
            row = (name, files.row_of(output))
            (failed if output.status == "error" else good).append(row)
        if not good and not failed:
            return

        with self._lock:
            # Two runs may ask the same at the same time: what was served once goes on being served.
            there = self.has(name for name, _ in good)
            self._insert([row for row in good if row[0] not in there], failed)

    @contextlib.contextmanager
    def writing(self) -> Iterator[Callable[[str, Output], None]]:
        """Store what is handed over at once, but from a thread of its own.

        A transaction takes milliseconds, on a network disk tens of them; the thread writes whatever
        came while it was busy as one, so that a model never waits and little is lost in a crash.

        Yields:
            A function that takes a key and its output.

        Raises:
            MachineError: as `put`; before anything is yielded where nothing can be stored at all.
        """
        with self._lock:
            self._insert([], [])
        pending: list[tuple[str, Output]] = []
        news = threading.Condition()
        state: dict[str, Any] = {"open": True, "error": None}

        def work() -> None:
            while True:
                with news:
                    news.wait_for(lambda: pending or not state["open"])
                    batch = pending[:]
                    pending.clear()
                if not batch:
                    return
                try:
                    self.put(batch)
                except BaseException as error:  # told to the caller, who stops
                    state["error"] = error
                    return

        def hand_over(name: str, output: Output) -> None:
            if state["error"] is not None:
                raise state["error"]
            with news:
                pending.append((name, output))
                news.notify()

        thread = threading.Thread(target=work, name="store", daemon=True)
        thread.start()
        try:
            yield hand_over
        finally:
            with news:
                state["open"] = False
                news.notify()
            thread.join()
        if state["error"] is not None:
            raise state["error"]

    def close(self) -> None:
        """Close all files and let another process go on writing this one's."""
        with self._lock:
            for reader in self._readers.values():
                reader.close()
            self._readers.clear()
            self._release()

    def _look_up(self, table: str, keys: Iterable[str]) -> dict[str, Output]:
        return self._in_all(table, "key, output", keys, files.output_of)

    def _insert(self, good: Sequence[tuple[str, str]], failed: Sequence[tuple[str, str]]) -> None:
        """Write rows in one transaction; a file that turns out damaged is replaced once."""
        for last in (False, True):
            try:
                writer = self._open_writer()
                with writer:  # a transaction: committed, or rolled back
                    writer.executemany("insert or ignore into outputs values (?, ?)", good)
                    writer.executemany("delete from errors where key = ?", [(n,) for n, _ in good])
                    writer.executemany("insert or replace into errors values (?, ?)", failed)
                return
            except sqlite3.Error as error:
                damaged = self._written
                if last or damaged is None or not files.is_damage(error):
                    raise MachineError(
                        f"the store cannot be written: {error}", str(damaged or self.folder),
                        "make room there, or point $PROBES_HOME to a disk that can be written; "
                        "the same command goes on from what is stored",
                    ) from error  # fmt: skip
                self._set_aside(damaged, error)

    def _in_all(
        self, table: str, columns: str, keys: Iterable[str], parse: Callable[[str], T]
    ) -> dict[str, T]:
        """Look keys up in one file after the other; the first that has a key is believed."""
        # In the order of the files: of a million keys, four times as fast as in any other.
        wanted = sorted(set(keys))
        found: dict[str, T] = {}
        with self._lock:
            for path in sorted(set(self.folder.glob("*.sqlite")) - self._aside):
                missing = [name for name in wanted if name not in found]
                if not missing:
                    break
                try:
                    reader = self._open_reader(path)
                    if reader is not None:
                        for name, text in files.select(reader, table, columns, missing):
                            found[name] = parse(text)
                except (sqlite3.Error, *files.UNSOUND) as error:
                    if isinstance(error, sqlite3.Error) and not files.is_damage(error):
                        raise MachineError(
                            f"a file of the store cannot be read: {error}", str(path),
                            "wait until other runs have ended; a store in a folder that cannot be "
                            "written has to be copied first, and $PROBES_HOME pointed to the copy",
                        ) from error  # fmt: skip
                    self._set_aside(path, error)
                    return self._in_all(table, columns, wanted, parse)
        return found

    def _open_reader(self, path: Path) -> sqlite3.Connection | None:
        """Return a connection; None while another process is still making the file."""
        if path not in self._readers:
            reader = files.connect(path)
            try:
                if not files.check_version(reader, path):
                    reader.close()
                    return None
            except BaseException:
                reader.close()
                raise
            self._readers[path] = reader
        return self._readers[path]

    def _open_writer(self) -> sqlite3.Connection:
        if self._writer is not None:
            return self._writer
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if self._written is None:
                self._written, self._held = files.claim(self.folder)
        except OSError as error:
            raise MachineError(
                f"the store cannot be written: {error.strerror}", str(self.folder),
                "point $PROBES_HOME to a disk that can be written",
            ) from error  # fmt: skip
        journal, version = files.journal(self.folder), f"pragma user_version = {files.VERSION}"
        writer = files.connect(self._written)
        try:
            writer.execute(f"pragma journal_mode = {journal}")
            # With a log, a power cut can lose the last outputs but not damage the file.
            writer.execute(f"pragma synchronous = {'normal' if journal == 'wal' else 'full'}")
            if not files.check_version(writer, self._written):
                writer.executescript(f"begin; {files.TABLES} {version}; commit;")
            writer.execute(version)
        except BaseException:
            writer.close()
            raise
        self._writer = writer
        return writer

    def _release(self) -> None:
        if self._writer is not None:
            self._writer.close()
        if self._held is not None:
            self._held.close()
        self._writer = self._written = self._held = None

    def _set_aside(self, path: Path, error: Exception) -> None:
        """Move a damaged file out of the way, and keep what can still be read of it."""
        self._aside.add(path)
        if (reader := self._readers.pop(path, None)) is not None:
            reader.close()
        if path == self._written:
            self._release()
        aside = path.with_name(f"{path.name}.damaged-{uuid.uuid4().hex[:8]}")
        for ending in ("", "-wal", "-shm"):  # a log left behind would be taken for the next file's
            with contextlib.suppress(OSError):  # not there, or another process was faster
                path.with_name(path.name + ending).rename(aside.with_name(aside.name + ending))
        kept = 0
        if aside.exists():
            self._aside.discard(path)  # a new file may come to lie there
            kept = self._salvage(aside)
        warnings.warn(
            f"{path}: this file of the store is damaged ({error}); it was renamed to {aside.name}. "
            f"{kept} of its outputs could still be read and were kept; what else it held will be "
            "computed again",
            stacklevel=2,
        )

    def _salvage(self, damaged: Path) -> int:
        """Copy the sound rows of a damaged file into this process's own; return their number."""
        kept = 0
        rows = recovery.rows(damaged)
        while some := list(itertools.islice(rows, 1_000)):
            sound: dict[str, list[tuple[str, str]]] = {"outputs": [], "errors": []}
            for table, name, text in some:
                with contextlib.suppress(*files.UNSOUND):
                    files.output_of(text)
                    sound[table].append((name, text))
            self._insert(sound["outputs"], sound["errors"])
            kept += len(sound["outputs"])
        return kept
