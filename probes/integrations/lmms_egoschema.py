"""The functions that tasks/egoschema/egoschema_local.yaml names, by way of its utils.py."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from probes.core.errors import ProbesError
from probes.core.types import Item, Part
from probes.integrations import lmms_eval_tasks
from probes.integrations.lmms_eval_tasks import process_results
from probes.tasks.egoschema import reader
from probes.tasks.lmms_eval.adapter import Doc

if TYPE_CHECKING:
    from datasets import Dataset

__all__ = ["docs", "messages", "process_results", "text", "visual"]

CLIP = "clip"


def docs(_: object) -> Dataset:
    """Return the answered questions of $EGOSCHEMA_ROOT; the YAML's own rows are not docs."""
    return lmms_eval_tasks.dataset(_read)


def _read() -> list[Item]:
    root = os.environ.get("EGOSCHEMA_ROOT")
    if not root:
        fix = "EGOSCHEMA_ROOT=DIR, a folder in EgoSchema's layout (tasks/egoschema/README.md)"
        raise ProbesError("task egoschema_local names no folder", "$EGOSCHEMA_ROOT", fix)
    return reader.load(Path(root), task="egoschema_local")


def visual(doc: Doc) -> list[str]:
    """Return the path of the clip."""
    return [doc["media"]]


def text(doc: Doc) -> str:
    """Return question and options, for models that take pictures and text separately."""
    return "".join(part for part in _shown(doc) if isinstance(part, str)).strip()


def messages(doc: Doc) -> list[dict[str, Any]]:
    """Return the clip and the question, with the prompt of this harness."""
    return lmms_eval_tasks.messages(_shown(doc), {CLIP: {"type": "video", "url": doc["media"]}})


def _shown(doc: Doc) -> tuple[Part, ...]:
    return lmms_eval_tasks.parts(doc, [CLIP])
