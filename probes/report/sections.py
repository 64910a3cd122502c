"""The sections of a report and their order: built-in ones, and those of installed packages."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import pandas as pd

from probes.analysis.columns import without_model
from probes.core.errors import ProbesError
from probes.core.plugins import PLAIN, Registry, is_plain
from probes.core.tables import Table
from probes.core.text import nearest
from probes.report import browser, figures
from probes.report.parts import BulletList, FigurePart, Fragment, Paragraph, ReportPart, Section
from probes.report.results import further_measure
from probes.report.study import Study

RenderedFigures = dict[str, dict[str, bytes]]
"""The files of every figure by its name, each by its kind: `png`, `svg`."""
Maker = Callable[[Study], Section | None]
_Filed = Table | FigurePart
_LAST = "manifest"
"""Sections that follow nothing known come before this one."""


@dataclass(frozen=True, slots=True)
class ReportSection:
    """How a section of a report is made, and where it stands."""

    make: Maker
    """None: there is nothing of the kind in this study."""
    after: str = ""
    """Name of the section that it follows, be that built in or installed. Built-in ones come in the
    order of `SECTIONS`."""


def items(study: Study) -> Section:
    """Return the item browser, which fills what the rest of the page leaves."""
    made_last = partial(browser.section, study.folders, study.frame)
    return Section("items", "Items", (Fragment(made_last),))


def _checked(_: str, found: object) -> ReportSection:
    section = ReportSection(found) if callable(found) else found
    if not isinstance(section, ReportSection) or not callable(section.make):
        raise TypeError("it is neither a ReportSection nor a function that makes a section")
    if not isinstance(section.after, str):
        raise TypeError(f"it follows {section.after!r}, which is not the name of a section")
    return section


SECTIONS: Registry[ReportSection] = Registry(
    "probes.sections",
    "report section",
    {
        "summary": "probes.report.summary:summary",
        "comparability": "probes.report.members:comparability",
        "limits": "probes.report.limits:section",
        "findings": "probes.report.findings:section",
        "tables": "probes.report.results:study_tables",
        "published": "probes.report.results:published",
        "frame-as": "probes.report.members:frame_as",
        "contrasts": "probes.report.results:forests",
        "robustness": "probes.report.robustness:section",
        "arms": "probes.report.results:arms",
        "frames": "probes.report.results:by_frames",
        "iraven": "probes.report.strata:iraven",
        "strata": "probes.report.strata:strata",
        "power": "probes.report.strata:power",
        "extras": "probes.report.extras:section",
        "failed": "probes.report.failures:section",
        "infills": "probes.report.infills:section",
        "items": f"{__name__}:items",
        "manifest": "probes.report.provenance:section",
    },
    _checked,
)


def build(study: Study) -> tuple[list[Section], RenderedFigures]:
    """Return a report's sections in order, and the files of their figures.

    An installed section that fails leaves a note in its place: the rest does not depend on it.
    """
    entries = SECTIONS.entries()
    makers: dict[str, Maker] = {name: partial(_make, name) for name in entries}
    after = {name: _after(name) for name, entry in entries.items() if entry.distribution}
    for measure in study.measures:
        makers[f"measure-{measure}"] = partial(further_measure, name=measure)
        after[f"measure-{measure}"] = "contrasts"
    own = [name for name in makers if name not in after]
    installed = {name: e.distribution for name, e in entries.items() if e.distribution}
    # Built-in sections first, wherever they stand: an installed one cannot take their names.
    made = {name: _made(makers[name], study) for name in makers if name not in installed}
    taken = {one for section, _ in made.values() for one in _names(section)}
    for name, whose in installed.items():
        # A copy, what is computed of it included: it may write into it, and others read it.
        own_study = deepcopy(study)
        # A program of others: it may raise anything, and may even try to end this one.
        try:
            section, drawn = _made(makers[name], own_study, taken)
        except (Exception, SystemExit) as error:
            section, drawn = _failure(name, whose, error), {}
        if section is not None and after[name] and after[name] not in makers:
            section = replace(
                section, parts=(Paragraph(_lost(after[name]), "note"), *section.parts)
            )
        made[name] = section, drawn
        taken |= _names(section)
    in_order = [made[name] for name in ordered(own, after)]
    sections = [section for section, _ in in_order if section is not None]
    return sections, {stem: files for _, drawn in in_order for stem, files in drawn.items()}


def lost(name: str) -> str:
    """Return what is to be said of a section that follows none that there is; empty for others."""
    names, other = SECTIONS.names(), _after(name)
    if not other or other in names or other.startswith("measure-"):
        return ""
    return f"{_lost(other)}; {nearest(other, names)}"


def _lost(other: str) -> str:
    return f"There is no section {other!r} to follow: this one stands before the manifest"


def _made(
    make: Maker, study: Study, taken: Set[str] | None = None
) -> tuple[Section | None, RenderedFigures]:
    """Return a section and its drawn figures.

    Args:
        make: makes the section.
        study: what it is made from.
        taken: names in use, where the section is an installed one, which is then checked.

    Raises:
        Exception: whatever the section raises, or what is wrong with it.
    """
    section = make(study)
    if section is not None and taken is not None:
        _require_sound(section, taken)
    section = _marked(section, without_model(study.frame)) if section is not None else None
    # Drawn here, so that a figure that cannot be drawn fails with its own section only.
    drawn = [part for part in section.parts if isinstance(part, FigurePart)] if section else []
    return section, {part.name: figures.rendered(part.figure) for part in drawn}


def _marked(section: Section, mark: str) -> Section:
    """Return a section with a mark on each of its tables and figures, where there is one."""
    if not mark:
        return section
    parts: list[ReportPart] = []
    for part in section.parts:
        if isinstance(part, FigurePart):
            figures.stamp(part.figure, mark)
        if isinstance(part, _Filed) and mark not in part.title:
            part = replace(part, title=f"{part.title} [{mark}]")
        parts.append(part)
    return replace(section, parts=tuple(parts))


def _names(section: Section | None) -> set[str]:
    """Return what must be unique in a report: the section's id, and stems of files."""
    if section is None:
        return set()
    stems = {f"{type(p).__name__} {p.name}" for p in section.parts if isinstance(p, _Filed)}
    return {f"section {section.id}", *stems}


