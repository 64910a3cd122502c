"""A member's shown name follows its weights: whoever gives other weights takes the name away."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from probes.config.paths import conf_dir
from probes.core.errors import ProbesError
from probes.core.types import ROLES

_WEIGHTS = ("repo", "adapter")
"""The settings of a member that say which weights answer."""
GivenSettings = Mapping[str, set[str]]
"""By role, the settings of a member that one layer of a configuration gives."""


def whole_pair(overrides: Sequence[str]) -> list[str]:
    """Return the overrides, with `pair=own` first where they name the repositories of two members.

    The class, prompts and scoring of the default pair would be wrong for them.

    Raises:
        ProbesError: a single repository and no pair: what it is to be compared with is not said.
    """
    chosen = {_name(text) for text in overrides if not _is_mapping(text)}
    members = _of_command_line(overrides)
    named = [role for role in ROLES if "repo" in members.get(role, ())]
    if {"pair", "experiment"} & chosen:
        return list(overrides)
    if len(named) == 1:
        raise ProbesError(
            "one repository is named, and no pair that its other member would be of",
            f"pair.{named[0]}.repo",
            "name both members (pair.image.repo=A pair.video.repo=B), or the pair that the other "
            "one is taken from, e.g. pair=tiny",
        )
    return ["pair=own", *overrides] if named else list(overrides)


def unnamed(overrides: Sequence[str], folder: Path | None) -> list[str]:
    """Return the overrides that take a name from members which it does not belong to.

    A file of `pair` gives a member's weights together with a name. Where an experiment, the command
    line, or a file that is built upon another gives weights alone, the name would be of others.

    Args:
        overrides: of the command line.
        folder: the user's own configuration folder, if there is one.
    """
    if "pair=own" in overrides and folder is None:
        return []  # its members have no names
    stale: dict[str, bool] = {}
    for layer in (*_files(overrides, folder), _of_command_line(overrides)):
        for role, names in layer.items():
            if "name" in names:
                stale[role] = False
            elif names & set(_WEIGHTS):
                stale[role] = True
    return [f"pair.{role}.name=null" for role, gone in stale.items() if gone]


def _name(override: str) -> str:
    return override.lstrip("+~").split("=")[0]


def _is_mapping(override: str) -> bool:
    return override.partition("=")[2].lstrip().startswith("{")


def _of_command_line(overrides: Sequence[str]) -> GivenSettings:
    found: dict[str, set[str]] = {}
    for text in overrides:
        group, *path = _name(text).split(".")
        if group != "pair" or text.startswith("~"):
            continue
        if _is_mapping(text) and len(path) < 2:  # pair.video={repo: A}
            content = _parsed(text)
            members = content if not path else {path[0]: content}
        else:
            members = {path[0]: {path[1]: None}} if len(path) > 1 else {}
        for role, settings in members.items():
            if role in ROLES and isinstance(settings, Mapping):
                found.setdefault(str(role), set()).update(map(str, settings))
    return found


def _parsed(override: str) -> Mapping[str, Any]:
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        content = OverridesParser.create().parse_override(override).value()
    except HydraException:  # composing says what is wrong with it
        return {}
    return content if isinstance(content, Mapping) else {}


def _files(overrides: Sequence[str], folder: Path | None) -> Iterator[GivenSettings]:
    """Yield what the user's own files give: that of the pair, then that of the experiment.

    The package's own files name every member whose weights they give.
    """
    if folder is None:
        return
    chosen = {_name(text): text.partition("=")[2] for text in overrides}
    experiment = _content(folder, "experiment", chosen.get("experiment", ""))
    of_experiment = (one for one in experiment.get("defaults") or () if isinstance(one, Mapping))
    by_experiment = {str(k).split("/")[-1]: str(v) for one in of_experiment for k, v in one.items()}
    pair = _content(folder, "pair", chosen.get("pair") or by_experiment.get("pair", ""))
    for content in (pair, experiment.get("pair")):
        members = content if isinstance(content, Mapping) else {}
        yield {
            role: {str(name) for name, value in members[role].items() if value is not None}
            for role in ROLES
            if isinstance(members.get(role), Mapping)
        }


def _content(folder: Path, group: str, option: str) -> Mapping[str, Any]:
    try:
        found = yaml.safe_load((folder / group / f"{option}.yaml").read_text("utf-8"))
    except (OSError, ValueError, yaml.YAMLError):  # Hydra says what is wrong with it
        return {}
    return found if isinstance(found, Mapping) else {}


@cache
def presets() -> Mapping[str, Mapping[str, tuple[str, str]]]:
    """Return (name, repo) of every member by role, of every pair of the package by its name."""
    found: dict[str, Mapping[str, tuple[str, str]]] = {}
    for path in sorted((conf_dir() / "pair").glob("*.yaml")):
        content = yaml.safe_load(path.read_text("utf-8"))
        members = {str(role): content[role] for role in ROLES if content.get(role)}
        found[str(content["name"])] = {
            role: (str(one["name"]), str(one["repo"])) for role, one in members.items()
        }
    return found


def is_control(repo: str) -> bool:
    """Return whether a pair of the package has these weights as its control."""
    return any(repo == members.get("control", ("", None))[1] for members in presets().values())
