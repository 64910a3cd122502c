"""The configuration of a run: checked once, when it is composed, and frozen."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

from probes.config.fields import build, check, one_of
from probes.config.members import member, unescaped
from probes.config.prompts import prompt_set
from probes.config.tasks import TaskConfig as TaskConfig
from probes.config.tasks import freeze_task
from probes.core.errors import ProbesError
from probes.core.files import named_path
from probes.core.params import frozen
from probes.core.prompt_set import PromptSet
from probes.core.text import nearest
from probes.core.types import (
    CONTRASTS,
    ROLES,
    Arm,
    Decoding,
    Dtype,
    Intervention,
    ModelSpec,
    Params,
    Scoring,
)

# It becomes part of file names.
_ARM_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")

_DEVICE = re.compile(r"auto|(cpu|cuda|mps|xpu|npu|hpu|mlu|musa|mtia|xla)(:[0-9]+)?")
_ON_DEVICE = ("hf", "lmms")  # the backends that run a model in this process

DEFAULT_PRIMARY = ("did vcot",)
"""What the package's suites with this arm are made to compare."""
MOST_FAILED = 0.02
"""Largest share of a compared cell's items at which a machine may fail, where none is set."""
Answers = Literal["same-versions", "any", "refuse"]
"""Which stored answers are taken; see `RunConfig.answers`."""
Named = TypeVar("Named", Intervention, Decoding)


@dataclass(frozen=True, slots=True)
class PairConfig:
    """Two members that differ only in their weights."""

    name: str
    family: str = "auto"
    prompts: str | None = None
    """Prompt set of the pair, if it needs one of its own."""
    scoring: Scoring | None = None
    """Default scoring of the pair, if it has one."""
    answer_prefix: str = ""
    r"""Text forced before an answer; \n, \t and \\ in it are a line break, a tab, a backslash."""
    caveat: str = ""
    """Text that is printed wherever this pair's numbers are shown."""
    members: tuple[ModelSpec, ...] = ()


@dataclass(frozen=True, slots=True)
class InfillConfig:
    """Who writes infills, and how."""

    source: Literal["shared", "self", "file"]
    """`shared` (one writer), `self` (every member its own) or `file`."""
    generator: str = field(default="image", metadata={"path": True})
    """Under `shared`: a role of the pair, or a model's folder or hub name."""
    condenser: str = field(default="none", metadata={"path": True})
    """Folder or hub name of the text model that shortens infills, or `none`."""
    max_new_tokens: int = field(default=64, metadata={"at_least": 1})
    temperature: float | None = field(default=None, metadata={"above": 0})
    """Of the texts of all draws but the first (`infill_draws`); None for 1."""
    file: str | None = field(default=None, metadata={"path": True})


@dataclass(frozen=True, slots=True)
class BackendConfig:
    """What runs the models."""

    name: str
    batch_size: int = field(default=32, metadata={"at_least": 1})
    feature_cache_mb: int = field(default=512, metadata={"at_least": 0})
    device: str = "auto"
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
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
    limit: int | None = field(default=None, metadata={"at_least": 1})
    """Items of the seeded sample; None for all."""
    seed: int = 0
    scoring: Scoring
    max_new_tokens: int = field(default=32, metadata={"at_least": 1})
    """Longest reply under `generate`."""
    shard: int = 0
    shards: int = field(default=1, metadata={"at_least": 1})
    donor_draws: int = field(default=1, metadata={"at_least": 1})
    infill_draws: int | None = field(default=None, metadata={"at_least": 1})
    """Texts that are written for every gap: the first greedily, the others sampled. None for 1."""
    option_rotation: bool = False
    """Every item is asked with each option in each place, and its answers are averaged."""
    overwrite: bool = False
    """Whether what a run of other settings left in the run's folder is removed."""
    answers: Answers = "same-versions"
    """What happens where other versions of libraries than the installed ones have answered a
    request: it is asked anew, or their answer is taken (`any`), or the run is refused."""
    primary: tuple[str, ...] = ()
    """What the run is made to compare: contrast and arm, e.g. `did vcot`, per frame count. They are
    corrected for one another alone; every other comparison is secondary."""
    most_failed: float = field(default=MOST_FAILED, metadata={"at_least": 0})
    """Largest share of a compared cell's items at which a machine may fail; above it there is no
    verdict."""
    out: Path
    """The run's folder."""


def as_plain(cfg: RunConfig) -> dict[str, Any]:
    """Return a configuration as manifests hold it: a task's own settings among its others."""
    content = asdict(cfg)
    content["task"] |= content["task"].pop("settings")
    for one in content["pair"]["members"]:
        one["chat_template_kwargs"] = dict(one["chat_template_kwargs"])
    return content


