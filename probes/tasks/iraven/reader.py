"""Reading a folder of problems, made here or by the original generator.

`DIR/<configuration>/RAVEN_<k>_<split>.npz` is enough: the XML next to it is not read. Arrays are
read from the npz one by one, and nothing is unpickled.
"""

from __future__ import annotations

import math
import re
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from probes.core.errors import ProbesError
from probes.core.types import Item, Panels
from probes.tasks.iraven.files import ATTRIBUTES, RULES, SHAPE, structure
from probes.tasks.iraven.space import CONFIGURATIONS

TASK = "iraven"
QUESTION = "Which of the panels A to H belongs in the empty cell of the 3x3 matrix?"
OPTIONS = ("A", "B", "C", "D", "E", "F", "G", "H")
CONTEXT = 8
"""Number of context panels; as many candidates follow them."""
ROW = 3
"""Panels in a row of the matrix."""

_NAME = re.compile(r"RAVEN_(\d+)_(train|val|test)\.npz")
_LARGEST = 2**20
"""Most bytes of an array; the pictures have 409,600."""
_FIX = "fetch or make the file again, or remove it from the folder"


@dataclass(frozen=True, slots=True)
class ProblemMetadata:
    """What an npz says about its problem, without the pictures."""

    target: int
    """Index of the right candidate, 0..7."""
    predict: int | None
    """What the solver of the file's maker chose; None where the file does not say."""
    rules: str
    """Rules as text, components separated by " | "; empty where the file does not say."""
    structure: tuple[str, ...]
    """The tokens of the configuration's tree; empty where the file does not say."""


def load(
    root: Path,
    configurations: Sequence[str] | None = None,
    *,
    task: str = TASK,
    across_rows: bool = False,
) -> list[Item]:
    """Read the problems of a folder as items, by configuration, then by number.

    Pictures are checked by their header here and read when they are needed (`images`).

    Args:
        root: folder that holds a folder per configuration.
        configurations: which to read; None: all that the folder has.
        task: the items' task.
        across_rows: whether there are infills also between two rows of the matrix.

    Raises:
        ProbesError: nothing is found, or a file is not what it should be.
    """
    if not root.is_dir():
        raise ProbesError("there is no such folder", str(root), "set task.root to the problems")
    wanted = tuple(CONFIGURATIONS) if configurations is None else tuple(configurations)
    items = []
    for name in CONFIGURATIONS:
        if name not in wanted:
            continue
        found = []
        for path in (root / name).glob("RAVEN_*.npz"):
            match = _NAME.fullmatch(path.name)
            # A data set of somebody else's must not make a run read other files of this machine.
            if path.is_symlink() and not path.resolve().is_relative_to((root / name).resolve()):
                raise ProbesError("a problem is a link that leaves the folder", str(path), _FIX)
            if match:
                found.append((int(match[1]), match[2], path))
        if configurations is not None and not found:
            raise _nothing(root / name)
        # One row of all eight has no ends within it, so that no gap is a break.
        row = CONTEXT if across_rows else ROW
        items += [_item(name, split, path, task, row) for _, split, path in sorted(found)]
    if not items:
        raise _nothing(root)
    return items


def _nothing(folder: Path) -> ProbesError:
    return ProbesError(
        "no i-RAVEN problems found (<configuration>/RAVEN_<k>_<split>.npz)",
        str(folder),
        f"make some: probes data iraven DIR --per-config 100 --seed 0; "
        f"configurations: {', '.join(CONFIGURATIONS)}",
    )


def _item(configuration: str, split: str, path: Path, task: str, row: int) -> Item:
    about = read_metadata(path)
    if about.structure not in ((), structure(CONFIGURATIONS[configuration])):
        raise ProbesError(
            f"the file's structure is not that of {configuration}: {' '.join(about.structure)}",
            str(path),
            "move the file to its configuration's folder, or remove it",
        )
    name = f"{configuration}/{path.stem}"
    meta = {"rules": about.rules, "split": split}
    if about.predict is not None:
        meta["predict"] = str(about.predict)
    return Item(
        id=name,
        task=task,
        question=QUESTION,
        options=OPTIONS,
        answer=about.target,
        media=Panels(path.absolute(), CONTEXT, options=len(OPTIONS), row=row),
        stratum=configuration,
        # Problems are drawn independently of each other: each is a cluster of its own.
        cluster=name,
        meta=tuple(sorted(meta.items())),
    )


def images(path: Path) -> NDArray[np.uint8]:
    """Read a problem's pictures: uint8 [16, 160, 160], eight context panels, then the candidates.

    Raises:
        ProbesError: the file is damaged or not a problem.
    """
    with _archive(path) as archive:
        _check_images(archive, path)
        array: NDArray[np.uint8] = _array(archive, "image")
        return array


