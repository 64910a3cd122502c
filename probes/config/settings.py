"""The configuration of a run: checked once, when it is composed, and frozen."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, get_args

from probes.config.prompts import prompt_set
from probes.core.errors import ProbesError
from probes.core.files import named_path
from probes.core.prompt_set import PromptSet
from probes.core.text import nearest
from probes.core.types import (
    Arm,
    Dtype,
    FrameAs,
    InfillSource,
    Layout,
    ModelSpec,
    Presentation,
    Role,
    Scoring,
)

_SCORINGS: dict[str, tuple[Scoring, ...]] = {
    "server": ("letter", "generate"),
    "lmms": ("generate",),
}
"""Kinds of scoring of the backends that do not have all of them."""
# It becomes part of file names.
_ARM = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")

_DEVICE = re.compile(r"auto|(cpu|cuda|mps|xpu|npu|hpu|mlu|musa|mtia|xla)(:[0-9]+)?")
_ON_DEVICE = ("hf", "lmms")  # the backends that run a model in this process


@dataclass(frozen=True, slots=True)
class PairConfig:
    """Two members that differ only in their weights."""

    name: str
    family: str
    prompts: str | None
    """Prompt set of the pair, if it needs one of its own."""
    scoring: Scoring | None
    """Default scoring of the pair, if it has one."""
    answer_prefix: str
    """Text forced before a scored answer."""
    caveat: str
    """Text that is printed wherever this pair's numbers are shown."""
    members: tuple[ModelSpec, ...]


@dataclass(frozen=True, slots=True)
class TaskConfig:
    """Where items come from."""

    name: str
    reader: str
    """Layout of the data set."""
    root: str | None
    """Folder of the data set; None where it is made on first use."""
    include_path: str | None
    """Folder of lmms-eval's YAML files; None for those that come with it."""
    unanswered: bool
    """Also items whose answer is withheld."""
    same_stratum_donor: bool
    """A donor must share the item's stratum."""
    scoring: Scoring
    """Default scoring, where the pair has none; where options are pictures, of every pair."""
    frames: int
    """Default number of frames."""
    layout: Layout | None
    """How i-RAVEN shows a problem; None for a task whose options are texts."""
    across_rows: bool
    """Infills also between the last panel of a row and the first of the next."""
    per_config: int
    """Of made data: problems per configuration."""
    videos: int
    """Of made data: number of clips."""
    seed: int
    """Of made data."""
    height: int
    """Of made data: pixels."""
    fps: float
    """Of made data: frames per second."""
    seconds: float
    """Of made data: length of a clip."""


@dataclass(frozen=True, slots=True)
class InfillConfig:
    """Who writes infills, and how."""

    source: str
    """`shared` (one writer), `self` (every member its own) or `file`."""
    generator: str
    """Under `shared`: a role of the pair, or a model's folder or hub name."""
    condenser: str
    """Folder or hub name of the text model that shortens infills, or `none`."""
    max_new_tokens: int
    file: str | None


@dataclass(frozen=True, slots=True)
class BackendConfig:
    """What runs the models."""

    name: str
    batch_size: int
    feature_cache_mb: int
    device: str
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RunConfig:
    """Everything that decides a run's records."""

    pair: PairConfig
    task: TaskConfig
    suite: tuple[Arm, ...]
    infill: InfillConfig
    backend: BackendConfig
    prompts: PromptSet
    frames: tuple[int, ...]
    """Frame counts, each at least 1."""
    limit: int | None
    """Items of the seeded sample; None for all."""
    seed: int
    scoring: Scoring
    max_new_tokens: int
    """Longest reply under `generate`."""
    shard: int
    shards: int
    donor_draws: int
    option_rotation: bool
    """Every item is asked with each option in each place, and its answers are averaged."""
    out: Path
    """The run's folder."""