def freeze(settings: Mapping[str, Any], out: Path) -> RunConfig:
    """Check a composed configuration and freeze it.

    Args:
        settings: what `schema.plain` returns.
        out: the run's folder.

    Raises:
        ProbesError: the first value that makes no sense, with the name of its setting.
    """
    backend = _backend(settings["backend"])
    pair, task = _pair(settings["pair"], backend.device), freeze_task(settings["task"])
    _plain_name("task.name", task.name)
    prompts = settings["prompt_set"] or pair.prompts or "default"
    named_path(prompts, "prompt_set")
    scoring = _scoring(settings["scoring"], pair, task)
    if settings["option_rotation"] and scoring == "cloze":
        raise ProbesError(
            "scoring=cloze lists no options: there is nothing to rotate",
            "option_rotation",
            "use scoring=letter or generate, or leave option_rotation out",
        )
    suite = _suite(settings["suite"], settings["seed"])
    selected = _selected(suite, settings["arms"])
    made = {
        "pair": pair,
        "task": task,
        "suite": selected,
        "primary": _primary(settings["suite"]["primary"], suite, selected),
        "infill": _infill(settings["infill"], pair),
        "backend": backend,
        "prompts": prompt_set(prompts),
        "frames": _frames(task.frames if settings["frames"] is None else settings["frames"]),
        "scoring": scoring,
        "out": out,
    }
    cfg = build(RunConfig, settings, "", **made)
    if not 0 <= cfg.shard < cfg.shards:
        raise ProbesError(
            f"there is no shard {cfg.shard} of {cfg.shards}",
            "shard",
            "shards are counted from 0 to shards - 1",
        )
    return cfg


def _backend(backend: Mapping[str, Any]) -> BackendConfig:
    made = build(BackendConfig, backend, "backend")
    # Other backends, installed ones too, may name devices in their own way.
    if made.name in _ON_DEVICE and not _DEVICE.fullmatch(made.device):
        raise ProbesError(
            f"{made.device!r} is not a device", "backend.device", "use auto, cpu, cuda or cuda:N"
        )
    return made


def _pair(pair: Mapping[str, Any], device: str) -> PairConfig:
    roles = [role for role in ROLES if pair[role]["repo"]]
    if not roles:
        raise ProbesError(
            f"pair {pair['name']} has no members",
            "pair.image.repo",
            "name two models: pair.image.repo=FOLDER_OR_HUB_NAME pair.video.repo=...",
        )
    one_of("pair.dtype", pair["dtype"], get_args(Dtype))
    check(ModelSpec, pair, "pair")
    if "/" in pair["attention"]:
        raise ProbesError(
            f"{pair['attention']!r} is code of a repository, which no cache key would cover",
            "pair.attention",
            "use a kernel of an installed package, e.g. sdpa, eager or flash_attention_2",
        )
    shared = {name: pair[name] for name in ("family", "dtype", "attention", "frame_as")}
    shared["device"] = device
    members: list[ModelSpec] = []
    for role in roles:
        one = member(role, pair[role], shared)
        twins = [o.name for o in members if (o.repo, o.adapter) == (one.repo, one.adapter)]
        if pair[role]["name"] is None and one.name in twins:  # the same weights twice
            one = replace(one, name=f"{one.name}-{role}")
        members.append(one)
        # Models of a run, and columns of tables, go by their names.
        if members[-1].name in [other.name for other in members[:-1]]:
            raise ProbesError(
                f"two members are named {members[-1].name!r}",
                f"pair.{role}.name",
                "give each a name of its own",
            )
    _plain_name("pair.name", pair["name"])
    prefix = unescaped(pair["answer_prefix"], "pair.answer_prefix")
    return build(PairConfig, pair, "pair", members=tuple(members), answer_prefix=prefix)


def _scoring(given: Scoring | None, pair: PairConfig, task: TaskConfig) -> Scoring:
    # With pictures the pair's default is passed over: the tiny pair's, cloze, scores texts.
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
    found = []
    for name, arm in arms.items():
        where = f"suite.arms.{name}"
        if not _ARM_NAME.fullmatch(str(name)):
            raise ProbesError(
                f"{name!r} is not a name of an arm", where, "use letters, digits, '_', '-' and '.'"
            )
        reference = arm["reference"]
        if reference and (reference == name or reference not in arms):
            others = [other for other in arms if other != name]
            raise ProbesError(
                f"{reference!r} is not another arm of the suite",
                f"{where}.reference",
                f'{nearest(reference, others)}; "" means that it is compared with none',
            )
        more = {
            "name": name,
            # Not `or`: 0 is a seed of its own.
            "seed": seed if arm["seed"] is None else arm["seed"],
            "intervention": _entry(Intervention, arm["intervention"], f"{where}.intervention"),
            "decoding": _entry(Decoding, arm["decoding"], f"{where}.decoding"),
        }
        found.append(build(Arm, arm, where, **more))
    return tuple(found)