def _require_sound(section: Section, taken: Set[str]) -> None:
    if not isinstance(section, Section):
        raise TypeError(f"it made {type(section).__name__}, not a Section")
    if not isinstance(section.parts, tuple):
        raise TypeError(f"its parts are no tuple but a {type(section.parts).__name__}")
    for part in section.parts:
        if not isinstance(part, ReportPart):
            raise TypeError(f"{type(part).__name__} is no part of a report")
    # All pages are made of finished text: one number in it would end the whole report.
    for text in _texts(section):
        if not isinstance(text, str):
            raise TypeError(f"it holds {text!r} ({type(text).__name__}) where a text belongs")
    if not is_plain(section.id):
        raise ValueError(f"its id {section.id!r} is no plain name: {PLAIN}")
    for part in section.parts:
        if isinstance(part, Table):
            _require_table(part)
        if isinstance(part, _Filed) and not part.name:
            raise ValueError(f"{part.title!r} has no name, which its file needs")
        # It becomes the name of a file in the report's folder, and must not lead out of it.
        if isinstance(part, _Filed) and not is_plain(part.name):
            raise ValueError(f"{part.name!r} is no name of a file: {PLAIN}")
    if len(_names(section)) < 1 + sum(isinstance(part, _Filed) for part in section.parts):
        raise ValueError("two of its parts have one name")
    if clash := sorted(_names(section) & taken):
        raise ValueError(f"another section has taken the name {clash[0]}")


def _require_table(table: Table) -> None:
    if any(len(row) != len(table.header) for row in table.rows):
        raise ValueError(f"a row of the table {table.title!r} is not as long as its header")
    if not isinstance(table.words, int):
        raise TypeError(f"the table {table.title!r} has {table.words!r} columns of words")
    if table.data is not None and not isinstance(table.data, pd.DataFrame):
        raise TypeError(f"the data of the table {table.title!r} are no data frame")


def _texts(section: Section) -> Iterator[Any]:
    """Yield everything in a section that has to be a text."""
    yield from (section.id, section.title)
    for part in section.parts:
        if isinstance(part, Paragraph):
            yield from (part.text, part.kind)
        elif isinstance(part, BulletList):
            yield from part.items
        elif isinstance(part, FigurePart):
            yield from (part.name, part.title)
        elif isinstance(part, Fragment):
            if callable(part.html):
                raise TypeError("its HTML is not finished")
            yield from (part.html, part.instead)
        else:
            yield from (part.title, part.name, *part.header)
            yield from (cell for row in part.rows for cell in row)


def _failure(name: str, whose: str, error: BaseException) -> Section:
    why = error.what if isinstance(error, ProbesError) else f"{type(error).__name__}: {error}"
    text = f"The section {name} of {whose} could not be made: {why}"
    return Section(f"section-{name}", name, (Paragraph(text, "note"),))


def _make(name: str, study: Study) -> Section | None:
    return SECTIONS.get(name, SECTIONS.group).make(study)


def _after(name: str) -> str:
    try:
        return SECTIONS.get(name, SECTIONS.group).after
    except ProbesError:  # it cannot be loaded: its place will say why
        return ""


def ordered(builtin: Sequence[str], after: Mapping[str, str]) -> list[str]:
    """Return the names of all sections in the order of a report.

    Args:
        builtin: in their order.
        after: by the name of every other one, which it follows.
    """
    followers: dict[str, list[str]] = defaultdict(list)
    for name, other in after.items():
        followers[other].append(name)

    def with_followers(name: str) -> Iterator[str]:
        yield name
        for follower in followers[name]:
            yield from with_followers(follower)

    placed = [one for name in builtin for one in with_followers(name)]
    # What follows nothing that is there, or one another in a circle, still has a place.
    unplaced = [name for name in after if name not in placed]
    at = placed.index(_LAST)
    return [*placed[:at], *unplaced, *placed[at:]]