def freeze(settings: Mapping[str, Any], out: Path) -> RunConfig:
    """Check a composed configuration and freeze it.

    Args:
        settings: plain values in the shape of `schema.RunSchema`, interpolations resolved.
        out: the run's folder.

    Raises:
        ProbesError: the first value that makes no sense, with the name of its setting.
    """
    pair, task = settings["pair"], settings["task"]
    backend = _backend(settings["backend"])
    for name in ("max_new_tokens", "donor_draws", "shards"):
        _at_least(name, settings[name], 1)
    if settings["limit"] is not None:
        _at_least("limit", settings["limit"], 1)
    if not 0 <= settings["shard"] < settings["shards"]:
        raise ProbesError(
            f"there is no shard {settings['shard']} of {settings['shards']}",
            "shard",
            "shards are counted from 0 to shards - 1",
        )
    scorings = get_args(Scoring)
    for name, value in {"pair.scoring": pair["scoring"], "scoring": settings["scoring"]}.items():
        if value is not None:
            _one_of(name, value, scorings)
    _one_of("task.scoring", task["scoring"], scorings)
    for name, path in _paths(settings).items():
        if path:
            named_path(path, name)
    frozen_pair, frozen_task = _pair(pair, backend.device), _task(task)
    scoring = _scoring(settings["scoring"], frozen_pair, frozen_task)
    _can_score(backend.name, scoring)
    if settings["option_rotation"] and scoring == "cloze":
        raise ProbesError(
            "scoring=cloze lists no options: there is nothing to rotate",
            "option_rotation",
            "use scoring=letter or generate, or leave option_rotation out",
        )
    return RunConfig(
        pair=frozen_pair,
        task=frozen_task,
        suite=_selected(_suite(settings["suite"], settings["seed"]), settings["arms"]),
        infill=_infill(settings["infill"], frozen_pair),
        backend=backend,
        prompts=prompt_set(settings["prompt_set"] or pair["prompts"] or "default"),
        frames=_frames(frozen_task.frames if settings["frames"] is None else settings["frames"]),
        limit=settings["limit"],
        seed=settings["seed"],
        scoring=scoring,
        max_new_tokens=settings["max_new_tokens"],
        shard=settings["shard"],
        shards=settings["shards"],
        donor_draws=settings["donor_draws"],
        option_rotation=settings["option_rotation"],
        out=out,
    )


def _paths(settings: Mapping[str, Any]) -> dict[str, str | None]:
    """Return the settings that are paths, or may be."""
    pair, infill = settings["pair"], settings["infill"]
    return {
        "task.root": settings["task"]["root"],
        "prompt_set": settings["prompt_set"] or pair["prompts"],
        "infill.file": infill["file"],
        "infill.generator": infill["generator"],
        "infill.condenser": infill["condenser"],
        **{f"pair.{role}.repo": pair[role]["repo"] for role in get_args(Role)},
    }


def _backend(backend: Mapping[str, Any]) -> BackendConfig:
    frozen = BackendConfig(**backend)
    _at_least("backend.batch_size", frozen.batch_size, 1)
    _at_least("backend.feature_cache_mb", frozen.feature_cache_mb, 0)
    if frozen.name in _ON_DEVICE and not _DEVICE.fullmatch(frozen.device):
        raise ProbesError(
            f"{frozen.device!r} is not a device",
            "backend.device",
            "use auto, cpu, cuda or cuda:N",
        )
    return frozen


def _can_score(backend: str, scoring: Scoring) -> None:
    """Refuse now what the backend would refuse only after the infills are written."""
    able = _SCORINGS.get(backend, get_args(Scoring))
    if scoring not in able:
        kinds = " or ".join(f"scoring={one}" for one in able)
        raise ProbesError(
            f"backend {backend} cannot score by {scoring}: it has no log-probabilities of "
            + ("given text" if "letter" in able else "given text, nor of letters"),
            "scoring",
            f"set {kinds}, or use backend=hf",
        )


def _pair(pair: Mapping[str, Any], device: str) -> PairConfig:
    roles = [role for role in get_args(Role) if pair[role]["repo"]]
    if not roles:
        raise ProbesError(
            f"pair {pair['name']} has no members",
            "pair.image.repo",
            "name two models: pair.image.repo=FOLDER_OR_HUB_NAME pair.video.repo=...",
        )
    shared = {name: pair[name] for name in ("family", "dtype", "attention", "frame_as")}
    members = tuple(
        ModelSpec(role=role, device=device, **shared, **_named(pair[role])) for role in roles
    )
    for at, member in enumerate(members):
        if member.name in [other.name for other in members[:at]]:
            raise ProbesError(
                f"two members are named {member.name!r}",
                f"pair.{member.role}.name",
                "give each a name of its own",
            )
    _plain_name("pair.name", pair["name"])
    _one_of("pair.frame_as", pair["frame_as"], get_args(FrameAs))
    _one_of("pair.dtype", pair["dtype"], get_args(Dtype))
    return PairConfig(
        **{f.name: pair[f.name] for f in fields(PairConfig) if f.name != "members"},
        members=members,
    )


def _named(member: Mapping[str, Any]) -> dict[str, Any]:
    """Return a member's settings with its name, by default the last part of its repo."""
    last = re.split(r"[/:]", str(member["repo"]).rstrip("/"))[-1]
    return {**member, "name": member["name"] or last}


def _task(task: Mapping[str, Any]) -> TaskConfig:
    _plain_name("task.name", task["name"])
    for name in ("videos", "height", "frames", "per_config"):
        _at_least(f"task.{name}", task[name], 1)
    if task["layout"] is not None:
        _one_of("task.layout", task["layout"], get_args(Layout))
    for name in ("fps", "seconds"):
        if not 0 < task[name] < float("inf"):
            raise ProbesError(
                f"task.{name} cannot be {task[name]}", f"task.{name}", "give a positive number"
            )
    return TaskConfig(**task)


