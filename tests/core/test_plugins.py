"""Registries: what an installed entry may be called, and what it may do when it is imported."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
from installed_entries import install

from probes.core import plugins
from probes.core.errors import ProbesError
from probes.core.plugins import Entry, Registry, is_plain


def _registry() -> Registry[object]:
    return Registry("probes.samples", "sample", {"own": "math:pi"}, lambda _, found: found)


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("a.b-C_9", True),
        ("9", True),
        ("", False),
        ("..", False),
        (".a", False),
        ("a/b", False),
        ("../a", False),
        ("a b", False),
        ("a\n", False),
        ("-a", False),
        ("\u00e9", False),
    ],
    ids=repr,
)
def test_plain_names(name: str, plain: bool) -> None:
    assert is_plain(name) == plain


def test_an_entry_that_ends_the_program_is_an_error_and_an_interrupt_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = _registry()
    codes = {"ends": "import sys\nsys.exit(3)", "stops": "raise KeyboardInterrupt"}
    install(monkeypatch, tmp_path, registry, codes)
    with pytest.raises(ProbesError) as caught:
        registry.get("ends", "here")
    what = "sample 'ends' of sample-plugin 1.0 cannot be loaded: SystemExit: 3"
    assert caught.value.what == what
    with pytest.raises(KeyboardInterrupt):
        registry.get("stops", "here")


def test_names_that_are_not_plain_or_taken_lead_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    entries = [Entry(name, "math:e", "others 1.0") for name in ("../up", "own", "fine")]
    entries.append(Entry("fine", "math:tau", "third 2.0"))
    monkeypatch.setattr(plugins, "installed", lambda group: tuple(entries))
    registry = _registry()
    assert registry.names() == ("own", "fine")
    assert [(one.distribution, one.name, why) for one, why in registry.unusable()] == [
        ("others 1.0", "../up", plugins.PLAIN),
        ("others 1.0", "own", "the name is built in"),
        ("third 2.0", "fine", "the name is taken by others 1.0"),
    ]
    with pytest.raises(ProbesError, match="there is no sample named"):
        registry.get("../up", "here")


def test_a_package_without_a_version_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, facts in (("bare", "Name: bare\n"), ("empty", "")):
        folder = tmp_path / f"{name}-1.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\n{facts}")
        (folder / "entry_points.txt").write_text(f"[probes.samples]\n{name} = math:pi\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    found = {one.name: one.distribution for one in plugins.installed.__wrapped__("probes.samples")}
    assert found.get("bare") == "bare without a version"
    assert found.get("empty", "an unknown package") == "an unknown package"
