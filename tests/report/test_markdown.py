"""Texts in the Markdown version."""

from __future__ import annotations

import pytest

from probes.report import markdown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("+25.0 [+18.4, +31.6]", "+25.0 [+18.4, +31.6]"),
        ("a|b", r"a\|b"),
        ("<b>&", "&lt;b&gt;&amp;"),
        ("[x](y)", r"[x]\(y)"),
        ("![x][y]", r"![x]\[y]"),
        ("# one\n- two", r"\# one - two"),
        ("- one", r"\- one"),
        ("`c` *d*", r"\`c\` \*d\*"),
        ("a\\b", r"a\\b"),
    ],
)
def test_markdown_shows_texts_unchanged(text: str, shown: str) -> None:
    assert markdown.escaped(text) == shown
