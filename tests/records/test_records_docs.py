"""docs/records.md has the tables of probes/records; run as a program, this file writes them."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import pyarrow as pa
import pytest

from probes.records import schema
from probes.records.manifest import Manifest
from probes.records.schema import ArtifactRow, InfillRow, ItemRow, Record


def markdown(row: type) -> str:
    """The columns of a row type as a table."""
    lines = ["| column | type | meaning |", "|---|---|---|"]
    for field in schema.fields(row):
        kind = in_words(field.kind) + (", or null" if field.nullable else "")
        lines.append(f"| `{field.name}` | {kind} | {field.column.meaning} |")
    return "\n".join(lines)


def in_words(kind: pa.DataType) -> str:
    if pa.types.is_map(kind):
        return f"map from {kind.key_type} to {in_words(kind.item_type)}"
    return f"list of {in_words(kind.value_type)}" if pa.types.is_list(kind) else str(kind)


def entries() -> str:
    """The entries of a manifest as a table."""
    rows = (f"| `{one.name}` | {one.metadata['meaning']} |" for one in fields(Manifest))
    return "\n".join(["| entry | meaning |", "|---|---|", *rows])


PAGE = Path(__file__).resolve().parents[2] / "docs" / "records.md"
TABLES: dict[str, Callable[[], str]] = {
    "records": lambda: markdown(Record),
    "items": lambda: markdown(ItemRow),
    "infills": lambda: markdown(InfillRow),
    "artifacts": lambda: markdown(ArtifactRow),
    "manifest": entries,
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
