"""Named parameters as hashable values: what arms, requests and cache keys hold of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from probes.core.types import Param, Params


def frozen(values: Mapping[str, Any]) -> Params:
    """Return parameters as sorted pairs, lists as tuples.

    >>> frozen({"layers": "0-0.5", "edges": ["frames>frames"]})
    (('edges', ('frames>frames',)), ('layers', '0-0.5'))

    Raises:
        TypeError: a value is neither plain nor a list of such.
    """
    return tuple((name, _frozen(values[name])) for name in sorted(values))


def _frozen(value: Any) -> Param:
    # One form for both: JSON knows lists only, and a cache key is made of JSON.
    if isinstance(value, list | tuple):
        return tuple(map(_frozen, value))
    if value is None or isinstance(value, str | int | float | bool):
        return value
    raise TypeError(f"{value!r} is neither a text, a number, true, false, null nor a list of those")
