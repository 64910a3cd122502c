"""docs/records.md has the tables of probes/records; run as a program, this file writes them."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from probes.records import manifest, schema
from probes.records.schema import ArtifactRow, InfillRow, ItemRow, Record

PAGE = Path(__file__).resolve().parents[2] / "docs" / "records.md"
TABLES: dict[str, Callable[[], str]] = {
    "records": lambda: schema.markdown(Record),
    "items": lambda: schema.markdown(ItemRow),
    "infills": lambda: schema.markdown(InfillRow),
    "artifacts": lambda: schema.markdown(ArtifactRow),
    "manifest": manifest.markdown,
}


def block(name: str) -> re.Pattern[str]:
    return re.compile(rf"(<!-- {name} -->\n)(.*?)(<!-- end -->)", re.S)


@pytest.mark.parametrize("name", TABLES)
def test_the_page_has_the_present_columns(name: str) -> None:
    found = block(name).search(PAGE.read_text("utf-8"))
    assert found is not None
    assert found[2] == f"{TABLES[name]()}\n"


def write() -> None:
    text = PAGE.read_text("utf-8")
    for name, table in TABLES.items():
        before, start, rest = text.partition(f"<!-- {name} -->\n")
        _, end, after = rest.partition("<!-- end -->")
        text = f"{before}{start}{table()}\n{end}{after}"
    PAGE.write_text(text, "utf-8")


if __name__ == "__main__":
    write()
