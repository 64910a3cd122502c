"""What a run has to ask: which items, under which arms, with which donors.

Functions of their arguments alone; those that take a `ClipPrefetcher` wait for its clips, and raise
the `MachineError` that ended its decoding, if one did.
"""

from __future__ import annotations

import hashlib
import statistics
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, groupby, islice, product, repeat

from probes.config.settings import RunConfig
from probes.core.errors import ProbesError
from probes.core.text import listed
from probes.core.types import Arm, ClipKey, Infill, Item, ItemKey, Scoring
from probes.media.prefetch import ClipPrefetcher
from probes.models import controllers, interventions
from probes.stimuli import arms, infills
from probes.stimuli.donors import Donors
from probes.stimuli.frame_sources import source_of
from probes.tasks import registry

_FIRST_BLOCKS = (4, 8, 16)  # items whose trials are put together: few while clips decode
_SHARE_OFF = 0.05  # by which a stratum's share of a sample may differ from its share of all items
_BLOCK = 32  # and from then on; prompts of a block are sorted by length together
InfillsByClip = Mapping[ClipKey, tuple[Infill, ...]]
"""Infills of every clip that needs some."""
InfillDraws = tuple[InfillsByClip, ...]
"""By draw: the first text of every gap, the second, ..."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One request that is put to every member: an item under an arm at a number of frames."""

    item: Item
    arm: Arm
    frames: int
    donor: Item | None
    """The item that the arm borrows from."""
    rotation: int = 0
    """How many places the options are rotated to the left."""
    donor_draw: int = 0
    """Which of the item's donors it is."""
    infill_draw: int = 0
    """Which of the texts of every gap is shown."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that a run asks, before any frame is decoded or model loaded."""

    known: frozenset[ItemKey]
    """All items of the run's tasks."""
    items: tuple[Item, ...]
    """The items that are asked, in the reader's order."""
    donors: Mapping[tuple[ItemKey, str], tuple[Item, ...]]
    """The items that (item, arm name) borrows from, for the arms that borrow."""
    arms: tuple[Arm, ...]
    """As `resolved` returns them."""
    counts: tuple[int, ...]
    """Numbers of frames."""
    rotate: bool = False
    """Whether every item is asked with each of its options in each place."""
    places: Mapping[ItemKey, int] = field(default_factory=dict)
    """By (task, id): which of all items it is, from 0."""
    sample: tuple[ItemKey, ...] = ()
    """(Task, id) of the items of all shards together, in the task's order."""
    infill_draws: int = 1
    """Texts that every gap has."""
    remarks: tuple[str, ...] = ()
    """What a limit changed besides the number of items."""

    def trials(self) -> Iterator[Trial]:
        """Yield every trial; those of an item together, so that they share its frames."""
        for item in self.items:
            for count in self.counts:
                for arm in self.arms:
                    # An arm that borrows nothing has one trial all the same, with no donor.
                    donors = self.donors.get((item.key, arm.name), (None,))
                    # Every donor with every text: then the mean over all is one over each.
                    for (at, donor), draw in product(enumerate(donors), range(self.draws_of(arm))):
                        for rotation in range(len(item.options) if self.rotate else 1):
                            yield Trial(item, arm, count, donor, rotation, at, draw)

    def draws_of(self, arm: Arm) -> int:
        """Return how many texts of every gap an arm shows, one after the other."""
        # Filler has the length of the first; where there is no text, none is drawn.
        return self.infill_draws if arm.infills in ("own", "donor") else 1

    def blocks(self) -> Iterator[list[Trial]]:
        """Yield the trials of some items at a time: of few, while most clips are still decoded."""
        by_item = (list(some) for _, some in groupby(self.trials(), lambda trial: trial.item.key))
        sizes = chain(_FIRST_BLOCKS, repeat(_BLOCK))
        while block := list(islice(by_item, next(sizes))):
            yield list(chain.from_iterable(block))

    def count(self) -> int:
        """Count the trials."""
        return sum(1 for _ in self.trials())

    def shown_items(self) -> list[Item]:
        """Return the items whose frames or infills are needed: those asked, then other donors."""
        borrowed = (donor for donors in self.donors.values() for donor in donors)
        return list({item.key: item for item in (*self.items, *borrowed)}.values())

    def in_order_of_need(self) -> list[Item]:
        """Return the same items, each donor before the next item that is asked."""
        needed: dict[ItemKey, Item] = {}
        for item in self.items:
            needed[item.key] = item
            for arm in self.arms:
                needed |= {donor.key: donor for donor in self.donors.get((item.key, arm.name), ())}
        return list(needed.values())

    def needing_infills(self) -> list[Item]:
        """Return the items whose infills some arm shows."""
        needed: dict[ItemKey, Item] = {}
        for arm in self.arms:
            if not arms.needs_infills(arm):
                continue
            for item in self.items:
                sources = self.donors[item.key, arm.name] if arm.infills == "donor" else (item,)
                needed |= {source.key: source for source in sources}
        return list(needed.values())

    def donor_use(self) -> dict[str, dict[str, float]]:
        """Return, by arm, how many donors there are and how often one is used."""
        uses: dict[str, Counter[ItemKey]] = defaultdict(Counter)
        for (_, arm), donors in self.donors.items():
            uses[arm].update(donor.key for donor in donors)
        return {
            arm: {
                "donors": len(counter),
                "max": max(counter.values()),
                "mean": round(statistics.fmean(counter.values()), 3),
            }
            for arm, counter in uses.items()
        }


