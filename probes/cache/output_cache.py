"""The store: outputs by the hash of all that they depend on; resuming a run is a look-up in it.

A folder of SQLite files, one per process that writes at the same time; readers look into all of
them. A process takes the first file that no other process of its host holds, so there are as many
files as simultaneous writers, however many runs. Texts are JSON, arrays have files of their own
next to them (`array_files`); nothing is ever unpickled.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO, Protocol, TypeVar

from probes.cache import array_files, repair, sqlite_file
from probes.cache.background_writer import BackgroundWriter
from probes.cache.keys import key as key
from probes.cache.keys import versioned as versioned
from probes.cache.rows import StoredRow, holds, may_have_arrays, output_of, row_of
from probes.cache.sqlite_file import LookUpColumn
from probes.core.errors import UNSOUND, MachineError
from probes.core.text import listed
from probes.core.types import Output

T = TypeVar("T")
_NO_REPAIRS = 2
"""How often a file may seem damaged and prove to be sound before it is replaced all the same."""


class Put(Protocol):
    """Stores an output soon."""

    def __call__(self, key: str, output: Output, base: str = "") -> None:
        """Store an output under its key; `base` as in `Store.put`."""


class Store:
    """The outputs in a folder. Safe to use by many processes and threads.

    Args:
        folder: created on the first write.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = threading.RLock()  # re-entrant: a look-up that meets damage writes
        self._readers: dict[Path, tuple[sqlite3.Connection, tuple[int, int] | None]] = {}
        """Connections, with device and inode of the files when they were opened."""
        self._set_aside: set[Path] = set()
        """Files that are not used: of another version, or damaged where nothing can be repaired."""
        self._unused: list[str] = []
        """Of these, what has not been said yet."""
        self._checked: set[Path] = set()
        """Files whose structure was checked as a whole."""
        self._sound: Counter[Path] = Counter()
        """How often a file that seemed damaged was not."""
        self._writer: sqlite3.Connection | None = None
        self._own: Path | None = None
        """The file that this process writes."""
        self._own_lock: IO[str] | None = None
        self._own_id: tuple[int, int] | None = None
        self._folder_id: tuple[int, int] | None = None
        self._background: BackgroundWriter | None = None

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def get(self, keys: Iterable[str]) -> dict[str, Output]:
        """Return the stored outputs of those keys that have one; a failure is not an output.

        An output is none either where its row or its arrays are not what was stored. Arrays are
        read from their file when they are asked for.

        Raises:
            MachineError: the folder has gone since it was first used, or cannot be read.
        """
        return {
            key: output for key, (_, output) in self._look_up("key", keys, self._output).items()
        }

    def has(self, keys: Iterable[str]) -> set[str]:
        """Return those keys that `get` would find: every row is checked as there."""
        return set(self._look_up("key", keys, self._is_there))

    def of_other_versions(self, bases: Iterable[str]) -> dict[str, dict[str, Output]]:
        """Return all outputs of some bases by key, whichever versions of libraries computed them.

        Args:
            bases: keys without libraries.
        """
        found: dict[str, dict[str, Output]] = {}
        for stored, (base, output) in self._look_up("base", bases, self._output).items():
            found.setdefault(base, {})[stored] = output
        return found

    @property
    def has_arrays(self) -> bool:
        """Whether any output may have arrays: where none has, nobody need look for them."""
        return (self.folder / array_files.FOLDER).is_dir()

    def put(self, outputs: Iterable[tuple[str, Output] | tuple[str, Output, str]]) -> None:
        """Store outputs in one transaction: after a crash all of them are there, or none.

        An output that is already stored stays; a failure is replaced by a later output or failure,
        and is kept for inspection only, without arrays. Two processes that compute the same output
        at the same moment may both store it, each in its own file: always the same one of them is
        then served.

        Args:
            outputs: (key, output), or (key, output, base) where the key holds the versions of
                libraries: the base is the key without them.

        Raises:
            MachineError: the disk is full, read-only or locked for too long, or the folder has
                gone since it was first used.
            ProbesError: an output has extras or arrays that cannot be stored.
        """
        good: dict[str, Output] = {}
        failed: dict[str, Output] = {}
        bases: dict[str, str] = {}
        for own, output, *base in outputs:
            # Failures have a table that no look-up reads: the next run asks them again.
            (failed if output.status == "error" else good)[own] = output
            bases[own] = base[0] if base else ""
        if not good and not failed:
            return
        with self._lock:
            # Two runs may ask the same at the same time: an output once served must not change.
            known = self.has(good)
            new = {key: output for key, output in good.items() if key not in known}
            # Arrays first: a row says that they are there. What a crash leaves without a row is
            # written again, and a row without its file counts as none.
            hashes = array_files.write(
                self.folder, {key: output.arrays for key, output in new.items() if output.arrays}
            )
            self._insert(
                [row_of(key, bases[key], one, hashes.get(key, "")) for key, one in new.items()],
                [row_of(key, bases[key], one) for key, one in failed.items()],
            )

    @contextlib.contextmanager
    def writing(self) -> Iterator[Put]:
        """Store outputs at once, but from a thread of its own.

        A transaction takes milliseconds, on a network disk tens of them. The thread writes all
        outputs that arrived during one transaction in the next, so that a model never waits and
        little is lost in a crash.

        Yields:
            A function that takes a key, its output, and the base of the key if it has another.

        Raises:
            MachineError: as `put`; before anything is yielded where nothing can be stored at all.
        """
        with self._lock:
            self._insert([], [])  # a full disk is met before a model is loaded
        # Not under the lock: the writer's thread takes it for every batch.
        writer = self._background = BackgroundWriter(self.put)
        try:
            yield writer.add
        finally:
            # After an error or Ctrl-C too: what the model has answered is stored first.
            writer.finish()
        # Behind `finally`: an error of the body itself must not be replaced by the disk's.
        writer.check()

    def close(self) -> None:
        """Close all files, and let another process use the one that this process wrote."""
        if self._background is not None and self._background.hangs:
            return  # its thread has the lock, and waits for a disk
        with self._lock:
            for path in list(self._readers):
                self._close_reader(path)
            self._release()

    def _insert(self, good: Sequence[StoredRow], failed: Sequence[StoredRow]) -> None:
        """Write rows in one transaction; a file that is damaged or has gone is replaced."""
        # Twice at most: a second file that is damaged at once means that the disk is to blame.
        for last in (False, True):
            try:
                self._check_folder()
                if self._own is not None and not self._is_own():
                    self._close_writer()  # another process has repaired it: rows go to the new one
                writer = self._open_writer()
                with writer:  # a transaction: committed, or rolled back
                    # A row that `has` does not count, for want of its arrays, gives way.
                    writer.executemany(
                        "insert or replace into outputs values (?, ?, ?)",
                        repair.rows_as_text(good),
                    )
                    writer.executemany(
                        "delete from errors where key = ?", [(row.key,) for row in good]
                    )
                    writer.executemany(
                        "insert or replace into errors values (?, ?, ?)",
                        repair.rows_as_text(failed),
                    )
                # Behind the transaction: SQLite writes on into a file that has no name any more.
                self._check_folder()
                if self._is_own():
                    return
                if last:
                    raise _gone(self._own or self.folder)
            except (sqlite3.Error, OSError) as error:
                self._check_folder()  # what SQLite says of a file that has gone is misleading
                own = self._own
                if own is not None and not last and not self._is_own():
                    continue
                if last or own is None or not _is_damage(error, own):
                    raise MachineError(
                        f"the store cannot be written: {getattr(error, 'strerror', None) or error}",
                        str(own or self.folder),
                        "make room there, or point $PROBES_HOME to a disk that can be written; "
                        "the same command continues from what is stored",
                    ) from error
                self._replace_damaged(own, error)

    def _look_up(
        self, column: LookUpColumn, values: Iterable[str], parse: Callable[[StoredRow], T | None]
    ) -> dict[str, tuple[str, T]]:
        """Return (base, result) by key of the rows with some keys or bases.

        The first file with a row that counts serves it.

        Args:
            column: by what rows are looked up.
            values: keys or bases.
            parse: makes a result of a row, or None where the row does not count; raises one of
                `UNSOUND` where it is not what was written.
        """
        # Sorted as in the files: of a million keys, four times as fast as in any other order.
        wanted = sorted(set(values))
        with self._lock:
            while True:
                try:
                    self._check_folder()
                    return self._search(column, wanted, parse)
                except _DamagedFileError as damaged:
                    # It is replaced or set aside by now: this comes to an end.
                    self._replace_damaged(damaged.path, damaged.error)

    def _search(
        self, column: LookUpColumn, wanted: Sequence[str], parse: Callable[[StoredRow], T | None]
    ) -> dict[str, tuple[str, T]]:
        found: dict[str, tuple[str, T]] = {}
        # In one order for all processes: of two rows of a key, all serve the same one.
        for path in self._files():
            left = wanted if column == "base" else [one for one in wanted if one not in found]
            if not left:
                break
            unsound: list[StoredRow] = []
            with self._reading(path):
                if (reader := self._open_reader(path)) is None:
                    continue
                asked = set(left)
                for row in sqlite_file.select(reader, column, left):
                    if getattr(row, column) not in asked and (column == "key" or holds(row)):
                        # SQLite seeks a key and takes what lies there, on whichever page that is.
                        raise _DamagedFileError(path, sqlite3.DatabaseError("misplaced pages"))
                    try:
                        if row.key not in found and (one := parse(row)) is not None:
                            found[row.key] = row.base, one
                    except UNSOUND:
                        unsound.append(row)
            if unsound:
                self._drop(path, unsound)
        self._say_unused()
        if column == "base" or len(found) < len(wanted):
            # Pages that changed places hide rows: none is taken for missing before that is known.
            self._check_files()
        return found

    def _output(self, row: StoredRow) -> Output | None:
        """Return the output of a row; None where its arrays are not what was stored."""
        output, sha256 = output_of(row)
        if output.status == "error":
            raise ValueError("a failure among the outputs")
        if not sha256:
            return output
        arrays = array_files.find(self.folder, row.key, sha256)
        return None if arrays is None else replace(output, arrays=arrays)

    def _is_there(self, row: StoredRow) -> bool | None:
        """Return True where `_output` would find an output; its JSON need not be read for that."""
        if not holds(row) or may_have_arrays(row):
            return None if self._output(row) is None else True
        return True

    def _files(self) -> list[Path]:
        return sorted(set(self.folder.glob("*.sqlite")) - self._set_aside)

    @contextlib.contextmanager
    def _reading(self, path: Path) -> Iterator[None]:
        """Raise what goes wrong with a file as the fault of the file or of the machine."""
        try:
            yield
        except sqlite_file.OtherTablesError as other:
            self._leave_alone(path, str(other))
        except FileNotFoundError:
            pass  # another process is repairing it
        except sqlite3.Error as error:
            if path.is_dir():
                self._leave_alone(path, f"{path.name} (a folder)")
                return
            if _is_damage(error, path):
                raise _DamagedFileError(path, error) from error
            self._check_folder()
            if path.exists():
                raise MachineError(
                    f"a file of the store cannot be read: {error}",
                    str(path),
                    "wait until other runs have ended, or correct the access rights there; the "
                    "same command goes on from what is stored",
                ) from error

    def _open_reader(self, path: Path) -> sqlite3.Connection | None:
        now = _identity(path)
        known = self._readers.get(path)
        if known is not None and known[1] == now:
            return known[0]
        self._close_reader(path)  # another process has repaired the file
        # A file that is still being created is not remembered: the next look-up tries it again.
        if (reader := sqlite_file.open_reader(path)) is not None:
            self._readers[path] = reader, now
        return reader

    def _close_reader(self, path: Path) -> None:
        if (known := self._readers.pop(path, None)) is not None:
            known[0].close()

    def _check_files(self) -> None:
        """Check the structure of every file, once in a process."""
        for path in self._files():
            if path in self._checked:
                continue
            with self._reading(path):
                if (reader := self._open_reader(path)) is None:
                    continue
                if found := sqlite_file.damage(reader):
                    raise _DamagedFileError(path, sqlite3.DatabaseError(found))
                self._checked.add(path)

    def _drop(self, path: Path, rows: list[StoredRow]) -> None:
        """Remove rows that do not hold: what is asked again takes their places."""
        self._checked.discard(path)  # one bad row is seldom alone
        try:
            repair.drop(path, rows)
        except sqlite3.Error as error:  # where nothing can be written, they are passed over
            if _is_damage(error, path):
                raise _DamagedFileError(path, error) from error
        warnings.warn(
            f"{path}: {len(rows)} stored answers are not what was written, and are asked again",
            stacklevel=2,
        )

    def _leave_alone(self, path: Path, what: str) -> None:
        self._set_aside.add(path)
        self._unused.append(what)

    def _say_unused(self) -> None:
        if self._unused:
            warnings.warn(
                f"{self.folder}: files of the store that are not used: {listed(self._unused)}",
                stacklevel=2,
            )
            self._unused.clear()

    def _open_writer(self) -> sqlite3.Connection:
        if self._writer is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._check_folder()
            if self._own is None:
                self._own, self._own_lock = sqlite_file.claim(self.folder, self._usable)
                self._say_unused()
            self._writer = sqlite_file.open_writer(self._own)
            self._own_id = _identity(self._own)
        return self._writer

    def _usable(self, path: Path) -> bool:
        """Return whether a file is one of this version, or can become one."""
        if path in self._set_aside or path.is_dir():
            return False
        try:
            if path.exists() and (reader := sqlite_file.open_reader(path)) is not None:
                reader.close()
        except sqlite_file.OtherTablesError as other:
            self._leave_alone(path, str(other))
            return False
        except sqlite3.Error:
            return True  # damaged: it is replaced when it is opened
        return True

    def _check_folder(self) -> None:
        """Raise MachineError where the folder has gone since it was first used."""
        now = _identity(self.folder)
        if self._folder_id is None:
            self._folder_id = now
        elif now != self._folder_id:
            raise _gone(self.folder)

    def _is_own(self) -> bool:
        return self._own is not None and _identity(self._own) == self._own_id

    def _release(self) -> None:
        # First the connection, then the lock: no other process gets a file that is still open here.
        self._close_writer()
        if self._own_lock is not None:
            self._own_lock.close()
        self._own = self._own_lock = None

    def _close_writer(self) -> None:
        if self._writer is not None:
            self._writer.close()
        self._writer = self._own_id = None

    def _replace_damaged(self, path: Path, error: Exception) -> None:
        """Put a sound file in the place of a damaged one, with what can still be read of it."""
        self._close_reader(path)
        self._checked.discard(path)
        if path == self._own:
            self._close_writer()
        # One process at a time: two that meet the same damage must not replace a file twice.
        with sqlite_file.repairing(self.folder):
            if not path.exists():
                return
            if self._sound[path] < _NO_REPAIRS and repair.is_sound(path):
                self._sound[path] += 1  # another process was faster
                return
            try:
                name, kept = repair.rebuild(path)
                then = f"it was renamed to {name}. {kept} of its outputs could still be read"
            except (sqlite3.Error, OSError) as problem:
                # The other files are used; of this one nothing, as its bytes cannot be trusted.
                self._set_aside.add(path)
                then = f"nor can it be repaired ({problem}). None of its outputs is used"
        warnings.warn(
            f"{path}: this file of the store is damaged ({error}); {then}; the others will be "
            "computed again",
            stacklevel=2,
        )


class _DamagedFileError(Exception):
    def __init__(self, path: Path, error: Exception) -> None:
        super().__init__(str(error))
        self.path, self.error = path, error


def _is_damage(error: BaseException, path: Path) -> bool:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    # A header that forbids what the system allows is not what was written.
    forbidden = code == sqlite3.SQLITE_READONLY and sqlite_file.writable(path)
    return isinstance(error, sqlite3.Error) and (forbidden or sqlite_file.is_damage(error))


def _identity(path: Path) -> tuple[int, int] | None:
    """Return device and inode of a file or folder; None where there is none."""
    try:
        stat = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return stat.st_dev, stat.st_ino


def _gone(path: Path) -> MachineError:
    return MachineError(
        "the store is no longer where it was: it was moved, deleted or replaced during the run",
        str(path),
        "what was stored before is safe where it is now: put it back, or point $PROBES_HOME to it, "
        "and type the same command, which asks only what is not stored",
    )
