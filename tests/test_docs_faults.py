"""Every outcome that the page of faults promises has a test that exists."""

import ast
import re

import pytest
from processes import ROOT

PAGE = (ROOT / "docs" / "faults.md").read_text("utf-8")
ROWS = [line for line in PAGE.splitlines() if line.startswith("| ") and "what happens" not in line]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[2:50])
def test_every_row_names_a_test(row: str) -> None:
    assert row.count("|") == 5
    (file, name) = re.fullmatch(r".*\| `(tests/.+\.py)::(test_\w+)` \|", row).groups()
    tree = ast.parse((ROOT / file).read_text("utf-8"))
    assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_there_are_rows() -> None:
    assert len(ROWS) > 20
