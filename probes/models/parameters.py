"""Hooks and controllers are frozen dataclasses: checked as classes, and made from parameters."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Mapping
from dataclasses import MISSING, fields, is_dataclass
from types import UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from probes.core.errors import ProbesError
from probes.core.params import frozen
from probes.core.text import nearest
from probes.core.types import Params

T = TypeVar("T")


def check_class(loaded: object, methods: Collection[str], settings: dict[str, type]) -> None:
    """Raise TypeError unless an entry of a registry is a class of the right form.

    Args:
        loaded: what the registry found.
        methods: that it has to have.
        settings: attributes of the class, and their types.
    """
    if not inspect.isclass(loaded) or not is_dataclass(loaded):
        raise TypeError(f"{loaded!r} is not a dataclass")
    # Instances are shared by all requests of equal parameters: none may change.
    if not loaded.__dataclass_params__.frozen:  # type: ignore[attr-defined]
        raise TypeError(f"{loaded.__name__} is not frozen: write @dataclass(frozen=True)")
    for name in methods:
        if not callable(getattr(loaded, name, None)):
            raise TypeError(f"{loaded.__name__} has no method {name}")
    for name, kind in settings.items():
        if not isinstance(getattr(loaded, name, None), kind):
            raise TypeError(f"{loaded.__name__}.{name} is not of type {kind.__name__}")


def made(entry: type[T], values: Mapping[str, Any], where: str) -> T:
    """Return an instance with the given parameters.

    Args:
        entry: a dataclass whose fields are the parameters.
        values: of some of its fields.
        where: the setting that holds them, for messages.

    Raises:
        ProbesError: a parameter that there is not, one that is missing, or a value that makes no
            sense, by its type or by `__post_init__`, which raises ValueError.
    """
    known = {one.name: one for one in fields(entry)}  # type: ignore[arg-type]
    hints = get_type_hints(entry)
    values = dict(values)
    for name, value in values.items():
        if name not in known:
            fix = nearest(name, known) if known else "leave it out: there are none"
            raise ProbesError(f"there is no parameter {name!r}", f"{where}.{name}", fix)
        if not _fits(value, hints[name]):
            raise ProbesError(
                f"{value!r} is not of type {_shown(hints[name])}", f"{where}.{name}", "correct it"
            )
        if hints[name] is float:  # 1 and 1.0 are one value, and one cache key
            values[name] = float(value)
    for name, one in known.items():
        if name not in values and one.default is MISSING and one.default_factory is MISSING:
            raise ProbesError(f"parameter {name!r} is missing", f"{where}.{name}", "give it")
    try:
        return entry(**values)
    except ValueError as error:
        raise ProbesError(str(error), where, "correct the parameter") from error


def params_of(instance: object) -> Params:
    """Return the parameters of an instance that are not at their defaults.

    Named or left out, a default is one cache key; and a parameter that is added later with a
    default leaves the keys as they are.
    """
    values = {one.name: getattr(instance, one.name) for one in fields(instance)}  # type: ignore[arg-type]
    defaults = {one.name: one.default for one in fields(instance)}  # type: ignore[arg-type]
    return frozen({name: value for name, value in values.items() if value != defaults[name]})


def _fits(value: Any, hint: Any) -> bool:
    """Return whether a value is of an annotated type: plain ones, unions, literals, tuples."""
    origin, given = get_origin(hint), get_args(hint)
    if hint is Any:
        return True
    if origin in (Union, UnionType):
        return any(_fits(value, one) for one in given)
    if origin is Literal:
        return value in given
    if origin is tuple:
        if not isinstance(value, tuple):
            return False
        if given[-1] is Ellipsis:
            return all(_fits(one, given[0]) for one in value)
        return len(value) == len(given) and all(map(_fits, value, given))
    # In Python a bool is an int: `true` must not pass for 1.
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return value is None if hint in (None, type(None)) else isinstance(value, origin or hint)


def _shown(hint: Any) -> str:
    return hint.__name__ if inspect.isclass(hint) and not get_args(hint) else str(hint)
