"""Sections -> one HTML page that loads nothing."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from probes.core import tables
from probes.report import browser, templating
from probes.report.parts import (
    BulletList,
    FigurePart,
    Fragment,
    PageHead,
    Paragraph,
    ReportPart,
    Section,
)

LIMIT = 14_500_000
"""Bytes that a page should not exceed; pictures in the item browser are reduced to fit."""
_LEAST_BUDGET = 500_000  # bytes that the item browser gets in any case
_STYLE = re.compile(r"<style>(.*?)</style>", re.DOTALL)
# A script without attributes is code; those with a type hold data and are never run.
_SCRIPT = re.compile(r"<script>(.*?)</script>", re.DOTALL)
_KINDS = {
    Paragraph: "paragraph",
    BulletList: "bullets",
    tables.Table: "table",
    FigurePart: "figure",
    Fragment: "fragment",
}


def render(head: PageHead, sections: Sequence[Section], svgs: Mapping[str, bytes]) -> str:
    """Return the page.

    Args:
        head: what stands above them.
        sections: in their order.
        svgs: every figure's SVG file by its name.
    """
    from markupsafe import Markup

    environment = templating.environment()
    environment.filters["kind"] = lambda part: _KINDS[type(part)]
    # `tables.html` escapes every cell itself; without Markup all of it would be escaped again.
    environment.filters["table"] = lambda part: Markup(tables.html(part))
    # Base64 makes four characters of three bytes.
    size = sum(len(svg) for svg in svgs.values()) * 4 // 3 + sum(map(_size, sections))
    budget = max(_LEAST_BUDGET, min(browser.BUDGET, LIMIT - size))
    styles: list[str] = []
    hashes: list[str] = []

    def finished(part: ReportPart) -> ReportPart:
        if not isinstance(part, Fragment):
            return part
        html = part.html if isinstance(part.html, str) else part.html(budget)
        html, style, code = _split(html)
        # HTML allows style elements in the head only.
        styles.append(style)
        hashes.extend(code)
        return Fragment(html)

    shown = [replace(one, parts=tuple(map(finished, one.parts))) for one in sections]
    html: str = environment.get_template("report.html").render(
        head=head,
        sections=shown,
        images={name: base64.b64encode(svg).decode("ascii") for name, svg in svgs.items()},
        css=Markup(templating.text("report.css") + "".join(styles)),
        policy=policy(hashes),
        safe=Markup,
    )
    return html


def _size(section: Section) -> int:
    shown = [part for part in section.parts if isinstance(part, tables.Table)]
    # A cell's tags and attributes take about 12 characters.
    return sum(len(text) + 12 for table in shown for row in table.rows for text in row)


def _split(fragment: str) -> tuple[str, str, list[str]]:
    """Split a fragment into (markup, style for the page's head, hashes of its code)."""
    style = _STYLE.search(fragment)
    if style is not None:
        fragment = fragment[: style.start()] + fragment[style.end() :]
    code = _SCRIPT.findall(fragment)
    # A browser hashes all between the tags, so not even a space may be trimmed.
    hashes = [base64.b64encode(hashlib.sha256(one.encode()).digest()).decode() for one in code]
    return fragment, style.group(1) if style else "", hashes


def policy(hashes: Sequence[str]) -> str:
    """Return the content security policy: nothing is loaded, no code runs but that of the hashes.

    Args:
        hashes: base64 of the sha256 of every script.
    """
    scripts = " ".join(f"'sha256-{one}'" for one in hashes) or "'none'"
    rules: dict[str, Any] = {
        "default-src": "'none'",
        "script-src": scripts,
        # Styles may be in the page: as nothing can be loaded, they cannot send anything out either.
        "style-src": "'unsafe-inline'",
        # Figures and frames are embedded; an address of a picture elsewhere stays unused.
        "img-src": "data:",
        # default-src does not cover these two.
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    return "; ".join(f"{name} {value}" for name, value in rules.items())
