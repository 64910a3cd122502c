"""The item browser: for every item what each member was shown and answered, as an HTML fragment.

The fragment holds everything that it shows, loads nothing, and stays within `BUDGET`: first come
the answers and texts, without the items beyond `_TEXTS` characters; the pictures get the rest, and
their size and quality are reduced step by step (`frame_images.QUALITIES`) before any is left out.
The top of the browser says what is left out.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from probes.records import run_folder
from probes.report import browser_data, frame_images, templating
from probes.report.browser_data import BrowserData
from probes.report.frame_images import EncodedImages
from probes.report.stimuli import UNKNOWN

if TYPE_CHECKING:
    import pandas as pd

BUDGET = 12_000_000
"""Bytes that the fragment may have."""
_TEXTS = 5_000_000  # of these, for answers and texts; 300 items at 5 and 10 frames take 1.1 million


def section(folders: Sequence[Path], frame: pd.DataFrame, budget: int = BUDGET) -> str:
    """Return the item browser of some runs.

    Args:
        folders: run folders.
        frame: their records, as `probes.load` returns them; the column `run` names the folder.
        budget: bytes that the fragment may have.

    Returns:
        An HTML fragment with its own style, script and data. An item has the address
        `#item=ID`, with `&frames=10` at one of several frame counts, and with `&task=NAME` where
        items of several tasks have the id (percent-encoded).

    Raises:
        ProbesError: a file of a run that is there but cannot be read.
    """
    # `load` has refused what was edited, unless it was asked for, and the frame says so.
    edited = bool(frame.attrs.get("edited"))
    runs = {str(one.resolve()): run_folder.read(one.resolve(), edited) for one in folders}
    css, js = templating.text("browser.css"), templating.text("browser.js")
    # 20,000 for the skeleton and its notes, which are known only afterwards.
    content_budget = budget - len(css) - len(js) - 20_000
    data = browser_data.assemble(runs, frame, min(_TEXTS, content_budget))
    # Pictures come second: an item can be read without them, not without its texts.
    images = frame_images.make(data.frames, max(0, content_budget - len(data.json)))
    template = templating.environment().get_template("browser.html")
    return template.render(
        css=css,
        js=js,
        data=data.json,
        webp=_images_json(images),
        items=data.items,
        checked=data.checked,
        pictures=sum(map(bool, images.webp)),
        height=images.height,
        quality=images.quality,
        notes=_notes(data, images),
    )


def _images_json(images: EncodedImages) -> str:
    note = f"WebP of quality {images.quality}, at most {images.height} pixels high"
    missing = {str(index): reason for index, reason in images.missing.items()}
    return json.dumps({"webp": images.webp, "missing": missing, "note": note})


def _notes(data: BrowserData, images: EncodedImages) -> list[str]:
    """Return what the reader has to know about items, stimuli and pictures that are missing."""
    notes = []
    if not data.items:
        notes.append("There are no records to browse.")
    if data.left_out:
        notes.append(
            f"{data.left_out:,} of {data.items + data.left_out:,} items are left out to keep this "
            "page small; their records are in records.parquet."
        )
    if data.unknown:
        reasons = sorted(data.unknown, key=lambda reason: -data.unknown[reason])
        more = f"; and {len(reasons) - 3} more reasons" if len(reasons) > 3 else ""
        notes.append(
            f"For {sum(data.unknown.values()):,} answers the stimulus cannot be shown: "
            f"{'; '.join(reason.removeprefix(UNKNOWN) for reason in reasons[:3])}{more}."
        )
    for reason in dict.fromkeys(images.missing.values()):
        count = sum(one == reason for one in images.missing.values())
        notes.append(
            f"{count:,} of {len(images.webp):,} frames have no picture here: {reason}. "
            "The path of the file is shown instead."
        )
    return notes
