"""Which comparisons are corrected together: the declared primary ones, and every other by itself.

A family depends on what a run declared before it began and on nothing else: the same records have
the same adjusted p-values whatever other arms, strata, seeds or writers lie in the frame.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from probes.analysis.columns import BLOCK, SETTING, groups
from probes.config.settings import DEFAULT_PRIMARY
from probes.core.text import listed

PRIMARY = DEFAULT_PRIMARY
"""What runs without a declaration, of older versions, were made for."""
Correction = Callable[[NDArray[np.float64]], NDArray[np.float64]]
_OF_SECONDARY = ("name", "role", "arm", "reference")


class Declared(NamedTuple):
    """What a run was made to compare, as its manifest says."""

    primary: tuple[str, ...] = PRIMARY
    """Contrast and arm, e.g. `did vcot`."""
    frames: tuple[int, ...] = ()
    """Frame counts of the run; empty where it is not known."""


def declared(frame: pd.DataFrame) -> dict[tuple[Any, ...], Declared]:
    """Return by values of `SETTING` what the runs of a frame's records declare.

    Args:
        frame: as returned by `load`; without a manifest the frame counts of a block are those of
            its records, and the primary comparison is `PRIMARY`.
    """
    by_run: Mapping[str, Declared] = frame.attrs.get("declared", {})
    # Frames that were put together by hand may lack what `load` adds.
    known = frame.assign(**{name: "" for name in ("setting", "run") if name not in frame})
    found: dict[tuple[Any, ...], Declared] = {}
    for head, part in groups(known, BLOCK):
        present = tuple(sorted({int(count) for count in part["frames"]}))
        for count in present:
            runs = part.loc[part["frames"] == count, "run"].unique()
            of_runs = [by_run.get(str(run), Declared()) for run in runs]
            primary = dict.fromkeys(one for of in of_runs for one in of.primary)
            counts = sorted({one for of in of_runs for one in of.frames or present})
            place = tuple({**head, "frames": count}[name] for name in SETTING)
            found[place] = Declared(tuple(primary), tuple(counts))
    return found


def adjusted(
    out: pd.DataFrame, known: Mapping[tuple[Any, ...], Declared], rule: Correction
) -> tuple[NDArray[np.float64], list[str]]:
    """Return adjusted p-values and the name of every row's family.

    Args:
        out: contrasts, with the columns of `SETTING`, name, role, arm, reference, policy, measure,
            stratum and p.
        known: of `declared`.
        rule: a correction of the p-values of one family [m].
    """
    members: dict[tuple[Any, ...], list[int]] = {}
    sizes: dict[tuple[Any, ...], int] = {}
    names: list[str] = []
    for at, row in enumerate(out.to_dict("records")):
        of = known.get(tuple(row[name] for name in SETTING), Declared())
        key, size, name = _family({str(k): v for k, v in row.items()}, of)
        members.setdefault(key, []).append(at)
        sizes[key] = size
        names.append(name)
    p = out["p"].to_numpy(np.float64)
    found = np.full(len(out), np.nan)
    for key, rows in members.items():
        # What was declared and is not in the frame counts as a larger p: it makes none smaller.
        absent = np.ones(max(0, sizes[key] - len(rows)))
        declared_p = np.append(p[rows], absent)
        # So does what has no verdict: errors in one cell make no other one clearer.
        undefined = np.isnan(declared_p) & (sizes[key] > 0)
        values = rule(np.where(undefined, 1.0, declared_p))
        found[rows] = np.where(undefined, np.nan, values)[: len(rows)]
    return found, names


def _family(row: Mapping[str, Any], of: Declared) -> tuple[tuple[Any, ...], int, str]:
    """Return a row's family: what identifies it, its declared size, and its name."""
    counts = f"{listed([str(one) for one in of.frames], 9)} frames" if of.frames else "its frames"
    block = (*(row[name] for name in BLOCK), of.frames, row["role"], row["policy"], row["measure"])
    plain = row["measure"] == "accuracy" and row["policy"] == "strict" and not row["stratum"]
    if plain and f"{row['name']} {row['arm']}" in of.primary:
        size = len(of.primary) * max(1, len(of.frames))
        name = f"primary: {listed(list(of.primary), 9)} ({row['role']}), {counts}"
        return (*block, "primary", of.primary), size, name
    key = (*block, *(row[name] for name in _OF_SECONDARY), bool(row["stratum"]))
    what = f"{row['name']} {row['arm']}" + (f" - {row['reference']}" if row["reference"] else "")
    where = f"strata, {counts}" if row["stratum"] else counts
    scale = "" if row["measure"] == "accuracy" else f", {row['measure']}"
    name = f"secondary: {what} ({row['role']}), {where}{scale}"
    # How many strata there are is not declared: those of the records are all.
    return key, 0 if row["stratum"] else len(of.frames), name


def in_short(families: Sequence[str], name: str) -> str:
    """Return `primary` or `secondary` with the number of rows of that family in a table."""
    return f"{name.partition(':')[0]} ({list(families).count(name)})"
