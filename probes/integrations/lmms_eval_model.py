"""Our arms in lmms-eval: `python -m lmms_eval --model probes --model_args ...`.

    --model_args pretrained=REPO,arm=vcot,frames=5          a model by itself
    --model_args pair=tiny,role=image,arm=text_perturbation a member of a pair in conf/pair

lmms-eval chooses task, docs and limit, and scores the replies. In between is a run of this harness:
the docs become items (`probes.tasks.lmms_eval`), their frames, infills and donors make the arm's
stimuli, options are scored as the configuration says, and the reply names the chosen option in the
form that the task's scorer credits. Donors are found over all docs of the task. Answers are stored
under `$PROBES_HOME` and shared with `probes run`. Every other setting of a run can be given among
the arguments, e.g. `scoring=cloze` or `pair.dtype=float32`.

lmms-eval finds this module by an entry point (`lmms_eval_entry`), and imports it when it is chosen.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import Any

from lmms_eval.api.model import lmms

from probes.cache.output_cache import Store
from probes.config import compose
from probes.config.settings import RunConfig
from probes.core.errors import ProbesError
from probes.core.files import home
from probes.core.progress import on_terminal
from probes.core.text import nearest
from probes.core.types import Item, ItemKey, ModelSpec
from probes.engine import plan, run
from probes.engine.context import RunContext, told_config
from probes.engine.phases import run_phases
from probes.records.schema import Record
from probes.tasks.lmms_eval import reader

_log = logging.getLogger(__name__)
_OWN = "video"  # the role of a model that is named by its repository alone
_EMBEDDED = "embedded:"


@contextmanager
def _plainly() -> Iterator[None]:
    """Turn a problem that the user can fix into its message and exit code 1.

    lmms-eval would print a traceback and exit with code 0.
    """
    try:
        yield
    except ProbesError as error:
        raise SystemExit(str(error)) from error


def settings(
    pretrained: str | None, arm: str, role: str | None, overrides: Mapping[str, Any]
) -> tuple[RunConfig, ModelSpec | None]:
    """Compose the run of the model: one member, one arm, one number of frames.

    Args:
        pretrained: the model's repository; None where `pair` and `role` name a member.
        arm: name of an arm of the suite.
        role: of the member.
        overrides: further settings of the configuration.

    Returns:
        The configuration, and the other member of the pair that writes the infills, if one does.

    Raises:
        ProbesError: the arguments do not fit together.
    """
    # lmms-eval has turned numbers and booleans into Python's; Hydra reads text.
    given = {key: str(value) for key, value in overrides.items()}
    if pretrained is None:
        if "pair" not in given or role is None:
            raise ProbesError(
                "no model is named",
                "--model_args",
                "give pretrained=FOLDER_OR_HUB_NAME, or pair=NAME,role=image",
            )
    elif pretrained.startswith(_EMBEDDED) and "pair" not in given:
        given, role = {"pair": "tiny"} | given, pretrained.removeprefix(_EMBEDDED)
    else:
        role = role or _OWN
        given = {"pair": "own"} | given | {f"pair.{role}.repo": pretrained}
        # There is no other member that could write.
        given.setdefault("infill.source", "self")
    # Settled while the pair is whole: a member's frames are shown as in a run of both.
    cfg, _ = told_config(compose.compose([f"{key}={value}" for key, value in given.items()]))
    members = {str(member.role): member for member in cfg.pair.members}
    if role not in members:
        raise ProbesError(f"the pair has no member {role!r}", "role", nearest(role, members))
    chosen = [one for one in cfg.suite if one.name == arm]
    if not chosen:
        fix = nearest(arm, [one.name for one in cfg.suite])
        raise ProbesError(f"the suite has no arm {arm!r}", "arm", f"{fix}; or suite=...")
    draws = cfg.donor_draws * (cfg.infill_draws or 1)
    if len(cfg.frames) != 1 or draws != 1 or cfg.option_rotation or cfg.shards != 1:
        raise ProbesError(
            "one reply per doc, but this configuration asks several times",
            "--model_args",
            "give one number of frames, and no donor_draws, infill_draws, option_rotation or "
            "shards",
        )
    writer = members.get(cfg.infill.generator) if cfg.infill.generator != role else None
    cfg = replace(
        cfg,
        pair=replace(cfg.pair, members=(members[role],)),
        suite=tuple(chosen),
        infill=replace(cfg.infill, generator=writer.name) if writer else cfg.infill,
        # lmms-eval's own limit has chosen the docs; donors are found among all.
        limit=None,
    )
    return cfg, writer


class ArmModel(lmms):  # type: ignore[misc]
    """A model under one arm, as lmms-eval's evaluator sees it.

    Args:
        pretrained: folder or hub name of the model, or `embedded:NAME`.
        arm: name of an arm of the suite.
        role: which member, where `pair` is given.
        batch_size: items that run at once.
        device: `cpu`, `cuda`, ...; chosen automatically if not given.
        max_batch_size: not used.
        overrides: further settings of a run, as `probes run` takes them.
    """

    # A chat model's requests hold the doc's index and a method that is bound to its task.
    is_simple = False

    def __init__(
        self,
        pretrained: str | None = None,
        arm: str = "baseline",
        role: str | None = None,
        batch_size: int | str | None = None,
        device: str | None = None,
        max_batch_size: int | None = None,
        **overrides: Any,
    ) -> None:
        super().__init__()
        if batch_size is not None and str(batch_size) != "auto":
            overrides.setdefault("backend.batch_size", batch_size)
        if device is not None:
            overrides.setdefault("backend.device", device)
        with _plainly():
            self.cfg, self._writer = settings(pretrained, arm, role, overrides)

    def generate_until(self, requests: Sequence[Any]) -> list[str]:
        """Return the reply to every request.

        Args:
            requests: lmms-eval's, of one or several tasks.

        Raises:
            SystemExit: a task cannot be used, or a run fails as a whole.
        """
        by_task: dict[str, list[int]] = defaultdict(list)
        for at, request in enumerate(requests):
            by_task[request.args[4]].append(at)
        replies = [""] * len(requests)
        for name, places in by_task.items():
            # The method that makes a doc's messages is bound to the task; nothing else names it.
            task = getattr(requests[places[0]].args[1], "__self__", None)
            with _plainly():
                if task is None:
                    what = f"task {name} makes its messages in its own way"
                    raise ProbesError(what, "--tasks", "name another task")
                wanted = [requests[at].args[3] for at in places]
                said = self._answer(reader.accept(task, name), wanted)
            for at, reply in zip(places, said, strict=True):
                replies[at] = reply
        return replies

    def _answer(self, accepted: reader.Accepted, places: Sequence[int]) -> list[str]:
        """Return the replies to docs of a task; empty where a doc is not an item or fails."""
        # Test splits withhold their answers: such docs are asked, and lmms-eval writes the replies.
        items = reader.items(accepted, unanswered=True)
        records = self.records(accepted.name, items, places)
        generated = self.cfg.scoring == "generate"
        replies = []
        for at in places:
            record = records.get(at)
            if record is None:
                replies.append("")
            elif generated:
                replies.append(record.text)
            else:
                replies.append(reader.reply(accepted, at, record.choice))
        failed = [record for record in records.values() if record.status == "error"]
        if failed or len(records) < len(set(places)):
            _log.error(
                f"{accepted.name}: of {len(set(places))} docs {len(failed)} failed"
                + (f" ({failed[0].item_id}: {failed[0].error})" if failed else "")
                + f" and {len(set(places)) - len(records)} are not multiple choice; "
                "their replies are empty"
            )
        return replies

    def records(
        self, name: str, items: Mapping[int, Item], places: Sequence[int]
    ) -> dict[int, Record]:
        """Run some of a task's items under the arm.

        Args:
            name: of the task.
            items: all of the task's items, by index of the doc; donors are found among them.
            places: indices of the docs that are asked; docs that are not items are left out.

        Returns:
            Their records, by index of the doc.
        """
        cfg = replace(self.cfg, task=replace(self.cfg.task, name=name, reader="lmms"))
        asked = {items[at].key for at in places if at in items}
        if not asked:
            return {}
        # Planned over all docs and then cut: a doc's donor must not depend on --limit.
        planned = plan.make(list(items.values()), cfg)
        planned = replace(
            planned,
            items=tuple(item for item in planned.items if item.key in asked),
            donors={place: one for place, one in planned.donors.items() if place[0] in asked},
        )
        with (
            Store(home() / "store") as store,
            closing(RunContext(cfg, store, on_terminal())) as context,
        ):
            if self._writer is not None and cfg.infill.source == "shared":
                context.member(self._writer)  # known by its name, which is the generator's
            found = run.records(context, run_phases(context, planned))
            by_key = {ItemKey(record.task, record.item_id): record for record in found}
        return {at: by_key[items[at].key] for at in set(places) if at in items}

    def loglikelihood(self, requests: Sequence[Any]) -> list[tuple[float, bool]]:
        """Refuse: lmms-eval would make the prompts, and no arm would apply.

        Raises:
            SystemExit: always.
        """
        raise SystemExit("--model probes takes tasks of output_type generate_until only")

    def generate_until_multi_round(self, requests: Sequence[Any]) -> list[str]:
        """Refuse: an item is asked once.

        Raises:
            SystemExit: always.
        """
        raise SystemExit("--model probes takes tasks of one round only")
