"""The pages of the project and their blocks of code; tests run or check every one of them.

A comment of HTML right before a block says what is special about it:

- `not run: REASON`: it cannot be run here; what can be checked of it without running is checked.
- `slow: REASON`: it is run among the slow tests, with the rest of its page.
- `file: PATH`: it is a file of the project (test_docs_files.py holds it to that).
- `not compared: REASON`: the output that it shows is not the output of the block before it.

Blocks in `bash` are commands, those in `console` commands behind `$ ` with what they print, those
in `python` code; a block in `text` right behind commands is what they print. Blocks of one page
run in order, in one folder.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/**/*.md"),
        *(
            page
            for folder in ("benchmarks", "conf", "examples", "probes", "results", "tasks")
            for page in (ROOT / folder).glob("**/README.md")
            if "runs" not in page.parts
        ),
    ]
)
RUN = ("bash", "console", "python")
SHOWN = ("diff", "jinja", "json", "text", "toml", "yaml")
MARKS = ("not run", "slow", "file", "not compared")
_MARK = re.compile(rf"<!-- ({'|'.join(MARKS)}): (\S.*?) -->\s*", re.S)


@dataclass(frozen=True, slots=True)
class Block:
    """A block of code of a page."""

    page: Path
    line: int
    """Of its first line of code, from 1."""
    language: str
    text: str
    mark: str = ""
    """One of `MARKS`, or empty."""
    reason: str = ""
    """What the comment says behind the mark."""

    @property
    def where(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(page: Path) -> list[Block]:
    """Return the blocks of a page in order."""
    found, comment = [], ""
    for token in MarkdownIt().parse(page.read_text("utf-8")):
        if token.type in ("fence", "code_block"):
            marked = _MARK.fullmatch(comment)
            mark, reason = marked.groups() if marked else ("", "")
            first = (token.map or [0])[0] + (2 if token.type == "fence" else 1)
            found.append(Block(page, first, token.info, token.content, mark, reason))
        comment = token.content if token.type == "html_block" else ""
    return found


def prose(page: Path) -> str:
    """Return a page without its blocks."""
    lines = page.read_text("utf-8").splitlines()
    for token in MarkdownIt().parse("\n".join(lines)):
        if token.type == "fence" and token.map:
            lines[slice(*token.map)] = [""] * (token.map[1] - token.map[0])
    return "\n".join(lines)


def steps(block: Block) -> Iterator[tuple[str, str]]:
    """Yield the scripts of a block of commands, each with the output that the block shows.

    A block in `bash` is one script; one in `console` has one per line that begins with `$ `.
    """
    if block.language == "bash":
        yield block.text, ""
        return
    script, shown = "", ""
    for line in block.text.splitlines(keepends=True):
        if line.startswith("$ "):
            if script:
                yield script, shown
            script, shown = line[2:], ""
        elif script.endswith("\\\n"):
            script += line
        else:
            shown += line
    yield script, shown


def command_lines(text: str) -> Iterator[str]:
    """Yield the lines of a script, continued ones as one, with comments and without prompts."""
    for line in text.replace("\\\n", " ").splitlines():
        yield line.removeprefix("$ ").strip()
