"""Who may import whom, how large things are, and what is cheap to import."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import house
import pytest
from house import ROOT

# Rooms on one floor must not import each other, which the floors check; these
# are further bans.
FORBIDDEN = {
    "probes.stats": ("probes.core",),
    "probes.stimuli": ("probes.models", "probes.cache"),
    "probes.analysis": ("probes.models", "probes.cache", "probes.media"),
    "probes.tasks": ("probes.models", "probes.cache", "probes.media.frame_store"),
}
HEAVY = ("torch", "transformers", "lmms_eval", "pandas", "decord", "av", "cv2", "scipy", "pyarrow")


def test_the_rooms_are_known_and_few() -> None:
    assert set(house.rooms()) == set(house.FLOOR)
    assert len(house.rooms()) <= 18
    assert len(house.FLOORS) <= 6


def test_imports_go_down() -> None:
    assert house.upwards() == []


def test_there_are_no_circles() -> None:
    assert house.circles(set(house.arrows())) == []
    assert house.module_circles() == []


def test_a_circle_and_an_upward_import_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    assert house.circles({("a", "b"), ("b", "c"), ("c", "a"), ("d", "a")}) == ["a", "b", "c"]
    monkeypatch.setitem(house.FLOOR, "core", 7)
    assert house.upwards()


@pytest.mark.parametrize("path", house.FILES, ids=house.module)
def test_what_is_within_reach_and_banned(path: Path) -> None:
    name = house.module(path)
    for place, banned in FORBIDDEN.items():
        if house.inside(name, place):
            hits = [o for o in house.imports(path) if any(house.inside(o, one) for one in banned)]
            assert not hits, f"{name} imports {hits}"


def test_sizes() -> None:
    assert {name: size for name, size in house.lengths().items() if size > 500} == {}
    assert 120 <= house.median_length() <= 220
    assert [place for place, lines, _ in house.functions() if lines > 60] == []
    assert [place for place, _, count in house.functions() if count > 7] == []
    assert house.comment_share() >= 3


def test_one_type_name_has_one_meaning() -> None:
    assert {name: places for name, places in house.type_names().items() if len(places) > 1} == {}


def test_training_is_started_by_the_command_line_only() -> None:
    program = "probes.tasks.egoworld.pair"
    users = {
        house.module(path)
        for path in house.FILES
        for other in house.imports(path)
        if house.inside(other, program) and not house.inside(house.module(path), program)
    }
    assert users == {"probes.cli.train"}


@pytest.mark.parametrize("package", ["probes.stats"])
def test_statistics_never_see_text_or_tables(package: str) -> None:
    folder = ROOT.joinpath(*package.split("."))
    allowed = {"numpy", "scipy"} | set(sys.stdlib_module_names)
    for path in folder.rglob("*.py"):
        found = (name for name in house.imports(path) if not house.inside(name, package))
        assert {name.split(".")[0] for name in found} <= allowed, path


def loaded_by(statement: str) -> set[str]:
    script = f"import sys; {statement}; print(*sorted(sys.modules), sep='\\n')"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT
    )
    return {name.split(".")[0] for name in done.stdout.split()}


@pytest.mark.parametrize(
    "statement",
    [
        "import probes",
        "import probes.cli.main, probes.cli.run",  # what `probes run --help` and its mistakes cost
        "import probes.core.types, probes.config.settings, probes.stimuli.arms",
        "import probes.stimuli.answers, probes.stimuli.infills",
        "from probes.models import open_backend",
    ],
)
def test_what_is_imported_at_once_is_light(statement: str) -> None:
    assert not loaded_by(statement) & set(HEAVY)


def test_a_plan_that_is_answered_from_the_store_needs_no_torch() -> None:
    loaded = loaded_by("import probes.engine.run, probes.cache.output_cache, probes.engine.export")
    assert not loaded & {"torch", "transformers", "lmms_eval"}


def test_the_public_names_come_on_demand() -> None:
    found = loaded_by("import probes; probes.load, probes.contrasts")
    assert "pandas" in found
    assert "torch" not in found
    import probes

    with pytest.raises(AttributeError, match="nothing"):
        _ = probes.nothing
