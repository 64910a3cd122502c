"""The functions that the YAML files in tasks/iraven name, by way of its utils.py."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from probes.config import compose
from probes.core.types import Item, Part
from probes.integrations import lmms_eval_tasks
from probes.integrations.lmms_eval_tasks import process_results
from probes.tasks import registry
from probes.tasks.iraven import reader
from probes.tasks.iraven.reader import CONTEXT, OPTIONS
from probes.tasks.lmms_eval.adapter import Doc

if TYPE_CHECKING:
    from datasets import Dataset
    from PIL.Image import Image

__all__ = ["docs", "messages", "process_results", "text", "visual"]

PANELS = (
    f"Pictures 1 to {CONTEXT} are the panels of a 3x3 matrix in reading order; its ninth cell is "
    "empty."
)
CANDIDATES = (
    f"The panels {OPTIONS[0]} to {OPTIONS[-1]} are pictures {CONTEXT + 1} to "
    f"{CONTEXT + len(OPTIONS)}."
)
"""For a model that takes all pictures first, and then the text."""


def docs(rows: Dataset) -> Dataset:
    """Return the problems of the configuration that the split is named after.

    The rows themselves are not docs: lmms-eval has to load some data set first.
    """
    return lmms_eval_tasks.dataset(partial(_read, str(rows.split)))


def _read(configuration: str) -> list[Item]:
    return reader.load(_root(), [configuration])


def _root() -> Path:
    """Return $IRAVEN_ROOT, else the folder of `probes run task=iraven`, made on first use."""
    if given := os.environ.get("IRAVEN_ROOT"):
        return Path(given).expanduser().resolve()
    return registry.root(compose.compose(["task=iraven"]).task)


def visual(doc: Doc) -> list[Image]:
    """Return 16 pictures, RGB, 160 pixels a side: the context panels, then the candidates."""
    from PIL import Image

    return [Image.fromarray(one).convert("RGB") for one in reader.images(Path(doc["media"]))]


def text(doc: Doc) -> str:
    """Return the question for models that take pictures and text separately."""
    # Without the pictures the lines "A. " to "H. " are empty: they are left out.
    asked, *_, how = "".join(part for part in _shown(doc) if isinstance(part, str)).split("\nA. ")
    return "\n".join([PANELS, asked.strip(), CANDIDATES, how.rpartition("\n")[2]])


def messages(doc: Doc) -> list[dict[str, Any]]:
    """Return the context panels in reading order, the question, and the labelled candidates."""
    pictures = {str(at): {"type": "image", "url": one} for at, one in enumerate(visual(doc))}
    return lmms_eval_tasks.messages(_shown(doc), pictures)


def _shown(doc: Doc) -> tuple[Part, ...]:
    names = [str(number) for number in range(CONTEXT + len(OPTIONS))]
    return lmms_eval_tasks.parts(doc, names[:CONTEXT], names[CONTEXT:])
