"""Code on a page that is a file of the project is that file; run as a program, this writes it.

`<!-- file: PATH -->` stands where a page shows a file; the block behind it is written from that.
"""

from __future__ import annotations

import re
from pathlib import Path

import pages
import pytest
from pages import PAGES, ROOT

MARK = re.compile(r"(<!-- file: (\S+) -->\n)(?:(`{3,})\w*\n.*?^\3\n)?", re.M | re.S)
LANGUAGES = {".py": "python", ".toml": "toml", ".yaml": "yaml", ".sh": "bash"}
SHOWN = [page for page in PAGES if MARK.search(page.read_text("utf-8"))]


def filled(page: Path) -> str:
    """Return a page with every file that it shows as the file is now.

    A file that is not there is not shown; the plug-in package of the examples may be left out.
    """

    def block(found: re.Match[str]) -> str:
        path = ROOT / found[2]
        if not path.is_file():
            return found[1]
        return f"{found[1]}```{LANGUAGES[path.suffix]}\n{path.read_text('utf-8')}```\n"

    return MARK.sub(block, page.read_text("utf-8"))


@pytest.mark.parametrize("page", SHOWN, ids=lambda page: page.name)
def test_the_files_on_a_page_are_the_files(page: Path) -> None:
    assert page.read_text("utf-8") == filled(page), "run `python tests/test_docs_files.py`"
    plugin = ROOT / "examples" / "plugin"
    named = [path for _, path, _ in MARK.findall(page.read_text("utf-8"))]
    missing = [path for path in named if not (ROOT / path).is_file()]
    assert [
        path for path in missing if plugin.is_dir() or plugin not in (ROOT / path).parents
    ] == []


def test_a_file_is_written_into_its_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("test_docs_files.ROOT", tmp_path)
    page, file = tmp_path / "page.md", tmp_path / "one.py"
    file.write_text("one = 1\n")
    page.write_text("# A page\n\n<!-- file: one.py -->\n\n<!-- file: none.py -->\n\nThe end.\n")
    page.write_text(filled(page))
    assert page.read_text() == (
        "# A page\n\n<!-- file: one.py -->\n```python\none = 1\n```\n\n"
        "<!-- file: none.py -->\n\nThe end.\n"
    )
    file.write_text("two = 2\n")
    page.write_text(filled(page))
    assert "two = 2\n```\n\n<!-- file: none.py -->\n\nThe end." in page.read_text()
    assert "one = 1" not in page.read_text()
    (block,) = pages.blocks(page)
    assert (block.mark, block.reason, block.language) == ("file", "one.py", "python")


if __name__ == "__main__":
    for page in SHOWN:
        page.write_text(filled(page), "utf-8")
