"""The registry of backends, and how one is opened."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from probes.core.plugins import Registry
from probes.core.types import ModelSpec
from probes.models.base import Backend, BackendSettings

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
        ProbesError: unknown backend, or a checkpoint that is missing or not usable.
    """
    return BACKENDS.get(cfg.name, "backend.name")(cfg, spec)
