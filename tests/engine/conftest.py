"""Runs over a small folder of clips with a backend that counts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from running import Spy, make_world, open_spy, settings

from probes.config.settings import RunConfig
from probes.engine import context


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture
def settle(world: Path, tmp_path: Path) -> Any:
    def make(*overrides: str, out: str = "out") -> RunConfig:
        return settings(world, tmp_path / out, *overrides)

    return make


@pytest.fixture
def spy(monkeypatch: pytest.MonkeyPatch) -> type[Spy]:
    monkeypatch.setattr(context, "open_backend", open_spy)
    Spy.begin()
    return Spy
