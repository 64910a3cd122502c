"""The pages can be followed: links, targets, paths, and what test_docs_run.py does not run."""

from __future__ import annotations

import argparse
import ast
import importlib
import importlib.util
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import pages
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from pages import PAGES, ROOT, Block

from probes.cli import main
from probes.config import compose
from probes.config.paths import conf_dir

LINK = re.compile(r"\]\(([^)\s]+)\)")
SPAN = re.compile(r"`([^`\n]+)`")
ASSIGNED = re.compile(r"[A-Z_]+=\S*")
FOLDERS = "benchmarks|conf|docs|examples|fuzz|probes|results|tasks|tests|\\.ci|\\.github"
PATH = re.compile(rf"(?:^|(?<=[\s`(=]))(?:{FOLDERS})/[\w./-]*\w")
MADE = ("results/runs", "probes/task_definitions")
"""Where paths begin that only a run makes, or that only a wheel has."""
ALL = [block for page in PAGES for block in pages.blocks(page)]
UNRUN = [block for block in ALL if block.mark in ("not run", "slow")]


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def commands() -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield (page, words) of every command line of ours that the default tests do not run."""
    for page in PAGES:
        spans = SPAN.findall(pages.prose(page))
        lines = [line for b in UNRUN if b.page == page for line in pages.command_lines(b.text)]
        for text in dict.fromkeys([*spans, *lines]):
            if "probes " not in text:
                continue
            words = shlex.split(text, comments=True)
            while words and ASSIGNED.fullmatch(words[0]):
                words.pop(0)
            if words and words[0] == "probes":
                # `...` and `task=...` are placeholders for the reader.
                yield name(page), tuple(word for word in words[1:] if not word.endswith("..."))


SHOWN = list(dict.fromkeys(commands()))


class _UnderstoodError(Exception):
    """Raised instead of running a command whose arguments were understood."""


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    for link in LINK.findall(page.read_text("utf-8")):
        if "://" not in link:
            path, _, anchor = link.partition("#")
            target = page.parent / path if path else page
            assert target.exists(), link
            assert not anchor or anchor in anchors(target), link


def anchors(page: Path) -> set[str]:
    """Return the names of a page's headings in links, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", pages.prose(page), re.M)
    return {re.sub(r"[^\w -]", "", text.lower()).replace(" ", "-") for text in headings}


@pytest.mark.parametrize("block", ALL, ids=lambda block: block.where)
def test_every_block_is_run_or_says_why_not(block: Block) -> None:
    assert block.language in pages.RUN + pages.SHOWN, "say after the fence what the block is"
    if block.language not in pages.RUN:
        assert block.mark not in ("not run", "slow")
    if block.mark == "not compared":
        assert block.language == "text"


def test_most_blocks_are_run() -> None:
    runnable = [block for block in ALL if block.language in pages.RUN and block.mark != "file"]
    assert len(runnable) > 25
    assert sum(block.mark == "not run" for block in runnable) <= len(runnable) / 2


def test_there_are_command_lines_to_check() -> None:
    assert len(SHOWN) > 30
    assert {"run", "plan", "report", "check", "power", "data"} <= {w[0] for _, w in SHOWN}


@pytest.mark.parametrize(
    ("page", "words"), SHOWN, ids=[f"{page}: {' '.join(words)}" for page, words in SHOWN]
)
def test_every_command_line_is_understood(
    page: str, words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if words in (("--help",), ("--version",)):
        return
    command = next(one for one in main.COMMANDS if words[: len(one.words)] == one.words)
    arguments = list(words[len(command.words) :])
    if not arguments or arguments == ["--help"]:  # the command is only mentioned
        return
    if command.words == ("run",):
        _compose(arguments, tmp_path)
        return

    def understood(parser: argparse.ArgumentParser, *given: Any) -> NoReturn:
        parse(parser, *given)
        raise _UnderstoodError

    parse = argparse.ArgumentParser.parse_args
    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", understood)
    with pytest.raises(_UnderstoodError):
        command.main(arguments)
    if command.words == ("plan",):
        _compose([one for one in arguments if "=" in one], tmp_path)


def _compose(arguments: list[str], folder: Path) -> None:
    """Compose the configuration of a line of `probes run`, under `-m` of its first and last run."""
    (folder / "pair").mkdir()
    shutil.copyfile(conf_dir() / "pair" / "own.yaml", folder / "pair" / "mine.yaml")
    own = ["--config-dir", str(folder)] if "--config-dir" in arguments else []
    overrides, options = compose.split_arguments(arguments)
    assert set(options) <= {"-m", "--config-dir", "DIR", "--cfg", "job"}
    if "pair=mine" in overrides:  # the page says that the file has to be filled in
        overrides += ["pair.image.repo=one", "pair.video.repo=other"]
    parsed = [OverridesParser.create().parse_override(text) for text in overrides]
    for end in (0, -1) if "-m" in options else (0,):
        chosen = []
        for text, one in zip(overrides, parsed, strict=True):
            if one.is_sweep_override():
                assert "-m" in options
                text = f"{one.get_key_element()}={list(one.sweep_string_iterator())[end]}"
            chosen.append(text)
        assert compose.compose([*chosen, *own]).suite


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_target_of_make_and_every_path_is_there(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.M))
    lines = [line for b in UNRUN if b.page == page for line in pages.command_lines(b.text)]
    texts = [*SPAN.findall(pages.prose(page)), *lines]
    made = [text.split()[1] for text in texts if re.match(r"make [a-z-]+", text)]
    assert set(made) <= targets
    paths = {path for text in texts for path in PATH.findall(text)}
    missing = [path for path in sorted(paths) if not (ROOT / path).exists()]
    assert [path for path in missing if not path.startswith(MADE)] == []


@pytest.mark.parametrize("line", [line for b in UNRUN for line in pages.command_lines(b.text)])
def test_modules_that_are_run_are_there(line: str) -> None:
    for module in re.findall(r"python -m ([\w.]+)", line):
        assert importlib.util.find_spec(module)


def imports_that_fail(code: str) -> list[str]:
    """Return what a piece of code imports and is not there."""
    missing = []
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            wanted = [(alias.name, "") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            wanted = [(node.module or "", alias.name) for alias in node.names]
        else:
            continue
        for module, attribute in wanted:
            try:
                found = importlib.import_module(module)
                if attribute and not hasattr(found, attribute):
                    importlib.import_module(f"{module}.{attribute}")
            except ImportError:
                missing.append(f"{module} {attribute}".strip())
    return missing


def test_code_that_is_not_run_compiles_and_its_imports_are_there() -> None:
    assert imports_that_fail("from probes.core import errors, none\nimport probes.nothing\n") == [
        "probes.core none",
        "probes.nothing",
    ]
    for block in UNRUN:
        if block.language == "python":
            assert imports_that_fail(block.text) == [], block.where
