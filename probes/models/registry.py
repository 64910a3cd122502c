"""Opening a backend by name."""

from __future__ import annotations

from probes.core.errors import ProbesError
from probes.core.types import ModelSpec
from probes.models.base import Backend, BackendSettings

NAMES = ("hf", "scripted", "server", "lmms")
"""Backends that `BackendSettings.name` may name."""


def open_backend(cfg: BackendSettings, spec: ModelSpec) -> Backend:
    """Open the backend that `cfg.name` names; nothing heavy is imported or loaded yet.

    Raises:
        ProbesError: unknown backend, or a checkpoint that is missing or not usable.
    """
    if cfg.name == "hf":
        from probes.models.hf.backend import HfBackend

        return HfBackend(cfg, spec)
    if cfg.name == "scripted":
        from probes.models.scripted import ScriptedBackend

        return ScriptedBackend.from_options(spec, cfg.options)
    if cfg.name == "server":
        from probes.models.server.backend import ServerBackend

        return ServerBackend(cfg, spec)
    if cfg.name == "lmms":
        from probes.models.lmms_eval.backend import LmmsBackend

        return LmmsBackend(cfg, spec)
    raise ProbesError(
        f"there is no backend named {cfg.name!r}", "backend.name", f"use one of {', '.join(NAMES)}"
    )
