"""What went wrong while something of transformers was loaded: the cause, and what to do about it.

Its messages end in hints that fit any cause, and list hundreds of classes; both hide the one line
that matters.
"""

from __future__ import annotations

import errno
import json
import re
from pathlib import Path

from probes.core.errors import ProbesError

MOST = 300
"""Characters of a message that are shown."""
_HINTS = re.compile(
    r"\s*(You can update Transformers|This could be because|If you were trying to load).*",
    re.DOTALL,
)
_FILE = re.compile(r"(?:does not appear to have|containing) an? (?:file named )?(\S+)")
_CLASS = re.compile(
    r"Unrecognized configuration class .*\.(\w+)'> for this kind of AutoModel: (\w+)"
)
_PACKAGE = (
    re.compile(r"`?pip install (?:-U |--upgrade )?([\w.-]+)"),
    re.compile(r"requires (?:the )?([\w.-]+) (?:library|package)"),
    re.compile(r"No module named '([\w-]+)"),
    re.compile(r"package for (\w+) doesn't seem to be installed"),
)
_PIP = {"PIL": "pillow", "FlashAttention2": "flash-attn", "google": "protobuf"}
"""What a package is called where it is installed, if not as messages name it."""


def refusal(error: Exception, folder: Path, otherwise: str = "") -> ProbesError:
    """Return what is wrong with a checkpoint, by the error that loading it ended in.

    Args:
        error: of transformers, torch, or the system.
        folder: of the checkpoint.
        otherwise: how to correct what has no cause of its own here.
    """
    what = f"the checkpoint does not load: {type(error).__name__}: {short(str(error))}"
    otherwise = otherwise or "correct the file or setting that the message names"
    return ProbesError(what, str(folder), cause(error) or otherwise)


def cause(error: Exception) -> str:
    """Return how to correct the cause of an error; empty where it is not known."""
    kind, text = type(error).__name__, str(error)
    if isinstance(error, ImportError):
        return _missing_package(error, text)
    if found := re.search(r"model type `([^`]+)` but Transformers does not recognize", text):
        return (
            f"install a version of transformers that has the class of model_type {found[1]}"
            f" ({installed()} does not), or name another checkpoint"
        )
    if found := _CLASS.search(text):
        return f"name a checkpoint that {found[2]} reads: a {found[1]} is not one"
    if found := _FILE.search(text):
        return f"complete the folder with the repository's {found[1].rstrip('.')}"
    if isinstance(error, FileNotFoundError) and error.filename:
        return f"complete the folder with {error.filename}"
    if isinstance(error, json.JSONDecodeError) or kind == "SafetensorError":
        return "fetch the folder's files again: one is cut off or damaged"
    if "trust_remote_code" in text:
        return (
            "the checkpoint has code of its own, which is not trusted: read it, and set"
            " pair.ROLE.trust_remote_code=true (and pair.ROLE.revision=COMMIT for a hub name)"
        )
    if "attn_implementation" in text:
        return "set pair.attention=sdpa or eager, which every class has"
    if kind == "OutOfMemoryError" or getattr(error, "errno", None) == errno.ENOMEM:
        return (
            "the device has too little memory: set backend.options.quantize=4bit, spread the model"
            " by backend.options.device_map=auto, or use a smaller checkpoint"
        )
    if "NVIDIA driver" in text or "not compiled with CUDA" in text or "CUDA device" in text:
        return "there is no such GPU here: set backend.device=cpu"
    if found := re.search(r"Validation error for field '(\w+)'", text):
        return f"correct {found[1]} in config.json, or fetch the file again"
    return ""


def _missing_package(error: ImportError, text: str) -> str:
    found = [match[1] for one in _PACKAGE if (match := one.search(text))]
    package = (found or [(error.name or "").partition(".")[0]])[0]
    if not package or package in ("transformers", "torch"):
        return f"it needs another version than {installed()}"
    return f"`pip install {_PIP.get(package, package)}`"


def installed() -> str:
    """Return name and version of the library, for messages."""
    import transformers

    return f"transformers {transformers.__version__}"


def short(text: str, most: int = MOST) -> str:
    """Return a message in one line, without hints for all cases and the rest of long lists."""
    plain = " ".join(_HINTS.sub("", text).split())
    return plain if len(plain) <= most else f"{plain[:most]}..."
