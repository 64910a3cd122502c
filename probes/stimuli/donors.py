"""Which item a perturbation borrows from: one of its own task, of another only where it must.

The task is no part of what choices are keyed by: an item borrows from the same items whether its
task is run by itself or together with others.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from probes.core.errors import ProbesError
from probes.core.hashing import sha256_json
from probes.core.types import Arm, Item


class Donors:
    """All items of a run's tasks as candidates.

    Args:
        items: all items, before limit and shard.
        same_stratum: whether a donor must share the item's stratum.
    """

    def __init__(self, items: Sequence[Item], *, same_stratum: bool) -> None:
        self._items = items
        self._same = same_stratum
        # Of all items, not of the sample alone: a larger limit would change the donors.
        self._among: dict[tuple[str, str], list[Item]] = {}
        for item in items:
            self._among.setdefault(self._group(item), []).append(item)
        self._names = {
            group: [item.id.encode("utf-8", "surrogatepass") for item in among]
            for group, among in self._among.items()
        }

    def find(self, item: Item, arm: Arm, draw: int = 0) -> Item:
        """Choose the item that an arm borrows from: the highest rendezvous hash wins.

        Every candidate's rank depends on itself and the tuple (arm.seed, item.id, arm.name, draw)
        only. So the choice is the same in any order and batch, and a new candidate takes over just
        those items in which it ranks first.

        Args:
            item: the item to be perturbed.
            arm: an arm that borrows.
            draw: number of the draw where several donors are averaged over; draws are independent.

        Returns:
            An item of another cluster (an item without a cluster is one of its own). Of the same
            task where that has an eligible one; else of another task, if there is one.

        Raises:
            ProbesError: if no item is eligible.
        """
        group = self._group(item)
        among = self._among.get(group, [])
        seeded = hashlib.sha256(draw_seed(arm.seed, item.id, arm.name, draw))
        ranks = []
        # All candidates are hashed for all items, which is most of a large plan's time; a copy of
        # what was fed the seed once takes 0.37 us, hashing seed and name 0.48.
        for name in self._names.get(group, []):
            rank = seeded.copy()
            rank.update(name)
            ranks.append(rank.digest())
        # The first is seldom one of the item's own cluster; looking at it first saves the rest.
        first = among[ranks.index(max(ranks))] if ranks else item
        if _may_lend(first, item):
            return first
        eligible = [(r, o.id, o) for r, o in zip(ranks, among, strict=True) if _may_lend(o, item)]
        if not eligible:
            return self._of_another_task(item, arm, draw)
        # By rank, then id: items themselves have no order.
        return max(eligible, key=lambda one: one[:2])[2]

    def _group(self, item: Item) -> tuple[str, str]:
        return item.task, item.stratum if self._same else ""

    def _of_another_task(self, item: Item, arm: Arm, draw: int) -> Item:
        """Choose among the items of other tasks, by the same rule."""
        seed = draw_seed(arm.seed, item.id, arm.name, draw)
        others = [
            # With the task: of two tasks' items of one id none may rank above the other by place.
            (rank(seed, repr(tuple(other.key))), other.key, other)
            for (task, stratum), among in self._among.items()
            if task != item.task and stratum == self._group(item)[1]
            for other in among
            if _may_lend(other, item)
        ]
        if not others:
            raise self._none(item, arm)
        return max(others, key=lambda one: one[:2])[2]

    def _none(self, item: Item, arm: Arm) -> ProbesError:
        elsewhere = sum(_may_lend(other, item) for other in self._items)
        among = f"of {len(self._items)} items {elsewhere} are of another cluster"
        fix = "add items from other recordings"
        if self._same:
            among += f" and none of those is of stratum {item.stratum!r}"
            fix = "set task.same_stratum_donor=false, or " + fix
        where = f"item {item.id!r} (cluster {item.cluster!r})"
        return ProbesError(f"arm {arm.name!r} finds no donor: {among}", where, fix)


def _may_lend(other: Item, item: Item) -> bool:
    # A clip of the same recording shows the same place and people: it would hardly perturb.
    return other.key != item.key and (not item.cluster or other.cluster != item.cluster)


def draw_seed(*parts: str | int) -> bytes:
    """Return the bytes that decide a random choice, from everything that it may depend on."""
    return sha256_json(parts).encode()


def rank(seed: bytes, name: str) -> bytes:
    """Return the rank of a name under a seed of `draw_seed` (rendezvous hashing)."""
    return hashlib.sha256(seed + name.encode("utf-8", "surrogatepass")).digest()
