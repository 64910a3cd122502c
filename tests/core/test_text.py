"""Texts without half characters, dotted names, and the nearest name."""

from __future__ import annotations

from probes.core.text import flat, nearest, whole_text, whole_texts


def test_half_characters_become_question_marks() -> None:
    assert whole_text("plain") == "plain"
    assert whole_text("é \ud800.") == "é ?."
    assert whole_texts(["\udfff", ("b\ud800",), 3, None]) == ["?", ("b?",), 3, None]


def test_nested_mappings_get_dotted_names() -> None:
    assert flat({"a": {"b": 1, "c": {"d": [2]}}, "e": {}}) == {"a.b": 1, "a.c.d": [2]}


def test_an_unknown_name_gets_the_nearest_or_all() -> None:
    assert nearest("leter", ("letter", "cloze")) == "did you mean letter?"
    assert nearest("xyz", ("letter", "cloze")) == "use one of letter, cloze"
    known = ("letter", "letters", "cloze")
    assert nearest("letterz", known, count=2) == "did you mean letter or letters?"
    assert nearest("leter", known, prefix="scoring.") == "did you mean scoring.letter?"
    assert nearest("xyz", known, otherwise="see the list") == "see the list"
