"""A checkpoint's processor, also where transformers' own way of loading it does not come through.

Repositories are older than the library: one lacks `video_preprocessor_config.json` (without which
LLaVA-NeXT-Video's processor calls itself without end, transformers#42142), another names a class of
image processors that is gone. The class of the configuration still says which parts it consists of.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from probes.core.errors import ProbesError

_BACKEND = "torchvision"
"""Of the kinds of image and video processors: the one that all classes have."""


def load(folder: Path, *, trust_remote_code: bool = False) -> Any:
    """Return a checkpoint's processor.

    Args:
        folder: of the checkpoint.
        trust_remote_code: whether its own code may run.

    Raises:
        ProbesError: it cannot be loaded, nor put together from its parts.
    """
    import transformers

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
        return _assembled(folder, named)
    except Exception as error:
        raise _refusal(folder, first, error) from error


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


def _refusal(folder: Path, first: Exception | None, last: Exception) -> ProbesError:
    has_tokenizer = any(folder.glob("*token*")) or any(folder.glob("vocab*"))
    if not has_tokenizer:
        what, fix = (
            "the folder has no tokenizer",
            "complete it with the repository's tokenizer.json",
        )
    elif not any(folder.glob("*processor_config.json")):
        what = "the folder has no processor: there is no preprocessor_config.json"
        fix = "complete it with the files that `processor.save_pretrained` writes"
    else:
        shown = first or last
        # Lists of hundreds of classes hide the one that matters.
        what = f"its processor does not load: {type(shown).__name__}: {_short(str(shown))}"
        fix = "install a version of transformers that has its classes, or correct the files"
    return ProbesError(what, str(folder), fix)


def _short(text: str, most: int = 300) -> str:
    return text if len(text) <= most else f"{text[:most]}..."
