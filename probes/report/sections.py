"""The sections of a report and their order: built-in ones, and those of installed packages."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import partial

from probes.core.errors import ProbesError
from probes.core.plugins import Registry
from probes.core.tables import Table
from probes.report import browser, figures
from probes.report.parts import FigurePart, Fragment, Paragraph, ReportPart, Section
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
    if isinstance(found, ReportSection):
        return found
    if callable(found):
        return ReportSection(found)
    raise TypeError("it is neither a ReportSection nor a function that makes a section")


SECTIONS: Registry[ReportSection] = Registry(
    "probes.sections",
    "report section",
    {
        "summary": "probes.report.summary:summary",
        "tables": "probes.report.results:study_tables",
        "published": "probes.report.results:published",
        "frame-as": "probes.report.members:frame_as",
        "contrasts": "probes.report.results:forests",
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
        try:
            made[name] = _made(makers[name], study, taken)
        except Exception as error:  # a program of others: it may raise anything
            made[name] = _failure(name, whose, error), {}
        taken |= _names(made[name][0])
    in_order = [made[name] for name in ordered(own, after)]
    sections = [section for section, _ in in_order if section is not None]
    return sections, {name: files for _, drawn in in_order for name, files in drawn.items()}


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
    # Drawn here, so that a figure that cannot be drawn fails with its own section only.
    drawn = [part for part in section.parts if isinstance(part, FigurePart)] if section else []
    return section, {part.name: figures.rendered(part.figure) for part in drawn}


def _names(section: Section | None) -> set[str]:
    """Return what must be unique in a report: the section's id, and stems of files."""
    if section is None:
        return set()
    stems = {f"{type(p).__name__} {p.name}" for p in section.parts if isinstance(p, _Filed)}
    return {f"section {section.id}", *stems}


def _require_sound(section: Section, taken: Set[str]) -> None:
    if not isinstance(section, Section):
        raise TypeError(f"it made {type(section).__name__}, not a Section")
    for part in section.parts:
        if not isinstance(part, ReportPart):
            raise TypeError(f"{type(part).__name__} is no part of a report")
        if isinstance(part, Table) and any(len(row) != len(part.header) for row in part.rows):
            raise ValueError(f"a row of the table {part.title!r} is not as long as its header")
        if isinstance(part, Fragment) and not isinstance(part.html, str):
            raise TypeError("its HTML is not finished")
        if isinstance(part, _Filed) and not part.name:
            raise ValueError(f"{part.title!r} has no name, which its file needs")
    if clash := sorted(_names(section) & taken):
        raise ValueError(f"another section has taken the name {clash[0]}")


def _failure(name: str, whose: str, error: Exception) -> Section:
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
    lost = [name for name in after if name not in placed]
    at = placed.index(_LAST)
    return [*placed[:at], *lost, *placed[at:]]
