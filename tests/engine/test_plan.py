"""Which items are asked, with whose help: the same whatever the order, the limit and the shard."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hypothesis import given, settings
from hypothesis import strategies as st

from probes.config import schema
from probes.config.paths import conf_dir
from probes.config.settings import RunConfig, freeze
from probes.core.errors import ProbesError
from probes.core.types import Arm, Item, Video
from probes.engine import plan

schema.register()
with initialize_config_dir(str(conf_dir()), version_base="1.3"):
    BASE = freeze(schema.plain(compose("config", ["backend=scripted"])), Path("out"))


def item(number: int, stratum: str = "s", cluster: str = "") -> Item:
    media = Video(Path(f"/{number}.mp4"))
    return Item(
        f"item{number}", "t", "q?", ("a", "b"), 0, media, stratum, cluster or f"c{number // 2}"
    )


ITEMS = [item(number, stratum="xyz"[min(number % 5, 2)]) for number in range(60)]


def config(**changes: object) -> RunConfig:
    return replace(BASE, **changes)  # type: ignore[arg-type]


@given(st.integers(1, 70), st.integers(0, 5), st.randoms(use_true_random=False))
@settings(max_examples=30, deadline=None)
def test_the_sample_depends_on_ids_and_seed_alone(
    limit: int, seed: int, dice: random.Random
) -> None:
    shuffled = dice.sample(ITEMS, len(ITEMS))
    chosen = plan.choose(ITEMS, limit, seed)
    assert set(chosen) == set(plan.choose(shuffled, limit, seed))
    assert chosen == [one for one in ITEMS if one in chosen]  # in the task's order
    assert len(chosen) == min(limit, len(ITEMS))
    assert set(plan.choose(ITEMS, limit - 1, seed)) <= set(chosen)


@pytest.mark.parametrize("limit", [3, 5, 12, 31, 50])
def test_a_sample_has_strata_in_the_proportions_of_all_items(limit: int) -> None:
    sizes = Counter(one.stratum for one in ITEMS)  # 12, 12 and 36
    taken = Counter(one.stratum for one in plan.choose(ITEMS, limit, 0))
    assert all(abs(taken[s] - limit * size / 60) <= 1 for s, size in sizes.items())


def test_strata_of_one_size_are_taken_from_equally() -> None:
    even = [one for one in ITEMS if one.stratum != "z"]
    taken = Counter(one.stratum for one in plan.choose(even, 7, 0))
    assert sorted(taken.values()) == [3, 4]


def test_a_sample_in_other_proportions_says_so() -> None:
    assert plan.make(ITEMS, config(limit=5)).remarks == ()
    assert plan.make(ITEMS, config()).remarks == ()
    (told,) = plan.make(ITEMS, config(limit=2)).remarks
    assert told == (
        "2 of 60 items of t: a sample so small does not have the strata in the proportions of all "
        "items (share in it/of all: x 0%/20%, y 0%/20%, z 100%/60%)"
    )


def test_another_seed_is_another_sample() -> None:
    assert len({tuple(o.id for o in plan.choose(ITEMS, 10, seed)) for seed in range(5)}) == 5


@pytest.mark.parametrize("limit", [None, 31])
def test_shards_part_the_sample_evenly(limit: int | None) -> None:
    whole = plan.choose(ITEMS, limit, 3)
    parts = [plan.choose(ITEMS, limit, 3, shard, 4) for shard in range(4)]
    assert sorted(one.id for part in parts for one in part) == sorted(one.id for one in whole)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_donors_are_those_of_the_whole_task() -> None:
    whole = plan.make(ITEMS, config())
    for changed in (config(limit=7), config(shard=1, shards=3), config(frames=(10,))):
        part = plan.make(list(reversed(ITEMS)), changed)
        assert part.donors
        assert all(whole.donors[place] == donors for place, donors in part.donors.items())
    assert {arm for _, arm in whole.donors} == {"visual_perturbation", "text_perturbation"}
    by_id = {one.id: one for one in ITEMS}
    for (key, _), (donor,) in whole.donors.items():
        assert donor.cluster != by_id[key.id].cluster


def test_a_donor_shares_the_stratum_where_the_task_asks() -> None:
    same = plan.make(ITEMS, config(task=replace(BASE.task, same_stratum_donor=True)))
    by_id = {one.id: one for one in ITEMS}
    assert all(d.stratum == by_id[i.id].stratum for (i, _), (d,) in same.donors.items())


def test_several_draws_are_several_cells_and_no_donor_counts_twice() -> None:
    few = [item(number) for number in range(6)]
    drawn = plan.make(few, config(donor_draws=5))
    cells = list(drawn.trials())
    for one in few:
        donors = drawn.donors[one.key, "visual_perturbation"]
        assert 1 < len(donors) == len(set(donors)) <= 4
        mine = [c for c in cells if c.item == one and c.arm.name == "visual_perturbation"]
        assert [cell.donor for cell in mine] == list(donors)
    assert len([c for c in cells if c.arm.name == "baseline"]) == 6


def test_what_is_needed_of_others_is_known_beforehand() -> None:
    asked = plan.make(ITEMS, config(limit=4))
    donors = {donor.id for donors in asked.donors.values() for donor in donors}
    assert {one.id for one in asked.shown_items()} == donors | {one.id for one in asked.items}
    text = {d.id for (_, arm), ds in asked.donors.items() for d in ds if arm.startswith("text")}
    needing = {one.id for one in asked.needing_infills()}
    assert needing == {one.id for one in asked.items} | text
    bare = plan.make(ITEMS, config(suite=(Arm("baseline"),)))
    assert bare.needing_infills() == []


def test_donor_use_is_counted() -> None:
    use = plan.make(ITEMS, config()).donor_use()["visual_perturbation"]
    assert use["max"] >= use["mean"] >= 1
    assert use["donors"] * use["mean"] == pytest.approx(len(ITEMS), abs=0.1)


def test_nothing_to_ask_and_no_donor_are_told() -> None:
    with pytest.raises(ProbesError, match="shard 3 of 4"):
        plan.make(ITEMS, config(limit=3, shard=3, shards=4))
    with pytest.raises(ProbesError, match="no donor"):
        plan.make([item(0), item(1)], config())


# ---- several tasks, whose items may share ids

OTHERS = [replace(one, task="u", question="another?") for one in ITEMS]
BOTH = [one for pair in zip(ITEMS, OTHERS, strict=True) for one in pair]


@given(st.integers(1, 140), st.integers(0, 3), st.randoms(use_true_random=False))
@settings(max_examples=20, deadline=None)
def test_another_task_moves_no_sample(limit: int, seed: int, dice: random.Random) -> None:
    chosen = plan.choose(dice.sample(BOTH, len(BOTH)), limit, seed)
    assert len(chosen) == len(set(chosen)) == min(limit, 120)
    for task in (ITEMS, OTHERS):
        mine = {one for one in chosen if one.task == task[0].task}
        assert mine <= set(plan.choose(task, limit, seed))
        assert limit < 120 or mine == set(task)


@pytest.mark.parametrize("limit", [6, 11, 18])
def test_the_sample_is_balanced_over_tasks_however_large_they_are(limit: int) -> None:
    taken = Counter(one.task for one in plan.choose([*ITEMS, *OTHERS[:12]], limit, 0))
    assert len(taken) == 2
    assert max(taken.values()) - min(taken.values()) <= 1


def test_shards_part_several_tasks_without_doubles() -> None:
    parts = [plan.choose(BOTH, None, 3, shard, 4) for shard in range(4)]
    assert Counter(one.key for part in parts for one in part) == Counter(o.key for o in BOTH)


names = st.lists(st.integers(0, 40), min_size=8, max_size=16, unique=True)


@given(names, names, st.integers(0, 3), st.booleans(), st.randoms(use_true_random=False))
@settings(max_examples=30, deadline=None)
def test_ids_that_clash_change_no_donor(
    mine: list[int], others: list[int], limit: int, same: bool, dice: random.Random
) -> None:
    one, two = [item(n) for n in mine], [replace(item(n), task="u") for n in others]
    cfg = config(donor_draws=2, task=replace(BASE.task, same_stratum_donor=same))
    mixed = plan.make(dice.sample(one + two, len(one + two)), cfg)
    alone = plan.make(one, cfg).donors | plan.make(two, cfg).donors
    assert mixed.donors == alone
    assert len(mixed.known) == len(mixed.shown_items()) == len(one) + len(two)
    assert {key.task for key, _ in mixed.donors} == {"t", "u"}


def test_neighbours_of_one_id_are_two_items() -> None:
    asked = plan.make(BOTH, config())
    blocks = [list(dict.fromkeys(t.item.key for t in block)) for block in asked.blocks()]
    assert [len(block) for block in blocks[:3]] == [4, 8, 16]
    assert [key for block in blocks for key in block] == [one.key for one in BOTH]
    needed = [one.key for one in asked.in_order_of_need()]
    assert sorted(needed) == sorted(one.key for one in BOTH)
    assert len(asked.needing_infills()) == len(BOTH)
