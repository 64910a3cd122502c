"""Versions of packages and state of the source checkout, for manifests."""

from __future__ import annotations

import contextlib
import subprocess
from importlib import metadata
from pathlib import Path

# The packages that a result can depend on; others are noise in a manifest.
PACKAGES = """
interframe-probes torch torchvision transformers tokenizers lmms-eval decord av numpy pandas scipy
hydra-core opencv-python-headless peft
""".split()


def packages() -> dict[str, str]:
    """Return the versions of the packages that results can depend on."""
    found = {}
    for name in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def git_state(folder: Path) -> tuple[str, bool]:
    """Return (commit, dirty) of the checkout that holds `folder`; ("", False) outside one."""
    try:
        commit = _git(folder, "rev-parse", "HEAD")
        # Untracked files do not count: results of runs may lie in the checkout.
        return commit, bool(_git(folder, "status", "--porcelain", "--untracked-files=no"))
    except (OSError, subprocess.SubprocessError):
        return "", False


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(folder), *arguments],
        capture_output=True,
        text=True,
        # A checkout on a slow disk must not hold up a run for the sake of two facts about it.
        timeout=10,
        check=True,
    )
    return done.stdout.strip()
