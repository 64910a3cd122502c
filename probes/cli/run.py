"""`probes run`: Hydra composes the configuration, a run follows, tables are printed.

Hydra's own entry point is called, so that sweeps, launchers and `--cfg` work as everywhere; its
errors about the configuration are replaced by those of `probes.config.compose.explain`.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shlex
import shutil
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.experimental.callback import Callback

from probes import report
from probes.config import compose, schema
from probes.config.paths import conf_dir
from probes.config.settings import freeze
from probes.core.errors import ProbesError, machine_error
from probes.core.files import atomic_write
from probes.core.signals import exit_code, stop_reason
from probes.records import folder_lock
from probes.records.binding import NOTE

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from probes.engine.run import RunResult

_log = logging.getLogger(__name__)
DONE, FAILED_ITEMS, USAGE = 0, 1, 2
_FULL_ERROR = "HYDRA_FULL_ERROR"
_NOTES = ".hydra"
_FAILED = ".failed-jobs"


class ExitCodeCallback(Callback):  # type: ignore[misc]
    """Sets `code` to the exit code of a run, or of a sweep whose jobs ran in other processes."""

    code = DONE

    def on_run_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Take the exit code that `job` returned."""
        # Not `return_value`: of a job that failed, this property raises the error again.
        result = kwargs["job_return"]
        if isinstance(result._return_value, int):
            ExitCodeCallback.code = result._return_value

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Forget which jobs of an earlier sweep in this folder failed."""
        shutil.rmtree(Path(config.hydra.sweep.dir) / _FAILED, ignore_errors=True)

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Read the manifest of every job; a job without one, or with a note, did not finish."""
        sweep = Path(config.hydra.sweep.dir)
        if (sweep / _FAILED).is_dir():
            ExitCodeCallback.code = USAGE
            shutil.rmtree(sweep / _FAILED, ignore_errors=True)
        for folder in sweep.iterdir():
            # Names with a dot are a launcher's folders.
            if not folder.is_dir() or folder.name.startswith(".") or folder.name == report.FOLDER:
                continue
            try:
                manifest = json.loads((folder / "manifest.json").read_bytes())
                code = FAILED_ITEMS if manifest["counts"]["error"] else DONE
            except (OSError, ValueError, KeyError):
                code = USAGE
            # On the class: Hydra makes the instance, and `main` never sees it.
            ExitCodeCallback.code = max(ExitCodeCallback.code, code)


def main(arguments: Sequence[str]) -> int:
    """Run `probes run` with these arguments and return the exit code."""
    if {"-h", "--help"}.intersection(arguments):
        print(usage())
        return DONE
    import hydra

    # Overrides may come before, between and after options; Hydra's parser wants them together.
    overrides, options = compose.split_arguments(arguments)
    config_dir = compose.config_dir(options)
    schema.register(config_dir)
    if {"--cfg", "-c"}.intersection(options) and not {"-m", "--multirun"}.intersection(options):
        schema.typed(compose.composed(arguments))  # no job is started that would check names
    # An earlier call in this process may have left another.
    ExitCodeCallback.code = DONE
    entry = hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="config")(job)
    # Before `_arguments` sets it: whether the user wants Hydra's tracebacks.
    full = os.environ.get(_FULL_ERROR) == "1"
    try:
        with _arguments(["probes run", *options, *overrides]):
            entry()
    except KeyboardInterrupt as stop:
        command = shlex.join(["probes", "run", *arguments])
        stored = "every answer so far is stored. To go on:"
        _log.error("\n%s; %s\n  %s", stop_reason(stop), stored, command)
        return exit_code(stop)
    except Exception as error:
        if full:
            raise
        refusal: ProbesError | None = machine_error(error)
        if refusal is None and _from_a_job(error):
            raise
        refusal = refusal or compose.explain(error, overrides, config_dir)
        _log.error("%s", refusal)
        return USAGE
    return ExitCodeCallback.code


def usage() -> str:
    """Return what `probes run --help` prints.

    It is the text that Hydra would print, read from its file: Hydra itself would first list the
    options of all groups of all its plugins, which takes seconds and is not in the text.
    """
    import yaml

    text = (conf_dir() / "hydra" / "help" / "probes.yaml").read_text("utf-8")
    template: str = yaml.safe_load(text)["template"]
    return template.replace("$$", "$").rstrip()


