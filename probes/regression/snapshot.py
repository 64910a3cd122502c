"""What is kept of a run so that another one can be compared with it: questions and answers."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from probes.config.settings import MOST_FAILED
from probes.core.types import Status
from probes.records.schema import Record

if TYPE_CHECKING:
    import pandas as pd

UNKNOWN = "unknown"
"""The value of a fact that a manifest does not state."""
SCRIPTED = "backend=scripted"
"""How messages name a run without a model."""
DIGITS = 12
"""Leading hex digits that are kept of a sha256: enough to distinguish the contents of two runs."""


class CellName(NamedTuple):
    """Names a cell: one member's answers under one arm."""

    task: str
    pair: str
    frames: int
    scoring: str
    seed: int
    role: str
    arm: str

    @property
    def label(self) -> str:
        """The cell within its task and pair."""
        return f"{self.arm}, {self.role}, {self.frames} frames"

    def item(self, item_id: str, tasks: int) -> str:
        """Name an item of the cell for people, with its task where so many are not one."""
        return item_id if tasks < 2 else f"{item_id} of {self.task}"


class AnswerKey(NamedTuple):
    """Names an answer within its cell, which is of one task; sorts as cells are."""

    item_id: str
    donor_id: str
    """Empty: none."""
    donor_task: str
    """Empty: the cell's own."""
    rotation: int


@dataclass(frozen=True, slots=True)
class BaselineAnswer:
    """The part of a record that is compared: no text and no costs."""

    item_id: str
    donor_id: str | None
    status: Status
    choice: int | None
    logprobs: tuple[float, ...]
    """Raw sums (nats), as in `Record.option_logprobs`; NaN where infinite."""
    tokens: tuple[int, ...]
    key: str
    """The record's cache key, cut to `DIGITS`."""
    stimulus: str
    """Hash of what was shown, cut to `DIGITS`."""
    rotation: int = 0
    """How many places the options were rotated when they were listed."""
    donor_task: str | None = None
    """As in `Record.donor_task`."""

    @property
    def answer_key(self) -> AnswerKey:
        """What identifies the answer within its cell; cells are sorted by it."""
        return AnswerKey(self.item_id, self.donor_id or "", self.donor_task or "", self.rotation)

    def scores(self, scoring: str) -> tuple[float, ...]:
        """Return what the choice was made by: means over tokens for `cloze`, else sums (nats)."""
        if scoring != "cloze":
            return self.logprobs
        return tuple(s / n for s, n in zip(self.logprobs, self.tokens, strict=True))


@dataclass(frozen=True, slots=True)
class CellAnswers:
    """The answers of one cell, in the order of their answer keys."""

    name: CellName
    member: str
    answers: tuple[BaselineAnswer, ...]


@dataclass(frozen=True, slots=True)
class ItemFacts:
    """What must be the same about an item for answers to it to be compared."""

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
    """What decides the arithmetic; answers equal to the last digit are expected only where all of
    it is equal."""
    settings: Mapping[str, Any]
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
    origins: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """What computed the answers, by member and by who wrote infills; empty where a manifest does
    not state it."""
    primary: tuple[str, ...] = ()
    """What the run was made to compare, contrast and arm; empty where it declares nothing. Of a
    baseline its metrics' families tell it."""
    most_failed: float = MOST_FAILED
    """Largest share of a cell's items at which a machine may have failed."""
    cached: bool = False
    """Every answer came out of the store: none was computed for this run."""
    edited: tuple[str, ...] = ()
    """What of the tables is not as the run wrote it; such a snapshot becomes no baseline."""
    partial: tuple[str, ...] = ()
    """What is missing of the run, a sentence each; no baseline is made of such a run."""

    @property
    def records(self) -> int:
        """Number of answers in all cells."""
        return sum(len(cell.answers) for cell in self.cells)

    @property
    def scripted(self) -> bool:
        """Whether answers are no model's (`backend=scripted`)."""
        backends = [v for name, v in self.platform.items() if name.endswith(" backend")]
        return any("scripted" in value.split(" + ") for value in backends)

    def clusters(self, task: str) -> dict[str, str]:
        """Return the cluster of each of a task's items by id; without one, an item is its own."""
        return {
            item.id: f"c:{item.cluster}" if item.cluster else f"i:{item.id}"
            for item in self.items
            if item.task == task
        }

    def restricted(self, items: Collection[tuple[str, str]]) -> Snapshot:
        """Return the snapshot of some of the items, each as (task, id)."""
        cells = (
            replace(
                cell, answers=tuple(a for a in cell.answers if (cell.name.task, a.item_id) in items)
            )
            for cell in self.cells
        )
        kept = tuple(item for item in self.items if (item.task, item.id) in items)
        return replace(self, items=kept, cells=tuple(cells))

    def items_by_id(self) -> dict[tuple[str, str], ItemFacts]:
        """Return the items by (task, id)."""
        return {(item.task, item.id): item for item in self.items}

    def cells_by_name(self) -> dict[CellName, CellAnswers]:
        """Return the cells by name."""
        return {cell.name: cell for cell in self.cells}

    def infills(self) -> dict[tuple[str, str], str]:
        """Return the kind of every arm's infills by (pair, arm), as far as the run states it."""
        found = {}
        for name, value in self.settings.items():
            pair, _, setting = name.partition(": ")
            if setting.startswith("suite.") and setting.endswith(".infills"):
                found[pair, setting.removeprefix("suite.").removesuffix(".infills")] = str(value)
        return found

    def frame(self) -> pd.DataFrame:
        """Return the answers as `probes.load` would; rows in the order of cells and answers."""
        from probes.analysis import from_records

        items = self.items_by_id()
        rows = [
            _record(cell, answer, items[cell.name.task, answer.item_id])
            for cell in self.cells
            for answer in cell.answers
        ]
        frame = from_records(rows, dict(self.references))
        # As `load` takes them from manifests: they decide whether members may be shown different
        # text.
        frame.attrs["infill_sources"] = list(self.infill_sources)
        frame.attrs["infills"] = {arm: kind for (_, arm), kind in self.infills().items()}
        return frame


def _record(cell: CellAnswers, answer: BaselineAnswer, item: ItemFacts) -> Record:
    """Return the record of an answer; what a baseline does not keep is empty."""
    not_kept: dict[str, Any] = {"text": "", "error": "", "seconds": 0.0}
    not_kept |= {"input_tokens": 0, "output_tokens": 0}
    of_answer = "item_id donor_id donor_task status choice key rotation".split()
    return Record(
        **cell.name._asdict(),
        **{name: getattr(answer, name) for name in of_answer},
        **{name: getattr(item, name) for name in ("cluster", "stratum", "answer")},
        **not_kept,
        member=cell.member,
        # A failed answer has no choice, and so counts as wrong, as in a run.
        correct=None if item.answer is None else answer.choice == item.answer,
        option_logprobs=answer.logprobs,
        option_tokens=answer.tokens,
        stimulus_sha=answer.stimulus,
    )
