"""Which safetensors files of a folder transformers loads as a model's weights, and their shapes.

The order is that of transformers' `_get_resolved_checkpoint_files`: what `config.json` names, a
single file, an index with its parts.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from probes.core.errors import ProbesError

NOT_FETCHED = ["*.bin", "*.pt", "*.pth", "*.msgpack", "*.h5", "*.onnx", "*.gguf"]
"""Patterns of other formats of the same weights."""
CONVERT = (
    "convert them with `model.save_pretrained(folder)`, or name a repository that has safetensors "
    "(a pickled file can run code when it is read)"
)
_SINGLE = "model.safetensors"
_INDEX = "model.safetensors.index.json"
_DISTRIBUTED = re.compile(r"shard-\d{5}-model-\d{5}-of-\d{5}\.safetensors")


def read_json(path: Path) -> dict[str, Any]:
    """Return a JSON object; {} where there is no such file.

    Raises:
        ProbesError: the file is not a JSON object.
    """
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise ProbesError(f"not valid JSON: {error}", str(path), "fetch the file again") from None
    if not isinstance(content, dict):
        raise ProbesError("not a JSON object", str(path), "fetch the file again")
    return content


def named_weights(folder: Path, config: Mapping[str, Any]) -> str | None:
    """Return the file that `config.json` names as the weights, or their index; None by default.

    Raises:
        ProbesError: it is not in the folder, or is neither; or a part of the model names its own.
    """
    where = str(folder / "config.json")
    for part, content in config.items():
        if isinstance(content, Mapping) and content.get("transformers_weights") is not None:
            raise ProbesError(
                f"{part} names weights of its own (transformers_weights)",
                where,
                "save the model anew: `model.save_pretrained(folder)`",
            )
    named = config.get("transformers_weights")
    if named is None:
        return None
    inside = isinstance(named, str) and (folder / named).parent.is_relative_to(folder)
    ends = (".safetensors", ".safetensors.index.json")
    if not inside or ".." in Path(named).parts or not named.endswith(ends):
        raise ProbesError(
            f"transformers_weights names {named!r}, neither a safetensors file of the folder nor an"
            " index of such",
            where,
            CONVERT,
        )
    return str(named)


def loaded_weights(folder: Path, config: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of the safetensors files that are loaded, sorted.

    Args:
        folder: of the checkpoint.
        config: content of its `config.json`.

    Raises:
        ProbesError: weights of another format only, missing parts, or an index that names anything
            but safetensors files of the folder.
    """
    for path in folder.glob("shard-*.safetensors"):
        if _DISTRIBUTED.fullmatch(path.name):
            raise ProbesError(
                f"{path.name} is part of a distributed checkpoint of training",
                str(folder),
                "save the model whole: `model.save_pretrained(folder)`",
            )
    named = named_weights(folder, config)
    index = named if named and named.endswith(".json") else _INDEX
    if named and named != index:
        names = [named]
    elif not named and ((folder / _SINGLE).is_file() or not (folder / _INDEX).is_file()):
        names = [_SINGLE]
    else:
        names = _of_index(folder / index)
    missing = [name for name in names if not (folder / name).is_file()]
    if not missing:
        return tuple(names)
    others = sorted(path.name for pattern in NOT_FETCHED for path in folder.glob(pattern))
    if others and not any(folder.glob("*.safetensors")):
        raise ProbesError(
            f"weights are read from safetensors only, and this folder has {', '.join(others)}",
            str(folder),
            CONVERT,
        )
    raise ProbesError(
        f"weights are missing: {', '.join(missing)}", str(folder), "complete the checkpoint"
    )


def _of_index(path: Path) -> list[str]:
    """Return the names of the parts that an index lists, sorted."""
    parts = read_json(path).get("weight_map", {})
    listed = list(parts.values()) if isinstance(parts, dict) else [parts]
    for name in listed:
        # A hostile index could name a file outside of the folder, or a pickle, which runs code.
        plain = isinstance(name, str) and name == Path(name).name
        if not plain or not name.endswith(".safetensors"):
            raise ProbesError(
                f"the index of weights names {name!r}, not a safetensors file next to it",
                str(path),
                CONVERT,
            )
    # Without a part it leads nowhere: the single file is then missed by name.
    return sorted(set(listed)) or [_SINGLE]


def headers(folder: Path, names: Iterable[str]) -> dict[str, tuple[tuple[int, ...], str]]:
    """Return shape and type (`F32`, `BF16`, ...) of every tensor by name, from files' headers.

    Raises:
        ProbesError: a file is cut off or of another format.
    """
    from safetensors import SafetensorError, safe_open

    found: dict[str, tuple[tuple[int, ...], str]] = {}
    for name in names:
        path = folder / name
        try:
            with safe_open(path, "np") as file:  # reads the header only
                slices = {one: file.get_slice(one) for one in file.keys()}  # noqa: SIM118
                found |= {o: (tuple(s.get_shape()), s.get_dtype()) for o, s in slices.items()}
        except (SafetensorError, OSError) as error:
            raise ProbesError(
                f"not a safetensors file: {error}", str(path), "fetch the file again"
            ) from None
    return found
