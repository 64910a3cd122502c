"""Compose a configuration with Hydra, and explain what Hydra refuses."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from probes.config import labels, schema
from probes.config.paths import conf_dir
from probes.config.settings import freeze
from probes.core import logs
from probes.core.errors import ProbesError
from probes.core.text import nearest

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from probes.config.settings import RunConfig


def split_arguments(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split a command line into overrides and options.

    Repositories of two members without a pair choose `pair=own`; a member that is given other
    weights loses the name of those that it had, unless it is given one.

    Raises:
        ProbesError: one repository without a pair.
    """
    # Hydra's deletions, `~name`, are the only overrides that may have no equal sign.
    overrides = [a for a in arguments if a.startswith("~") or ("=" in a and not a.startswith("-"))]
    options = [a for a in arguments if a not in overrides]
    whole = labels.whole_pair(overrides)
    try:
        folder = config_dir(options)
    except ProbesError:  # whoever composes says so
        folder = None
    return [*whole, *labels.unnamed(whole, folder)], options


def compose(arguments: Sequence[str]) -> RunConfig:
    """Compose and check the configuration that `probes run` would use with these arguments.

    Args:
        arguments: overrides and `--config-dir`.

    Raises:
        ProbesError: what is wrong with them, as `explain` puts it.
    """
    return freeze(schema.plain(composed(arguments)), Path())


def composed(arguments: Sequence[str]) -> DictConfig:
    """Return the configuration of `probes run` with these arguments as Hydra composes it.

    Raises:
        ProbesError: what Hydra refuses, as `explain` puts it.
    """
    import hydra

    overrides, options = split_arguments(arguments)
    folder = config_dir(options)
    schema.register(folder)
    path = [f"hydra.searchpath=[file://{folder.resolve()}]"] if folder else []
    try:
        # A block, as this state is global: left set, the next call in the process would fail.
        with hydra.initialize_config_dir(str(conf_dir()), version_base="1.3"):
            return hydra.compose("config", [*overrides, *path])
    except Exception as error:
        raise explain(error, overrides, folder) from error


def quiet() -> None:
    """Turn off the warnings and progress bars of libraries; log our own warnings as one line."""
    # Variables, as the libraries read them when they are imported, which may be never.
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    for library in ("torch", "transformers", "huggingface_hub", "accelerate", "tokenizers"):
        warnings.filterwarnings("ignore", module=rf"{library}(\..*)?$")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    for chatty in ("numexpr", "httpx"):  # the latter says a line for every request
        logging.getLogger(chatty).setLevel(logging.WARNING)
    logs.to_screen()
    logs.warnings_too()


def explain(error: Exception, overrides: Sequence[str], folder: Path | None = None) -> ProbesError:
    """Return what is wrong with a configuration that Hydra refused.

    Args:
        error: what Hydra raised.
        overrides: those of the command line.
        folder: the user's own configuration folder, if one was given.

    Returns:
        An error about the first override that is malformed or names an unknown setting or option,
        with the nearest valid one; else Hydra's own message.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    # Hydra uses the disk to make folders of runs only; some of its own errors are OSErrors too.
    if isinstance(error, OSError) and not isinstance(error, HydraException):
        return ProbesError(
            f"the run's folder cannot be made: {error.strerror or error}",
            str(error.filename or "hydra.run.dir"),
            "name another, e.g. hydra.run.dir=DIR",
        )
    parser = OverridesParser.create()
    known: set[str] = set()
    for text in overrides:
        try:
            override = parser.parse_override(text)
        except HydraException:
            return ProbesError(
                f"{text!r} cannot be read",
                "command line",
                "write setting=value; quote a value that holds commas, braces or equal signs",
            )
        name = override.key_or_group
        # Its own settings are known to Hydra alone.
        if name.split(".")[0].split("/")[0] == "hydra":
            continue
        if name in schema.GROUPS:
            options = _options(name, folder)
            for value in _values(override):
                if value not in options:
                    return _unknown(f"there is no {name} named {value!r}", name, value, options)
            continue
        # Composed anew, and only once an override needs it: the names depend on the groups chosen.
        known = known or setting_names(overrides, folder)
        if not override.is_add() and name not in known:
            # Arms are open mappings: Hydra takes what a file does not list for an addition.
            arm, _, setting = name.rpartition(".")
            if arm.startswith("suite.arms.") and arm in known and setting in schema.ARM_SETTINGS:
                what = f"{arm} does not list {setting}"
                return ProbesError(what, "command line", f"put a plus sign before it: +{text}")
            return _unknown(f"there is no setting {name!r}", "command line", name, sorted(known))
    return _own_words(error)


def _own_words(error: Exception) -> ProbesError:
    """Return what Hydra says itself, without its notes."""
    # Hydra wraps errors of OmegaConf: what is wrong is often in the cause alone.
    lines = [line for one in _chain(error) for line in str(one).splitlines()]
    # OmegaConf's notes about its own types, which say nothing of what was set.
    noise = ("full_key", "object_type", "reference_type", "See https:", "Config search path")
    kept = [line for line in lines if line.strip() and not line.strip().startswith(noise)]
    return ProbesError(
        "\n  ".join(kept[:6]) or type(error).__name__,
        "configuration",
        "`probes run --help` shows examples, `probes run --cfg job` every setting",
    )


def _unknown(what: str, where: str, given: str, known: Sequence[str]) -> ProbesError:
    short = ", ".join(name for name in known if "." not in name)
    fix = nearest(given, known, otherwise=f"there are {short}; see `probes run --cfg job`")
    return ProbesError(what, where, fix)


def _values(override: Any) -> list[str]:
    """Return the options that an override of a group selects."""
    if override.is_delete() or override.value() is None:
        return []
    if override.is_discrete_sweep():
        return [str(value) for value in override.sweep_string_iterator()]
    return [str(override.value())]


def _options(group: str, folder: Path | None) -> list[str]:
    """Return a group's options: the package's files, the user's, and what is installed."""
    folders = [one / group for one in (conf_dir(), folder) if one is not None]
    paths = ((one, path) for one in folders for path in sorted(one.rglob("*.yaml")))
    files = [str(path.relative_to(one).with_suffix("")) for one, path in paths]
    return list(dict.fromkeys(files + schema.installed_options(group)))


def setting_names(overrides: Sequence[str], folder: Path | None) -> set[str]:
    """Return the dotted names of all settings under the chosen groups, and of the groups."""
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    groups = [text for text in overrides if text.split("=")[0] in schema.GROUPS]
    if folder is not None:
        groups.append(f"hydra.searchpath=[file://{folder.resolve()}]")
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        try:
            cfg = compose("config", groups)
        except Exception:  # e.g. a sweep over groups: the default ones have most settings
            cfg = compose("config")
    found: set[str] = set(schema.GROUPS)

    def collect(node: Any, prefix: str) -> None:
        for name, value in node.items():
            found.add(prefix + str(name))
            if isinstance(value, dict):
                collect(value, f"{prefix}{name}.")

    # Not resolved: only names are wanted, and a value may refer to what is not set yet.
    collect(OmegaConf.to_container(cfg), "")
    return found


def config_dir(options: Sequence[str]) -> Path | None:
    """Return the folder that `--config-dir` names; refuse one that does not exist."""
    for at, option in enumerate(options):
        name, _, value = option.partition("=")
        if name in ("--config-dir", "-cd"):
            folder = Path(value or (options[at + 1] if at + 1 < len(options) else "."))
            if not folder.is_dir():
                fix = "name the folder that holds pair/, task/ and so on"
                raise ProbesError("there is no such folder", f"--config-dir {folder}", fix)
            return folder
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__
