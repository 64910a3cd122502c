"""Two snapshots: whether they may be compared, and which answers changed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import nan

from probes.core.errors import ProbesError
from probes.core.text import listed
from probes.records.binding import edited_line
from probes.regression.snapshot import (
    SCRIPTED,
    UNKNOWN,
    BaselineAnswer,
    CellAnswers,
    CellName,
    ItemFacts,
    Snapshot,
)


@dataclass(frozen=True, slots=True)
class AnswerChange:
    """A record whose status or choice differs from the baseline's."""

    cell: CellName
    before: BaselineAnswer
    now: BaselineAnswer
    answer: int | None
    """Index of the right option; None where withheld."""
    tie: bool
    """Both runs had the two options within the tolerance: the answer counts as unchanged."""

    @property
    def weight(self) -> int:
        """2 where right became wrong or wrong right, 1 between wrong options, 0 for a tie."""
        if self.tie:
            return 0
        right = (self.before.choice == self.answer, self.now.choice == self.answer)
        return 2 if right[0] != right[1] and self.answer is not None else 1


def margin(given: BaselineAnswer, scoring: str, answer: int | None) -> float:
    """Return the lead of the right answer over the best other option (nats); NaN where unknown.

    Args:
        given: what the member answered.
        scoring: `letter`, `cloze` or `generate`.
        answer: index of the right option; None where withheld.
    """
    scores = given.scores(scoring)
    if answer is None or not 0 <= answer < len(scores) or len(scores) < 2:
        return nan
    return scores[answer] - max(score for at, score in enumerate(scores) if at != answer)


def require_comparable(base: Snapshot, run: Snapshot, where: str) -> None:
    """Raise ProbesError, naming all reasons, unless a run answers the baseline's questions.

    Cells beyond the baseline's are not a reason (see `notes`); nor are other checkpoints,
    arithmetic or infill texts, because those are under test.
    """
    reasons = [*_settings(base, run), *_cells(base, run), *_items(base, run)]
    if reasons:
        raise ProbesError(
            "the run cannot be compared with the baseline:\n    " + "\n    ".join(reasons),
            where,
            "run what the baseline was made from, or write a new one with --update",
        )


def _settings(base: Snapshot, run: Snapshot) -> Iterator[str]:
    pairs = {name.partition(": ")[0] for name in run.settings}
    for name, before in base.settings.items():
        pair, _, setting = name.partition(": ")
        arm = setting.split(".")[1] if setting.startswith("suite.") else ""
        not_run = pair not in pairs or (arm and f"{pair}: suite.{arm}.name" not in run.settings)
        # What was not run at all is reported as cells. A setting that came or went with a version
        # of the program is off where a run does not have it.
        if not not_run and (run.settings[name] != before if name in run.settings else before):
            now = _short(run.settings[name]) if name in run.settings else "not set"
            yield f"{name} is {now}, in the baseline {_short(before)}"


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _cells(base: Snapshot, run: Snapshot) -> Iterator[str]:
    run_cells = run.cells_by_name()
    missing = [cell for cell in base.cells if cell.name not in run_cells]
    # Most likely another task or pair: one sentence instead of a list of all cells.
    if len(missing) == len(base.cells):
        in_base = ", ".join(sorted({_kind(cell.name) for cell in base.cells}))
        in_run = ", ".join(sorted({_kind(cell.name) for cell in run.cells}))
        yield f"none of the baseline's cells was run: it holds {in_base}; the run {in_run}"
        return
    if missing:
        yield f"cells were not run: {listed([cell.name.label for cell in missing], separator='; ')}"
    # Mostly the same items differ in every cell: each reason is given once.
    reasons: dict[str, None] = {}
    tasks = len({cell.name.task for cell in base.cells})
    for cell in base.cells:
        if cell.name in run_cells:
            reasons |= dict.fromkeys(_answer_keys(cell, run_cells[cell.name], tasks))
    yield from reasons


def _answer_keys(base: CellAnswers, run: CellAnswers, tasks: int) -> Iterator[str]:
    """Yield how the items, donors and rotations of a cell, of one of so many tasks, differ."""
    before = {answer.answer_key for answer in base.answers}
    now = {answer.answer_key for answer in run.answers}
    shared = {item for item, *_ in before} & {item for item, *_ in now}
    for what, keys in (("missing", before - now), ("added", now - before)):
        names = [base.name.item(item, tasks) for item in sorted({key[0] for key in keys} - shared)]
        if names:
            yield f"{len(names)} items are {what}: {listed(names)}"
    others = [
        base.name.item(item, tasks) for item in sorted({key[0] for key in before ^ now} & shared)
    ]
    if others:
        yield f"donors or rotations of {base.name.arm} differ: items {listed(others)}"


def _kind(name: CellName) -> str:
    return (
        f"task {name.task}, pair {name.pair}, {name.frames} frames, {name.scoring}, "
        f"seed {name.seed}"
    )


def _items(base: Snapshot, run: Snapshot) -> Iterator[str]:
    now = run.items_by_id()
    several = len({item.task for item in base.items}) > 1
    pairs = [(item, now[item.task, item.id]) for item in base.items if (item.task, item.id) in now]
    for field in ("answer", "content", "cluster", "stratum"):
        differing = [_named(a, several) for a, b in pairs if getattr(a, field) != getattr(b, field)]
        if differing:
            what = "question or options" if field == "content" else field
            yield f"{what} differ in {len(differing)} items: {listed(differing)}"
    # A frame count that was not run is reported as cells, not here.
    differing = [
        _named(a, several)
        for a, b in pairs
        if any(b.frames.get(k, sha) != sha for k, sha in a.frames.items())
    ]
    if differing:
        yield (
            f"the frames themselves differ in {len(differing)} items: {listed(differing)} "
            "(other media, or another version of av or decord: the manifests name them)"
        )


