"""Checks of files that passed, remembered by content: a finished run loads nothing to be sure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from probes.core.checked_file import CheckedFiles
from probes.core.files import home
from probes.core.hashing import sha256_json

FOLDER = "checked"
VERSION = 2
"""Raised whenever a check refuses more than before: what passed has to pass again."""


def once(facts: Mapping[str, Any], check: Callable[[], None], *, keep: bool = True) -> None:
    """Do a check, unless it has passed on the same facts before.

    Args:
        facts: all that its verdict depends on: hashes of files, settings, versions of libraries.
        check: raises if something is wrong; that is not remembered.
        keep: whether passing it stands for all of the check.
    """
    passed, key = CheckedFiles(home() / FOLDER), sha256_json({**facts, "version": VERSION})
    if passed.get(key) is None:
        check()
        if keep:
            passed.put(key, {})
