"""Two snapshots side by side: may they be compared, and which answers changed?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import nan

from probes.core.errors import ProbesError
from probes.regression.snapshot import (
    UNKNOWN,
    AnswerKey,
    BaselineAnswer,
    CellAnswers,
    CellName,
    Snapshot,
)

_NAMED = 5
"""Items that a message names before it counts the rest."""


@dataclass(frozen=True, slots=True)
class AnswerChange:
    """A record whose status or choice is another one than in the baseline."""

    cell: CellName
    before: BaselineAnswer
    now: BaselineAnswer
    key: int | None
    """Index of the right option; None where withheld."""
    tie: bool
    """Both runs had the two options within the tolerance: the answer counts as unchanged."""

    @property
    def weight(self) -> int:
        """2 where right became wrong or wrong right, 1 between wrong options, 0 for a tie."""
        if self.tie:
            return 0
        right = (self.before.choice == self.key, self.now.choice == self.key)
        return 2 if right[0] != right[1] and self.key is not None else 1


def margin(answer: BaselineAnswer, scoring: str, key: int | None) -> float:
    """Return by how much the key leads the best other option (nats); NaN where unknown."""
    scores = answer.scores(scoring)
    if key is None or not 0 <= key < len(scores) or len(scores) < 2:
        return nan
    return scores[key] - max(score for at, score in enumerate(scores) if at != key)


def require_comparable(base: Snapshot, run: Snapshot, where: str) -> None:
    """Raise ProbesError unless a run answers the baseline's very questions; it names all reasons.

    Cells beyond the baseline's are no reason (see `notes`); neither are other checkpoints,
    arithmetic or infill texts, for those are what is under test.
    """
    reasons = [*_settings(base, run), *_cells(base, run), *_items(base, run)]
    if reasons:
        raise ProbesError(
            "the run cannot be compared with the baseline:\n    " + "\n    ".join(reasons), where,
            "run what the baseline was made from, or write a new one with --update",
        )  # fmt: skip


def _settings(base: Snapshot, run: Snapshot) -> Iterator[str]:
    pairs = {name.partition(": ")[0] for name in run.asked}
    for name, before in base.asked.items():
        pair, _, setting = name.partition(": ")
        arm = setting.split(".")[1] if setting.startswith("suite.") else ""
        lost = pair not in pairs or (arm and f"{pair}: suite.{arm}.name" not in run.asked)
        # What was not run at all is told as cells.
        if not lost and (name not in run.asked or run.asked[name] != before):
            now = _short(run.asked[name]) if name in run.asked else "not set"
            yield f"{name} is {now}, in the baseline {_short(before)}"


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _cells(base: Snapshot, run: Snapshot) -> Iterator[str]:
    have = run.cell()
    lost = [cell for cell in base.cells if cell.name not in have]
    if len(lost) == len(base.cells):
        theirs = ", ".join(sorted({_kind(cell.name) for cell in base.cells}))
        mine = ", ".join(sorted({_kind(cell.name) for cell in run.cells}))
        yield f"none of the baseline's cells was run: it holds {theirs}; the run {mine}"
        return
    if lost:
        yield f"cells were not run: {_some([cell.name.words for cell in lost], '; ')}"
    asked: dict[str, None] = {}
    for cell in base.cells:
        if cell.name not in have:
            continue
        before = {answer.place for answer in cell.answers}
        now = {answer.place for answer in have[cell.name].answers}
        both = {item for item, *_ in before} & {item for item, *_ in now}
        for what, places in (("missing", before - now), ("added", now - before)):
            names = sorted({item for item, *_ in places} - both)
            if names:
                asked.setdefault(f"{len(names)} items are {what}: {_some(names)}")
        if others := sorted({item for item, *_ in before ^ now} & both):
            told = f"donors or rotations of {cell.name.arm} differ: items {_some(others)}"
            asked.setdefault(told)
    yield from asked


def _kind(name: CellName) -> str:
    return (
        f"task {name.task}, pair {name.pair}, {name.frames} frames, {name.scoring}, "
        f"seed {name.seed}"
    )


def _items(base: Snapshot, run: Snapshot) -> Iterator[str]:
    now = run.item()
    pairs = [(one, now[one.task, one.id]) for one in base.items if (one.task, one.id) in now]
    for what in ("answer", "content", "cluster", "stratum"):
        differing = [a.id for a, b in pairs if getattr(a, what) != getattr(b, what)]
        if differing:
            told = "question or options" if what == "content" else what
            yield f"{told} differ in {len(differing)} items: {_some(differing)}"
    differing = [
        a.id for a, b in pairs if any(b.frames.get(k, sha) != sha for k, sha in a.frames.items())
    ]
    if differing:
        yield (
            f"the frames themselves differ in {len(differing)} items: {_some(differing)} "
            "(other media, or another version of av or decord: the manifests name them)"
        )


def _some(names: Sequence[str], gap: str = ", ") -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return gap.join(names[:_NAMED]) + more


def notes(base: Snapshot, run: Snapshot) -> list[str]:
    """Return what differs without standing in the way of a comparison."""
    out = []
    for name, before in base.members.items():
        if run.members.get(name) != before:
            out.append(f"{name} is another checkpoint, or runs with other settings, than before")
    for what, before in base.platform.items():
        now = run.platform.get(what, UNKNOWN)
        if UNKNOWN not in (before, now) and now != before:
            out.append(f"{what}: {now or 'none'}, in the baseline {before or 'none'}")
    have = base.cell()
    if beyond := [cell.name for cell in run.cells if cell.name not in have]:
        out.append(f"not in the baseline, so not checked: {len(beyond)} cells, e.g. "
                   f"{beyond[0].words}")  # fmt: skip
    out += _reworded(base, run)
    if run.cached:
        out.append("every answer came from the store: none was computed by the code of today")
    return out


def _reworded(base: Snapshot, run: Snapshot) -> Iterator[str]:
    """Tell where models were not shown the same, although everything that was asked is the same."""
    changed: dict[bool, list[str]] = {True: [], False: []}
    for cell, before, now in both(base, run):
        if before.stimulus != now.stimulus:
            bare = base.asked.get(f"{cell.pair}: suite.{cell.arm}.infills") == "none"
            changed[bare].append(cell.arm)
    for bare, why in ((False, "infills came out otherwise"), (True, "prompts are built otherwise")):
        if arms := changed[bare]:
            names = ", ".join(dict.fromkeys(arms))
            yield f"{why}: in {len(arms)} of {base.records} records the text is another ({names})"


def both(
    base: Snapshot, run: Snapshot
) -> Iterator[tuple[CellName, BaselineAnswer, BaselineAnswer]]:
    """Yield every record of the baseline beside the run's; the two must be comparable."""
    have = run.cell()
    for cell in base.cells:
        answers = {answer.place: answer for answer in have[cell.name].answers}
        for before in cell.answers:
            yield cell.name, before, answers[before.place]


