"""The pages can be followed: every relative link, every `probes` command line."""

from __future__ import annotations

import argparse
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from probes.cli import main
from probes.config import compose
from probes.config.paths import conf_dir

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted(
    [
        *(ROOT / name for name in ("README.md", "CONTRIBUTING.md")),
        *ROOT.glob("docs/**/*.md"),
        *ROOT.glob("results/*/README.md"),
        *ROOT.glob("tasks/**/README.md"),
    ]
)
LINK = re.compile(r"\]\(([^)\s]+)\)")
# In a block a command is a line of its own, in a sentence or a table a span; `$ ` may lead.
COMMAND = re.compile(r"(?:^(?:\$ )?|`)(probes [^\n`]+)", re.M)
TARGET = re.compile(r"(?:^|`)make ([a-z-]+)", re.M)


def commands(page: Path) -> Iterator[list[str]]:
    """Yield every command line of a page as words, without its comment and ellipses."""
    for text in COMMAND.findall(page.read_text("utf-8").replace("\\\n", " ")):
        words = shlex.split(text, comments=True)[1:]
        # `...` and `task=...` are placeholders for the reader.
        yield [word for word in words if not word.endswith("...")]


SHOWN = [(page.relative_to(ROOT), words) for page in PAGES for words in commands(page)]


class _UnderstoodError(Exception):
    """Raised instead of running a command whose arguments were understood."""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    links = [one for one in LINK.findall(page.read_text("utf-8")) if "://" not in one]
    assert [one for one in links if not (page.parent / one.partition("#")[0]).exists()] == []


def test_there_are_command_lines_to_check() -> None:
    assert len(SHOWN) > 30
    assert {"run", "plan", "report", "check", "power", "merge", "data"} <= {w[0] for _, w in SHOWN}


@pytest.mark.parametrize(
    ("page", "words"), SHOWN, ids=[f"{page}: {' '.join(words)}" for page, words in SHOWN]
)
def test_every_command_line_is_understood(
    page: Path, words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = next(one for one in main.COMMANDS if tuple(words[: len(one.words)]) == one.words)
    arguments = words[len(command.words) :]
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


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_target_of_make_is_there(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.M))
    assert set(TARGET.findall(page.read_text("utf-8"))) <= targets
