"""The scripted server, a backend that asks it, and waits that are not waited."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from loopback import LoopbackServer

from probes.core.types import ModelSpec
from probes.models import open_backend
from probes.models.server import http


@pytest.fixture
def loopback() -> Iterator[LoopbackServer]:
    made = LoopbackServer()
    yield made
    made.close()


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Waits between attempts, which are noted and not waited."""
    noted: list[float] = []

    class Event(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            noted.append(timeout or 0.0)
            return self.is_set()

    # Only this module's waits: thread pools wait with threading's own.
    named = type("threading", (), {"Event": Event, "Lock": threading.Lock})
    monkeypatch.setattr(http, "threading", named)
    return noted


@pytest.fixture
def opened(
    loopback: LoopbackServer, settings: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[..., Any]:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    # What a server says is kept there, and ports are used again.
    monkeypatch.setenv("PROBES_HOME", str(tmp_path / "home"))

    def make(spec: dict[str, Any] | None = None, **options: Any) -> Any:
        member = {"name": "tiny", "role": "image", "repo": "m", "frame_as": "image"} | (spec or {})
        given = {"base_url": loopback.url, "retries": 2, "timeout_s": 5, "concurrency": 2} | options
        return open_backend(settings(name="server", options=given), ModelSpec(**member))

    return make
