"""The registry of backends, and how one is opened."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import cast

from probes.core.errors import ProbesError
from probes.core.plugins import Registry
from probes.core.types import ModelSpec
from probes.models.base import (
    Backend,
    BackendSettings,
    refuse_adapter,
    refuse_pixel_bounds,
    refuse_variables,
)

_PARTS = tuple(name for name in vars(Backend) if not name.startswith("_"))
"""What the protocol asks of every backend."""
OpenBackend = Callable[[BackendSettings, ModelSpec], Backend]


def _checked(name: str, loaded: object) -> OpenBackend:
    if not callable(loaded):
        raise TypeError("a backend is a callable (settings, member) -> Backend")
    return cast(OpenBackend, loaded)


BACKENDS: Registry[OpenBackend] = Registry(
    "probes.backends",
    "backend",
    {
        "hf": "probes.models.hf.backend:HfBackend",
        "scripted": "probes.models.scripted:open_scripted",
        "server": "probes.models.server.backend:ServerBackend",
        "lmms": "probes.models.lmms_eval.backend:LmmsBackend",
    },
    _checked,
)


def open_backend(cfg: BackendSettings, spec: ModelSpec) -> Backend:
    """Open the backend that `cfg.name` names; nothing heavy is imported or loaded yet.

    Raises:
        ProbesError: unknown backend, one that lacks something of `Backend` or fails by itself, a
            checkpoint that is missing or not usable, or an adapter that it cannot load.
    """
    open_one, whose = BACKENDS.get(cfg.name, "backend.name"), BACKENDS.whose(cfg.name)
    try:
        backend = open_one(cfg, spec)
    except Exception as error:
        # An error of our own program keeps its traceback; so does what disk and memory cause.
        if isinstance(error, ProbesError | OSError | MemoryError) or not whose:
            raise
        raise ProbesError(
            f"backend {cfg.name!r}{whose} cannot be opened: {type(error).__name__}: {error}",
            "backend.name",
            "correct the package",
        ) from error
    # Looked for, not read: a fingerprint may take the hash of all weights.
    missing = object()
    passes_on = hasattr(type(backend), "__getattr__")
    lacking = [
        one
        for one in _PARTS
        if not passes_on and inspect.getattr_static(backend, one, missing) is missing
    ]
    if lacking:
        raise ProbesError(
            f"backend {cfg.name!r}{whose} gives a {type(backend).__name__} "
            f"without {', '.join(lacking)}",
            "backend.name",
            "correct the package: `probes.models.base.Backend` says what a backend has",
        )
    if spec.adapter and not backend.capabilities().adapters:
        raise refuse_adapter(spec, cfg.name)
    if spec.chat_template_kwargs and not backend.capabilities().chat_template_kwargs:
        raise refuse_variables(spec, cfg.name)
    if spec.pixel_bounds and not backend.capabilities().pixel_bounds:
        raise refuse_pixel_bounds(spec, cfg.name)
    return backend
