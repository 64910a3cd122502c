"""What a run holds in little room comes out as it went in."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probes.packed import Asked, Ledger, Packed
from probes.types import Infill

TEXT = st.text(st.characters(codec=None), max_size=20)
INFILLS = st.builds(Infill, TEXT, TEXT, TEXT, TEXT, st.booleans(), TEXT)
PLACES = st.tuples(TEXT, st.integers(1, 64))


@given(st.dictionaries(PLACES, st.lists(INFILLS, max_size=4).map(tuple), max_size=8))
def test_infills(given: dict[tuple[str, int], tuple[Infill, ...]]) -> None:
    packed = Packed()
    packed.update(given)
    assert dict(packed) == given
    assert dict(packed) == given  # those that are remembered, too
    for place in list(given)[:1]:
        packed[place] = ()
        assert packed[place] == ()
        del packed[place]
        assert place not in packed and len(packed) == len(given) - 1


def test_thousands_of_infills_are_small() -> None:
    packed, text = Packed(), "The left door opens and the man walks through it."
    for number in range(2_000):
        packed[f"item{number}", 10] = (Infill(text, "a room", text, "f" * 64),) * 9
    held = sum(len(data) for data in packed._packed.values())
    assert held < 2_000 * 400
    assert len(packed._fresh) <= 64
    assert packed["item7", 10] == packed["item1999", 10]


def sha(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()


def test_a_ledger_keeps_the_order_of_cells() -> None:
    ledger = Ledger()
    for number in range(5):
        if number == 2:
            ledger.fail("no frames")
        else:
            ledger.put(sha(number), sha(-number))
    assert list(ledger) == [
        Asked(problem="no frames") if n == 2 else Asked(sha(n), sha(-n)) for n in range(5)
    ]
    assert ledger[4] == Asked(sha(4), sha(-4))
    assert len(ledger) == 5
    for at in (-1, 5):
        with pytest.raises(IndexError):
            ledger[at]
