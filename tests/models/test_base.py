"""Backends by name, and nothing heavy imported before the first score."""

import json
import subprocess
import sys

import pytest

from probes.core.errors import ProbesError
from probes.core.types import ModelSpec
from probes.models import open_backend


def test_opening_and_describing_load_nothing_heavy(video_checkpoint):
    program = """
import json, sys
from probes.models import open_backend
from probes.core.types import ModelSpec
class Settings:
    name, batch_size, feature_cache_mb, device, options = "hf", 4, 1, "auto", {}
backend = open_backend(Settings(), ModelSpec("tiny", "video", sys.argv[1]))
facts = backend.describe()
heavy = sorted({"torch", "transformers", "pandas", "av"} & set(sys.modules))
print(json.dumps([backend.fingerprint, facts, heavy]))
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(video_checkpoint)],
        capture_output=True,
        text=True,
        check=True,
    )
    fingerprint, facts, heavy = json.loads(done.stdout)
    assert heavy == []
    assert facts["fingerprint"] == fingerprint
    assert len(fingerprint) == 64


def test_an_unknown_backend_is_refused(settings):
    with pytest.raises(ProbesError, match="no backend named 'vllm'"):
        open_backend(settings(name="vllm"), ModelSpec("m", "image", "x"))


def test_an_unknown_option_is_refused(settings, video_checkpoint):
    with pytest.raises(ProbesError, match="no option 'batch_token'"):
        open_backend(
            settings(options={"batch_token": 1}), ModelSpec("m", "image", str(video_checkpoint))
        )
