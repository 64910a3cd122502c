"""Tables: the same rows as plain lines, Markdown, HTML and CSV."""

from __future__ import annotations

import csv
import html.parser
import io

import pandas as pd
import pytest

from probes.core import tables
from probes.core.tables import Table
from probes.core.text import letter, listed

TABLE = Table(
    "A <b> | table",
    ("what", "member", "n"),
    (("x|y", "a" * 12, "7"), ("", "b", "-12")),
    name="some",
)


def test_plain_lines_are_aligned_and_members_names_are_cut() -> None:
    assert tables.text(TABLE) == [
        "what  member          n",
        "----  ------------  ---",
        "x|y   aaaaaaaaaaaa    7",
        "      b             -12",
    ]
    narrow = tables.text(TABLE, width=22)
    assert narrow[2] == "x|y   aaa..aaaa    7"
    assert tables.listing([TABLE], ["word " * 30], width=60)[0] == TABLE.title
    assert tables.listing([TABLE], ["word " * 30])[-1].startswith("  word")


def test_markdown_shows_texts_unchanged_below_a_link() -> None:
    lines = list(tables.markdown(TABLE))
    assert lines == [
        "**A &lt;b&gt; \\| table** ([CSV](tables/some.csv))",
        "",
        "| what | member | n |",
        "| --- | --- | ---: |",
        "| x\\|y | aaaaaaaaaaaa | 7 |",
        "|  | b | -12 |",
    ]
    assert next(tables.markdown(Table("plain", ("n",), ()))) == "**plain**"


class Cells(html.parser.HTMLParser):
    """Texts and classes of a table's cells."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, str | None, str]] = []
        self.tags: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag in ("td", "th"):
            self.found.append((tag, dict(attrs).get("class"), ""))

    def handle_data(self, data: str) -> None:
        if self.tags[-1] in ("td", "th") and data.strip():
            self.found[-1] = (*self.found[-1][:2], data)


def test_html_marks_words_and_escapes_texts() -> None:
    evil = Table(TABLE.title, ("a", "b", "n"), (("<script>", "'\"&", "1"),), name="some")
    found = Cells(tables.html(evil))
    assert found.found == [
        ("th", "word", "a"),
        ("th", "word", "b"),
        ("th", None, "n"),
        ("td", "word", "<script>"),
        ("td", "word", "'\"&"),
        ("td", None, "1"),
    ]
    assert "caption" in found.tags
    assert "script" not in found.tags
    folded = Table("t", ("a",), (), folded=True)
    assert "caption" not in Cells(tables.html(folded)).tags


@pytest.mark.parametrize("texts", [("a,b", 'c"d'), ("", "x\ny"), ("é", "\ud800")], ids=str)
def test_csv_is_read_back(texts: tuple[str, str]) -> None:
    content = tables.csv(Table("t", ("one", "two"), (texts,))).decode("utf-8")
    assert list(csv.reader(io.StringIO(content))) == [
        ["one", "two"],
        [one.replace("\ud800", "?") for one in texts],
    ]


def test_csv_has_the_data_unrounded_where_there_is_some() -> None:
    data = pd.DataFrame({"n": [1 / 3], "of": ["x"]})
    content = tables.csv(Table("t", ("n",), (("0.3",),), data=data)).decode()
    assert content == f"n,of\n{1 / 3!r},x\n"


def test_names_and_letters() -> None:
    assert listed(list("abcdefg")) == "a, b, c, d, e and 2 more"
    assert listed(["a", "b"], separator="; ") == "a; b"
    assert [letter(0), letter(25), letter(26)] == ["A", "Z", "26"]
