"""Hooks and controllers are frozen dataclasses: checked as classes, and made from parameters."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass, replace
from functools import lru_cache
from types import NoneType, UnionType
from typing import Any, ClassVar, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from probes.core.errors import ProbesError
from probes.core.hashing import sha256_json
from probes.core.params import frozen
from probes.core.text import nearest
from probes.core.types import Decoding, Intervention, Params

T = TypeVar("T")
Chosen = TypeVar("Chosen", Intervention, Decoding)
_PLAIN = (str, int, float, bool, NoneType)


def content_of(given: Intervention | Decoding | None) -> str:
    """Return a hash that is equal only for equal names, versions and parameters.

    By equality of Python True, 1 and 1.0 are one value, and would be answered as one.
    """
    return "" if given is None else sha256_json([given.name, given.params, given.version])


def check_class(loaded: object, methods: Collection[str], settings: dict[str, type]) -> None:
    """Raise TypeError unless an entry of a registry is a class of the right form.

    Args:
        loaded: what the registry found.
        methods: that it has to have.
        settings: attributes of the class, and their types.
    """
    if not inspect.isclass(loaded) or not is_dataclass(loaded):
        instance = is_dataclass(loaded) and not inspect.isclass(loaded)
        more = f", but an instance: name the class {type(loaded).__name__}" if instance else ""
        raise TypeError(f"{loaded!r} is not a dataclass" + more)
    # Instances are shared by all requests of equal parameters: none may change.
    if not loaded.__dataclass_params__.frozen:  # type: ignore[attr-defined]
        raise TypeError(f"{loaded.__name__} is not frozen: write @dataclass(frozen=True)")
    for name in methods:
        if not callable(getattr(loaded, name, None)):
            raise TypeError(f"{loaded.__name__} has no method {name}")
    for name, kind in settings.items():
        if not hasattr(loaded, name):
            raise TypeError(f"{loaded.__name__} has no attribute {name}")
        if not isinstance(getattr(loaded, name), kind):
            raise TypeError(f"{loaded.__name__}.{name} is not of type {kind.__name__}")
    try:
        hints = get_type_hints(loaded)
    except Exception as error:  # an annotation is a program of others
        raise TypeError(f"an annotation of {loaded.__name__} cannot be read: {error}") from error
    known = {one.name for one in fields(loaded)}
    for one in loaded.__dataclass_fields__.values():
        _check_field(
            f"{loaded.__name__}.{one.name}", one, hints[one.name], is_field=one.name in known
        )


def _check_field(name: str, one: Field[Any], hint: Any, *, is_field: bool) -> None:
    """Raise TypeError unless a field can be a parameter."""
    if get_origin(hint) is ClassVar or hint is ClassVar:
        return
    # All that an instance depends on has to be a parameter, and so part of the cache key.
    if not (is_field and one.init and one.compare and one.hash is not False):
        raise TypeError(
            f"{name} is not a plain field: InitVar, init=False, compare=False and "
            "hash=False have no place in a cache key"
        )
    if not _is_supported(hint):
        raise TypeError(
            f"{name} is of type {_shown(hint)}: use str, int, float, bool, None, "
            "Literal, and tuples and unions of these"
        )
    if (default := _default(one)) is not MISSING:
        try:
            _fitted(default, hint)
        except TypeError as error:
            raise TypeError(f"the default of {name}: {error}") from error


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
    for name in values:
        if name not in known:
            fix = nearest(name, known) if known else "leave it out: there are none"
            raise ProbesError(f"there is no parameter {name!r}", f"{where}.{name}", fix)
    full: dict[str, Any] = {}
    for name, one in known.items():
        value = values[name] if name in values else _default(one)
        if value is MISSING:
            raise ProbesError(f"parameter {name!r} is missing", f"{where}.{name}", "give it")
        try:
            full[name] = _fitted(value, hints[name])
        except TypeError as error:
            raise ProbesError(str(error), f"{where}.{name}", "correct it") from error
    return _called(lambda: entry(**full), where)


def params_of(instance: object) -> Params:
    """Return all parameters of an instance.

    Defaults too: when one is changed, answers by the old value must not be found for the new one.
    """
    return frozen({one.name: getattr(instance, one.name) for one in fields(instance)})  # type: ignore[arg-type]


def resolved(entry: type[Any], given: Chosen, where: str) -> Chosen | None:
    """Return what a request carries of an entry: None where it changes nothing.

    Args:
        entry: its class.
        given: name and parameters, as configured.
        where: the setting, for messages.

    Raises:
        ProbesError: a parameter makes no sense.
    """
    instance = made(entry, dict(given.params), where)
    if _called(instance.is_identity, where):
        return None
    params = _called(lambda: params_of(instance), where)
    return replace(given, params=params, version=entry.version)


def instance_of(entry: type[T], given: Intervention | Decoding, where: str) -> T:
    """Return the instance that a request names; one for all requests of equal parameters.

    Raises:
        ProbesError: as `resolved`, or the request was made for another version of the entry.
    """
    if given.version != (own := entry.version):  # type: ignore[attr-defined]
        raise ProbesError(
            f"the request asks for version {given.version!r} of {given.name!r}, which is {own!r}",
            where,
            "make requests by `resolve`, or give the version of the class",
        )
    try:
        hash(given)
        text = json.dumps(given.params)
    except TypeError as error:
        raise ProbesError(
            f"a parameter of {given.name!r} is no plain value: {error}",
            where,
            "use texts, numbers, true, false, null and tuples: `probes.core.params.frozen`",
        ) from error
    key: Any = entry
    found: T = _instance(key, text, where)
    return found


@lru_cache(maxsize=256)
def _instance(entry: type[Any], text: str, where: str) -> Any:
    # By the text: to a cache of values True, 1 and 1.0 are one.
    return made(entry, dict(frozen(dict(json.loads(text)))), where)


def _called(function: Callable[[], T], where: str) -> T:
    try:
        return function()
    except ProbesError:
        raise
    except ValueError as error:
        raise ProbesError(str(error), where, "correct the parameter") from error
    except Exception as error:  # a program of others: it may raise anything
        what = f"{type(error).__name__}: {error}"
        raise ProbesError(what, where, "correct the parameter, or the package") from error


def _default(one: Field[Any]) -> Any:
    if one.default_factory is not MISSING:
        return one.default_factory()
    return one.default


def _is_supported(hint: Any) -> bool:
    origin, given = get_origin(hint), get_args(hint)
    if origin is Literal:
        return all(type(one) in _PLAIN for one in given)
    if origin is tuple or origin in (Union, UnionType):
        return all(one is Ellipsis or _is_supported(one) for one in given)
    return hint in _PLAIN


def _fitted(value: Any, hint: Any) -> Any:
    """Return a value as a type has it, of which 1 and 1.0 may be one; TypeError: it has none."""
    origin, given = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        # Floats last: where there are ints too, 1 is one of them.
        for one in sorted(given, key=lambda one: one is float):
            try:
                return _fitted(value, one)
            except TypeError:
                continue
    elif origin is Literal:
        if any(type(one) is type(value) and one == value for one in given):
            return value
    elif origin is tuple:
        if isinstance(value, tuple):
            each = [given[0]] * len(value) if given[1:] == (Ellipsis,) else list(given)
            if len(each) == len(value):
                return tuple(map(_fitted, value, each))
    # In Python a bool is an int: `true` must not pass for 1.
    elif hint is float:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
    elif hint is int:
        if isinstance(value, int) and not isinstance(value, bool):
            return value
    # Options of backends may be of further types than parameters.
    elif hint is Any or isinstance(value, origin or hint):
        return value
    raise TypeError(f"{value!r} is not of type {_shown(hint)}")


def _shown(hint: Any) -> str:
    return hint.__name__ if inspect.isclass(hint) and not get_args(hint) else str(hint)
