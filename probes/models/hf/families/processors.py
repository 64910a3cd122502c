"""A checkpoint's processor, also where transformers' own way of loading it does not come through.

Repositories are older than the library: one lacks `video_preprocessor_config.json` (without which
LLaVA-NeXT-Video's processor calls itself without end, transformers#42142), another names a class of
image processors that is gone. The class of the configuration still says which parts it consists of.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from probes.core.errors import ProbesError
from probes.models.checkpoint import PROCESSOR_FILES
from probes.models.hf.families.load_errors import cause, installed, short
from probes.models.weight_files import read_json

_BACKEND = "torchvision"
"""Of the kinds of image and video processors: the one that all classes have."""
_VOCABULARY = re.compile(
    r"tokenizer\.json|vocab\.(json|txt)|.*tekken.*\.json|.*\.(model(\.v\d+)?|tiktoken|spm|vocab)"
    r"|tokeniz(ation|er)_\w+\.py"  # code of its own may read any file
)
"""Names of files of which one holds a tokenizer's vocabulary."""
_ASSEMBLED = "probes_assembled_because"
"""Attribute of a processor that did not load by itself."""


def load(folder: Path, *, trust_remote_code: bool = False) -> Any:
    """Return a checkpoint's processor.

    Args:
        folder: of the checkpoint.
        trust_remote_code: whether its own code may run.

    Raises:
        ProbesError: it cannot be loaded, nor put together from its parts.
    """
    import transformers

    # First: without a vocabulary some tokenizers are made of their settings alone, for minutes.
    check_present(folder)
    named = {"local_files_only": True, "trust_remote_code": trust_remote_code}
    # Whatever it fails with, RecursionError too: the parts may still be sound.
    try:
        found = transformers.AutoProcessor.from_pretrained(folder, **named)
    except Exception as error:
        first: Exception | None = error
    else:
        # Where it knows no class of processors, it returns one of the parts.
        if getattr(found, "tokenizer", None) is not None:
            return found
        first = None
    try:
        made = _assembled(folder, named)
    except Exception as error:
        raise _refusal(folder, first or error) from error
    reason = "it comes without its parts" if first is None else type(first).__name__
    setattr(made, _ASSEMBLED, reason)
    return made


def assembled_because(processor: Any) -> str:
    """Return why a processor was put together from its parts; empty where it loaded by itself."""
    return str(getattr(processor, _ASSEMBLED, ""))


def _assembled(folder: Path, named: dict[str, Any]) -> Any:
    """Put a processor together from the parts that the class of its configuration has."""
    import transformers
    from transformers.models.auto.image_processing_auto import IMAGE_PROCESSOR_MAPPING
    from transformers.models.auto.processing_auto import PROCESSOR_MAPPING
    from transformers.models.auto.video_processing_auto import VIDEO_PROCESSOR_MAPPING

    auto = {
        "tokenizer": (transformers.AutoTokenizer, {}),
        "image_processor": (transformers.AutoImageProcessor, IMAGE_PROCESSOR_MAPPING),
        "video_processor": (transformers.AutoVideoProcessor, VIDEO_PROCESSOR_MAPPING),
    }
    config = type(transformers.AutoConfig.from_pretrained(folder, **named))
    kind = PROCESSOR_MAPPING[config]
    parts = []
    for part in kind.get_attributes():
        if part not in auto:
            raise ValueError(f"a {kind.__name__} has a {part}")
        general, kinds = auto[part]
        try:
            parts.append(general.from_pretrained(folder, **named))
        except Exception:
            if config not in kinds:
                raise
            # The class that belongs to the configuration reads the files of older ones.
            parts.append(kinds[config][_BACKEND].from_pretrained(folder, **named))
    settings, _ = kind.get_processor_dict(folder, **named)
    return kind.from_args_and_dict(parts, settings)


def check_present(folder: Path) -> None:
    """Raise unless a folder has files of a tokenizer and of a processor; nothing is loaded."""
    if not any(_VOCABULARY.fullmatch(one.name) for one in folder.iterdir()):
        what, fix = (
            "the folder has no tokenizer: no file of it holds a vocabulary",
            "complete it with the repository's tokenizer.json",
        )
    elif not any(folder.glob("*processor_config.json")):
        what = "the folder has no processor: there is no preprocessor_config.json"
        fix = "complete it with the files that `processor.save_pretrained` writes"
    else:
        return
    raise ProbesError(what, str(folder), fix)


def check_names(folder: Path, architectures: Sequence[str]) -> None:
    """Refuse a class of processors that no version had, where another would take its place.

    Older versions had one for every kind of model, named as its class is, and repositories name
    these still: for them the class that belongs to the configuration is the right one.

    Args:
        folder: of the checkpoint.
        architectures: names of its classes.
    """
    import transformers

    known = set(dir(transformers))  # without loading any, or torch
    own = tuple(one.partition("For")[0] for one in architectures)
    for file in PROCESSOR_FILES:
        for key, name in read_json(folder / file).items():
            if key not in ("image_processor_type", "video_processor_type"):
                continue  # the processor itself follows from config.json
            plain = str(name).removesuffix("Fast")
            if not name or plain.startswith(own or "/") or {plain, f"{plain}Fast"} & known:
                continue
            raise ProbesError(
                f"{file} names a class that {installed()} does not have: {name}",
                str(folder),
                f"correct {key} there, or install a version of transformers that has the class",
            )


def _refusal(folder: Path, shown: Exception) -> ProbesError:
    what = f"its processor does not load: {type(shown).__name__}: {short(str(shown))}"
    fix = cause(shown) or "correct the file or setting that the message names"
    return ProbesError(what, str(folder), fix)
