"""Where prompts become outputs: parts and options in, log-probabilities or text out.

`open_backend` is the door. Nothing here knows items, arms or answers.
"""

from probes.models.base import Backend, BackendSettings
from probes.models.registry import open_backend

__all__ = ["Backend", "BackendSettings", "open_backend"]
