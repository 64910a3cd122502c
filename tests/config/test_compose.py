"""Every YAML of conf/ composes with Hydra, and every `_target_` in it can be imported."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.plugins import Plugins
from hydra.utils import get_object
from omegaconf import OmegaConf

from probes.cli.run import ExitCodeCallback
from probes.config import schema
from probes.config.paths import conf_dir
from probes.config.prompts import prompt_set
from probes.config.settings import freeze

PATHS = sorted(path.relative_to(conf_dir()).with_suffix("") for path in conf_dir().rglob("*.yaml"))
LAUNCHERS = {
    "basic": "hydra-core",
    "joblib": "hydra-joblib-launcher",
    "ray": "hydra-ray-launcher",
    "slurm": "hydra-submitit-launcher",
    "submitit_local": "hydra-submitit-launcher",
    "submitit_slurm": "hydra-submitit-launcher",
}
"""Every launcher that the pages name, with the package that holds its plug-in."""
NEEDED = {
    "pair/own": ["pair.image.repo=a/b", "pair.video.repo=c/d"],
}
"""Settings without which an option is refused."""


def composed(name: str, *overrides: str) -> Any:
    """Compose a configuration with all of Hydra's own settings."""
    schema.register()
    Plugins.instance()  # registers the launchers that are installed
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return compose(name, list(overrides), return_hydra_config=True)


def targets(node: Any) -> Iterator[str]:
    """Yield every `_target_` of nested settings."""
    if isinstance(node, dict):
        if "_target_" in node:
            yield node["_target_"]
        for value in node.values():
            yield from targets(value)
    elif isinstance(node, list):
        for value in node:
            yield from targets(value)


def importable(cfg: Any) -> list[str]:
    """Import every `_target_` of a configuration; return their names."""
    found = list(targets(OmegaConf.to_container(cfg)))
    for name in found:
        assert callable(get_object(name)), name
    return found


def without_hydra(cfg: Any) -> Any:
    plain = OmegaConf.to_container(cfg)
    del plain["hydra"]
    return OmegaConf.create(plain)


@pytest.mark.parametrize("path", PATHS, ids=str)
def test_every_yaml_composes_and_its_targets_can_be_imported(path: Path, tmp_path: Path) -> None:
    group, option = str(path.parent), path.name
    if group in schema.GROUPS:
        needed = list(NEEDED.get(str(path), ()))
        if str(path) == "infill/file":
            (tmp_path / "infills.jsonl").touch()
            needed = [f"infill.file={tmp_path / 'infills.jsonl'}"]
        cfg = composed("config", f"{group}={option}", *needed)
        assert freeze(schema.plain(without_hydra(cfg)), tmp_path).suite
    elif group == "hydra/launcher":
        cfg = composed("config", f"{group}={option}")
    elif group in (".", "hydra/help"):  # config.yaml; and the help that it chooses
        cfg = composed("config")
    else:
        cfg = composed(str(path))  # a configuration by itself: conf/train, conf/world
    assert cfg
    importable(cfg)


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_every_launcher_composes_and_can_be_imported(launcher: str) -> None:
    try:
        metadata.version(LAUNCHERS[launcher])
    except metadata.PackageNotFoundError:
        pytest.skip(f"{LAUNCHERS[launcher]} is not installed")
    cfg = composed("config", f"hydra/launcher={launcher}")
    assert any("Launcher" in name for name in importable(cfg))


def test_the_callbacks_are_those_of_the_package() -> None:
    assert set(targets(OmegaConf.to_container(composed("config").hydra.callbacks))) == {
        f"{ExitCodeCallback.__module__}.{ExitCodeCallback.__qualname__}",
        "probes.report.callback.SweepReport",
    }


def test_a_target_that_is_gone_would_be_found() -> None:
    cfg = OmegaConf.create({"callbacks": [{"one": {"_target_": "probes.cli.run.NoSuchCallback"}}]})
    with pytest.raises(Exception, match="NoSuchCallback"):
        importable(cfg)


@pytest.mark.parametrize("folder", sorted((conf_dir() / "prompts").iterdir()), ids=lambda p: p.name)
def test_every_prompt_set_can_be_read(folder: Path) -> None:
    assert prompt_set(folder.name).name == folder.name
