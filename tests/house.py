"""Figures of the layout: `python tests/house.py` prints them, tests/test_imports.py checks them.

A room is an entry at the top of `probes/`; an arrow is an import of one room by another, be it at
the top of a module, inside a function or for type checkers only.
"""

from __future__ import annotations

import ast
import io
import re
import statistics
import tokenize
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "probes"
FILES = sorted(PACKAGE.rglob("*.py"))

FLOORS = (
    ("core", "stats"),
    ("config", "records", "models", "media", "cache"),
    ("stimuli", "tasks", "analysis"),
    ("engine", "report", "regression", "__init__"),
    ("cli", "integrations"),
    ("__main__",),
)
"""The rooms of every floor, from the ground: a room imports from floors below its own only."""
PLACES = ("probes", "tests", "benchmarks, fuzz")
FLOOR = {room: number for number, rooms in enumerate(FLOORS, 1) for room in rooms}


def module(path: Path) -> str:
    """Return a file's dotted name."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module(path) for path in FILES}


def room(name: str) -> str:
    """Return the room of a module of `probes`."""
    parts = name.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def imports(path: Path) -> Iterator[str]:
    """Yield every module that a file imports, ours by the longest name that is a module."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide where things come from"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield full if full in MODULES else str(node.module)


def inside(name: str, package: str) -> bool:
    """Say whether a module is a package or lies in it."""
    return name == package or name.startswith(f"{package}.")


def arrows() -> dict[tuple[str, str], list[str]]:
    """Return the imports between rooms, with the modules that make each."""
    found: dict[tuple[str, str], list[str]] = defaultdict(list)
    for path in FILES:
        mine = room(module(path))
        for name in imports(path):
            # `from probes import analysis` names a room, not the package's own module.
            if inside(name, "probes") and room(name) != mine:
                found[mine, room(name)].append(f"{module(path)} imports {name}")
    return dict(found)


def upwards() -> list[str]:
    """Return the imports that do not go to a lower floor."""
    return [
        line
        for (a, b), lines in arrows().items()
        if FLOOR.get(a, 0) <= FLOOR.get(b, len(FLOORS) + 1)
        for line in lines
    ]


def circles(edges: set[tuple[str, str]]) -> list[str]:
    """Return the names that lie on a circle of a graph."""
    graph: dict[str, set[str]] = defaultdict(set)
    for a, b in edges:
        graph[a].add(b)

    def reachable(start: str) -> set[str]:
        seen: set[str] = set()
        todo = list(graph[start])
        while todo:
            one = todo.pop()
            if one not in seen:
                seen.add(one)
                todo.extend(graph[one])
        return seen

    return sorted(name for name in tuple(graph) if name in reachable(name))


def module_circles() -> list[str]:
    """Return the modules that import each other in a loop when they are loaded."""
    edges = set()
    for path in FILES:
        tree = ast.parse(path.read_text("utf-8"))
        for node in tree.body:
            if isinstance(node, ast.ImportFrom):
                for alias in node.names:
                    full = f"{node.module}.{alias.name}"
                    name = full if full in MODULES else str(node.module)
                    if name in MODULES and name != module(path):
                        edges.add((module(path), name))
    return circles(edges)


def rooms() -> list[str]:
    """Return the entries at the top of the package."""
    names = [
        path.stem if path.is_file() else path.name
        for path in PACKAGE.iterdir()
        if path.suffix in (".py", "") and not path.name.startswith((".", "__pycache__"))
    ]
    return sorted(names)


def lengths() -> dict[str, int]:
    """Return the number of lines of every module."""
    return {
        str(path.relative_to(ROOT)): len(path.read_text("utf-8").splitlines()) for path in FILES
    }


@dataclass(frozen=True)
class LineCounts:
    """How many lines of some files are what."""

    code: int
    """Neither blank, comment nor docstring."""
    comments: int
    every: int
    skips: int
    """Those that keep a place from being formatted."""


def line_counts(*folders: str) -> LineCounts:
    """Count the lines of all files in folders at the root."""
    code = comments = every = skips = 0
    for path in (path for folder in folders for path in (ROOT / folder).rglob("*.py")):
        text = path.read_text("utf-8")
        lines, docs = set[int](), set[int]()
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
                docs.update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if token.type == tokenize.COMMENT:
                comments += 1
                skips += "fmt: skip" in token.string
            elif token.string.strip():
                lines.update(range(token.start[0], token.end[0] + 1))
        code += len(lines - docs)
        every += len(text.splitlines())
    return LineCounts(code, comments, every, skips)


def comment_share() -> float:
    """Return which part of the package's lines, in per cent, are comments or end with one."""
    counts = line_counts("probes")
    return 100 * counts.comments / counts.every


def median_length() -> float:
    """Return the median number of lines of the modules that have more than imports in them."""
    return statistics.median(size for size in lengths().values() if size > 20)


def functions() -> Iterator[tuple[str, int, int]]:
    """Yield (place, lines, parameters but for `self` and `cls`) of every function."""
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                given = node.args
                names = [one.arg for one in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
                count = len([name for name in names if name not in ("self", "cls")])
                place = f"{path.relative_to(ROOT)}:{node.lineno} {node.name}"
                yield place, (node.end_lineno or node.lineno) - node.lineno + 1, count


def type_names() -> dict[str, list[str]]:
    """Return where every type is defined: classes and aliases, private ones too."""
    found: dict[str, list[str]] = defaultdict(list)
    for path in FILES:
        tree = ast.parse(path.read_text("utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                found[node.name.lstrip("_")].append(module(path))
        for node in tree.body:
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                name = node.targets[0].id
                if re.fullmatch(r"_?[A-Z]\w*[a-z]\w*", name):
                    found[name.lstrip("_")].append(module(path))
    return found


def main() -> None:
    """Print the figures next to what is aimed at."""
    sizes = lengths()
    largest = max(sizes, key=lambda name: sizes[name])
    drawn = arrows()
    long = [(place, lines) for place, lines, _ in functions() if lines > 60]
    wide = [(place, count) for place, _, count in functions() if count > 7]
    counts = {place: line_counts(*place.split(", ")) for place in PLACES}
    twice = {name: places for name, places in type_names().items() if len(places) > 1}
    rows = (
        ("rooms at the top of probes/", len(rooms()), "<= 18"),
        ("floors", len(FLOORS), "<= 6"),
        ("arrows between rooms", len(drawn), ""),
        ("circles of rooms", len(circles(set(drawn))), "0"),
        ("circles of modules", len(module_circles()), "0"),
        ("imports that do not go down", len(upwards()), "0"),
        ("modules", len(sizes), ""),
        (f"largest module ({largest})", sizes[largest], "<= 500"),
        ("median module", median_length(), "120-220"),
        ("functions over 60 lines", len(long), "0"),
        ("functions of more than 7 parameters", len(wide), "0"),
        ("type names with more than one definition", len(twice), "0"),
        *((f"code lines of {place}", one.code, "") for place, one in counts.items()),
        ("comments in probes, % of all lines", comment_share(), "3-8"),
        ("`# fmt: skip`", sum(one.skips for one in counts.values()), "real matrices only"),
    )
    for name, value, aim in rows:
        print(f"{name:<60}{round(value, 1):>8}   {aim}".rstrip())
    for line in [*upwards(), *module_circles(), *(f"{place}: {n}" for place, n in [*long, *wide])]:
        print(" ", line)
    for name, places in sorted(twice.items()):
        print(f"  {name}: {', '.join(places)}")


if __name__ == "__main__":
    main()
