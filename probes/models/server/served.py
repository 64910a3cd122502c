"""What a server says of the model behind a name, compared with what it said before.

A server that is started again with another model under the same name would be taken for the first:
keys are made of what the user declares. What it says of itself is kept per fingerprint, and a
server that says something else is refused. One that says nothing, or the same of other weights,
cannot be told apart.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from typing import Any

from probes.core.errors import MachineError, ProbesError
from probes.core.files import atomic_write, home
from probes.models.server import messages

FACTS = ("id", "owned_by", "root", "parent", "max_model_len")
"""Fields that are kept of a model's entry in GET /models; `created` may be the current time."""
_OF_THE_MODEL = ("root", "parent")
"""Where its weights are from, and on which model an adapter stands; how long a prompt may be is a
setting, which changes no answer."""


def served(listed: Any, model: str) -> dict[str, Any]:
    """Return what GET /models says about a model."""
    entries = messages.at(listed, "data")
    for entry in entries if isinstance(entries, list) else []:
        if messages.at(entry, "id") == model:
            return {name: entry[name] for name in FACTS if entry.get(name) is not None}
    return {"listed": False}


def check_same(facts: Mapping[str, Any], fingerprint: str, role: str, where: str) -> None:
    """Refuse a server that says of a model what it did not say when its answers were first kept.

    Args:
        facts: of the model, by `served`.
        fingerprint: of the member.
        role: of the member.
        where: of the message.

    Raises:
        ProbesError: they differ.
    """
    shown = {name: facts[name] for name in _OF_THE_MODEL if name in facts}
    path = home() / "servers" / f"{fingerprint}.json"
    before: Any = None
    with contextlib.suppress(OSError, ValueError):  # none yet, or a damaged one: written anew
        before = json.loads(path.read_bytes())
    if isinstance(before, dict):
        differing = [
            n for n in _OF_THE_MODEL if n in before and n in shown and before[n] != shown[n]
        ]
        if differing:
            name = differing[0]
            raise ProbesError(
                f"the server runs another model under this name than it did: its {name} was"
                f" {before[name]!r} and is {shown[name]!r}",
                where,
                "if it is another model, set backend.options.deployment to a name for this server"
                f" with this model (pair.{role}.revision for one member); if it is the same,"
                f" delete {path}",
            )
        return
    if shown:
        with contextlib.suppress(MachineError):  # a home that cannot be written
            atomic_write(path, json.dumps(shown, sort_keys=True).encode())
