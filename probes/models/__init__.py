"""Where prompts become outputs: parts and options in, log-probabilities or text out.

`open_backend` opens a backend by name. Nothing here knows items, arms or right answers.
"""

from probes.models.base import Backend, BackendSettings
from probes.models.registry import open_backend

__all__ = ["Backend", "BackendSettings", "open_backend"]
