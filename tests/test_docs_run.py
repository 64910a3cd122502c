"""The blocks of the pages do what the pages say: commands are run, code too, output is compared."""

from __future__ import annotations

import doctest
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pages
import prefork
import pytest
import running
from pages import ROOT, Block

COPIED = ("conf", "docs", "examples", "results/baselines", "results/reference", "tasks")
"""What a page finds in its folder of the checkout in which its reader is."""
COMPARED = doctest.ELLIPSIS | doctest.REPORT_NDIFF
"""How output is compared: line by line; `...` stands for anything."""
SMALL = "backend=scripted task.videos=6 task.height=32 task.fps=1".split()
MADE = {
    "RUN": ["frames=5", "hydra.run.dir=work/RUN"],
    "SWEEP": [
        "frames=5",
        "-m",
        "shard=0,1",
        "shards=2",
        "hydra.sweep.dir=work/SWEEP",
        "~hydra.callbacks.report",
    ],
}
"""The runs that every page finds in its folder, with what `probes run` is told for them."""


def runs(page: Path, *, slow: bool) -> bool:
    """Say whether a page has blocks that are run here."""
    marks = {block.mark for block in pages.blocks(page) if block.language in pages.RUN}
    return "slow" in marks if slow else "" in marks


CASES = [
    pytest.param(
        page, slow, id=f"{page.relative_to(ROOT)}{'-slow' * slow}", marks=[pytest.mark.slow] * slow
    )
    for slow in (False, True)
    for page in pages.PAGES
    if runs(page, slow=slow)
]
"""A page with slow blocks is run again, whole, among the slow tests."""


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with prefork.command(tmp_path_factory.mktemp("prefork")) as folder:
        yield folder


@pytest.fixture(scope="module")
def shared(command: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What every page starts from: a checkout, a data set `DIR`, a finished `RUN`, a home."""
    folder = tmp_path_factory.mktemp("shared")
    for name in COPIED:
        shutil.copytree(ROOT / name, folder / "work" / name)
    (folder / "work" / "DIR").mkdir()
    running.make_world(folder / "work" / "DIR")
    for words in MADE.values():
        subprocess.run(
            [command / "probes", "run", *SMALL, *words],
            cwd=folder,
            env=environment(command, folder / "home"),
            capture_output=True,
            check=True,
        )
    return folder


def environment(command: Path, home: Path) -> dict[str, str]:
    """The environment of a block: `probes` of this checkout, a home of the tests, no network."""
    path = f"{command}:{os.environ['PATH']}"
    own = {"PROBES_HOME": str(home), "HF_HUB_OFFLINE": "1", "PATH": path, "OMP_NUM_THREADS": "1"}
    others = {name: value for name, value in os.environ.items() if not name.startswith("PROBES_")}
    return others | own


@pytest.mark.parametrize(("page", "slow"), CASES)
def test_a_page_does_what_it_shows(
    page: Path,
    slow: bool,
    shared: Path,
    command: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = shutil.copytree(shared / "work", tmp_path / "work")
    home = environment(command, shared / "home")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PROBES_HOME", home["PROBES_HOME"])
    names: dict[str, Any] = {}
    printed: str | None = None
    """What the commands of the block before printed; None where there are none."""
    for block in pages.blocks(page):
        if block.mark in ("not run", "file") or (block.mark == "slow" and not slow):
            printed = None
        elif block.language == "python":
            exec(compile(block.text, block.where, "exec"), names)
            printed = capsys.readouterr().out
        elif block.language in pages.RUN:
            printed = ""
            for script, shown in pages.steps(block):
                printed += (out := run(rehearsed(script), block, home))
                if block.language == "console":
                    compare(shown, out, block)
        else:
            if block.language == "text" and printed is not None and block.mark != "not compared":
                compare(block.text, printed, block)
            printed = None


def rehearsed(script: str) -> str:
    """Return a script for a RUN without a model, which two commands take only where told so."""
    return re.sub(r"probes compare-published|--update\b", r"\g<0> --scripted", script)


def run(script: str, block: Block, environment: dict[str, str]) -> str:
    """Run a script up to its first command that fails, and return its output."""
    done = subprocess.run(
        ["bash", "-eo", "pipefail", "-c", script],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=2 * prefork.LIMIT_S,
    )
    assert done.returncode == 0, f"{block.where}: exit code {done.returncode}\n{done.stderr}"
    return done.stdout


def compare(shown: str, printed: str, block: Block) -> None:
    """Assert that what a page shows is what was printed."""
    check = doctest.OutputChecker()
    if not check.check_output(shown, printed, COMPARED):
        example = doctest.Example("", shown)
        pytest.fail(f"{block.where}\n{check.output_difference(example, printed, COMPARED)}")


def test_a_page_that_is_wrong_is_found(tmp_path: Path, command: Path) -> None:
    page = ROOT / "page.md"
    block = Block(page, 1, "console", "$ echo one \\\n  two\none two\n$ echo 3.1\n3.1\n")
    assert list(pages.steps(block)) == [
        ("echo one \\\n  two\n", "one two\n"),
        ("echo 3.1\n", "3.1\n"),
    ]
    compare("gain  3.1\n...\n", "gain  3.1\n\nnotes\n", block)
    for shown in ("gain  3.2\n", "gain 3.1\n", "gain  3.1\nand more\n"):
        with pytest.raises(pytest.fail.Exception, match=r"page\.md:1"):
            compare(shown, "gain  3.1\n", block)
    place = environment(command, tmp_path)
    assert run("probes --version", block, place).startswith("probes ")
    for script in ("false\necho reached", "false | cat", "probes rnu\necho reached"):
        with pytest.raises(AssertionError, match=r"page\.md:1: exit code \d"):
            run(script, block, place)


def test_what_a_comment_says_of_a_block_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# A page\n\n<!-- not run: it needs\na hub -->\n```bash\na\n```\n\n<!-- notrun: x -->\n"
        "```bash\nb\n```\n\n<!-- slow: -->\n```python\nc\n```\n\ntext\n\n    indented\n"
    )
    monkeypatch.setattr(pages, "ROOT", tmp_path)
    found = pages.blocks(page)
    assert [one.mark for one in found] == ["not run", "", "", ""]
    assert found[0].reason == "it needs\na hub"
    assert [(one.text, one.language) for one in found[1:]] == [
        ("b\n", "bash"),
        ("c\n", "python"),
        ("indented\n", ""),
    ]
    assert [one.where for one in found] == ["page.md:6", "page.md:11", "page.md:16", "page.md:21"]
    assert pages.prose(page).split() == [
        "#",
        "A",
        "page",
        "<!--",
        "not",
        "run:",
        "it",
        "needs",
        "a",
        "hub",
        "-->",
        "<!--",
        "notrun:",
        "x",
        "-->",
        "<!--",
        "slow:",
        "-->",
        "text",
        "indented",
    ]
