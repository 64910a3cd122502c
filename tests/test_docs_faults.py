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


def test_the_page_names_what_there_is() -> None:
    assert len(ROWS) > 20
    for path in re.findall(r"`((?:tests|fuzz)/[\w./]+)", PAGE):
        assert (ROOT / path.partition("::")[0]).exists(), path
    makefile = (ROOT / "Makefile").read_text("utf-8")
    for target in re.findall(r"`make ([a-z-]+)", PAGE):
        assert f"\n{target}:" in makefile
