"""Settings as fields of frozen dataclasses: their form in Hydra, and what their types forbid.

A frozen dataclass is the one definition of a group of settings: names, types, defaults, and bounds
in the metadata of its fields. Hydra composes plain dataclasses: it takes frozen ones for read-only
and knows neither `Literal` nor tuples nor unions with lists. So `composed` gives it what it can
hold, and `check` refuses what that lets through. Metadata that `check` knows:

    at_least    the smallest value
    above       a bound that the value, which is finite, lies above
    path        true for a text that is a path, or may be
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from omegaconf import MISSING

from probes.core.errors import ProbesError
from probes.core.files import named_path
from probes.core.text import nearest

SettingsGroup = TypeVar("SettingsGroup")
_BOUNDS = ("at_least", "above", "path")


def composed(kind: type, *names: str, without: Collection[str] = ()) -> list[tuple[str, Any, Any]]:
    """Return fields as Hydra can compose them, for `dataclasses.make_dataclass`.

    Args:
        kind: a dataclass.
        names: which of its fields; all where none is named.
        without: those that files do not hold.
    """
    # Not the fields' own types: with postponed annotations these are texts.
    hints = get_type_hints(kind)
    found = []
    for one in dataclasses.fields(kind):
        if (one.name in names or not names) and one.name not in without:
            # OmegaConf's mark, not None: `schema.plain` then refuses what nobody has set.
            default: Any = MISSING if one.default is dataclasses.MISSING else one.default
            if one.default_factory is not dataclasses.MISSING:
                default = dataclasses.field(default_factory=one.default_factory)
            found.append((one.name, _held(hints[one.name]), default))
    return found


def _held(hint: Any) -> Any:
    """Return the type that OmegaConf can hold values of a type in."""
    origin = get_origin(hint)
    if origin in (Union, UnionType):
        (held, *others) = {_held(one) for one in get_args(hint) if one is not NoneType}
        # Several kinds are let through here: what such a setting holds is checked as it is frozen.
        return Any if others or held is Any else held | None
    if origin is Literal:
        return str
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return dict[str, Any]
    return hint if hint in (bool, int, float, str) else Any


def check(kind: type, values: Mapping[str, Any], where: str = "") -> None:
    """Refuse a value that its field does not allow; names that are no field's are passed over.

    Args:
        kind: a dataclass.
        values: by name; None where nothing is set.
        where: name of the group, for messages; empty for settings of no group.

    Raises:
        ProbesError: the first such value, with the name of its setting.
    """
    hints = get_type_hints(kind)
    for one in dataclasses.fields(kind):
        value = values.get(one.name)
        if value is None:
            continue
        name = f"{where}.{one.name}" if where else one.name
        if allowed := _allowed(hints[one.name]):
            one_of(name, value, allowed)
        least, above = (one.metadata.get(bound) for bound in ("at_least", "above"))
        if least is not None and value < least:
            raise ProbesError(f"{value} is too small", name, f"give at least {least}")
        if above is not None and not above < value < float("inf"):  # nor is NaN
            fix = f"give a number above {above}" if above else "give a positive number"
            raise ProbesError(f"{name} cannot be {value}", name, fix)
        if one.metadata.get("path"):
            named_path(value, name)


def require_known_bounds(kind: type) -> None:
    """Refuse metadata that `check` does not know: a misspelt bound would bind nothing.

    Raises:
        TypeError: the first such, with the nearest that is known.
    """
    for one in dataclasses.fields(kind):
        for name in one.metadata:
            if name not in _BOUNDS:
                what = f"its setting {one.name!r} has metadata {name!r}, which nobody reads"
                raise TypeError(f"{what}: {nearest(str(name), _BOUNDS)}")


def _allowed(hint: Any) -> tuple[str, ...]:
    """Return the texts of a `Literal`, be it optional or not."""
    kinds = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    return tuple(text for one in kinds if get_origin(one) is Literal for text in get_args(one))


def build(
    kind: type[SettingsGroup], values: Mapping[str, Any], where: str, **more: Any
) -> SettingsGroup:
    """Check values and return the frozen group that they make; lists become tuples.

    Args:
        kind: a frozen dataclass.
        values: of its fields, and perhaps of others.
        where: name of the group, for messages.
        more: values of fields that were made, not set.

    Raises:
        ProbesError: a value that its field does not allow.
    """
    check(kind, values, where)
    names = {one.name for one in dataclasses.fields(kind)}  # type: ignore[arg-type]
    own = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in values.items()
        if name in names
    }
    return kind(**own | more)


def one_of(name: str, value: str, allowed: Collection[str]) -> None:
    """Refuse a value that is not among those allowed.

    Raises:
        ProbesError: with the nearest one that is.
    """
    if value not in allowed:
        raise ProbesError(
            f"{value!r} is not among {', '.join(allowed)}", name, nearest(value, allowed)
        )