def _named(item: ItemFacts, several: bool) -> str:
    return f"{item.id} of {item.task}" if several else item.id


def notes(base: Snapshot, run: Snapshot) -> list[str]:
    """Return what differs and does not prevent a comparison."""
    out = [edited_line(run.edited)] if run.edited else []
    if run.scripted:
        out.append(f"no model answered this run ({SCRIPTED})")
    if failed := sum(one.status == "error" for cell in run.cells for one in cell.answers):
        out.append(f"{failed} records failed by machine: their items are left out of the metrics")
    out += [f"partial data: {one}" for one in run.partial]
    if run.partial:
        out.append(f"compared are the {len(base.items)} items of the baseline that were run")
    out += [
        f"{name} is another checkpoint, or runs with other settings, than before"
        for name, before in base.members.items()
        if run.members.get(name) != before
    ]
    for what, before in base.platform.items():
        now = run.platform.get(what, UNKNOWN)
        # What one side does not state cannot be said to differ.
        if UNKNOWN not in (before, now) and now != before:
            out.append(f"{what}: {now or 'none'}, in the baseline {before or 'none'}")
    base_cells = base.cells_by_name()
    if beyond := [cell.name for cell in run.cells if cell.name not in base_cells]:
        count = f"{len(beyond)} cells, e.g. {beyond[0].label}"
        out.append(f"not in the baseline, so not checked: {count}")
    out += _other_stimuli(base, run)
    for name, texts in run.origins.items():
        if len(texts) > 1:
            out.append(f"answers of {name} come from {len(texts)} origins: {' | '.join(texts)}")
    if run.cached:
        out.append("every answer came from the store: none was computed by the code of today")
    return out


def _other_stimuli(base: Snapshot, run: Snapshot) -> Iterator[str]:
    """Yield where models were shown another text, although the settings are the same."""
    by_infills, by_prompts = "infills came out otherwise", "prompts are built otherwise"
    changed: dict[str, list[str]] = {by_infills: [], by_prompts: []}
    infills = base.infills()
    for cell, before, now in matched_answers(base, run):
        if before.stimulus != now.stimulus:
            no_infills = infills.get((cell.pair, cell.arm)) == "none"
            changed[by_prompts if no_infills else by_infills].append(cell.arm)
    for why, arms in changed.items():
        if arms:
            names = ", ".join(dict.fromkeys(arms))
            yield f"{why}: in {len(arms)} of {base.records} records the text is another ({names})"


def matched_answers(
    base: Snapshot, run: Snapshot
) -> Iterator[tuple[CellName, BaselineAnswer, BaselineAnswer]]:
    """Yield every record of the baseline with the run's; the two must be comparable."""
    run_cells = run.cells_by_name()
    for cell in base.cells:
        answers = {answer.answer_key: answer for answer in run_cells[cell.name].answers}
        for before in cell.answers:
            yield cell.name, before, answers[before.answer_key]


def answer_changes(base: Snapshot, run: Snapshot, tolerance: float) -> list[AnswerChange]:
    """Return the records that changed, those of the largest weight first.

    Args:
        base: the baseline's answers.
        run: the run's; comparable with `base`.
        tolerance: nats. A change from option a to b is a tie where a led b by no more than this
            in the baseline, and b leads a by no more than this now.
    """
    items = base.items_by_id()
    found = [
        AnswerChange(
            name,
            before,
            now,
            items[name.task, before.item_id].answer,
            tied(before, now, name.scoring, tolerance),
        )
        for name, before, now in matched_answers(base, run)
        if (before.status, before.choice) != (now.status, now.choice)
    ]
    return sorted(found, key=lambda change: -change.weight)


def tied(before: BaselineAnswer, now: BaselineAnswer, scoring: str, tolerance: float) -> bool:
    """Return whether both runs had the two chosen options within `tolerance` nats."""
    a, b = before.choice, now.choice
    if a is None or b is None or before.status != "ok" or now.status != "ok":
        return False
    gaps = []
    for answer in (before, now):
        scores = answer.scores(scoring)
        if max(a, b) >= len(scores):  # nothing was scored: a reply was read
            return False
        gaps.append(abs(scores[a] - scores[b]))
    # In both runs: an answer that was clear before has changed, however near it is now.
    return max(gaps) <= tolerance


def resolve_ties(base: Snapshot, run: Snapshot, changes: Sequence[AnswerChange]) -> Snapshot:
    """Return the run's answers to the baseline's questions, with its ties decided as before."""
    ties = {(one.cell, one.now.answer_key): one.before.choice for one in changes if one.tie}
    run_cells = run.cells_by_name()
    cells = []
    for cell in base.cells:
        answers = tuple(
            replace(answer, choice=ties.get((cell.name, answer.answer_key), answer.choice))
            for answer in run_cells[cell.name].answers
        )
        cells.append(CellAnswers(cell.name, cell.member, answers))
    asked = {name: getattr(base, name) for name in ("items", "references", "infill_sources")}
    return replace(run, cells=tuple(cells), **asked)
