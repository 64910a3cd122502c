"""An installed backend that lacks what every backend has."""

from __future__ import annotations

from pathlib import Path

import pytest
from installed_entries import install

from probes.config.settings import BackendConfig
from probes.core.errors import ProbesError
from probes.core.types import ModelSpec
from probes.models.registry import BACKENDS, open_backend

HALF = """
class ENTRY:
    adapter = "1"

    def __init__(self, cfg, spec):
        pass

    @property
    def fingerprint(self):
        raise RuntimeError("all weights would be read")

    def capabilities(self):
        pass

    def describe(self):
        pass

    def planning(self):
        pass

    def libraries(self):
        pass

    def origin(self):
        pass

    def score(self, requests, frames, scoring):
        pass
"""
WHOLE = (
    HALF
    + """
    def counters(self):
        pass

    def close(self):
        pass
"""
)
NOTHING = "def ENTRY(cfg, spec):\n    return None"
BROKEN = "def ENTRY(cfg, spec):\n    return {}['weights']"


@pytest.mark.parametrize("backend", ["server", "scripted"])
def test_bounds_of_pixels_are_refused_where_nothing_is_resized(backend: str) -> None:
    spec = ModelSpec("m", "video", "some/model", frame_as="image", max_pixels=784)
    options = {"base_url": "http://localhost:9/v1"} if backend == "server" else {}
    with pytest.raises(ProbesError, match=f"backend {backend} does not bring pictures") as caught:
        open_backend(BackendConfig(backend, options=options), spec)
    assert caught.value.where == "pair.video.max_pixels"
    assert ("mm-processor-kwargs" in caught.value.fix) == (backend == "server")


def test_what_it_lacks_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    codes = {"half": HALF, "whole": WHOLE, "nothing": NOTHING, "broken": BROKEN}
    install(monkeypatch, tmp_path, BACKENDS, codes)
    spec = ModelSpec(role="image", name="m", repo="m")
    with pytest.raises(ProbesError) as caught:
        open_backend(BackendConfig("half"), spec)
    what = "backend 'half' of sample-plugin 1.0 gives a ENTRY without counters, close"
    assert caught.value.what == what
    with pytest.raises(ProbesError, match="gives a NoneType without fingerprint, adapter, lib"):
        open_backend(BackendConfig("nothing"), spec)
    assert open_backend(BackendConfig("whole"), spec).adapter == "1"
    with pytest.raises(ProbesError) as caught:
        open_backend(BackendConfig("broken"), spec)
    what = "backend 'broken' of sample-plugin 1.0 cannot be opened: KeyError: 'weights'"
    assert caught.value.what == what
