"""The files of a run's folder, as the types that stimuli are made of."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, cast, get_args

from probes.core.errors import ProbesError
from probes.core.params import frozen
from probes.core.prompt_set import PromptSet
from probes.core.types import (
    NO_INFILL,
    Arm,
    Clip,
    ClipKey,
    Decoding,
    Infill,
    Intervention,
    Item,
    ItemKey,
    Layout,
    Scoring,
    Video,
)
from probes.records import binding, schema
from probes.records.infills import read_rows as read_infills
from probes.records.manifest import FILE, REWRITE, read_manifest
from probes.records.schema import InfillRow, ItemRow

T = TypeVar("T")
ClipInfills = Mapping[ClipKey, tuple[Infill, ...]]
"""Infills by item and number of frames; frames - 1 each."""


@dataclass(frozen=True, slots=True)
class RunFiles:
    """What was shown in a run, as far as its folder has the files."""

    folder: Path
    items: Mapping[ItemKey, Item] = field(default_factory=dict)
    """Items that were asked, in the run's order; media paths as the file has them."""
    lenders: Mapping[ItemKey, Item] = field(default_factory=dict)
    """Items that only lent their frames or infills."""
    clips: Mapping[ClipKey, Clip] = field(default_factory=dict)
    """By item and number of frames; hashes and breaks only, without indices and times."""
    infills: Mapping[str, Mapping[int, ClipInfills]] = field(default_factory=dict)
    """By writer (`shared` or a member's role), then draw."""
    arms: Mapping[str, Arm] = field(default_factory=dict)
    prompts: PromptSet | None = None
    scoring: Scoring | None = None
    layout: Layout = "sequence"
    config: Mapping[str, Any] = field(default_factory=dict)
    """The manifest's configuration."""
    problem: str | None = None
    """Why stimuli cannot be rebuilt from this folder; None where they can."""

    def written(self, role: str, draw: int = 0) -> ClipInfills:
        """Return the infills that the member of a role was shown, of one draw."""
        return (self.infills.get("shared") or self.infills.get(role, {})).get(draw, {})

    def frame(self, sha256: str) -> Path:
        """Return the PNG file of a frame."""
        return self.folder / "frames" / f"{sha256}.png"


def read(folder: Path, edited: bool = False) -> RunFiles:
    """Read a run's items, infills and manifest.

    Args:
        folder: the folder of `records.parquet`.
        edited: whether tables that are not those that the run wrote are read as they are.

    Returns:
        What is there; what is missing to rebuild stimuli is named in
        `problem`, since records can be looked at without them.

    Raises:
        ProbesError: a file that is there but cannot be read; see also `binding.check`.
    """
    binding.check(folder, edited)
    lacking = []
    config = read_manifest(folder).get("config")
    config = config if isinstance(config, dict) else {}
    if not config:
        lacking.append("manifest.json with a configuration")
    asked = schema.read_rows(folder / "items.parquet", ItemRow)
    if not asked:
        lacking.append("items.parquet")
    lent = schema.read_rows(folder / "donors.parquet", ItemRow)
    clips = {
        ClipKey(row.task, row.id, int(count)): Clip((), (), hashes, row.option_hashes, row.breaks)
        for row in (*lent, *asked)
        for count, hashes in row.frame_hashes.items()
    }
    prompts, arms = _prompts(config), _arms(folder, config)
    scoring, task = config.get("scoring"), config.get("task")
    layout = task.get("layout") if isinstance(task, dict) else None
    if config and prompts is None:
        lacking.append("the wording of the prompts")
    if config and not arms:
        lacking.append("the arms of the suite")
    return RunFiles(
        folder=folder,
        items={item.key: item for item in map(_item, asked)},
        lenders={item.key: item for item in map(_item, lent)},
        clips=clips,
        infills=_by_clip(read_infills(folder), clips),
        arms=arms,
        prompts=prompts,
        scoring=cast(Scoring, scoring) if scoring in get_args(Scoring) else None,
        layout="matrix" if layout == "matrix" else "sequence",
        config=config,
        problem=f"the run's folder has no {', '.join(lacking)}" if lacking else None,
    )


def _item(row: ItemRow) -> Item:
    return Item(
        row.id,
        row.task,
        row.question,
        row.options,
        row.answer,
        Video(Path(row.media_path)),
        row.stratum,
        row.cluster,
        tuple(row.meta.items()),
    )


def _by_clip(
    rows: list[InfillRow], clips: Mapping[ClipKey, Clip]
) -> dict[str, dict[int, ClipInfills]]:
    found: dict[tuple[str, int], dict[ClipKey, dict[int, Infill]]] = defaultdict(dict)
    for row in rows:
        key = ClipKey(row.task, row.item_id, row.frames)
        # Gaps between rows of panels have no rows of their own.
        breaks = clips[key].breaks if key in clips else ()
        gaps = found[row.role, row.draw].setdefault(key, dict.fromkeys(breaks, NO_INFILL))
        gaps[row.gap] = Infill(
            row.text, row.common, row.event, row.generator, row.status, row.error
        )
    whole: dict[str, dict[int, ClipInfills]] = defaultdict(dict)
    for (role, draw), by_clip in found.items():
        # Sorted: breaks were put in first, and rows may come in any order.
        whole[role][draw] = {
            key: tuple(gaps[gap] for gap in sorted(gaps)) for key, gaps in by_clip.items()
        }
    return dict(whole)


def _arms(folder: Path, config: Mapping[str, Any]) -> dict[str, Arm]:
    suite = config.get("suite")
    rows = [row for row in suite if isinstance(row, dict)] if isinstance(suite, list) else []
    arms = [_made(Arm, row) for row in rows if "name" in row]
    try:
        return {
            arm.name: dataclasses.replace(
                arm,
                intervention=_thawed(Intervention, arm.intervention),
                decoding=_thawed(Decoding, arm.decoding),
            )
            for arm in arms
        }
    except (TypeError, ValueError) as error:
        what = f"the arms of the suite cannot be read: {error}"
        raise ProbesError(what, str(folder / FILE), REWRITE) from error


def _thawed(kind: type[T], row: object) -> T | None:
    """Return the intervention or the decoding of a row of JSON, None where it has none."""
    if not isinstance(row, dict) or "name" not in row:
        return None
    pairs = row.get("params")
    # JSON has lists for tuples; equal parameters have to be equal values again, and hashable.
    return _made(kind, row | {"params": frozen(dict(pairs or ()))})


def _made(kind: type[T], row: Mapping[str, Any]) -> T:
    """Make an instance of the fields known here: a folder of a newer version may have others."""
    names = {field.name for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    return kind(**{name: value for name, value in row.items() if name in names})


def _prompts(config: Mapping[str, Any]) -> PromptSet | None:
    given = config.get("prompts")
    names = [field.name for field in dataclasses.fields(PromptSet)]
    if not isinstance(given, dict) or any(not isinstance(given.get(n), str) for n in names):
        return None
    return PromptSet(**{name: given[name] for name in names})