def answer_changes(base: Snapshot, run: Snapshot, tolerance: float) -> list[AnswerChange]:
    """Return the records that changed, the weightiest first.

    Args:
        base: what was.
        run: what is; comparable with `base`.
        tolerance: nats. A flip from option a to b is a tie where a led b by no more than this
            in the baseline, and b leads a by no more than this now.
    """
    items = base.item()
    found = [
        AnswerChange(name, before, now, items[name.task, before.item_id].answer,
             tied(before, now, name.scoring, tolerance))
        for name, before, now in both(base, run)
        if (before.status, before.choice) != (now.status, now.choice)
    ]  # fmt: skip
    return sorted(found, key=lambda flip: -flip.weight)


def tied(before: BaselineAnswer, now: BaselineAnswer, scoring: str, tolerance: float) -> bool:
    """Tell whether both runs had the two chosen options within `tolerance` nats of each other."""
    a, b = before.choice, now.choice
    if a is None or b is None or before.status != "ok" or now.status != "ok":
        return False
    gaps = []
    for answer in (before, now):
        scores = answer.scores(scoring)
        if max(a, b) >= len(scores):  # nothing was scored: a reply was read
            return False
        gaps.append(abs(scores[a] - scores[b]))
    return max(gaps) <= tolerance


def resolve_ties(base: Snapshot, run: Snapshot, found: Sequence[AnswerChange]) -> Snapshot:
    """Return the run's answers to the baseline's questions, with its ties decided as before."""
    ties: Mapping[tuple[CellName, AnswerKey], AnswerChange] = {
        (flip.cell, flip.now.place): flip for flip in found if flip.tie
    }
    have = run.cell()
    cells = []
    for cell in base.cells:
        answers = tuple(
            replace(answer, choice=ties[cell.name, answer.place].before.choice)
            if (cell.name, answer.place) in ties
            else answer
            for answer in have[cell.name].answers
        )
        cells.append(CellAnswers(cell.name, cell.member, answers))
    return replace(run, cells=tuple(cells), items=base.items, references=base.references,
                   infill_sources=base.infill_sources)  # fmt: skip
