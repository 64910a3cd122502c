"""What is kept of a run to compare another one with: who answered what, and what was asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from probes.core.types import Status
from probes.records.schema import Record

if TYPE_CHECKING:
    import pandas as pd

UNKNOWN = "unknown"
"""Stands for what a manifest does not tell."""
DIGITS = 12
"""Leading hex digits that are kept of a sha256: enough to tell two runs' contents apart."""

AnswerKey = tuple[str, str, int]
"""Item, donor (empty: none) and rotation."""


class CellName(NamedTuple):
    """Which cell: one member's answers under one arm."""

    task: str
    pair: str
    frames: int
    scoring: str
    seed: int
    role: str
    arm: str

    @property
    def words(self) -> str:
        """The cell within its task and pair."""
        return f"{self.arm}, {self.role}, {self.frames} frames"


@dataclass(frozen=True, slots=True)
class BaselineAnswer:
    """What a record says, without text and costs."""

    item_id: str
    donor_id: str | None
    status: Status
    choice: int | None
    logprobs: tuple[float, ...]
    """Raw sums (nats), as in `Record.option_logprobs`; NaN where infinite."""
    tokens: tuple[int, ...]
    key: str
    stimulus: str
    """Both hashes are cut to `DIGITS`."""
    rotation: int = 0
    """How many places the options were rotated when they were listed."""

    @property
    def place(self) -> AnswerKey:
        """What tells a cell's answers apart and sorts them."""
        return self.item_id, self.donor_id or "", self.rotation

    def scores(self, scoring: str) -> tuple[float, ...]:
        """Return what the choice was made by: means over tokens for `cloze`, else sums (nats)."""
        if scoring != "cloze":
            return self.logprobs
        return tuple(s / n for s, n in zip(self.logprobs, self.tokens, strict=True))


@dataclass(frozen=True, slots=True)
class CellAnswers:
    """The answers of one cell, in the order of their places."""

    name: CellName
    member: str
    answers: tuple[BaselineAnswer, ...]


@dataclass(frozen=True, slots=True)
class ItemFacts:
    """What must be the same of an item for answers to it to be compared."""

    task: str
    id: str
    cluster: str
    stratum: str
    answer: int | None
    content: str
    """Hash of question, options and meta."""
    frames: Mapping[str, str]
    """Hash of the frames by their number."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One run, or a sweep of one setting."""

    created: str
    git: str
    platform: Mapping[str, str]
    """What decides which arithmetic ran; answers are equal to the last digit only where it is."""
    asked: Mapping[str, Any]
    """Settings that are part of the question: prompts, arms, who wrote infills, ..."""
    members: Mapping[str, str]
    """Fingerprint by member."""
    references: Mapping[str, str]
    """Reference arm by arm."""
    infill_sources: tuple[str, ...]
    items: tuple[ItemFacts, ...]
    """In the order of task and id."""
    cells: tuple[CellAnswers, ...]
    """In the order of their names."""
    cached: bool = False
    """Every answer came out of the store: none was computed for this run."""

    @property
    def records(self) -> int:
        """Answers of all cells."""
        return sum(len(cell.answers) for cell in self.cells)

    def item(self) -> dict[tuple[str, str], ItemFacts]:
        """Return the items by (task, id)."""
        return {(one.task, one.id): one for one in self.items}

    def cell(self) -> dict[CellName, CellAnswers]:
        """Return the cells by name."""
        return {one.name: one for one in self.cells}

    def frame(self) -> pd.DataFrame:
        """Return the answers as `probes.load` would; rows in the order of cells and answers."""
        from probes.analysis import from_records

        items = self.item()
        rows = [
            _record(cell, answer, items[cell.name.task, answer.item_id])
            for cell in self.cells
            for answer in cell.answers
        ]
        frame = from_records(rows, dict(self.references))
        frame.attrs["infill_sources"] = list(self.infill_sources)
        return frame


def _record(cell: CellAnswers, answer: BaselineAnswer, item: ItemFacts) -> Record:
    name = cell.name
    right = None if item.answer is None else answer.choice == item.answer
    return Record(
        key=answer.key, task=name.task, item_id=item.id, cluster=item.cluster,
        stratum=item.stratum, pair=name.pair, role=name.role, member=cell.member,  # type: ignore[arg-type]
        arm=name.arm, frames=name.frames, scoring=name.scoring, seed=name.seed,  # type: ignore[arg-type]
        donor_id=answer.donor_id, status=answer.status, choice=answer.choice, answer=item.answer,
        correct=right, option_logprobs=answer.logprobs, option_tokens=answer.tokens, text="",
        error="", input_tokens=0, output_tokens=0, seconds=0.0, stimulus_sha=answer.stimulus,
        rotation=answer.rotation,
    )  # fmt: skip
