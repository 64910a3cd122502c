"""Reading prompt sets."""

from __future__ import annotations

import re
from pathlib import Path

from probes.config.paths import conf_dir
from probes.core.errors import ProbesError
from probes.core.prompt_set import PromptSet
from probes.core.text import nearest

_PLACEHOLDERS = {
    "between": {"infill"},
    "common": {"frame_a", "frame_b"},
    "event": {"frame_a", "frame_b", "common"},
    "condense": {"text"},
    "letter": {"context", "question", "options"},
    "cloze": {"context", "question"},
    "generate": {"context", "question", "options"},
}
# Known names only: other braces, as in a prompt that shows JSON, are plain text.
_KNOWN = re.compile(
    "|".join(f"{{({name})}}" for name in sorted(set.union(*_PLACEHOLDERS.values())))
)


def prompt_set(name: str) -> PromptSet:
    """Read a prompt set.

    Args:
        name: a folder in conf/prompts, or the path of another folder (with a slash in it).

    Raises:
        ProbesError: no such set, a file is missing, or a text does not have its placeholders.
    """
    folder = Path(name).expanduser() if "/" in name else conf_dir() / "prompts" / name
    if not folder.is_dir():
        known = sorted(path.name for path in (conf_dir() / "prompts").iterdir() if path.is_dir())
        other = name if "/" in name else f"./{name}"
        fix = f"{nearest(name, known)}, or make the folder {other} and write it with the slash"
        raise ProbesError(f"there is no prompt set {name!r}", str(folder), fix)
    texts = {}
    for step, placeholders in _PLACEHOLDERS.items():
        path = folder / f"{step}.txt"
        try:
            # The last line break is the editor's: kept, it would be part of every prompt.
            texts[step] = path.read_text("utf-8").removesuffix("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise ProbesError(
                f"a prompt cannot be read: {error}", str(path), f"write it; it holds {placeholders}"
            ) from error
        found = {match.group().strip("{}") for match in _KNOWN.finditer(texts[step])}
        # None may be missing: without {context} a model would answer without seeing a frame.
        if found != placeholders:
            wanted = " ".join(f"{{{name}}}" for name in sorted(placeholders))
            raise ProbesError(
                "a prompt does not have the placeholders that it needs", str(path), f"use {wanted}"
            )
    return PromptSet(name=folder.name, **texts)
