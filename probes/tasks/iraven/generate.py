"""Making problems: one at a time from (seed, configuration, k), or a folder of them."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from probes.core.errors import ProbesError
from probes.core.progress import ReportProgress
from probes.core.signals import serve_parent
from probes.core.text import nearest
from probes.tasks.iraven import files, render
from probes.tasks.iraven.candidates import candidates
from probes.tasks.iraven.problem import Problem
from probes.tasks.iraven.random_stream import RandomStream
from probes.tasks.iraven.rows import fill
from probes.tasks.iraven.rules import draw
from probes.tasks.iraven.solver import solve
from probes.tasks.iraven.space import CONFIGURATIONS, Configuration
from probes.tasks.made import claim

VERSION = 1
"""Raised whenever the same seed would make another problem."""
SETTINGS = "iraven.json"
"""File in a made folder that says which problems the folder holds."""

_BATCH = 32
# A configuration's place in it is part of what a seed means: a new one has to go to the end.
_ORDER = tuple(CONFIGURATIONS)


def problem(seed: int, configuration: str, k: int, *, lookalikes: bool = True) -> Problem:
    """Make a problem's attributes; they depend on these arguments only.

    Args:
        seed: non-negative integer.
        configuration: one of the seven names.
        k: number of the problem within its configuration, from 0.
        lookalikes: False draws problems again that have a distractor which looks exactly like the
            answer (about 0.8 % of `in_distribute_four_out_center_single`); others do not change.
    """
    tree = _tree(configuration)
    attempt = 0
    while True:
        # Keyed by the problem alone: workers, shards and larger folders make the same files. The
        # original seeds once, so that its problems depend on how many were made before them.
        made = _problem(tree, RandomStream(seed, _ORDER.index(configuration), k, attempt))
        if lookalikes or not has_lookalike(made):
            return made
        attempt += 1


def _tree(configuration: str) -> Configuration:
    """Return a configuration by name.

    Raises:
        ProbesError: there is none of that name.
    """
    if configuration not in CONFIGURATIONS:
        raise ProbesError(
            f"there is no i-RAVEN configuration {configuration!r}",
            f"configurations: {', '.join(_ORDER)}",
            nearest(configuration, _ORDER),
        )
    return CONFIGURATIONS[configuration]


def _problem(tree: Configuration, rng: RandomStream) -> Problem:
    rules = tuple([draw(component, rng) for component in tree.components])
    filled = [
        fill(component, rule, rng) for component, rule in zip(tree.components, rules, strict=True)
    ]
    panels = list(zip(*filled, strict=True))
    choices = candidates(tree.components, rules, panels[8], rng)
    modified = tuple([choice.modified for choice in choices])
    return Problem(
        configuration=tree.name,
        rules=rules,
        panels=(*panels[:8], *[choice.panel for choice in choices]),
        target=modified.index(()),
        modified=modified,
    )


def has_lookalike(made: Problem) -> bool:
    """Return whether a distractor looks exactly like the answer."""
    tree = CONFIGURATIONS[made.configuration]
    answer = made.candidates[made.target]
    others = [candidate for candidate in made.candidates if candidate is not answer]
    return any(render.look_alike(tree, candidate, answer) for candidate in others)


def images(made: Problem) -> NDArray[np.uint8]:
    """Draw a problem: uint8 [16, 160, 160], eight context panels, then eight candidates."""
    return render.draw(CONFIGURATIONS[made.configuration], made.panels)


def predict(made: Problem) -> int:
    """Return what the solver chooses from the context panels and the candidates, 0..7."""
    return solve(CONFIGURATIONS[made.configuration], made.context, made.candidates).choice


# --- a folder of problems -------------------------------------------------------------------------


def make(
    root: Path,
    per_config: int,
    seed: int,
    configurations: Sequence[str] | None = None,
    workers: int = 1,
    lookalikes: bool = True,
    progress: ReportProgress | None = None,
) -> int:
    """Write problems 0..per_config-1 of each configuration below `root`.

    Files that exist are kept: the same call finishes an interrupted one, and a call with a larger
    `per_config` adds to a folder.

    Args:
        root: folder; made where it does not exist.
        per_config: problems per configuration, at least 1.
        seed: non-negative integer.
        configurations: names; None: all seven.
        workers: processes; their number changes no file.
        lookalikes: see `problem`.
        progress: called after every batch.

    Returns:
        How many problems were written.

    Raises:
        ProbesError: an argument is out of range, or the folder holds other problems.
    """
    names = list(dict.fromkeys(_ORDER if configurations is None else configurations))
    for name in names:
        _tree(name)
    least_of = {"per_config": (per_config, 1), "seed": (seed, 0), "workers": (workers, 1)}
    for what, (value, least) in least_of.items():
        if value < least:
            raise ProbesError(f"{what} is {value}", "making i-RAVEN", f"give at least {least}")
    # Before the folder is claimed: without a fitting OpenCV no note is left in it.
    render.opencv()
    # `per_config` is left out: a larger number adds to the same folder.
    settings = {"seed": seed, "twins": lookalikes, "version": VERSION}  # the word in the file
    has_data = any(next((root / name).glob("*.npz"), None) for name in _ORDER)
    claim(root / SETTINGS, settings, has_data)
    wanted = [(name, k) for name in names for k in range(per_config)]
    missing = [(name, k) for name, k in wanted if not files.path(root, name, k).exists()]
    done = len(wanted) - len(missing)
    for count in _written(partial(_write, root, seed, lookalikes), _batches(missing), workers):
        done += count
        if progress:
            progress(done, len(wanted))
    return len(missing)


ProblemBatch = list[tuple[str, int]]


def _batches(wanted: ProblemBatch) -> Iterator[ProblemBatch]:
    rest = iter(wanted)
    while batch := list(islice(rest, _BATCH)):
        yield batch


def _written(
    write: Callable[[ProblemBatch], int], batches: Iterator[ProblemBatch], workers: int
) -> Iterator[int]:
    if workers == 1:
        yield from map(write, batches)
        return
    # A forked child inherits locks of threads that it does not have; a spawned one starts clean.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=serve_parent) as pool:
        yield from pool.map(write, batches)


def _write(root: Path, seed: int, lookalikes: bool, batch: ProblemBatch) -> int:
    for configuration, k in batch:
        made = problem(seed, configuration, k, lookalikes=lookalikes)
        files.save(files.path(root, configuration, k), made, images(made), predict(made))
    return len(batch)
