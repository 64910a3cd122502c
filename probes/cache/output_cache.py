"""The store: outputs by the hash of all that they depend on; resuming a run is a look-up in it.

A folder of SQLite files, one per process that writes at the same time; readers look into all of
them. A process takes the first file that no other process of its host holds, so there are as many
files as simultaneous writers, however many runs. Texts are JSON, arrays have files of their own
next to them (`array_files`); nothing is ever unpickled.
"""

from __future__ import annotations

import contextlib
import itertools
import sqlite3
import threading
import uuid
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, astuple, replace
from pathlib import Path
from typing import IO, Any, TypeVar

from probes.cache import array_files, recovery, sqlite_file
from probes.cache.background_writer import BackgroundWriter
from probes.core.errors import UNSOUND, MachineError
from probes.core.hashing import sha256_json
from probes.core.types import FrameRef, Output, Request, ScoringSpec

T = TypeVar("T")
_Row = tuple[str, str]
"""Key and text of a row."""


def key(request: Request, fingerprint: str, scoring: ScoringSpec, adapter: str) -> str:
    """Return the hex sha256 of all that an output depends on.

    Args:
        request: what the model is asked; frames enter as the hash of their pixels.
        fingerprint: that of the member: weights, config, processor, dtype.
        scoring: how the request becomes an output.
        adapter: version of the backend's behaviour.
    """
    # A frame as an object, a text as a string: a text that looks like a hash is no frame.
    parts = [{"frame": p.sha256} if isinstance(p, FrameRef) else p for p in request.parts]
    content: dict[str, Any] = {
        "parts": parts,
        "options": request.options,
        "fingerprint": fingerprint,
        "scoring": asdict(scoring),
        "adapter": adapter,
    }
    # Only where there are some: keys of plain requests are those of older versions.
    if request.intervention is not None:
        content["intervention"] = astuple(request.intervention)
    if request.decoding is not None:
        content["decoding"] = astuple(request.decoding)
    # A plain answer follows from what is shown. A hook may look for spans by name, and two prompt
    # sets can write the same text with other names for its pieces.
    if request.intervention is not None or request.decoding is not None:
        content["spans"] = request.spans
    return sha256_json(content)


