"""`probes convert`: a checkpoint in its authors' layout -> one that transformers' classes read.

Tensor by tensor: no more than one file of weights is in memory.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from probes.core.errors import MachineError, ProbesError
from probes.core.files import atomic_write
from probes.core.progress import ReportProgress
from probes.models.checkpoint import Checkpoint
from probes.models.hf.families.processors import check_present

SHARD_BYTES = 2 * 2**30
"""Most bytes of a file of weights, but for a tensor that is larger by itself."""


@dataclass(frozen=True, slots=True)
class AuthorsLayout:
    """An authors' layout that can be converted."""

    name: str
    architecture: str
    """In `config.json`."""
    names: tuple[tuple[str, str], ...]
    """Pattern of a weight's name, and what it becomes; the first that fits counts."""
    left_out: tuple[str, ...]
    """Patterns of names of weights that the class has no use for."""
    files: Callable[[Checkpoint], dict[str, Any]]
    """Content of the JSON files that are written besides the weights, by name."""


def convert(source: Path, target: Path, progress: ReportProgress | None = None) -> str:
    """Convert a checkpoint.

    Args:
        source: its folder, which stays as it is.
        target: a new or empty folder; it has its name only once it is complete.
        progress: called with (tensors done, tensors).

    Returns:
        What the layout was.

    Raises:
        ProbesError: a layout that is not known, weights that it does not have, or a folder in use.
        MachineError: the folder cannot be written.
    """
    target = target.resolve()  # `.` has no name to put another beside
    checkpoint = Checkpoint(source.resolve(), str(source))
    layout = _layout(checkpoint)
    _check_target(target, checkpoint)
    # Without its settings a processor has those of its class: other pixels, and no error.
    check_present(checkpoint.folder)
    from safetensors import SafetensorError

    half = target.with_name(f".{target.name}.half")
    shutil.rmtree(half, ignore_errors=True)  # what a conversion left that was stopped
    try:
        half.mkdir(parents=True)
        _write_weights(checkpoint, layout, half, progress)
        for path in sorted(checkpoint.folder.iterdir()):
            if path.is_file() and re.search("token|vocab|merges|generation_config", path.name):
                shutil.copy(path, half / path.name)
        for name, content in layout.files(checkpoint).items():
            atomic_write(half / name, (json.dumps(content, indent=2) + "\n").encode())
        if target.exists():
            target.rmdir()
        half.rename(target)
    except (OSError, SafetensorError) as error:  # both of a full disk
        what, fix = (
            f"the conversion cannot be written: {error}",
            "free the disk, or give another folder",
        )
        raise MachineError(what, str(target), fix) from error
    finally:
        shutil.rmtree(half, ignore_errors=True)
    return layout.name


def _check_target(target: Path, checkpoint: Checkpoint) -> None:
    if target.exists() and not target.is_dir():
        raise ProbesError("this is a file, not a folder", str(target), "give a new folder")
    if target.exists() and any(target.iterdir()):
        raise ProbesError("the folder is not empty", str(target), "give a new one")
    if target.is_relative_to(checkpoint.folder):
        raise ProbesError("the folder is inside of the checkpoint", str(target), "give another")


def _layout(checkpoint: Checkpoint) -> AuthorsLayout:
    if not (checkpoint.folder / "config.json").is_file():
        what = "there is no config.json, so this is no checkpoint"
        if not checkpoint.folder.is_dir():
            what = "there is no such folder"
        raise ProbesError(what, str(checkpoint.folder), "name the folder of the repository's files")
    for layout in LAYOUTS:
        if layout.architecture in checkpoint.architectures:
            return layout
    known = ", ".join(f"{one.name} ({one.architecture})" for one in LAYOUTS)
    named = ", ".join(checkpoint.architectures) or "no architecture"
    raise ProbesError(
        f"there is no conversion of this layout ({named})",
        str(checkpoint.folder / "config.json"),
        f"layouts that are converted: {known}; others need no conversion or have none",
    )


