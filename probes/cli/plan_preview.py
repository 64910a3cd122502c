"""What `probes plan --dry-run` prints: the text that every member will see."""

from __future__ import annotations

import json
from collections.abc import Iterator

from probes.core.types import Arm, Item, Param, Request
from probes.engine.answering import scoring_of
from probes.engine.dry_run import DryRun
from probes.engine.placeholder_text import shortened
from probes.engine.stimulus_builder import request_of
from probes.engine.workload import DryRunModel


def preview(planned: DryRun) -> Iterator[str]:
    """Yield the lines of a dry run: for every item and arm the templated text of every member.

    Frames are `<frame SHA8>`, each with its own wrapping if its family has one; infills that are
    not written yet are `[not written yet SHA8 SHA8]`.
    """
    state = planned.state
    several = len({item.task for item in state.plan.items}) > 1
    for at, trial in enumerate(state.plan.trials()):
        donor = f", donor {_named(trial.donor, several)}" if trial.donor else ""
        donor += f", text {trial.infill_draw}" if trial.infill_draw else ""
        facts = f"{trial.frames} frames{donor}{_changes(trial.arm)}"
        yield f"=== item {_named(trial.item, several)}, arm {trial.arm.name}, {facts}"
        last = ""
        for spec in planned.cfg.pair.members:
            model = planned.models[spec.name]
            request = state.requests[spec.role][at]
            if request.problem:
                yield f"--- {spec.name}: cannot be asked: {request.problem}"
                continue
            stimulus = state.builder(spec.role).stimulus(trial)
            asked = shortened(request_of(stimulus, trial.arm))
            yield f"--- {spec.name}: {_length(model, request.key)}"
            prefix = scoring_of(planned.cfg, spec).answer_prefix
            text = _text(model, asked, prefix)
            # Members of a pair mostly get one text: what is printed again is a difference.
            yield "(the same text)" if text == last else text
            last = text
        yield ""


def _named(item: Item, several: bool) -> str:
    return f"{item.id} of task {item.task}" if several else item.id


def _changes(arm: Arm) -> str:
    """Return the intervention and the decoding of an arm, each with its parameters."""
    both = (("intervention", arm.intervention), ("decoding", arm.decoding))
    named = [(kind, one.name, one.params) for kind, one in both if one is not None]
    return "".join(
        f", {kind} {name}({', '.join(f'{key}={_shown(value)}' for key, value in params)})"
        for kind, name, params in named
    )


def _shown(value: Param) -> str:
    """Return a parameter as configurations have it."""
    return json.dumps(value, ensure_ascii=False)


def _text(model: DryRunModel, asked: Request, answer_prefix: str) -> str:
    """Return a prompt as the member's template lays it out, with the options that are scored."""
    if model.planning is not None:
        text = model.planning.shown(asked, answer_prefix)
    else:
        text = "".join(
            part if isinstance(part, str) else f"<frame {part.sha256[:8]}>" for part in asked.parts
        )
    return text + (f"\n[scored: {' | '.join(asked.options)}]" if asked.options else "")


def _length(model: DryRunModel, key: str) -> str:
    """Return the number of tokens of a prompt, and whether its answer is stored."""
    tokens = model.sizes.get(key)
    # Only prompts that are still to be asked were measured; a stored answer has its length.
    stored = model.store.get([key]).get(key) if tokens is None else None
    count = tokens if stored is None else stored.input_tokens
    known = count if count is not None else "unknown"
    return f"{known} tokens" + (", answered in the store" if stored else "")
