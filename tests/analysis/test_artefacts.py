"""Ties, favourite letters and calibration of cells."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from made_records import record

from probes import analysis
from probes.analysis import artefacts
from probes.analysis.scored import frame_lines
from probes.records.schema import Record


def test_calibration_error_and_discrimination_of_known_cases() -> None:
    sure = np.array([0.9, 0.9, 0.9, 0.9, 0.6, 0.6])
    right = np.array([1.0, 1, 1, 0, 1, 0])
    # (4 |3/4 - 0.9| + 2 |1/2 - 0.6|) / 6
    assert artefacts.calibration_error(sure, right) == pytest.approx((0.6 + 0.2) / 6)
    # Of eight pairs of a right and a wrong answer: 3 higher, 4 equal, 1 lower.
    assert artefacts.discrimination(sure, right) == pytest.approx((3 + 4 / 2) / 8)
    assert artefacts.discrimination(np.array([0.9, 0.2]), np.array([1.0, 0])) == 1
    assert np.isnan(artefacts.discrimination(sure, np.ones(6)))
    assert np.isnan(artefacts.calibration_error(sure[:0], right[:0]))


def scored(logprobs: tuple[float, ...], **more: object) -> Record:
    one = record(0, option_logprobs=logprobs, option_tokens=(1,) * len(logprobs), **more)
    return replace(one, scoring="letter", choice=int(np.argmax(logprobs)))


def test_entropy_is_normalised_by_the_number_of_options() -> None:
    even, sure = (0.0,) * 5, (0.0, -1e9, -1e9, -1e9, -1e9)
    half = (np.log(0.5), np.log(0.5), -1e9, -1e9, -1e9)
    records = [
        replace(scored(one), item_id=f"q{at}", choice=0, answer=0, key=f"{at}")
        for at, one in enumerate((even, sure, half))
    ]
    found = artefacts.entropies(analysis.from_records(records))
    assert found == pytest.approx([1, 0, np.log(2) / np.log(5)], abs=1e-9)


def rotations(item: int, own: list[float], bias: list[float], answer: int) -> list[Record]:
    """One item's answers under all rotations: what it thinks of an option, and of a letter."""
    found = []
    count = len(own)
    for r in range(count):
        # Option k is listed at place (k - r).
        scores = [own[k] + bias[(k - r) % count] for k in range(count)]
        one = scored(tuple(scores), rotation=r)
        found.append(replace(one, item_id=f"q{item}", answer=answer, key=f"{item}-{r}"))
    return found


def test_rotations_tell_a_favourite_letter_from_the_answers() -> None:
    draw = np.random.default_rng(0)
    bias = [2.0, 0.0, 0.0, 0.0, 0.0]
    records = []
    for item in range(40):
        answer = item % 5
        own = 0.1 * draw.standard_normal(5)
        own[answer] += 1.0
        records += rotations(item, list(own), bias, answer)
    (cell,) = artefacts.artefacts(analysis.from_records(records)).to_dict("records")
    # It says A but where that is next to hopeless, and knows every answer.
    assert cell["top"] == 0 and cell["top_share"] > 0.9
    assert cell["accuracy"] < 0.4
    assert cell["accuracy_corrected"] == 1
    assert cell["letter_prior"][0] == pytest.approx(np.exp(2) / (np.exp(2) + 4), abs=0.02)
    assert cell["letter_bias"] == pytest.approx(cell["letter_prior"][0] - 0.2, abs=0.01)


def test_without_rotations_nothing_is_corrected() -> None:
    records = [record(item) for item in range(6)]
    (cell,) = artefacts.artefacts(analysis.from_records(records)).to_dict("records")
    assert cell["letter_prior"] == ()
    assert np.isnan(cell["accuracy_corrected"])
    assert cell["choices"] == (2, 1, 1, 1, 1)
    assert cell["answers"] == 6


def says(letter: int, items: int, arm: str = "baseline", others: int = 0) -> list[Record]:
    found = []
    for item in range(items):
        choice = (letter + 1) % 5 if item < others else letter
        one = record(item, arm, "video")
        found.append(replace(one, scoring="generate", choice=choice, correct=choice == one.answer))
    return found


def test_a_member_that_always_says_one_letter_is_told_of() -> None:
    frame = analysis.from_records([*says(0, 40), *says(0, 40, "vcot", others=2)])
    assert frame_lines(frame)[0] == (
        "one letter: 78 of 80 answers of tiny-video (video) are A, under every arm: its accuracy "
        "is that of the letter, not of the member"
    )
    (row,) = (one for one in artefacts.artefacts(frame).to_dict("records") if one["arm"] == "vcot")
    assert (row["top"], row["top_share"], row["choices"]) == (0, 0.95, (38, 2, 0, 0, 0))
    some = analysis.from_records([*says(0, 40), *says(0, 40, "vcot", others=9)])
    assert "40 of 40 answers of tiny-video (video) are A, under baseline:" in frame_lines(some)[0]


def test_few_answers_or_several_letters_are_no_favourite() -> None:
    assert frame_lines(analysis.from_records(says(0, 19))) == []
    assert frame_lines(analysis.from_records(says(0, 40, others=3))) == []


def test_a_letter_at_one_number_of_frames_is_not_hidden_by_another() -> None:
    always = says(0, 40)
    varied = [
        replace(one, frames=one.frames + 5, key=f"{one.key}+5") for one in says(0, 40, others=20)
    ]
    (line,) = frame_lines(analysis.from_records([*always, *varied]))
    assert f"under baseline ({always[0].frames} frames)" in line
    other = [replace(one, frames=one.frames + 5, key=f"{one.key}+5") for one in says(3, 40)]
    (line,) = frame_lines(analysis.from_records([*always, *other]))
    assert "80 of 80" in line and "are A/D, under every arm" in line
