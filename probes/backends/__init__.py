"""Where prompts become outputs: parts and options in, log-probabilities or text out.

`open_backend` is the door. Nothing here knows items, arms or answers.
"""

from probes.backends.base import Backend, BackendSettings, open_backend

__all__ = ["Backend", "BackendSettings", "open_backend"]
