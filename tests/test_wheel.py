"""The wheel and the editable install: one top-level name, and all files that a run needs."""

from __future__ import annotations

import contextlib
import csv
import importlib.util
import io
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from build import ProjectBuilder
from build.env import DefaultIsolatedEnv
from hostile import SMALL, embedded, make_hostile, new_files, python
from processes import ROOT

WHEEL = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["hatch"]["build"][
    "targets"
]["wheel"]
OURS = ("tests", "benchmarks", "fuzz", "tasks", "conf", "hatch_build")
"""What the checkout holds at its top next to the package."""


def builder(stack: contextlib.ExitStack) -> ProjectBuilder:
    """Return what builds this checkout: here if it can, else in an environment of its own."""
    if all(importlib.util.find_spec(name) for name in ("hatchling", "editables")):
        return ProjectBuilder(ROOT)
    environment = stack.enter_context(DefaultIsolatedEnv())
    found = ProjectBuilder.from_isolated_env(environment, ROOT)
    try:
        environment.install(found.build_system_requires)
        environment.install(found.get_requires_for_build("editable"))
    except subprocess.CalledProcessError:
        pytest.skip("hatchling is not installed and cannot be fetched")
    return found


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The folders that the wheel and the editable wheel install."""
    folder = tmp_path_factory.mktemp("built")
    with contextlib.ExitStack() as stack:
        one = builder(stack)
        for kind in ("wheel", "editable"):
            with zipfile.ZipFile(one.build(kind, folder / f"{kind}-file")) as archive:
                archive.extractall(folder / kind)
    return {kind: folder / kind for kind in ("wheel", "editable")}


def recorded(site: Path) -> set[str]:
    """Return the paths that RECORD lists."""
    (path,) = site.glob("*.dist-info/RECORD")
    return {row[0] for row in csv.reader(io.StringIO(path.read_text("utf-8"))) if row}


def test_the_package_is_all_that_is_installed() -> None:
    assert WHEEL["packages"] == ["probes"]
    assert WHEEL["dev-mode-exact"] is True
    # Static inclusion would also put folders into site-packages/probes of an editable install.
    assert "force-include" not in WHEEL


def test_the_wheel_has_one_top_level_name_and_every_file(built: dict[str, Path]) -> None:
    paths = recorded(built["wheel"])
    (info,) = built["wheel"].glob("*.dist-info")
    assert {path.split("/")[0] for path in paths} == {"probes", info.name}
    for source, target in (
        ("probes", "probes"),
        ("conf", "probes/conf"),
        ("tasks", "probes/task_definitions"),
        ("results/reference", "probes/reference"),
    ):
        files = [
            path.relative_to(ROOT / source)
            for path in (ROOT / source).rglob("*.*")
            if path.is_file() and "__pycache__" not in path.parts
        ]
        assert files
        assert {f"{target}/{file.as_posix()}" for file in files} <= paths
    assert {
        "probes/conf/config.yaml",
        "probes/task_definitions/iraven/iraven.yaml",
        "probes/task_definitions/iraven/utils.py",
        "probes/reference/egoschema.csv",
        "probes/tasks/egoworld/pair/checkpoints/image/model.safetensors",
    } <= paths


def test_a_wheel_runs_next_to_files_with_our_names(built: dict[str, Path], tmp_path: Path) -> None:
    site, folder, home = built["wheel"], make_hostile(tmp_path / "work"), tmp_path / "home"
    done = python(
        "-c", "import probes; print(probes.__file__)", folder=folder, path=site, home=home
    )
    assert Path(done.stdout.strip()) == site / "probes" / "__init__.py"
    done = python("-m", "probes", "run", *SMALL, folder=folder, path=site, home=home)
    assert done.returncode == 0, done.stderr
    assert "Accuracy and the gain" in done.stdout
    assert new_files(folder) - {"__pycache__"} == {"results"}
    done = python("-m", "probes", "tasks", "--path", folder=folder, path=site, home=home)
    assert Path(done.stdout.strip()) == site / "probes" / "task_definitions"
    assert embedded(folder, site, home).is_relative_to(site / "probes" / "tasks")


def test_an_editable_install_has_nothing_that_hides_the_package(built: dict[str, Path]) -> None:
    paths = recorded(built["editable"])
    assert [path for path in paths if path.startswith("probes")] == []
    (finder,) = built["editable"].glob("_editable_impl_*.py")
    mapped = [line for line in finder.read_text("utf-8").splitlines() if "map_module" in line]
    assert len(mapped) == 1
    assert "'probes'" in mapped[0]


def is_exact() -> bool:
    """Return whether the installation puts no folder of the checkout on the path."""
    try:
        files = metadata.distribution("interframe-probes").files or []
    except metadata.PackageNotFoundError:
        return True
    texts = [Path(file.locate()).read_text("utf-8") for file in files if file.suffix == ".pth"]
    return all(line.startswith("import ") for text in texts for line in text.splitlines())


@pytest.mark.parametrize("name", OURS)
def test_nothing_else_of_the_checkout_can_be_imported(name: str, tmp_path: Path) -> None:
    if not is_exact():
        pytest.skip("installed before dev-mode-exact was set: `make install` does it again")
    # Other distributions may install a package `tests`; one that is found in a checkout is a fault.
    code = (
        f"from importlib.util import find_spec; found = find_spec({name!r}); "
        "print(*(found.submodule_search_locations or [found.origin]) if found else (), sep='\\n')"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    installed = sysconfig.get_path("purelib")
    assert all(Path(line).is_relative_to(installed) for line in done.stdout.split())
