"""Names, types and defaults of all settings, as Hydra's structured configs.

What is not declared here is refused. `probes.config.settings` checks values and turns the result
into frozen dataclasses; the meaning of a setting is explained there and in conf/*.yaml.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from probes.core.errors import ProbesError

GROUPS = ("pair", "task", "suite", "infill", "backend", "experiment")
"""Configuration groups of a run, i.e. folders of conf/ that `group=option` chooses from."""


@dataclass
class MemberSchema:
    """One model of a pair; its role is its name in `pair`."""

    name: str | None = None  # the last part of `repo`
    repo: str | None = None  # the pair has no such member
    revision: str | None = None
    trust_remote_code: bool = False


@dataclass
class PairSchema:
    """Two models, and everything that both share."""

    name: str = MISSING
    family: str = "auto"
    prompts: str | None = None
    scoring: str | None = None
    answer_prefix: str = ""
    dtype: str = "float32"
    attention: str = "sdpa"
    frame_as: str = "video"
    caveat: str = ""
    image: MemberSchema = field(default_factory=MemberSchema)
    video: MemberSchema = field(default_factory=MemberSchema)
    control: MemberSchema = field(default_factory=MemberSchema)


@dataclass
class TaskSchema:
    """Where items come from."""

    name: str = MISSING
    reader: str = MISSING
    root: str | None = None
    include_path: str | None = None
    unanswered: bool = False
    same_stratum_donor: bool = False
    scoring: str = "letter"
    frames: int = 5
    layout: str | None = None
    across_rows: bool = False
    per_config: int = 100
    videos: int = 300
    seed: int = 1
    height: int = 128
    fps: float = 4.0
    seconds: float = 18.0


@dataclass
class ArmSchema:
    """One arm; its name is that of its entry in `suite.arms`."""

    frames: str = "own"
    infills: str = "none"
    presentation: str = "interleaved"
    reference: str = ""
    seed: int | None = None


@dataclass
class SuiteSchema:
    """The arms of a run, in order."""

    name: str = MISSING
    # Not dict[str, ArmSchema]: Hydra cannot add a typed entry from a command line; `plain` checks.
    arms: dict[str, Any] = field(default_factory=dict)


@dataclass
class InfillSchema:
    """Who writes infills, and how."""

    source: str = MISSING
    generator: str = "image"
    condenser: str = "none"
    max_new_tokens: int = 64
    file: str | None = None


@dataclass
class BackendSchema:
    """What runs the models."""

    name: str = MISSING
    batch_size: int = 32
    feature_cache_mb: int = 512
    device: str = "auto"
    options: dict[str, Any] = field(default_factory=dict)


@dataclass
class RunSchema:
    """The whole configuration."""

    pair: PairSchema = field(default_factory=PairSchema)
    task: TaskSchema = field(default_factory=TaskSchema)
    suite: SuiteSchema = field(default_factory=SuiteSchema)
    infill: InfillSchema = field(default_factory=InfillSchema)
    backend: BackendSchema = field(default_factory=BackendSchema)
    prompt_set: str | None = None  # not `prompts`: Hydra takes every folder of conf/ for a group
    arms: Any = None
    frames: Any = None
    limit: int | None = None
    seed: int = 0
    scoring: str | None = None
    max_new_tokens: int = 32
    shard: int = 0
    shards: int = 1
    donor_draws: int = 1
    option_rotation: bool = False


def register() -> None:
    """Register the schema with Hydra, under the name that conf/config.yaml lists first."""
    from hydra.core.config_store import ConfigStore

    ConfigStore.instance().store(name="schema", node=RunSchema, provider="probes")


def plain(cfg: DictConfig) -> dict[str, Any]:
    """Check the names and types of a composed configuration and fill in defaults.

    Hydra itself has checked those of plain overrides; this also covers settings added with `+`,
    and the entries of `suite.arms`.

    Returns:
        Plain values in the shape of `RunSchema`, every interpolation resolved.

    Raises:
        ProbesError: an unknown setting, a value of another type, or one that is missing.
    """
    # Through plain values: Hydra lets `+` put undeclared settings into its typed nodes.
    merged = _typed(RunSchema, OmegaConf.to_container(cfg, resolve=False), "")
    arms = merged.suite.arms
    for name in arms:
        arms[name] = _typed(ArmSchema, arms[name], f"suite.arms.{name}")
    try:
        values: dict[str, Any] = OmegaConf.to_container(merged, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise _refusal(error, "") from error
    return values


def _typed(kind: type, entry: Any, where: str) -> Any:
    try:
        return OmegaConf.merge(OmegaConf.structured(kind), entry)
    except OmegaConfBaseException as error:
        raise _refusal(error, where) from error
    except (TypeError, ValueError) as error:
        raise ProbesError(
            f"{entry!r} is not a group of settings", where, "give setting: value pairs"
        ) from error


def _refusal(error: OmegaConfBaseException, where: str) -> ProbesError:
    setting = ".".join(part for part in (where, error.full_key or str(error.key or "")) if part)
    fix = "`probes run --cfg job` prints every setting and its value, conf/ explains them"
    if isinstance(error, ConfigKeyError | ConfigAttributeError) and is_dataclass(error.object_type):
        names = [one.name for one in fields(error.object_type)]
        near = difflib.get_close_matches(str(error.key), names, 1)
        fix = f"did you mean {near[0]}?" if near else f"settings here are {', '.join(names)}"
    return ProbesError(str(error.msg or error).splitlines()[0], setting, fix)
