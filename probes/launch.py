"""`probes run`: Hydra composes the configuration, a run follows, tables are printed.

Hydra's own entry point is used as it is, so that sweeps, launchers and `--cfg` work as everywhere;
what it says about a mistake is put into words of this project.
"""

from __future__ import annotations

import contextlib
import difflib
import json
import logging
import os
import shlex
import shutil
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from hydra.experimental.callback import Callback

from probes import report, schema
from probes.config import conf_dir, freeze
from probes.provenance import machine_error
from probes.redaction import redact
from probes.signals import exit_code, said
from probes.types import ProbesError, Role

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from probes.config import RunConfig
    from probes.run import RunResult

DONE, FAILED_ITEMS, USAGE = 0, 1, 2
_FULL_ERROR = "HYDRA_FULL_ERROR"


class Outcome(Callback):  # type: ignore[misc]
    """Learns the exit code of a run, and of a sweep whose jobs ran in other processes."""

    code = DONE

    def on_run_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Take the code that `job` returned."""
        result = kwargs["job_return"]
        if isinstance(result._return_value, int):
            Outcome.code = result._return_value

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Read what every job left in its folder: one without a manifest did not finish."""
        for folder in Path(config.hydra.sweep.dir).iterdir():
            # A launcher's own folder, or the sweep's report.
            if not folder.is_dir() or folder.name.startswith(".") or folder.name == report.FOLDER:
                continue
            try:
                manifest = json.loads((folder / "manifest.json").read_bytes())
                code = FAILED_ITEMS if manifest["counts"]["error"] else DONE
            except (OSError, ValueError, KeyError):
                code = USAGE
            Outcome.code = max(Outcome.code, code)


def main(arguments: Sequence[str]) -> int:
    """Run `probes run` with these arguments and return the exit code."""
    if {"-h", "--help"}.intersection(arguments):
        print(usage())
        return DONE
    import hydra

    schema.register()
    # Overrides may stand before, between and after options; Hydra's parser wants them together.
    overrides, options = split(arguments)
    config_dir = _config_dir(options)
    Outcome.code = DONE
    entry = hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="config")(job)
    full = os.environ.get(_FULL_ERROR) == "1"
    try:
        with _arguments(["probes run", *options, *overrides]):
            entry()
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else USAGE if stop.code else DONE
    except KeyboardInterrupt as stop:
        command = redact(shlex.join(["probes", "run", *arguments]))
        print(
            f"\n{said(stop)}; every answer so far is stored. To go on:\n  {command}",
            file=sys.stderr,
        )
        return exit_code(stop)
    except Exception as error:
        if full:
            raise
        refusal: ProbesError | None = machine_error(error)
        if refusal is None and _from_a_job(error):
            raise
        refusal = refusal or explain(error, overrides, config_dir)
        print(redact(str(refusal)), file=sys.stderr)
        return USAGE
    return Outcome.code


def usage() -> str:
    """Return what `probes run --help` prints.

    It is the text that Hydra would print, read from its file: Hydra first lists the options of all
    groups of all its plugins, which takes seconds and is not in the text.
    """
    import yaml

    text = (conf_dir() / "hydra" / "help" / "probes.yaml").read_text("utf-8")
    template: str = yaml.safe_load(text)["template"]
    return template.replace("$$", "$").rstrip()


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


@contextlib.contextmanager
def _arguments(arguments: Sequence[str]) -> Iterator[None]:
    """Let Hydra see these arguments, and hand its exceptions on instead of printing them."""
    argv, full = sys.argv, os.environ.get(_FULL_ERROR)
    sys.argv, os.environ[_FULL_ERROR] = list(arguments), "1"
    try:
        yield
    finally:
        sys.argv = argv
        if full is None:
            del os.environ[_FULL_ERROR]
        else:
            os.environ[_FULL_ERROR] = full


def job(cfg: DictConfig) -> int:
    """Do one run: what Hydra calls, in this process or in a launcher's.

    Returns:
        The exit code.
    """
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    hydra = HydraConfig.get()
    out = Path(hydra.runtime.output_dir)
    try:
        config = freeze(schema.plain(cfg), out)
        quiet()
        from probes import progress, run

        result = run.execute(config, out, progress.on_terminal())
        show(result, config.pair.caveat)
        if config.task.reader == "lmms":
            from tasks.lmms import listing

            print("\n".join(["", *listing.beside(out), ""]))
        if hydra.mode == RunMode.RUN:  # a sweep's end writes the report of all its runs
            print(f"with every item, to look at: probes report {shlex.quote(_from_here(out))}")
    except (ProbesError, OSError, KeyboardInterrupt) as error:
        if hydra.mode == RunMode.RUN:  # a sweep learns from the empty folder that the job failed
            _discard(out)
        refusal = error if isinstance(error, ProbesError) else machine_error(error)
        if refusal is None:
            raise
        print(redact(str(refusal)), file=sys.stderr)
        return USAGE
    return FAILED_ITEMS if result.errors else DONE


def show(result: RunResult, caveat: str) -> None:
    """Print the study's tables, what failed, and where the files are."""
    from rich.console import Console

    from probes import analysis, plots

    frame = analysis.load(result.out)
    tables = analysis.study_tables(frame)
    console = Console(width=None if sys.stdout.isatty() else 120)
    if sys.stdout.isatty():
        analysis.render(tables, console)
    else:
        print("\n".join(analysis.render(tables)))
    if caveat:
        print(f"\n{caveat}")
    if result.empty_infills:
        print(f"\n{result.empty_infills} infills are empty: their gaps were left bare.")
    if result.failed_infills:
        print(
            f"\n{result.failed_infills} infills failed; every record whose stimulus lacks one is "
            "an error. The same command has them written again."
        )
    if result.errors:
        print(
            f"\n{result.errors} of {result.counts['planned']} records failed and count as wrong, "
            f"e.g. {result.first_error}\n"
            "Once what is wrong is mended, the same command asks them again."
        )
    plots.save(plots.arms_figure(frame), result.out / "plots" / "arms")
    print(f"\nrecords, manifest, frames and plots: {_from_here(result.out)}")


def _from_here(path: Path) -> str:
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def _discard(out: Path) -> None:
    """Remove a folder that holds nothing but Hydra's notes of a run that never began."""
    if out.is_dir() and {path.name for path in out.iterdir()} <= {".hydra"}:
        shutil.rmtree(out, ignore_errors=True)
        with contextlib.suppress(OSError):  # the day's folder, if it is empty now
            out.parent.rmdir()


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


def _from_a_job(error: Exception) -> bool:
    """Tell whether a run raised this, rather than the composition of its configuration."""
    trace = error.__traceback__
    names = set()
    while trace is not None:
        names.add(trace.tb_frame.f_code.co_name)
        trace = trace.tb_next
    return bool(names & {"job", "return_value"})  # Hydra hands a job's exception on by the latter


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
