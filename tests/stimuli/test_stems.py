"""Stems of English words, and which options a text gives away by one."""

from __future__ import annotations

import pytest

from probes.stimuli import stems
from probes.stimuli.stems import leaks_by_stem, stem

FORMS = (
    "take takes taking took taken",
    "carry carries carried carrying",
    "cut cuts cutting",
    "wash washes washed washing",
    "open opens opened opening",
    "close closes closed closing",
    "fall falls falling fell fallen",
    "put puts putting",
    "box boxes",
    "cup cups",
    "berry berries",
    "glass glasses",
    "knife knives",
    "slow slowly",
    "run runs ran running",
    "fold folds folded folding",
    "place places placed placing",
    "play plays played playing",
    "hold holds holding held",
    "use uses used using",
    "stir stirs stirred stirring",
)


@pytest.mark.parametrize("forms", FORMS)
def test_forms_of_one_word_have_one_stem(forms: str) -> None:
    assert len({stem(form) for form in forms.split()}) == 1


def test_different_words_have_different_stems() -> None:
    found = [stem(forms.split()[0]) for forms in FORMS]
    others = (
        "king bed bus this red ring sing wing need speed grass bring news fly family only".split()
    )
    found += [stem(word) for word in others]
    assert len(set(found)) == len(found)


def test_a_form_of_the_keys_word_is_found_where_its_text_is_not() -> None:
    options = ("c washes the dishes", "c carries the box", "c opens the door")
    assert leaks_by_stem(["he is carrying something"], options) == [1]
    assert leaks_by_stem(["the dish is on the table", "a door"], options) == [0, 2]
    assert leaks_by_stem(["c is in the room, and so is he"], options) == []


def test_words_that_all_options_share_tell_none() -> None:
    options = ("the red box", "the red cup", "the blue cup")
    assert leaks_by_stem(["a red thing and two cups"], options) == []
    assert leaks_by_stem(["boxes"], options) == [0]


def test_function_words_and_case_say_nothing() -> None:
    assert stems.content_stems("They WERE cutting it for Him") == {"cut"}
    assert leaks_by_stem(["THE BOX."], ("before the box", "after the cup")) == [0]
    assert leaks_by_stem([""], ("", "a")) == []
