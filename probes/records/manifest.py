"""The manifest of a run folder: where its numbers come from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from probes.core.errors import ProbesError

REWRITE = "have it written again: the same `probes run` answers from the store"
"""How to mend a file of a run folder."""


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return what a run's manifest says; empty where there is none.

    Raises:
        ProbesError: it cannot be read, or is no JSON object.
    """
    path = folder / "manifest.json"
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ProbesError(f"the manifest cannot be read: {reason}", str(path), REWRITE) from error
    if not isinstance(content, dict):
        raise ProbesError("the manifest cannot be read: it is no JSON object", str(path), REWRITE)
    return content
