"""Variance components of contrasts over items, donors and texts."""

from __future__ import annotations

import numpy as np
import pytest
from made_records import record

from probes import analysis
from probes.analysis import draws
from probes.records.schema import Record


@pytest.mark.parametrize("donors", [1, 3])
@pytest.mark.parametrize("texts", [1, 4])
def test_planted_components_are_found(donors: int, texts: int) -> None:
    draw = np.random.default_rng(donors + texts)
    count = 4_000
    planted = {"sd_items": 0.5, "sd_donors": 0.3, "sd_texts": 0.4, "sd_both": 0.2}
    difference = 0.1 + planted["sd_items"] * draw.standard_normal((count, 1, 1))
    for name, size in (
        ("sd_donors", (count, donors, 1)),
        ("sd_texts", (count, 1, texts)),
        ("sd_both", (count, donors, texts)),
    ):
        if (donors > 1 or name == "sd_texts") and (texts > 1 or name == "sd_donors"):
            difference = difference + planted[name] * draw.standard_normal(size)
    difference = np.broadcast_to(difference, (count, donors, texts))
    found = draws.components_of(difference)
    assert found["estimate"] == pytest.approx(difference.mean())
    assert found["sd_items"] == pytest.approx(0.5, abs=0.02)
    for name, there in (
        ("sd_donors", donors > 1),
        ("sd_texts", texts > 1),
        ("sd_both", donors > 1 and texts > 1),
    ):
        expected = planted[name] if there else float("nan")
        assert found[name] == pytest.approx(expected, abs=0.02, nan_ok=True)
    per_item = difference.mean((1, 2))
    assert found["se"] == pytest.approx(per_item.std(ddof=1) / np.sqrt(count))
    # One draw of each: what a run without draws has.
    assert found["se_one"] == pytest.approx(difference[:, 0, 0].std() / np.sqrt(count), rel=0.05)


def drawn(item: int, arm: str, right: str, **more: object) -> list[Record]:
    """One record per letter of `right`: r right, w wrong, e failed."""
    found = []
    for draw, letter in enumerate(right):
        key = f"{arm}-{item}-{draw}-{more}"
        one = record(item, arm, correct=letter == "r", infill_draw=draw, key=key, **more)
        found.append(one)
    return found


def test_an_item_is_one_observation_with_the_mean_of_its_texts() -> None:
    records = [one for item in range(4) for one in drawn(item, "baseline", "w")]
    for item, right in enumerate(("rr", "rw", "wr", "ww")):
        records += drawn(item, "vcot", right)
    frame = analysis.from_records(records)
    (gain,) = analysis.contrasts(frame, names=("gain",), policies=("strict",)).to_dict("records")
    assert (gain["n"], gain["estimate"]) == (4, 0.5)
    (row,) = draws.components(frame).to_dict("records")
    assert (row["name"], row["n"], row["donors"], row["texts"]) == ("gain", 4, 1, 2)
    assert row["estimate"] == gain["estimate"]
    assert (row["lowest"], row["highest"]) == (0.5, 0.5)
    # Within items: 0, 1/2, 1/2, 0.
    assert row["sd_texts"] == pytest.approx(np.sqrt(0.25))
    observed = np.var([1, 0.5, 0.5, 0], ddof=1)
    assert row["sd_items"] == pytest.approx(np.sqrt(observed - 0.25 / 2))
    assert np.isnan(row["sd_donors"])


def test_an_item_with_a_failed_draw_is_left_out() -> None:
    records = [one for item in range(4) for one in drawn(item, "baseline", "w")]
    for item in range(3):
        records += drawn(item, "vcot", "rw")
    first, second = drawn(3, "vcot", "rw")
    from dataclasses import replace

    failed = replace(second, status="error", choice=None, correct=False)
    frame = analysis.from_records([*records, first, failed])
    assert draws.components(frame)["n"].tolist() == [3]


def test_nothing_that_was_drawn_once_has_components() -> None:
    frame = analysis.from_records(
        [record(item, arm) for item in range(4) for arm in ("baseline", "vcot")]
    )
    assert draws.components(frame).empty


def test_what_intervals_cover_depends_on_what_was_drawn() -> None:
    once = analysis.from_records([record(0), record(1)])
    told = "Intervals cover the sampling of items, not of texts, donors or training seeds."
    assert draws.coverage(once) == told
    texts = once.assign(infill_draw=[0, 1])
    told = "Intervals cover the sampling of items and of texts, not of donors or training seeds."
    assert draws.coverage(texts) == told
    told = (
        "Intervals cover the sampling of items and of texts and of donors, not of training seeds."
    )
    assert draws.coverage(texts.assign(donor_draw=[1, 0])) == told
