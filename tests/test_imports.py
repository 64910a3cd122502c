"""The one-way road: who may import whom, and what is cheap to import."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FILES = sorted([*(ROOT / "probes").rglob("*.py"), *(ROOT / "tasks").rglob("*.py")])

# From below to above: a module imports from its own layer and from those under it, nowhere else.
LAYERS = (
    (
        "probes.core.types",
        "probes.core.files",
        "probes.records.parquet",
        "probes.core.redaction",
        "probes.core.spool",
        "probes.core.signals",
    ),
    ("probes.config.settings", "probes.config.schema"),
    ("probes.media.video_decoders", "probes.media.png", "probes.media.composites"),
    ("tasks",),
    ("probes.media.decode_worker", "probes.media.frame_store"),
    ("probes.stimuli.infills",),
    ("probes.stimuli.answers",),
    ("probes.stimuli.arms",),
    (
        "probes.integrations.lmms_eval_tasks",
        "probes.integrations.lmms_egoschema",
        "probes.integrations.lmms_iraven",
    ),  # what lmms-eval loads
    ("probes.models",),
    ("probes.cache.recovery", "probes.cache.sqlite_file", "probes.cache.output_cache"),
    (
        "probes.core.progress",
        "probes.media.prefetch",
        "probes.engine.plan",
        "probes.engine.cached_model",
        "probes.engine.export",
        "probes.engine.run",
    ),
    ("probes.stats",),
    ("probes.analysis",),
    (
        "probes.planning",
        "probes.report",
        "probes.report.figures",
        "probes.cli.power",
        "probes.analysis.published_comparison",
        "probes.regression",
        "probes.analysis.merge_runs",
    ),
    (
        "probes",
        "probes.cli.run",
        "probes.cli.main",
        "probes.__main__",
        "probes.integrations.lmms_eval_entry",
        "probes.integrations.lmms_eval_model",
    ),
)
# `tasks/egoworld/pair` is a program of its own, which only the command line starts.
PROGRAMS = ("probes.tasks.egoworld.pair",)
# What stands side by side within reach of each other, and still has no business there.
FORBIDDEN = {
    "probes.stimuli.infills": ("probes.models", "probes.cache.output_cache"),
    "probes.stimuli.arms": ("tasks",),
    "probes.models": (
        "tasks",
        "probes.stimuli.arms",
        "probes.stimuli.answers",
        "probes.stimuli.infills",
        "probes.media.frame_store",
    ),
    "probes.stats": ("probes",),
    "probes.analysis": (
        "probes.engine.run",
        "probes.models",
        "probes.cache.output_cache",
        "probes.stimuli.arms",
        "tasks",
    ),
    "tasks": ("probes.media.frame_store", "probes.models"),
}
HEAVY = ("torch", "transformers", "lmms_eval", "pandas", "decord", "av", "cv2", "scipy", "pyarrow")


def module(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path) -> Iterator[tuple[str, bool]]:
    """Yield every imported module of ours and whether it is imported for type checkers only."""
    tree = ast.parse(path.read_text("utf-8"))
    typing_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        for child in node.body
        for inner in ast.walk(child)
    }
    known = {module(other) for other in FILES}
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide where things come from"
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if name in known else str(node.module) for name in inner]
        yield from ((name, id(node) in typing_only) for name in names)


def inside(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def layer(name: str) -> int:
    exact = [at for at, group in enumerate(LAYERS) if name in group]
    if exact or name == "probes":
        return exact[0]
    found = [at for at, group in enumerate(LAYERS) for one in group if inside(name, one)
             and one != "probes"]  # fmt: skip
    assert found, f"{name} has no place in LAYERS: say where on the road it lies"
    return found[0]


@pytest.mark.parametrize("path", FILES, ids=module)
def test_imports_go_down_the_road(path: Path) -> None:
    name = module(path)
    if any(inside(name, program) for program in PROGRAMS):
        return  # nothing but the command line imports it; see below
    for other, typing_only in imports(path):
        if typing_only or not (inside(other, "probes") or inside(other, "tasks")):
            continue
        assert layer(other) <= layer(name), f"{name} imports {other}"
        for place, banned in FORBIDDEN.items():
            if inside(name, place) and not inside(other, place):
                # Types, configuration and hashes are everybody's.
                free = ("probes.core.types", "probes.config.settings", "probes.core.files")
                hit = any(inside(other, one) for one in banned) and other not in free
                assert not hit, f"{name} imports {other}"


def test_programs_are_started_by_the_command_line_only() -> None:
    users = {
        module(path)
        for path in FILES
        for other, _ in imports(path)
        for program in PROGRAMS
        if inside(other, program) and not inside(module(path), program)
    }
    assert users <= {"probes.cli.main"}


@pytest.mark.parametrize("package", ["probes.stats"])
def test_statistics_never_see_text_or_tables(package: str) -> None:
    folder = ROOT.joinpath(*package.split("."))
    allowed = {"numpy", "scipy"} | set(sys.stdlib_module_names)
    for path in folder.rglob("*.py"):
        outside = {name.split(".")[0] for name, _ in imports(path) if not inside(name, package)}
        assert outside <= allowed, path


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
        "import probes.core.types, probes.config.settings, probes.stimuli.arms, probes.stimuli.answers, probes.stimuli.infills",
        "from probes.models import open_backend",
    ],
)
def test_what_is_imported_at_once_is_light(statement: str) -> None:
    assert not loaded_by(statement) & set(HEAVY)


def test_a_plan_that_is_answered_from_the_store_needs_no_torch() -> None:
    assert not loaded_by("import probes.engine.run, probes.cache.output_cache, probes.engine.export") & {
        "torch", "transformers", "lmms_eval"
    }  # fmt: skip


def test_the_public_names_come_on_demand() -> None:
    found = loaded_by("import probes; probes.load, probes.contrasts")
    assert "pandas" in found
    assert "torch" not in found
    import probes

    with pytest.raises(AttributeError, match="nothing"):
        _ = probes.nothing
