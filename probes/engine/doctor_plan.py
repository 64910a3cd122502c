"""Whether the longest prompts of a run fit into its members' contexts; no model is asked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from probes.config.settings import RunConfig
from probes.core.errors import ProbesError
from probes.core.examination import MemberCheck
from probes.core.progress import Progress
from probes.core.types import Item
from probes.engine import plan
from probes.engine.dry_run import dry_run
from probes.tasks import registry

LONGEST = 6
"""Items that are looked at: those with the most text."""


def with_longest(
    cfg: RunConfig, checks: dict[str, MemberCheck], progress: Progress
) -> dict[str, MemberCheck]:
    """Measure the longest prompts that a configuration plans, and note those beyond a context.

    Prompts are those of the items with the most text, under all arms and numbers of frames; infills
    that are not written yet have the length that they are allowed. Made data are made, and the
    frames of these items decoded, as in a run, which then finds them.

    Args:
        cfg: checked configuration.
        checks: what is known of the members so far, by name.
        progress: where to show what is going on.
    """
    if any(one.seen is None for one in checks.values()):
        return checks
    try:
        with progress.phase("items") as phase:
            whole = plan.make(registry.load(cfg.task, phase.report), cfg)
        few = replace(whole, items=tuple(sorted(whole.items, key=_text)[-LONGEST:]))
        with dry_run(cfg, progress, planned=few) as planned:
            longest = {
                name: max(
                    (w.longest or 0 for w in planned.workloads if w.member == name), default=0
                )
                for name in checks
            }
            problems = {
                name: next((w.problem for w in model.workloads.values() if w.too_long), "")
                for name, model in planned.models.items()
            }
    except ProbesError as error:
        line = f"the run's own prompts, next to its context: {error.what}"
        return {name: replace(one, unseen=(*one.unseen, line)) for name, one in checks.items()}
    return {
        name: replace(
            one,
            longest=longest[name],
            errors=(*one.errors, *_too_long(problems.get(name, ""))),
        )
        for name, one in checks.items()
    }


def _text(item: Item) -> tuple[int, str]:
    # By id where lengths are equal: the same items whatever their order.
    return len(item.question) + sum(map(len, item.options)), item.id


def _too_long(problem: str) -> Iterator[str]:
    if problem:
        yield f"a planned prompt is too long: {problem} (ask with fewer frames or shorter infills)"
