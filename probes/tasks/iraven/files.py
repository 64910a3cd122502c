"""A problem's files, `DIR/<configuration>/RAVEN_<k>_<split>.npz` and `.xml`, and its npz."""

from __future__ import annotations

import functools
import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from probes.core.files import atomic_write
from probes.tasks.iraven import xmlio
from probes.tasks.iraven.problem import Problem
from probes.tasks.iraven.space import CONFIGURATIONS, SIDE, Configuration

SHAPE = (16, SIDE, SIDE)
"""Shape of the npz's `image`: eight context panels, then eight candidates."""

# By k, not drawn: a folder that grows never moves a problem to another split.
_SPLITS = ("train",) * 6 + ("val",) * 2 + ("test",) * 2
RULES = ("Constant", "Progression", "Arithmetic", "Distribute_Three")
ATTRIBUTES = ("Number", "Position", "Type", "Size", "Color")
"""The columns of `meta_matrix`: first the four rule names, then these five attributes."""
_NODES = """
    Singleton Left_Right Up_Down Out_In
    Left Right Up Down Out In Grid
    Center_Single Distribute_Four Distribute_Nine
    Left_Center_Single Right_Center_Single Up_Center_Single Down_Center_Single
    Out_Center_Single In_Center_Single In_Distribute_Four
""".split()
"""The nodes that the bits of `meta_structure` stand for."""


def stem(k: int) -> str:
    """Return `RAVEN_<k>_<split>`; of ten problems six are train, two val, two test."""
    return f"RAVEN_{k}_{_SPLITS[k % 10]}"


def path(root: Path, configuration: str, k: int) -> Path:
    """Return the path of a problem's npz; its XML has the same stem."""
    return root / configuration / f"{stem(k)}.npz"


def save(npz: Path, problem: Problem, images: NDArray[np.uint8], predict: int) -> None:
    """Write a problem's npz and XML, the npz last, so that an npz has its XML.

    Args:
        npz: path of the npz.
        problem: what it shows.
        images: uint8 [16, 160, 160].
        predict: what the solver chose, 0..7.
    """
    # A folder is finished by the npz that are missing, so a problem counts once its npz is there.
    atomic_write(npz.with_suffix(".xml"), xmlio.write(problem).encode("ascii"))
    atomic_write(npz, pack(problem, images, predict))


def pack(problem: Problem, images: NDArray[np.uint8], predict: int) -> bytes:
    """Return the content of a problem's npz, which is the same for the same arguments."""
    configuration = CONFIGURATIONS[problem.configuration]
    matrix = meta_matrix(problem)
    buffer = io.BytesIO()
    # Not compressed: zlib's bytes differ between its versions. Dates of members are 1980 always.
    np.savez(
        buffer,
        image=images,
        target=np.int64(problem.target),
        predict=np.int64(predict),
        meta_matrix=matrix,
        meta_target=matrix.max(axis=0),
        structure=np.array(structure(configuration)),
        meta_structure=_presence(configuration),
    )
    return buffer.getvalue()


def meta_matrix(problem: Problem) -> NDArray[np.uint8]:
    """Return uint8 [8, 9]: one row per rule; columns are four rule names, then five attributes."""
    matrix = np.zeros((8, 9), np.uint8)
    for row, rule in enumerate(rule for rules in problem.rules for rule in rules):
        matrix[row, RULES.index(rule.name)] = 1
        # A Constant rule on Number/Position sets both bits, as in the original's files.
        for attribute in rule.attribute.split("/"):
            matrix[row, 4 + ATTRIBUTES.index(attribute)] = 1
    return matrix


@functools.cache
def structure(configuration: Configuration) -> tuple[str, ...]:
    """Return the tree's tokens in pre-order; "/" closes a node."""
    tokens = ["Scene", configuration.structure]
    for component in configuration.components:
        tokens += [component.name, component.layout, "/", "/"]
    # Two are still open: the structure and the scene.
    return (*tokens, "/", "/")


@functools.cache
def _presence(configuration: Configuration) -> NDArray[np.uint8]:
    tokens = structure(configuration)
    return np.array([node in tokens for node in _NODES], np.uint8)