def _entry(kind: type[Named], given: Any, where: str) -> Named | None:
    """Return what an arm names of a registry: a name, or a mapping with `name` and parameters.

    Which names and parameters there are is known to the registry, and checked where it is used.
    """
    if given is None:
        return None
    values = dict(given) if isinstance(given, Mapping) else {"name": given}
    name = values.pop("name", None)
    if not isinstance(name, str) or not name.strip():
        what = f"{given!r} names no {kind.__name__.lower()}"
        raise ProbesError(what, where, "give its name, or {name: NAME, PARAMETER: VALUE}")
    found: Params = ()
    # Sorted: whatever the order in a file, an intervention has one form and one cache key.
    for parameter, value in sorted((str(key), value) for key, value in values.items()):
        try:
            found += frozen({parameter: value})
        except TypeError as error:
            fix = "give a text, a number, true, false, null or a list of those"
            raise ProbesError(f"{value!r} is no parameter", f"{where}.{parameter}", fix) from error
    return kind(name, found)


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
        one_of("arms", name, known)
    if len(set(names)) < len(names):
        raise ProbesError("an arm is named twice", "arms", "name each once")
    for arm in suite:
        # Refused, not added: every arm costs an answer per item and member.
        if arm.name in names and arm.reference and arm.reference not in names:
            raise ProbesError(
                f"arm {arm.name} is compared with {arm.reference}, which is not selected",
                "arms",
                f"add {arm.reference}, or set suite.arms.{arm.name}.reference=''",
            )
    return tuple(arm for arm in suite if arm.name in names)


def _primary(given: object, suite: Sequence[Arm], selected: Sequence[Arm]) -> tuple[str, ...]:
    """Return the primary comparisons of a run: those of its suite whose arms are selected."""
    listed = [] if given is None else given if isinstance(given, list | tuple) else [given]
    found: dict[str, None] = {}
    for one in listed:
        name, _, arm = str(one).partition(" ")
        if not isinstance(one, str) or not arm:
            fix = "name contrast and arm, e.g. suite.primary=['did vcot']"
            raise ProbesError(f"{one!r} is no comparison", "suite.primary", fix)
        one_of("suite.primary", name, CONTRASTS)
        # What the package's suites declare goes with an arm that is taken out of them.
        if one not in DEFAULT_PRIMARY:
            one_of("suite.primary", arm, [known.name for known in suite])
        if arm in [known.name for known in selected]:
            found[one] = None
    return tuple(found)


def _infill(infill: Mapping[str, Any], pair: PairConfig) -> InfillConfig:
    made = build(InfillConfig, infill, "infill")
    roles = [member.role for member in pair.members]
    absent = made.generator in ROLES and made.generator not in roles
    if made.source == "shared" and absent:
        raise ProbesError(
            f"pair {pair.name} has no {made.generator} member",
            "infill.generator",
            f"name {' or '.join(roles)}, or a model's folder or hub name",
        )
    if made.source == "file" and not (made.file and Path(made.file).expanduser().is_file()):
        what = f"there is no file {made.file}" if made.file else "infill=file needs a file"
        raise ProbesError(what, "infill.file", "set infill.file=FILE")
    return made


def _frames(frames: object) -> tuple[int, ...]:
    counts = tuple(frames) if isinstance(frames, list | tuple) else (frames,)
    # `frames=true` would otherwise be one frame.
    whole = [count for count in counts if isinstance(count, int) and not isinstance(count, bool)]
    if not whole or len(whole) < len(counts) or min(whole) < 1:
        fix = "give a number of at least 1 or a list of them, e.g. frames=5 or frames=[5,10]"
        raise ProbesError(f"{frames!r} is not a number of frames", "frames", fix)
    if len(set(whole)) < len(whole):
        raise ProbesError("a number of frames is given twice", "frames", "name each once")
    return tuple(whole)


def _plain_name(name: str, value: str) -> None:
    """Refuse what would put a run's folder, which is named by pair and task, somewhere else."""
    if not value.strip() or "/" in value:
        raise ProbesError(f"{value!r} is not a name", name, "give some letters, without a slash")
