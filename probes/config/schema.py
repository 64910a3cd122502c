"""All settings as Hydra composes them, made from the frozen classes of `probes.config.settings`.

What is not declared there is refused; the meaning of a setting is explained there and in
conf/*.yaml. Only what has another shape in a file than in a run is written here.
"""

from __future__ import annotations

from dataclasses import field, fields, is_dataclass, make_dataclass
from pathlib import Path
from typing import Any

from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from probes.config.fields import composed
from probes.config.paths import conf_dir
from probes.config.settings import BackendConfig, InfillConfig, PairConfig, RunConfig
from probes.config.tasks import TASKS, NoSettings, composed_task
from probes.core import plugins
from probes.core.errors import ProbesError
from probes.core.text import nearest
from probes.core.types import ROLES, Arm, ModelSpec

GROUPS = ("pair", "task", "suite", "infill", "backend", "experiment")
"""Configuration groups of a run, i.e. folders of conf/ that `group=option` chooses from."""

_MEMBER = make_dataclass(
    "MemberSchema",
    [
        ("name", str | None, None),  # the last part of `repo`
        ("repo", str | None, None),  # the pair has no such member
        *composed(ModelSpec, "revision", "trust_remote_code", "adapter", "answer_prefix"),
        *composed(ModelSpec, "min_pixels", "max_pixels"),
        # Not dict[str, Any]: a command line could add no name to it without a `+`.
        ("chat_template_kwargs", Any, None),
    ],
)
_PAIR = make_dataclass(
    "PairSchema",
    [
        *composed(PairConfig, without=("members",)),
        *composed(ModelSpec, "dtype", "attention", "frame_as"),
        *((role, _MEMBER, field(default_factory=_MEMBER)) for role in ROLES),
    ],
)
_SUITE = make_dataclass(
    "SuiteSchema",
    [
        ("name", str, MISSING),
        # Not dict[str, _ARM]: Hydra cannot add a typed entry from a command line; `typed` checks.
        ("arms", dict[str, Any], field(default_factory=dict)),
        ("primary", Any, None),  # a text or a list of them; null = none
    ],
)
_ARM = make_dataclass(
    "ArmSchema",
    [
        *composed(Arm, without=("name", "seed")),
        ("seed", int | None, None),  # the run's
    ],
)

ARM_SETTINGS = tuple(one.name for one in fields(_ARM))
"""Names of what an arm may set."""


_ELSEWHERE = ("prompts", "frames", "scoring", "primary", "out")
"""Fields of a run that are no setting of the same name at the top level, or have another type."""


def _run(task_settings: type) -> type:
    """Return the whole configuration, with the own settings of one task."""
    groups = {
        "pair": _PAIR,
        "task": composed_task(task_settings),
        "suite": _SUITE,
        "infill": make_dataclass("InfillSchema", composed(InfillConfig)),
        "backend": make_dataclass("BackendSchema", composed(BackendConfig)),
    }
    return make_dataclass(
        "RunSchema",
        [
            *((name, kind, field(default_factory=kind)) for name, kind in groups.items()),
            ("prompt_set", str | None, None),  # not `prompts`: a folder of conf/ would be a group
            # A value or a list of them: OmegaConf has no type for that, and `freeze` checks both.
            ("arms", Any, None),
            ("frames", Any, None),
            ("scoring", str | None, None),
            *composed(
                RunConfig, without=(*groups, "prompts", "frames", "scoring", "primary", "out")
            ),
        ],
    )


def register(folder: Path | None = None) -> None:
    """Register with Hydra the schema that conf/config.yaml lists first, and what is installed.

    An installed task or backend is an option of its group, without any file.

    Args:
        folder: the user's own configuration folder, if there is one.
    """
    from hydra.core.config_store import ConfigStore

    from probes.config.installed_nodes import TaskNode

    store = ConfigStore.instance()
    node = OmegaConf.structured(_run(NoSettings))
    # Which settings a task has of its own is known once it is chosen: Hydra lets all names pass,
    # and `typed` refuses the wrong ones.
    OmegaConf.set_struct(node.task, False)
    store.store(name="schema", node=node, provider="probes")
    for group in ("task", "backend"):
        # One store for the process: options of an earlier call, with another folder, would stay.
        store.repo[group] = {}
        for name in installed_options(group):
            files = [one / group / f"{name}.yaml" for one in (conf_dir(), folder) if one]
            if any(map(Path.is_file, files)):  # Hydra would merge the two, with a warning
                continue
            if group == "task":  # not `store`, which would read its settings now
                store.repo[group][f"{name}.yaml"] = TaskNode(name)
            else:
                store.store(group=group, name=name, node={"name": name}, provider="probes")


def installed_options(group: str) -> list[str]:
    """Return the options of a group that installed packages add."""
    points = {"task": "probes.tasks", "backend": "probes.backends"}.get(group)
    entries = plugins.installed(points) if points else ()
    return [entry.name for entry in entries if plugins.is_plain(entry.name)]


def typed(cfg: DictConfig) -> DictConfig:
    """Check the names and types of a composed configuration and fill in defaults.

    Hydra itself has checked those of plain overrides; this also covers settings added with `+`,
    those that only the chosen task has, and the entries of `suite.arms`.

    Raises:
        ProbesError: an unknown setting, or a value of another type.
    """
    try:
        reader = OmegaConf.select(cfg, "task.reader")
    except OmegaConfBaseException as error:
        raise _refusal(error, "") from error
    # Without a reader the settings of every task are checked, and `plain` says what is missing.
    own = NoSettings if reader is None else TASKS.get(str(reader), "task.reader").settings
    # Through plain values: Hydra lets `+` put undeclared settings into its typed nodes.
    merged: DictConfig = _merged(_run(own), OmegaConf.to_container(cfg, resolve=False), "")
    arms = merged.suite.arms
    for name in arms:
        arms[name] = _merged(_ARM, arms[name], f"suite.arms.{name}")
    return merged


def plain(cfg: DictConfig) -> dict[str, Any]:
    """Return plain values in the shape of a run's configuration, every interpolation resolved.

    Raises:
        ProbesError: as `typed` does, or a value is missing.
    """
    merged = typed(cfg)
    try:
        values: dict[str, Any] = OmegaConf.to_container(merged, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise _refusal(error, "") from error
    return values


def _merged(kind: type, entry: Any, where: str) -> Any:
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
    if isinstance(error, ConfigKeyError | ConfigAttributeError) and is_dataclass(error.object_type):
        names = [one.name for one in fields(error.object_type)]
        fix = nearest(str(error.key), names, prefix=setting.removesuffix(str(error.key)))
        return ProbesError(f"there is no setting {setting!r}", setting, fix)
    fix = "`probes run --cfg job` prints every setting and its value, conf/ explains them"
    return ProbesError(str(error.msg or error).splitlines()[0], setting, fix)