def _write_weights(
    checkpoint: Checkpoint, layout: AuthorsLayout, target: Path, progress: ReportProgress | None
) -> None:
    """Write the weights under their new names, in files of a bounded size, and their index."""
    from safetensors.torch import save_file

    names = {name: _renamed(name, layout, checkpoint.folder) for name in checkpoint.shapes()}
    kept = {name: new for name, new in names.items() if new is not None}
    if len(set(kept.values())) < len(kept):
        what = "two weights become one name"
        raise ProbesError(what, str(checkpoint.folder), "this is no checkpoint of that layout")
    where: dict[str, int] = {}
    part: dict[str, Any] = {}
    size = total = files = 0

    def flush() -> None:
        nonlocal part, size, files
        files += 1
        save_file(part, target / f"{files:05d}.part", {"format": "pt"})
        where.update(dict.fromkeys(part, files))
        part, size = {}, 0

    for done, (name, tensor) in enumerate(_tensors(checkpoint), 1):
        if name in kept:
            nbytes = tensor.numel() * tensor.element_size()
            if part and size + nbytes > SHARD_BYTES:
                flush()
            part[kept[name]] = tensor
            size, total = size + nbytes, total + nbytes
        if progress:
            progress(done, len(names))
    flush()
    # Their number, which is part of the names, is known only now.
    for number in range(1, files + 1):
        (target / f"{number:05d}.part").rename(target / _shard(number, files))
    index = {
        "metadata": {"total_size": total},
        "weight_map": {name: _shard(number, files) for name, number in sorted(where.items())},
    }
    atomic_write(target / "model.safetensors.index.json", json.dumps(index, indent=2).encode())


def _shard(number: int, files: int) -> str:
    return f"model-{number:05d}-of-{files:05d}.safetensors"


def _tensors(checkpoint: Checkpoint) -> Iterator[tuple[str, Any]]:
    """Yield the name and tensor of every weight."""
    from safetensors import safe_open

    for file_name in checkpoint.weights():
        with safe_open(checkpoint.folder / file_name, "pt") as file:
            for name in file.keys():  # noqa: SIM118 (it is no dictionary)
                yield name, file.get_tensor(name)


def _renamed(name: str, layout: AuthorsLayout, folder: Path) -> str | None:
    """Return a weight's new name; None where it is left out.

    Raises:
        ProbesError: the layout has no such weight.
    """
    if any(re.search(pattern, name) for pattern in layout.left_out):
        return None
    for pattern, new in layout.names:
        if re.search(pattern, name):
            return re.sub(pattern, new, name)
    raise ProbesError(
        f"the layout {layout.name} has no weight {name!r}",
        str(folder),
        "the checkpoint was saved by another class, or with an adapter that has to be merged first",
    )


def _pllava_files(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return configuration and processor of a checkpoint that PLLaVA's class saved."""
    image = checkpoint.read_json("preprocessor_config.json") | {
        "image_processor_type": "CLIPImageProcessor",
        "processor_class": "LlavaProcessor",
    }
    vision = checkpoint.config.get("vision_config") or {}
    processor = {
        "image_token": "<image>",
        "num_additional_image_tokens": 1,
        "patch_size": vision.get("patch_size", 14),
        "processor_class": "LlavaProcessor",
        "vision_feature_select_strategy": checkpoint.config.get(
            "vision_feature_select_strategy", "default"
        ),
    }
    tokenizer = checkpoint.read_json("tokenizer_config.json") | {
        "processor_class": "LlavaProcessor"
    }
    return {
        "config.json": checkpoint.config,
        "preprocessor_config.json": image,
        "processor_config.json": processor,
        "tokenizer_config.json": tokenizer,
        "chat_template.json": {"chat_template": _VICUNA},
    }


# The turns of Vicuna, as LLaVA-NeXT was tuned with: pictures first, each with a line break.
_VICUNA = (
    "{% for message in messages %}{% if message['role'] != 'system' %}"
    "{{ message['role'].upper() + ': ' }}{% endif %}"
    "{% for part in message['content'] | selectattr('type', 'equalto', 'image') %}"
    "{{ '<image>\n' }}{% endfor %}"
    "{% for part in message['content'] | selectattr('type', 'equalto', 'text') %}"
    "{{ part['text'] + ' ' }}{% endfor %}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)
LAYOUTS = (
    AuthorsLayout(
        "PLLaVA",
        "PllavaForConditionalGeneration",
        (
            (r"^language_model\.model\.", "model.language_model."),
            (r"^language_model\.lm_head\.", "lm_head."),
            (r"^vision_tower\.", "model.vision_tower."),
            (r"^multi_modal_projector\.", "model.multi_modal_projector."),
            (r"^(model\.(language_model|vision_tower|multi_modal_projector)\.|lm_head\.)", r"\1"),
        ),
        # Buffers that older versions saved; they follow from the configuration.
        (r"\.rotary_emb\.inv_freq$", r"\.position_ids$"),
        _pllava_files,
    ),
)