def read_metadata(path: Path) -> ProblemMetadata:
    """Read all of an npz except its pictures; only the header of these is checked.

    Raises:
        ProbesError: the file is damaged or not a problem.
    """
    with _archive(path) as archive:
        _check_images(archive, path)
        target = _choice(archive, "target", path)
        names = set(archive.namelist())
        predict = _choice(archive, "predict", path) if "predict.npy" in names else None
        rules = _rules(_array(archive, "meta_matrix"), path) if "meta_matrix.npy" in names else ""
        tokens = _array(archive, "structure") if "structure.npy" in names else np.array([], "U1")
        return ProblemMetadata(target, predict, rules, _tokens(tokens, path))


# --- parts of an npz ------------------------------------------------------------------------------


@contextmanager
def _archive(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open an npz; everything that goes wrong while it is read becomes a ProbesError."""
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except FileNotFoundError as error:
        raise ProbesError("the file is missing", str(path), _FIX) from error
    except KeyError as error:
        what = f"an array is missing from the npz ({error.args[0]})"
        raise ProbesError(what, str(path), _FIX) from error
    except ValueError as error:  # numpy's error for an unreadable header and for pickled objects
        raise ProbesError(f"the npz holds no plain array ({error})", str(path), _FIX) from error
    except ProbesError:
        raise
    except Exception as error:  # on damaged bytes zipfile and numpy raise nearly any type
        raise ProbesError(f"the npz is truncated or damaged ({error})", str(path), _FIX) from error


def _array(archive: zipfile.ZipFile, name: str) -> NDArray[Any]:
    shape, dtype = _header(archive, name)
    if math.prod(shape) * dtype.itemsize > _LARGEST:
        raise ValueError(f"{name} claims to be {dtype} {shape}")  # before memory is allocated
    with archive.open(f"{name}.npy") as file:
        array: NDArray[Any] = npy.read_array(file, allow_pickle=False)
        # Read to the end: only there zipfile compares the member's checksum.
        if file.read(1):
            raise ValueError(f"{name} is longer than its header says")
        return array


def _header(archive: zipfile.ZipFile, name: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    with archive.open(f"{name}.npy") as file:
        # numpy writes 2.0 only where a header is longer than 65,535 bytes; pictures have 1.0.
        version = npy.read_magic(file)
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, _, dtype = read(file)
        return shape, dtype


def _check_images(archive: zipfile.ZipFile, path: Path) -> None:
    """Check the header of the pictures."""
    shape, dtype = _header(archive, "image")
    if shape != SHAPE or dtype != np.uint8:
        raise _unlike("image", f"{dtype} {shape}", f"uint8 {SHAPE}", path)


def _choice(archive: zipfile.ZipFile, name: str, path: Path) -> int:
    array = _array(archive, name)
    if array.size != 1 or array.dtype.kind not in "iu":
        raise _unlike(name, f"{array.dtype} {array.shape}", "one integer", path)
    value = int(array.ravel()[0])
    if not 0 <= value < len(OPTIONS):
        raise _unlike(name, str(value), "in 0..7", path)
    return value


def _rules(matrix: NDArray[Any], path: Path) -> str:
    """Return the rules of `meta_matrix` as text."""
    if matrix.shape != (8, 9) or matrix.dtype != np.uint8:
        raise _unlike("meta_matrix", f"{matrix.dtype} {matrix.shape}", "uint8 (8, 9)", path)
    texts = []
    for row in matrix:
        names = [name for name, bit in zip(RULES, row[:4], strict=True) if bit]
        attributes = [name for name, bit in zip(ATTRIBUTES, row[4:], strict=True) if bit]
        if names:
            texts.append(f"{'/'.join(names)} {'/'.join(attributes)}")
    return " | ".join(", ".join(texts[start : start + 4]) for start in range(0, len(texts), 4))


def _tokens(array: NDArray[Any], path: Path) -> tuple[str, ...]:
    """Return the tokens of `structure`; Python 2 wrote them as bytes."""
    if array.dtype.kind == "S":
        array = np.char.decode(array, "ascii")
    if array.ndim != 1 or array.dtype.kind != "U":
        raise _unlike("structure", f"{array.dtype} {array.shape}", "a list of words", path)
    return tuple(array.tolist())


def _unlike(name: str, found: str, wanted: str, path: Path) -> ProbesError:
    return ProbesError(f"{name} is {found}, not {wanted}", str(path), _FIX)
