"""Small results by key, each in a JSON file that can be checked by itself and is made again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from probes.core.errors import UNSOUND
from probes.core.files import atomic_write
from probes.core.hashing import sha256_json


class CheckedFiles:
    """A folder of results; one that does not hold counts as absent.

    Args:
        folder: made with the first result.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get(self, key: str) -> dict[str, Any] | None:
        """Return what was put under a key (hex); None where nothing sound is there."""
        try:
            found = json.loads(self._path(key).read_bytes())
            check = found.pop("sha256")
            # The key as well: a file under another name is another's result.
            if found["key"] != key or check != sha256_json(found):
                return None
            value = found["value"]
        except (OSError, *UNSOUND):
            return None
        return value if isinstance(value, dict) else None

    def put(self, key: str, value: dict[str, Any]) -> None:
        """Keep a result of plain JSON values.

        Raises:
            MachineError: the disk is full or cannot be written.
        """
        content: dict[str, Any] = {"key": key, "value": value}
        text = json.dumps(content | {"sha256": sha256_json(content)})
        atomic_write(self._path(key), text.encode())

    def _path(self, key: str) -> Path:
        return self._folder / key[:2] / f"{key}.json"