def make(items: Sequence[Item], cfg: RunConfig) -> Plan:
    """Plan a run over the items of a task, or of the tasks that one reader has.

    Donors are found over all items, so that limit and shard change which items are asked but not
    what they are shown.

    Raises:
        ProbesError: there is nothing to ask, an item finds no donor, or an arm cannot be resolved.
    """
    _check_frames(cfg)
    suite = resolved(cfg)
    chosen = choose(items, cfg.limit, cfg.seed, cfg.shard, cfg.shards)
    if not chosen:
        what = f"shard {cfg.shard} of {cfg.shards} holds none of the {len(items)} items"
        fix = "use fewer shards, or a larger limit"
        raise ProbesError(what, f"task {cfg.task.name}", fix)
    lenders = Donors(items, same_stratum=cfg.task.same_stratum_donor)
    donors = {
        (item.key, arm.name): _donors(item, lenders, arm, cfg.donor_draws)
        for arm in suite
        if arms.needs_donor(arm)
        for item in chosen
    }
    places = {item.key: place for place, item in enumerate(items)}
    sample = chosen if cfg.shards == 1 else choose(items, cfg.limit, cfg.seed)
    asked = tuple(item.key for item in sample)
    return Plan(
        frozenset(item.key for item in items),
        tuple(chosen),
        donors,
        suite,
        cfg.frames,
        cfg.option_rotation,
        places,
        asked,
        infill_draws(cfg),
        tuple(sample_remarks(items, frozenset(asked))),
    )


def infill_draws(cfg: RunConfig) -> int:
    """Return how many texts are written for every gap: one where no arm shows them."""
    shows = any(arm.infills in ("own", "donor") for arm in cfg.suite)
    return (cfg.infill_draws or 1) if shows else 1


def resolved(cfg: RunConfig) -> tuple[Arm, ...]:
    """Return a suite's arms with what their interventions and decodings are; nothing is loaded.

    One that changes nothing is none, so that its requests are the plain ones.

    Raises:
        ProbesError: a name that stands for nothing, or parameters that make no sense.
    """
    return tuple(_resolved(arm, cfg.scoring) for arm in cfg.suite)


def _resolved(arm: Arm, scoring: Scoring) -> Arm:
    where, change, decoding = f"suite.arms.{arm.name}", arm.intervention, arm.decoding
    source_of(arm)
    if decoding is not None and scoring != "generate":
        raise ProbesError(
            f"arm {arm.name} has the decoding {decoding.name!r}, but scoring={scoring} writes no "
            "text",
            f"{where}.decoding",
            "use scoring=generate, or leave the decoding out",
        )
    return replace(
        arm,
        intervention=change and interventions.resolve(change, f"{where}.intervention"),
        decoding=decoding and controllers.resolve(decoding, f"{where}.decoding"),
    )


def _check_frames(cfg: RunConfig) -> None:
    """Refuse a number of frames that the task cannot show."""
    wanted = registry.frames(cfg.task)
    if wanted is not None and cfg.frames != (wanted,):
        given = ", ".join(map(str, cfg.frames))
        what = f"task {cfg.task.name} shows exactly {wanted} panels, not {given}"
        raise ProbesError(what, "frames", f"set frames={wanted}, or leave it out")


