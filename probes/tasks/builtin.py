"""The readers that come with the package: entries of the registry, as installed ones are."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from probes.config.tasks import Recipe, TaskConfig, TaskReader
from probes.core.hashing import sha256_file
from probes.core.types import Item
from probes.tasks import made
from probes.tasks.egoschema import reader as egoschema
from probes.tasks.iraven import reader as iraven
from probes.tasks.lmms_eval import reader as lmms


@dataclass(frozen=True, slots=True)
class WorldSettings:
    """Which clips of the small world are made."""

    videos: int = field(default=300, metadata={"at_least": 1})
    """Number of clips, one question each."""
    seed: int = field(default=1, metadata={"at_least": 0})
    height: int = field(default=128, metadata={"at_least": 1})
    """Pixels."""
    fps: float = field(default=4.0, metadata={"above": 0})
    """Frames per second."""
    seconds: float = field(default=18.0, metadata={"above": 0})
    """Length of a clip."""


def _load_egoschema(root: Path, task: TaskConfig) -> list[Item]:
    return egoschema.load(root, unanswered=task.unanswered, task=task.name)


def _load_egoworld(root: Path, task: TaskConfig) -> list[Item]:
    # A folder of the user's own is like any other in the layout.
    made_here = task.root is None
    return egoschema.load(root, unanswered=task.unanswered, task=task.name, made=made_here)


def _egoworld(task: TaskConfig) -> Recipe:
    from probes.config.paths import conf_dir
    from probes.tasks.egoworld import generate

    # 4 and 4.0 frames per second are the same clips, and have to name the same folder.
    clips = asdict(task.settings)
    clips |= {name: float(clips[name]) for name in ("fps", "seconds")}
    # The world's sizes are in its YAML, not in the code: they decide the clips as well.
    world = [*made.code(generate), sha256_file(conf_dir() / "world" / "egoworld.yaml")]
    return Recipe(
        clips | {"world": world},
        lambda folder, progress: generate.make(folder, generate.ClipSettings(**clips), progress),
    )


EGOSCHEMA = TaskReader(_load_egoschema, submission=egoschema.submission)
"""EgoSchema, or any folder in its layout."""
EGOWORLD = replace(EGOSCHEMA, load=_load_egoworld, settings=WorldSettings, recipe=_egoworld)
"""Clips of the small world in the same layout, made on first use."""


@dataclass(frozen=True, slots=True)
class IravenSettings:
    """Which problems are made, and where infills are."""

    across_rows: bool = False
    """Infills also between the last panel of a row and the first of the next."""
    per_config: int = field(default=100, metadata={"at_least": 1})
    """Problems to make of each of the seven configurations."""
    seed: int = field(default=0, metadata={"at_least": 0})


def _load_iraven(root: Path, task: TaskConfig) -> list[Item]:
    return iraven.load(root, task=task.name, across_rows=task.settings.across_rows)


def _iraven(task: TaskConfig) -> Recipe:
    from probes.tasks.iraven import generate

    problems = {"per_config": task.settings.per_config, "seed": task.settings.seed}
    return Recipe(
        problems | {"generator": made.code(generate)},
        lambda folder, progress: generate.make(folder, **problems, progress=progress),
    )


IRAVEN = TaskReader(_load_iraven, settings=IravenSettings, frames=iraven.CONTEXT, recipe=_iraven)
"""Problems of i-RAVEN, made on first use where no folder is named."""


@dataclass(frozen=True, slots=True)
class LmmsSettings:
    """Where a task of lmms-eval is defined."""

    include_path: str | None = field(default=None, metadata={"path": True})
    """Folder of YAML files; None for those that come with lmms-eval."""


def _load_lmms(root: Path, task: TaskConfig) -> list[Item]:
    return lmms.load(root, task.name, unanswered=task.unanswered)


LMMS = TaskReader(
    _load_lmms,
    settings=LmmsSettings,
    root=lambda task: lmms.folder(task.settings.include_path),
)
"""Every multiple-choice task of lmms-eval, or a YAML in its form."""
