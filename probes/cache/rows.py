"""The rows of the store: an output as text, and back only where nothing of the row has changed."""

from __future__ import annotations

import functools
import hashlib
import json
import re
from dataclasses import fields
from typing import Any, NamedTuple

from probes.core.errors import ProbesError
from probes.core.types import Origin, Output

_SOME = ("extras", "arrays", "origin", "cut_off")
"""Fields that a row has where they are not empty."""
_PLAIN = tuple(f.name for f in fields(Output) if f.name not in _SOME)
"""Fields that every row has."""
_SHA256 = re.compile("[0-9a-f]{64}")
_DIGITS = 16  # of the checksum's sha256


class StoredRow(NamedTuple):
    """One row of a table of the store."""

    key: str
    base: str
    """Key without the versions of libraries; empty where the key has none, and is its own base."""
    text: bytes
    """JSON, then the checksum."""


def row_of(key: str, base: str, output: Output, arrays: str = "") -> StoredRow:
    """Return the row of an output.

    Args:
        key: of the output.
        base: its key without the versions of libraries.
        output: what is stored.
        arrays: sha256 of the file with its arrays; empty where it has none.

    Raises:
        ProbesError: an extra is no number.
    """
    # Not `asdict`, which would copy all arrays.
    values = {name: getattr(output, name) for name in _PLAIN}
    try:
        more: dict[str, Any] = {"extras": {str(k): float(v) for k, v in output.extras.items()}}
    except (TypeError, ValueError) as error:
        raise ProbesError(
            f"an extra of an answer is no number: {error}",
            ", ".join(map(str, output.extras)),
            "correct the backend or the readout that gives it",
        ) from error
    if (one := output.origin) is not None:
        # A text within the text: thousands of rows share one, and it is read once.
        more["origin"] = json.dumps([one.libraries, one.device, one.dtype, one.kernels])
    more["arrays"] = arrays
    more["cut_off"] = output.cut_off
    values |= {name: value for name, value in more.items() if value}
    # NaN and infinities are kept: Python writes them into JSON, and reads them back.
    text = json.dumps(values, separators=(",", ":"))
    return with_checksum(key, "" if base == key else base, text.encode())


def with_checksum(key: str, base: str, text: bytes) -> StoredRow:
    """Return a row with its checksum, as SQLite has none and disks lose bits."""
    return StoredRow(key, base, text + b" " + _checksum(key, base, text))


def _checksum(key: str, base: str, text: bytes) -> bytes:
    # Over the key too: the text of another row, however sound, is no answer to this one. Against
    # lost bits, not against an attacker: whoever can write the store can write answers.
    whole = b"%s %s %s" % (key.encode(), base.encode(), text)
    return hashlib.sha256(whole).hexdigest()[:_DIGITS].encode()


@functools.lru_cache(maxsize=256)
def _origin(text: str) -> Origin:
    libraries, *more = json.loads(text)
    return Origin(tuple((str(name), str(version)) for name, version in libraries), *map(str, more))


def holds(row: StoredRow) -> bool:
    """Return whether a row is what was written."""
    text, _, checksum = row.text.rpartition(b" ")
    return checksum == _checksum(row.key, row.base, text)


def may_have_arrays(row: StoredRow) -> bool:
    """Return whether a row names a file of arrays; within a text its quotation marks differ."""
    return b'"arrays":"' in row.text


def output_of(row: StoredRow) -> tuple[Output, str]:
    """Return the output of a row, and the sha256 of the file with its arrays; empty without any.

    Raises:
        Exception: one of `UNSOUND`: the row is not what was written, or no output.
    """
    # Checked before JSON is read: one changed digit of a number would still be good JSON.
    if not holds(row):
        raise ValueError("a row is not what was written")
    text = row.text.rpartition(b" ")[0]
    if not _SHA256.fullmatch(row.key):
        raise ValueError("a row has no key")
    found = json.loads(text)
    # Fields of a newer version are left out, those that an older one lacked get their defaults.
    values: dict[str, Any] = {name: found[name] for name in _PLAIN if name in found}
    for name in ("option_logprobs", "option_tokens"):
        values[name] = tuple(values[name])
    values["extras"] = {name: float(value) for name, value in found.get("extras", {}).items()}
    if "origin" in found:
        values["origin"] = _origin(found["origin"])
    # It becomes part of a file's name.
    if (arrays := found.get("arrays") or "") and not _SHA256.fullmatch(arrays):
        raise ValueError("a row names no file of arrays")
    values["cut_off"] = bool(found.get("cut_off"))
    return Output(**values), arrays