def _donors(item: Item, lenders: Donors, arm: Arm, draws: int) -> tuple[Item, ...]:
    """Return the donors of all draws; one that is drawn twice is asked once."""
    drawn = (lenders.find(item, arm, draw) for draw in range(draws))
    return tuple({donor.key: donor for donor in drawn}.values())


def choose(
    items: Sequence[Item], limit: int | None, seed: int, shard: int = 0, shards: int = 1
) -> list[Item]:
    """Choose which items are asked.

    The sample has a task's strata in the proportions that all of its items have, to the nearest
    item, so that it estimates what all items would give; of several tasks each has an equal part
    while it has items left. A larger sample contains every smaller one: raising the limit asks only
    what is new. An item's place depends on the seed and on ids, strata and tasks, never on its
    position. Shards part the sample evenly.

    Args:
        items: all items of the run's tasks.
        limit: size of the sample; None for all.
        seed: of the sample.
        shard: which part, from 0.
        shards: number of parts.

    Returns:
        The chosen items, in the order of `items`.
    """
    by_stratum: dict[tuple[str, str], list[Item]] = defaultdict(list)
    for item in sorted(items, key=lambda item: _hash(seed, "item", item.id)):
        by_stratum[item.task, item.stratum].append(item)
    # How far down its own stratum an item is comes first: strata of one size give their first item,
    # then their second, and one of twice the size gives two meanwhile. The hash decides which give
    # one more where the limit falls among equals.
    down = sorted(
        ((place + 0.5) / len(members), _hash(seed, place, stratum), task, item.key)
        for (task, stratum), members in by_stratum.items()
        for place, item in enumerate(members)
    )
    of_task: Counter[str] = Counter()
    rounds: list[tuple[int, str, ItemKey]] = []
    for *_, task, key in down:
        rounds.append((of_task[task], _hash(seed, of_task[task], "task", task), key))
        of_task[task] += 1
    # Tasks take turns, each with the first items of its own order: no other task moves them.
    sample = [key for *_, key in sorted(rounds)[:limit]]
    # Every n-th of the sample and not a stretch of it: each shard has items of all strata.
    chosen = set(sample[shard::shards])
    return [item for item in items if item.key in chosen]


def sample_remarks(items: Sequence[Item], sample: Collection[ItemKey]) -> Iterator[str]:
    """Yield, for every task whose strata a sample has in other proportions, what they are.

    Args:
        items: all items of the run's tasks.
        sample: those that are asked, of all shards together.
    """
    by_task: dict[str, list[Item]] = defaultdict(list)
    for item in items:
        by_task[item.task].append(item)
    for task, every in by_task.items():
        chosen = [item for item in every if item.key in sample]
        whole, part = (Counter(one.stratum for one in some) for some in (every, chosen))
        shares = {
            name: (part[name] / max(len(chosen), 1), count / len(every))
            for name, count in whole.items()
        }
        other = [name for name, (got, due) in shares.items() if abs(got - due) > _SHARE_OFF]
        if other or len(part) < len(whole):
            shown = [f"{n or 'none'} {got:.0%}/{due:.0%}" for n, (got, due) in shares.items()]
            yield (
                f"{len(chosen)} of {len(every)} items of {task}: a sample so small does not have "
                f"the strata in the proportions of all items (share in it/of all: {listed(shown)})"
            )


def _hash(*key: str | int) -> str:
    # Not Python's `hash`, which differs from process to process.
    return hashlib.sha256(repr(key).encode("utf-8", "surrogatepass")).hexdigest()


def infill_blocks(
    items: Iterable[Item], clips: ClipPrefetcher, size: int
) -> Iterator[tuple[list[Item], list[infills.FramePair]]]:
    """Yield items in blocks, with every pair of neighbouring frames of a block's clips once.

    Blocks depend on nothing but the items: an answer does not change with what was decoded first.

    Args:
        items: whose infills are needed; those without clips are left out.
        clips: of those items, at every number of frames; waited for.
        size: how many pairs a block has at least; the last has what is left.
    """
    block: list[Item] = []
    pairs: dict[infills.FramePair, None] = {}
    for item in items:
        if clips.problem(item.key) is not None:
            continue
        block.append(item)
        # A dictionary and no set: its order is that of insertion, on every machine.
        pairs |= dict.fromkeys(infills.pairs(clips[item.key.clip(n)] for n in clips.counts))
        if len(pairs) >= size:
            yield block, list(pairs)
            block, pairs = [], {}
    if block:
        yield block, list(pairs)