@contextlib.contextmanager
def _arguments(arguments: Sequence[str]) -> Iterator[None]:
    """Give Hydra these arguments, and let it raise its exceptions instead of printing them.

    Both are replaced for as long as the block runs: `hydra.main`, the only entry that is not
    private and knows sweeps and launchers, takes them from nowhere but `sys.argv` and the
    environment.
    """
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
    """Do one run; Hydra calls this, in this process or in a launcher's.

    Returns:
        The exit code.
    """
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    hydra = HydraConfig.get()
    out, alone = Path(hydra.runtime.output_dir), hydra.mode == RunMode.RUN
    try:
        result = _run(cfg, out)
        if alone:  # a sweep's end writes the report of all its runs
            flag = " --partial" * (cfg.shards > 1)
            print(f"to see every item: probes report {shlex.quote(_from_here(out))}{flag}")
    # An interrupt only for the folder's sake: it is raised again below.
    except (ProbesError, OSError, KeyboardInterrupt) as error:
        if alone:
            _discard(out)
        else:
            _mark_failed(cfg, Path(hydra.sweep.dir), out)
        refusal = error if isinstance(error, ProbesError) else machine_error(error)
        if refusal is None:
            raise
        _log.error("%s", refusal)
        return USAGE
    # Not 2: the command was right, and given again it asks the failed records once more.
    return FAILED_ITEMS if result.errors else DONE


def _run(cfg: DictConfig, out: Path) -> RunResult:
    """Do a run and print what it found."""
    config = freeze(schema.plain(cfg), out)
    # Before the engine is imported: libraries read these variables as they are loaded.
    compose.quiet()
    from probes.core import progress
    from probes.engine import run

    def found(result: RunResult) -> None:
        show(result, config.pair.caveat)
        if config.task.reader == "lmms":
            from probes.tasks.lmms_eval import listing

            print("\n".join(["", *listing.at_end_of_run(out), ""]))

    notes = partial(_write_notes, cfg, out)
    return run.execute(config, out, progress.on_terminal(), notes, found)


def _write_notes(cfg: DictConfig, out: Path) -> None:
    """Write Hydra's notes of a run: the composed configuration, its own, and the overrides.

    Hydra would write them before the run can tell whether the folder is another run's.
    """
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf

    hydra = HydraConfig.get()
    notes = {
        "config": cfg,
        "hydra": OmegaConf.create({"hydra": hydra}),
        "overrides": hydra.overrides.task,
    }
    for name, content in notes.items():
        atomic_write(out / _NOTES / f"{name}.yaml", OmegaConf.to_yaml(content).encode())


def show(result: RunResult, caveat: str) -> None:
    """Print the study's tables, the failures, and where the files are."""
    from rich.console import Console

    from probes import analysis
    from probes.analysis.columns import without_model
    from probes.report import figures

    # A single shard is expected here: the others may be running.
    frame = analysis.load(result.out, partial=True)
    tables = analysis.study_tables(frame)
    if sys.stdout.isatty():
        analysis.render(tables, Console())
    else:
        print("\n".join(analysis.render(tables)))
    for one in frame.attrs.get("partial", ()):
        print(f"\nThese are the numbers of one shard, not of the run: {one}.")
    for one in [*frame.attrs.get("replaced", {}).values(), *([caveat] if caveat else [])]:
        print(f"\n{one}")
    for remark in result.remarks:
        print(f"\n{remark}.")
    if result.empty_infills:
        print(f"\n{result.empty_infills} infills are empty: their gaps were left bare.")
    if result.failed_infills:
        print(
            f"\n{result.failed_infills} infills failed; every record whose stimulus needs one is "
            "an error. The same command writes them again."
        )
    if result.errors:
        print(
            f"\n{result.errors} of {result.counts['planned']} records failed; their items are left "
            f"out of what is compared, e.g. {result.first_error}\n"
            "Once the cause is fixed, the same command asks them again."
        )
    arms = figures.arms_figure(frame)
    figures.stamp(arms, without_model(frame))
    figures.save(arms, result.out / "plots" / "arms")
    print(f"\nrecords, manifest, frames and plots: {_from_here(result.out)}")


def _from_here(path: Path) -> str:
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def _discard(out: Path) -> None:
    """Remove a folder that has nothing but the notes of a run that ended early."""
    # Another run's folder is locked, and stays.
    with contextlib.suppress(OSError, ProbesError), folder_lock.held(out):
        if not _files(out):
            shutil.rmtree(out, ignore_errors=True)
            if out.parent != Path.cwd():
                out.parent.rmdir()  # the day's folder, if it is empty now


def _files(out: Path) -> set[str]:
    """Return the names in a folder but those of notes on a run."""
    return {path.name for path in out.iterdir()} - {_NOTES, NOTE, folder_lock.FILE}


def _mark_failed(cfg: DictConfig, sweep: Path, out: Path) -> None:
    """Note in a sweep's folder that a job failed: its own folder may hold an earlier run."""
    with contextlib.suppress(OSError, ProbesError):
        atomic_write(sweep / _FAILED / out.name, b"")
        with folder_lock.held(out):
            if not _files(out):  # a report of the sweep counts those that have notes alone
                _write_notes(cfg, out)


def _from_a_job(error: Exception) -> bool:
    """Return whether a run raised this, rather than the composition of its configuration."""
    trace = error.__traceback__
    names = set()
    while trace is not None:
        names.add(trace.tb_frame.f_code.co_name)
        trace = trace.tb_next
    return bool(names & {"job", "return_value"})  # Hydra hands a job's exception on by the latter
