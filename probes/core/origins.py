"""What computed an answer, as text; and the versions of libraries, known without importing them."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Mapping
from importlib import metadata

from probes.core.types import Origin


def versions(names: Iterable[str]) -> dict[str, str]:
    """Return major.minor of the installed ones of some packages; none of them is imported."""
    found = {}
    for name in names:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = major_minor(metadata.version(name))
    return found


def major_minor(version: str) -> str:
    """Return the first two numbers of a version, e.g. 2.9 of 2.9.1+cu128; else all of it."""
    start = re.match(r"\d+\.\d+", version)
    return start[0] if start else version


def sorted_libraries(libraries: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Return versions by name in the form that an `Origin` has."""
    return tuple(sorted(libraries.items()))


def shown(origin: Origin | None) -> str:
    """Return an origin as a text, e.g. `torch 2.9, transformers 5.0; cpu avx2; float32; sdpa`."""
    if origin is None:
        return ""
    libraries = ", ".join(f"{name} {version}" for name, version in origin.libraries)
    return "; ".join(filter(None, (libraries, origin.device, origin.dtype, origin.kernels)))


def newest(origin: Origin) -> tuple[tuple[str, tuple[int, ...]], ...]:
    """Return by what origins of the same libraries are sorted, the newest versions last."""
    return tuple(
        (name, tuple(int(number) for number in re.findall(r"\d+", version)))
        for name, version in origin.libraries
    )
