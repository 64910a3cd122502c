"""Margins of members that differ in how sure they are, not in what they know."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from made_records import record
from scipy import optimize, special

from probes import analysis
from probes.records.schema import Record

ITEMS = 200


def answers(role: str, temperature: float, gain: float = 0.5, seed: int = 0) -> list[Record]:
    """Return both arms of a member whose log-probabilities are honest at a temperature."""
    rng = np.random.default_rng(seed)
    out = []
    for arm, more in (("baseline", 0.0), ("vcot", gain)):
        for item in range(ITEMS):
            scores = rng.normal(size=5)
            right = int(rng.choice(5, p=special.softmax(scores)))
            scores[right] += more
            given = special.log_softmax(scores / temperature)
            row = record(item, arm, role=role)
            choice = int(given.argmax())
            out.append(
                dataclasses.replace(
                    row,
                    option_logprobs=tuple(given),
                    answer=2,
                    # The right option is the third of all: the two change places.
                    correct=choice == right,
                    choice=choice,
                )
            )
            swapped = list(given)
            swapped[2], swapped[right] = swapped[right], swapped[2]
            chosen = int(np.argmax(swapped))
            out[-1] = dataclasses.replace(
                out[-1], option_logprobs=tuple(swapped), choice=chosen, correct=chosen == 2
            )
    return out


def test_identical_answers_at_half_the_temperature_are_no_effect() -> None:
    frame = analysis.from_records([*answers("image", 1.0), *answers("video", 0.5)])
    found = analysis.contrasts(frame, measure="margin")
    for name, arm in (("did", "vcot"), ("transfer", "baseline"), ("transfer", "vcot")):
        row = found[(found["name"] == name) & (found["arm"] == arm)].iloc[0]
        assert row["n"] == ITEMS
        assert row["estimate"] == pytest.approx(0, abs=1e-9) and row["p"] > 0.99
    # Each member's own gain stays in its own nats.
    gains = found[found["name"] == "gain"].set_index("role")["estimate"]
    assert gains["video"] == pytest.approx(2 * gains["image"])
    at = analysis.temperatures(frame).set_index("role")
    assert at["temperature"]["video"] == pytest.approx(2 * at["temperature"]["image"])
    assert at["temperature"]["image"] == pytest.approx(1.0, abs=3 * at["se"]["image"])


def test_the_temperature_makes_the_right_answers_likeliest() -> None:
    frame = analysis.from_records(answers("image", 0.7))
    base = frame[frame["arm"] == "baseline"]
    scores = np.array(base["option_logprobs"].to_list())
    right = base["answer"].to_numpy(int)

    def loss(t: float) -> float:
        return -special.log_softmax(scores / t, axis=1)[np.arange(ITEMS), right].sum()

    best = optimize.minimize_scalar(loss, bounds=(0.1, 5), method="bounded").x
    assert analysis.temperatures(frame)["temperature"][0] == pytest.approx(best, rel=1e-4)


def test_a_member_at_chance_has_no_temperature_and_no_comparison() -> None:
    rng = np.random.default_rng(1)
    noise = [
        dataclasses.replace(one, option_logprobs=tuple(special.log_softmax(rng.normal(size=5))))
        for one in answers("video", 1.0)
    ]
    frame = analysis.from_records([*answers("image", 1.0), *noise])
    found = analysis.contrasts(frame, measure="margin", names=["did", "gain"])
    did = found[found["name"] == "did"].iloc[0]
    assert did["n"] == 0 and np.isnan(did["estimate"])
    assert (found[found["name"] == "gain"]["n"] == ITEMS).all()
    at = analysis.temperatures(frame).set_index("role")["temperature"]
    assert np.isnan(at["video"]) and np.isfinite(at["image"])


@pytest.mark.slow
def test_the_temperature_s_own_error_is_in_the_interval() -> None:
    """Two members alike in truth: the DiD holds 0 about as often as it says."""
    held = []
    for seed in range(60):
        members = [*answers("image", 1.0, 2.0, seed), *answers("video", 0.5, 2.0, 1000 + seed)]
        frame = analysis.from_records(members)
        row = analysis.contrasts(frame, measure="margin", names=["did"]).iloc[0]
        held.append(row["low"] <= 0 <= row["high"])
    assert np.mean(held) >= 0.88