class Store:
    """The outputs in a folder. Safe to use by many processes and threads.

    Args:
        folder: created on the first write.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = threading.RLock()  # re-entrant: a look-up that meets damage writes
        self._readers: dict[Path, sqlite3.Connection] = {}
        self._set_aside: set[Path] = set()
        """Damaged files that could not be renamed."""
        self._writer: sqlite3.Connection | None = None
        self._own: Path | None = None
        """The file that this process writes."""
        self._own_lock: IO[str] | None = None

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def get(self, keys: Iterable[str]) -> dict[str, Output]:
        """Return the stored outputs of those keys that have one; a failure is not an output.

        An output whose arrays are lost or damaged is none either. Arrays are read from their file
        when they are asked for.
        """
        return self._look_up("output", keys, self._output)

    def has(self, keys: Iterable[str]) -> set[str]:
        """Return those keys that `get` would find."""
        # A row is read only where that may depend on a file of arrays: most have none.
        value = f"case when {sqlite_file.HAS_ARRAYS} then output else '' end"
        return set(
            self._look_up(value, keys, lambda key, row: self._output(key, row) if row else True)
        )

    @property
    def has_arrays(self) -> bool:
        """Whether any output may have arrays: where none has, nobody need look for them."""
        return (self.folder / array_files.FOLDER).is_dir()

    def put(self, outputs: Iterable[tuple[str, Output]]) -> None:
        """Store outputs in one transaction: after a crash all of them are there, or none.

        An output that is already stored stays; a failure is replaced by a later output or failure,
        and is kept for inspection only, without arrays. Two processes that compute the same output
        at the same moment may both store it, each in its own file: always the same one of them is
        then served.

        Raises:
            MachineError: the disk is full, read-only or locked for too long.
            ProbesError: a file of the store was written by another version, or an output has extras
                or arrays that cannot be stored.
        """
        good: dict[str, Output] = {}
        failed: dict[str, Output] = {}
        for key, output in outputs:
            # Failures have a table that no look-up reads: the next run asks them again.
            (failed if output.status == "error" else good)[key] = output
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
                [
                    (key, sqlite_file.row_of(output, hashes.get(key, "")))
                    for key, output in new.items()
                ],
                [(key, sqlite_file.row_of(output)) for key, output in failed.items()],
            )

    @contextlib.contextmanager
    def writing(self) -> Iterator[Callable[[str, Output], None]]:
        """Store outputs at once, but from a thread of its own.

        A transaction takes milliseconds, on a network disk tens of them. The thread writes all
        outputs that arrived during one transaction in the next, so that a model never waits and
        little is lost in a crash.

        Yields:
            A function that takes a key and its output.

        Raises:
            MachineError: as `put`; before anything is yielded where nothing can be stored at all.
        """
        with self._lock:
            self._insert([], [])  # a full disk is met before a model is loaded
        # Not under the lock: the writer's thread takes it for every batch.
        writer = BackgroundWriter(self.put)
        try:
            yield writer.add
        finally:
            # After an error or Ctrl-C too: what the model has answered is stored first.
            writer.finish()
        # Behind `finally`: an error of the body itself must not be replaced by the disk's.
        writer.check()

    def close(self) -> None:
        """Close all files, and let another process use the one that this process wrote."""
        with self._lock:
            for reader in self._readers.values():
                reader.close()
            self._readers.clear()
            self._release()

    def _output(self, key: str, row: str) -> Output | None:
        """Return the output of a row; None where its arrays are not what was stored."""
        output, sha256 = sqlite_file.output_of(row)
        if not sha256:
            return output
        arrays = array_files.find(self.folder, key, sha256)
        return None if arrays is None else replace(output, arrays=arrays)

    def _insert(self, good: Sequence[_Row], failed: Sequence[_Row], clash: str = "replace") -> None:
        """Write rows in one transaction; a file that proves to be damaged is replaced once."""
        # Twice at most: a second file that is damaged at once means that the disk is to blame.
        for last in (False, True):
            try:
                writer = self._open_writer()
                with writer:  # a transaction: committed, or rolled back
                    # A row that `has` does not count, for want of its arrays, gives way.
                    writer.executemany(f"insert or {clash} into outputs values (?, ?)", good)
                    writer.executemany(
                        "delete from errors where key = ?", [(key,) for key, _ in good]
                    )
                    writer.executemany("insert or replace into errors values (?, ?)", failed)
                return
            except (sqlite3.Error, OSError) as error:
                own = self._own
                if last or own is None or not sqlite_file.is_damage(error):
                    raise MachineError(
                        f"the store cannot be written: {getattr(error, 'strerror', None) or error}",
                        str(own or self.folder),
                        "make room there, or point $PROBES_HOME to a disk that can be written; "
                        "the same command continues from what is stored",
                    ) from error
                self._replace_damaged(own, error)

    def _look_up(
        self, value: str, keys: Iterable[str], parse: Callable[[str, str], T | None]
    ) -> dict[str, T]:
        """Look keys up in one file after the other; the first one with a row that counts serves it.

        Args:
            value: what is read of a row; see `sqlite_file.select`.
            keys: which.
            parse: makes a result of (key, value), or None where the row does not count.
        """
        # Sorted as in the files: of a million keys, four times as fast as in any other order.
        wanted = sorted(set(keys))
        found: dict[str, T] = {}
        with self._lock:
            # In one order for all processes: of two rows of a key, all serve the same one.
            for path in sorted(set(self.folder.glob("*.sqlite")) - self._set_aside):
                missing = [key for key in wanted if key not in found]
                if not missing:
                    break
                try:
                    if (reader := self._open_reader(path)) is not None:
                        for key, text in sqlite_file.select(reader, value, missing):
                            if (one := parse(key, text)) is not None:
                                found[key] = one
                except (sqlite3.Error, *UNSOUND) as error:
                    if isinstance(error, sqlite3.Error) and not sqlite_file.is_damage(error):
                        raise MachineError(
                            f"a file of the store cannot be read: {error}",
                            str(path),
                            "wait until other runs have ended; a store in a folder that cannot be "
                            "written has to be copied first, and $PROBES_HOME pointed to the copy",
                        ) from error
                    # The file is renamed or set aside by now: this comes to an end.
                    self._replace_damaged(path, error)
                    return self._look_up(value, wanted, parse)
        return found

    def _open_reader(self, path: Path) -> sqlite3.Connection | None:
        # A file that is still being created is not remembered: the next look-up tries it again.
        if path not in self._readers and (reader := sqlite_file.open_reader(path)) is not None:
            self._readers[path] = reader
        return self._readers.get(path)

    def _open_writer(self) -> sqlite3.Connection:
        if self._writer is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            if self._own is None:
                self._own, self._own_lock = sqlite_file.claim(self.folder)
            self._writer = sqlite_file.open_writer(self._own)
        return self._writer

    def _release(self) -> None:
        # First the connection, then the lock: no other process gets a file that is still open here.
        for one in (self._writer, self._own_lock):
            if one is not None:
                one.close()
        self._writer = self._own = self._own_lock = None

    def _replace_damaged(self, path: Path, error: Exception) -> None:
        """Move a damaged file out of the way, and keep what can still be read of it."""
        self._set_aside.add(path)
        if (reader := self._readers.pop(path, None)) is not None:
            reader.close()
        if path == self._own:
            self._release()
        renamed = path.with_name(f"{path.name}.damaged-{uuid.uuid4().hex[:8]}")
        for ending in ("", "-wal", "-shm"):  # a log left behind would be used with the next file
            with contextlib.suppress(OSError):  # it does not exist, or another process was faster
                path.with_name(path.name + ending).rename(renamed.with_name(renamed.name + ending))
        kept = 0
        if renamed.exists():
            self._set_aside.discard(path)  # a new file may take this name
            kept = self._recover(renamed)
        warnings.warn(
            f"{path}: this file of the store is damaged ({error}); it was renamed to "
            f"{renamed.name}. {kept} of its outputs could still be read and were kept; the others "
            "will be computed again",
            stacklevel=2,
        )

    def _recover(self, damaged: Path) -> int:
        """Copy the sound rows of a damaged file into this process's own; return their number."""
        kept = 0
        rows = recovery.rows(damaged)
        while some := list(itertools.islice(rows, 1_000)):
            sound: dict[str, list[_Row]] = {"outputs": [], "errors": []}
            for table, key, text in some:
                with contextlib.suppress(*UNSOUND):
                    sqlite_file.output_of(text)
                    # The bytes that were stored, not the output made of them: a newer version may
                    # have written fields that this one does not know.
                    sound[table].append((key, text))
            # What this process has stored meanwhile was computed later, and may have been served.
            self._insert(sound["outputs"], sound["errors"], clash="ignore")
            kept += len(sound["outputs"])
        return kept
