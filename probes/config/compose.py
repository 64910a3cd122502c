"""Composing a configuration with Hydra, and explaining what Hydra refuses."""

from __future__ import annotations

import difflib
import logging
import os
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from probes.config import schema
from probes.config.paths import conf_dir
from probes.config.settings import freeze
from probes.core.errors import ProbesError
from probes.core.types import Role

if TYPE_CHECKING:
    from probes.config.settings import RunConfig


def split(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Part a command line into overrides and options.

    Whoever names the repositories of two members, and no pair, means a pair of their own: what the
    default pair says of its class, prompts and scoring would be wrong for it.
    """
    overrides = [a for a in arguments if a.startswith("~") or ("=" in a and not a.startswith("-"))]
    keys = [text.split("=")[0] for text in overrides]
    repos = {f"pair.{role}.repo" for role in get_args(Role)}
    if len(repos.intersection(keys)) > 1 and not {"pair", "experiment"} & set(keys):
        overrides.insert(0, "pair=own")
    return overrides, [a for a in arguments if a not in overrides]


def compose(arguments: Sequence[str]) -> RunConfig:
    """Compose and check the configuration that `probes run` would have of these arguments.

    Args:
        arguments: overrides and `--config-dir`.

    Raises:
        ProbesError: what is wrong with them, in words of this project.
    """
    import hydra

    schema.register()
    overrides, options = split(arguments)
    folder = _config_dir(options)
    path = [f"hydra.searchpath=[file://{folder.resolve()}]"] if folder else []
    try:
        with hydra.initialize_config_dir(str(conf_dir()), version_base="1.3"):
            cfg = hydra.compose("config", [*overrides, *path])
    except Exception as error:
        raise explain(error, overrides, folder) from error
    return freeze(schema.plain(cfg), Path())


def quiet() -> None:
    """Keep libraries from talking into the display; our own warnings are one line each."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    for library in ("torch", "transformers", "huggingface_hub", "accelerate", "tokenizers"):
        warnings.filterwarnings("ignore", module=rf"{library}(\..*)?$")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    logging.getLogger("numexpr").setLevel(logging.WARNING)
    warnings.formatwarning = lambda message, *_, **__: f"warning: {message}\n"


def explain(
    error: Exception, overrides: Sequence[str], config_dir: Path | None = None
) -> ProbesError:
    """Say what is wrong with a configuration that Hydra refused.

    Args:
        error: what Hydra raised.
        overrides: the command line's.
        config_dir: the user's own configuration folder, if one was named.

    Returns:
        The first override that is malformed or names an unknown key or option, with the nearest
        valid one; else what Hydra says.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    # What Hydra does with disks is to make folders of runs; some of its own errors are OSErrors.
    if isinstance(error, OSError) and not isinstance(error, HydraException):
        return ProbesError(
            f"the run's folder cannot be made: {error.strerror or error}",
            str(error.filename or "hydra.run.dir"), "name another, e.g. hydra.run.dir=DIR",
        )  # fmt: skip
    parser = OverridesParser.create()
    known: set[str] = set()
    for text in overrides:
        try:
            override = parser.parse_override(text)
        except HydraException:
            return ProbesError(
                f"{text!r} cannot be read", "command line",
                "write key=value; quote a value that holds commas, braces or equal signs",
            )  # fmt: skip
        key = override.key_or_group
        if key.split(".")[0].split("/")[0] == "hydra":
            continue
        if key in schema.GROUPS:
            options = _options(key, config_dir)
            for value in _values(override):
                if value not in options:
                    return _unknown(f"there is no {key} named {value!r}", key, value, options)
            continue
        known = known or _keys(overrides, config_dir)
        if not override.is_add() and key not in known:
            return _unknown(f"there is no key {key!r}", "command line", key, sorted(known))
    lines = [line for one in _chain(error) for line in str(one).splitlines()]
    noise = ("full_key", "object_type", "reference_type", "See https:", "Config search path")
    kept = [line for line in lines if line.strip() and not line.strip().startswith(noise)]
    return ProbesError(
        "\n  ".join(kept[:6]) or type(error).__name__, "configuration",
        "`probes run --help` shows examples, `probes run --cfg job` every key",
    )  # fmt: skip


def _unknown(what: str, where: str, given: str, known: Sequence[str]) -> ProbesError:
    near = difflib.get_close_matches(given, known, 1, cutoff=0.5)
    if near:
        return ProbesError(what, where, f"did you mean {near[0]}?")
    short = [name for name in known if "." not in name]
    return ProbesError(what, where, f"there are {', '.join(short)}; see `probes run --cfg job`")


def _values(override: Any) -> list[str]:
    """Return the options that an override of a group chooses."""
    if override.is_delete() or override.value() is None:
        return []
    if override.is_discrete_sweep():
        return [str(value) for value in override.sweep_string_iterator()]
    return [str(override.value())]


def _options(group: str, config_dir: Path | None) -> list[str]:
    """Return the names of a group's files: those that come along, and the user's."""
    folders = [folder / group for folder in (conf_dir(), config_dir) if folder is not None]
    paths = ((folder, path) for folder in folders for path in sorted(folder.rglob("*.yaml")))
    return list(
        dict.fromkeys(str(path.relative_to(folder).with_suffix("")) for folder, path in paths)
    )


def _keys(overrides: Sequence[str], config_dir: Path | None) -> set[str]:
    """Return all dotted keys of the configuration that the chosen groups give, and the groups."""
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    groups = [text for text in overrides if text.split("=")[0] in schema.GROUPS]
    if config_dir is not None:
        groups.append(f"hydra.searchpath=[file://{config_dir.resolve()}]")
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        try:
            cfg = compose("config", groups)
        except Exception:  # a sweep over groups, say: the default ones still tell most keys
            cfg = compose("config")
    found: set[str] = set(schema.GROUPS)

    def collect(node: Any, prefix: str) -> None:
        for name, value in node.items():
            found.add(prefix + str(name))
            if isinstance(value, dict):
                collect(value, f"{prefix}{name}.")

    collect(OmegaConf.to_container(cfg), "")
    return found


def _config_dir(options: Sequence[str]) -> Path | None:
    """Return what `--config-dir` names; refuse a folder that is not there."""
    for at, option in enumerate(options):
        name, _, value = option.partition("=")
        if name in ("--config-dir", "-cd"):
            folder = Path(value or (options[at + 1] if at + 1 < len(options) else "."))
            if not folder.is_dir():
                fix = "name the folder that holds pair/, task/ and the like"
                raise ProbesError("there is no such folder", f"--config-dir {folder}", fix)
            return folder
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__
