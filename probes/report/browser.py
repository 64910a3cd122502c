"""The item browser: for every item what each member was shown and answered, as an HTML fragment.

The fragment holds everything that it shows, loads nothing, and stays within `BUDGET`: first come
the answers and texts, items beyond `_TEXTS` characters being left out; what room they leave goes
to the pictures, whose quality and size go down step by step (`pictures.LADDER`) before any is left
out. Whatever is left out is told at the top of the browser.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from probes.records import run_folder
from probes.report import browser_data, pictures
from probes.report.browser_data import BrowserData
from probes.report.pictures import EncodedImages
from probes.report.stimuli import UNKNOWN

if TYPE_CHECKING:
    import pandas as pd

BUDGET = 12_000_000
"""Bytes that the fragment may have."""
_TEXTS = 5_000_000  # of these, for answers and texts; 300 items at 5 and 10 frames take 1.1 million
_TEMPLATES = Path(__file__).resolve().parent / "templates"


def section(folders: Sequence[Path], frame: pd.DataFrame, budget: int = BUDGET) -> str:
    """Return the item browser of some runs.

    Args:
        folders: run folders.
        frame: their records, as `probes.load` returns them; the column `run` names the folder.
        budget: bytes that the fragment may have.

    Returns:
        An HTML fragment with its own style, script and data. An item has the address
        `#item=ID`, and `#item=ID&frames=10` at one of several frame counts (percent-encoded).

    Raises:
        ProbesError: a file of a run that is there but cannot be read.
    """
    import jinja2

    runs = {str(folder.resolve()): run_folder.read(folder.resolve()) for folder in folders}
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES), autoescape=True, trim_blocks=True,
        lstrip_blocks=True, undefined=jinja2.StrictUndefined,
    )  # fmt: skip
    css, js = ((_TEMPLATES / f"browser.{kind}").read_text("utf-8") for kind in ("css", "js"))
    frame_budget = budget - len(css) - len(js) - 20_000
    data = browser_data.assemble(runs, frame, min(_TEXTS, frame_budget))
    made = pictures.make(data.frames, max(0, frame_budget - len(data.json)))
    return environment.get_template("browser.html").render(
        css=css,
        js=js,
        data=data.json,
        webp=_pictures(made),
        items=data.items,
        checked=data.checked,
        pictures=sum(map(bool, made.webp)),
        height=made.height,
        quality=made.quality,
        notes=_notes(data, made),
    )


def _pictures(made: EncodedImages) -> str:
    note = f"WebP of quality {made.quality}, at most {made.height} pixels high"
    missing = {str(place): reason for place, reason in made.missing.items()}
    return json.dumps({"webp": made.webp, "missing": missing, "note": note})


def _notes(data: BrowserData, made: EncodedImages) -> list[str]:
    """Return what the reader has to know of what is not here."""
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
    for reason in dict.fromkeys(made.missing.values()):
        count = sum(one == reason for one in made.missing.values())
        notes.append(
            f"{count:,} of {len(made.webp):,} frames have no picture here: {reason}. "
            "Where they lie is told in their place."
        )
    return notes
