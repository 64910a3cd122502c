"""Arrays in safetensors files, which hold numbers and names and nothing that could run."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probes.core.errors import ProbesError
from probes.core.text import whole_text
from probes.core.types import ArrayName

DTYPES = ("float16", "float32", "float64", "int32", "int64", "uint8", "bool")
"""Element types that an array of an output may have."""


def packed(arrays: Mapping[str, NDArray[np.generic]]) -> bytes:
    """Return the content of a safetensors file: equal bytes for equal arrays.

    Raises:
        ProbesError: an array has another element type than one of `DTYPES`.
    """
    from safetensors.numpy import save

    return save({name: plain(name, array) for name, array in arrays.items()})


def plain(name: str, array: NDArray[np.generic]) -> NDArray[np.generic]:
    """Return an array as it can be written: in one piece, in this machine's byte order.

    Raises:
        ProbesError: it has another element type than one of `DTYPES`.
    """
    if array.dtype.name not in DTYPES:
        raise ProbesError(
            f"an array of an answer holds {array.dtype}", name, f"use one of {', '.join(DTYPES)}"
        )
    # The library writes an array's memory as it lies: that of a view or of another byte order
    # would come back as other numbers.
    return np.asarray(array, array.dtype.newbyteorder("="), order="C")


def label(name: ArrayName) -> str:
    """Return the name of an array of an output as one text, `name_of` the way back.

    Raises:
        ProbesError: it is no name that can be written to a table and be found again.
    """
    # Half a character would be another text after it was written.
    if (
        not isinstance(name, ArrayName)
        or not all(
            isinstance(one, str) and whole_text(one) == one for one in (name.name, name.span)
        )
        or not name.name
        or not (name.layer is None or _is_count(name.layer))
    ):
        raise ProbesError(
            "an array of an answer has no usable name",
            repr(name),
            "use ArrayName: a name, a layer from 0 on or none, and a span or an empty one",
        )
    # JSON and not a joined text: a span may hold any separator.
    return json.dumps([name.name, None if name.layer is None else int(name.layer), name.span])


def _is_count(layer: object) -> bool:
    whole = isinstance(layer, int | np.integer) and not isinstance(layer, bool)
    return whole and int(layer) >= 0  # type: ignore[call-overload]


def name_of(label: str) -> ArrayName:
    """Return the name that a label was made from."""
    return ArrayName(*json.loads(label))


class TensorFile:
    """A safetensors file, of which only what is asked for is read.

    Args:
        path: the file.

    Raises:
        ProbesError: from here or from any method: it is not there, or it is damaged.
    """

    def __init__(self, path: Path) -> None:
        from safetensors import safe_open

        self._path = path
        with self._refused():
            self._file: Any = safe_open(path, framework="np")

    def names(self) -> list[str]:
        """Return the names of its tensors."""
        return list(self._file.keys())

    def read(self, name: str) -> NDArray[np.generic]:
        """Return one tensor."""
        with self._refused():
            found: NDArray[np.generic] = self._file.get_tensor(name)
        return found

    @contextlib.contextmanager
    def _refused(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # on damaged bytes the library raises nearly any
            raise damaged(self._path, getattr(error, "strerror", None) or str(error)) from error


def damaged(path: Path, reason: str) -> ProbesError:
    """Return the error of a file of arrays that cannot be used."""
    return ProbesError(
        f"the arrays cannot be read: {reason}",
        str(path),
        "the same `probes run` writes them again, and computes only what is not stored",
    )
