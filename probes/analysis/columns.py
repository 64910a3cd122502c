"""The columns that say what a row is of, and how frames are split and selected by them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from probes.core.types import ROLES

SETTING = ("task", "setting", "pair", "frames", "scoring", "seed")
"""Columns in which cells must agree to be compared."""
BLOCK = tuple(name for name in SETTING if name != "frames")
"""Columns whose values share one block of tables."""
MATCH = ("name", "role", "member", "arm", "reference")
"""Columns that identify a contrast within its group of settings."""
CONTRAST = (*SETTING, "name", "role", "arm")
"""Columns that identify a contrast; its member and reference follow from them."""

NO_MODEL = "no model: answers by rule (backend=scripted)"
"""What stands beside every number of answers that no model gave."""
_SCRIPTED = "scripted"


def without_model(frame: pd.DataFrame) -> str:
    """Return `NO_MODEL`, with the share of answers where it is not all, else an empty text.

    Args:
        frame: records, as returned by `load`, or part of them.
    """
    by_rule = pd.Series(False, index=frame.index)
    for column, values in (("origin", [_SCRIPTED]), ("run", frame.attrs.get("without_model", ()))):
        if column in frame:
            by_rule |= frame[column].isin(list(values))
    if not by_rule.any():
        return ""
    # A failed answer has no origin: it is no sign of a model.
    models = ~by_rule & (frame["status"] != "error")
    return f"{100 * by_rule.mean():.0f} % {NO_MODEL}" if models.any() else NO_MODEL


def in_order(roles: Iterable[str]) -> list[str]:
    """Return roles once each: image, video, control, then others by name."""
    return sorted(set(roles), key=role_order)


def role_order(role: str) -> tuple[int, str]:
    """Return what sorts roles as `in_order` does."""
    return (ROLES.index(role) if role in ROLES else len(ROLES)), role


def rows_of(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return a table's rows as mappings."""
    return [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]


def where(table: pd.DataFrame, given: Mapping[str, Any] | None = None, **more: Any) -> pd.DataFrame:
    """Return the rows in which columns have these values."""
    mask = pd.Series(True, index=table.index)
    for name, value in {**(given or {}), **more}.items():
        mask &= table[name] == value
    return table[mask]


def groups(
    table: pd.DataFrame, columns: Sequence[str]
) -> Iterator[tuple[dict[str, Any], pd.DataFrame]]:
    """Yield a table's groups in order of appearance, each with its values of the columns."""
    # A list even of one column makes pandas give tuples; rows with NaN in a column are dropped.
    for values, part in table.groupby(list(columns), sort=False):
        yield dict(zip(columns, values, strict=True)), part


def heading(block: Mapping[str, Any]) -> str:
    """Return the settings of a block as text."""
    names = ("pair", "task", "scoring", "seed")
    text = ", ".join(f"{name} {block[name]}" for name in names)
    return f"{text}, {block['setting']}" if block["setting"] else text
