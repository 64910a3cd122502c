"""Sections -> one HTML page that loads nothing."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from probes.report import browser
from probes.report.parts import BulletList, DataTable, FigurePart, Fragment, Paragraph, Section
from probes.report.study import Study

LIMIT = 14_500_000
"""Bytes that a page should not pass; pictures in the item browser give way."""
_LEAST = 500_000
_TEMPLATES = Path(__file__).resolve().parent / "templates"
_STYLE = re.compile(r"<style>(.*?)</style>", re.DOTALL)
# A script without attributes is code; those with a type hold data and are never run.
_SCRIPT = re.compile(r"<script>(.*?)</script>", re.DOTALL)
_KINDS = {
    Paragraph: "say",
    BulletList: "points",
    DataTable: "grid",
    FigurePart: "picture",
    Fragment: "fragment",
}


def render(title: str, sections: Sequence[Section], svgs: Mapping[str, bytes], study: Study) -> str:
    """Return the page: the sections, with the item browser before the last one.

    Args:
        title: of the page.
        sections: without the item browser.
        svgs: every picture's SVG file by its name.
        study: whose items are browsed.
    """
    import jinja2
    from markupsafe import Markup

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES), autoescape=True, trim_blocks=True,
        lstrip_blocks=True, undefined=jinja2.StrictUndefined,
    )  # fmt: skip
    environment.filters["kind"] = lambda part: _KINDS[type(part)]
    size = sum(len(svg) for svg in svgs.values()) * 4 // 3 + sum(map(_size, sections))
    budget = max(_LEAST, min(browser.BUDGET, LIMIT - size))
    fragment, style, hashes = _apart(browser.section(study.folders, study.frame, budget))
    whole = [*sections[:-1], Section("items", "Items", (Fragment(fragment, ""),)), sections[-1]]
    html: str = environment.get_template("report.html").render(
        title=title,
        sections=whole,
        images={name: base64.b64encode(svg).decode("ascii") for name, svg in svgs.items()},
        css=Markup((_TEMPLATES / "report.css").read_text("utf-8") + style),
        policy=policy(hashes),
        safe=Markup,
    )
    return html


def _size(section: Section) -> int:
    grids = [part for part in section.parts if isinstance(part, DataTable)]
    return sum(len(cell) + 12 for grid in grids for row in grid.rows for cell in row)


def _apart(fragment: str) -> tuple[str, str, list[str]]:
    """Split the browser into (markup, style for the page's head, hashes of its code)."""
    style = _STYLE.search(fragment)
    if style is not None:
        fragment = fragment[: style.start()] + fragment[style.end() :]
    code = _SCRIPT.findall(fragment)
    hashes = [base64.b64encode(hashlib.sha256(one.encode()).digest()).decode() for one in code]
    return fragment, style.group(1) if style else "", hashes


def policy(hashes: Sequence[str]) -> str:
    """Return the content security policy: nothing is loaded, no code runs but that of the hashes.

    Args:
        hashes: base64 of the sha256 of every script.
    """
    scripts = " ".join(f"'sha256-{one}'" for one in hashes) or "'none'"
    rules: dict[str, Any] = {
        "default-src": "'none'", "script-src": scripts, "style-src": "'unsafe-inline'",
        "img-src": "data:", "base-uri": "'none'", "form-action": "'none'",
    }  # fmt: skip
    return "; ".join(f"{name} {value}" for name, value in rules.items())
