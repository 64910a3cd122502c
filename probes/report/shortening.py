"""Paths of the machine that computed or reported -> the names of their folders and files.

A page is passed on; where a folder lies on somebody's disk is nobody else's business, and of no use
to them.
"""

from __future__ import annotations

import re
from dataclasses import replace

from probes.core.tables import Table
from probes.report.parts import BulletList, FigurePart, Paragraph, ReportPart, Section

# An address is taken first, and kept whole. Of a path, a folder within a folder at least: a lone
# `/word` is found in sentences, and fractions (1/2/3) and relative paths (a/b/c) begin with words.
_NAME = r"[^\s/\\\"'`,;:()<>|\[\]{}=]+"
_ADDRESS = r"\b(?!file:)[A-Za-z][\w+.-]*://\S*"
_POSIX = rf"(?:file://|(?<![\w.:/~)\]<-]))/(?:{_NAME}/)+(?:{_NAME})?"
_WINDOWS = rf"(?<!\w)[A-Za-z]:[\\/](?:{_NAME}[\\/])+(?:{_NAME})?"
_PATH = re.compile(f"(?P<address>{_ADDRESS})|{_POSIX}|{_WINDOWS}")
_WHOLE = re.compile(r"(?:/|[A-Za-z]:[\\/])[^\n,:;=]*")


def folder_name(path: str) -> str:
    """Return the last part of a path, whichever system it is of."""
    return path.replace("\\", "/").rstrip("/").rsplit("/", 1)[-1]


def without_folders(text: str) -> str:
    """Return a text in which absolute paths are only the names of their file or folder.

    >>> without_folders("root=/home/me/data/egoworld-1f, see https://a.org/b/c")
    'root=egoworld-1f, see https://a.org/b/c'
    """
    # A text that is one path may have blanks in it.
    if _WHOLE.fullmatch(text) and _PATH.match(text) and " /" not in text:
        return folder_name(text)
    return _PATH.sub(lambda found: found["address"] or folder_name(found[0]), text)


def shortened(section: Section) -> Section:
    """Return a section without absolute paths in what a page shows; data for files stay."""
    return replace(section, parts=tuple(map(_shortened, section.parts)))


def _shortened(part: ReportPart) -> ReportPart:
    if isinstance(part, Paragraph):
        return replace(part, text=without_folders(part.text))
    if isinstance(part, BulletList):
        return BulletList(tuple(map(without_folders, part.items)))
    if isinstance(part, FigurePart):
        return replace(part, title=without_folders(part.title))
    if isinstance(part, Table):
        rows = tuple(tuple(map(without_folders, row)) for row in part.rows)
        return replace(part, title=without_folders(part.title), rows=rows)
    return part  # HTML is shortened by who makes it