def _scoring(given: Scoring | None, pair: PairConfig, task: TaskConfig) -> Scoring:
    if task.layout is None:
        return given or pair.scoring or task.scoring
    if (given or task.scoring) == "cloze":
        raise ProbesError(
            f"the options of task {task.name} are pictures: they have no text to score",
            "scoring",
            "use scoring=letter or scoring=generate",
        )
    return given or task.scoring


def _suite(suite: Mapping[str, Any], seed: int) -> tuple[Arm, ...]:
    arms = suite["arms"]
    if not arms:
        raise ProbesError("the suite has no arms", "suite.arms", "name at least one")
    for name, arm in arms.items():
        where = f"suite.arms.{name}"
        if not _ARM.fullmatch(str(name)):
            raise ProbesError(
                f"{name!r} is not a name of an arm", where, "use letters, digits, '_', '-' and '.'"
            )
        _one_of(f"{where}.infills", arm["infills"], get_args(InfillSource))
        _one_of(f"{where}.presentation", arm["presentation"], get_args(Presentation))
        reference = arm["reference"]
        if reference and (reference == name or reference not in arms):
            others = [other for other in arms if other != name]
            raise ProbesError(
                f"{reference!r} is not another arm of the suite",
                f"{where}.reference",
                f'{nearest(reference, others)}; "" means that it is compared with none',
            )
    return tuple(
        Arm(name=name, **(arm | {"seed": seed if arm["seed"] is None else arm["seed"]}))
        for name, arm in arms.items()
    )


def _selected(suite: tuple[Arm, ...], wanted: object) -> tuple[Arm, ...]:
    """Return the arms of a suite that a configuration selects, in the suite's order."""
    if wanted is None:
        return suite
    given: list[Any] = list(wanted) if isinstance(wanted, list | tuple) else [wanted]
    names = [name for name in given if isinstance(name, str)]
    known = [arm.name for arm in suite]
    fix = "name arms of the suite, e.g. arms=[baseline,vcot]"
    if not names or len(names) < len(given):
        raise ProbesError(f"{wanted!r} is not a list of arms", "arms", fix)
    for name in names:
        _one_of("arms", name, known)
    if len(set(names)) < len(names):
        raise ProbesError("an arm is named twice", "arms", "name each once")
    for arm in suite:
        if arm.name in names and arm.reference and arm.reference not in names:
            raise ProbesError(
                f"arm {arm.name} is compared with {arm.reference}, which is not selected",
                "arms",
                f"add {arm.reference}, or set suite.arms.{arm.name}.reference=''",
            )
    return tuple(arm for arm in suite if arm.name in names)


def _infill(infill: Mapping[str, Any], pair: PairConfig) -> InfillConfig:
    frozen = InfillConfig(**infill)
    _one_of("infill.source", frozen.source, ("shared", "self", "file"))
    _at_least("infill.max_new_tokens", frozen.max_new_tokens, 1)
    roles = [member.role for member in pair.members]
    absent = frozen.generator in get_args(Role) and frozen.generator not in roles
    if frozen.source == "shared" and absent:
        raise ProbesError(
            f"pair {pair.name} has no {frozen.generator} member",
            "infill.generator",
            f"name {' or '.join(roles)}, or a model's folder or hub name",
        )
    if frozen.source == "file" and not (frozen.file and Path(frozen.file).expanduser().is_file()):
        what = f"there is no file {frozen.file}" if frozen.file else "infill=file needs a file"
        raise ProbesError(what, "infill.file", "set infill.file=FILE")
    return frozen


def _frames(frames: object) -> tuple[int, ...]:
    counts = tuple(frames) if isinstance(frames, list | tuple) else (frames,)
    whole = [count for count in counts if isinstance(count, int) and not isinstance(count, bool)]
    if not whole or len(whole) < len(counts) or min(whole) < 1:
        fix = "give a number of at least 1 or a list of them, e.g. frames=5 or frames=[5,10]"
        raise ProbesError(f"{frames!r} is not a number of frames", "frames", fix)
    if len(set(whole)) < len(whole):
        raise ProbesError("a number of frames is given twice", "frames", "name each once")
    return tuple(whole)


def _at_least(name: str, value: float, least: int) -> None:
    if value < least:
        raise ProbesError(f"{value} is too small", name, f"give at least {least}")


def _one_of(name: str, value: str, allowed: Collection[str]) -> None:
    if value not in allowed:
        raise ProbesError(
            f"{value!r} is not among {', '.join(allowed)}", name, nearest(value, allowed)
        )


def _plain_name(name: str, value: str) -> None:
    """Refuse what would put a run's folder, which is named by pair and task, somewhere else."""
    if not value.strip() or "/" in value:
        raise ProbesError(f"{value!r} is not a name", name, "give some letters, without a slash")
