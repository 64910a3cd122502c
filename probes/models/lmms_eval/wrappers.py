"""Which of lmms-eval's model wrappers can show interleaved content, and how one is opened.

The tables of single wrappers come from lmms-eval 0.7's source; `RAN` were also run. A wrapper
that is in no table (a plugin's, say) is inspected: it has to be a chat wrapper that asks for
messages.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from probes.core.errors import ProbesError
from probes.core.text import nearest
from probes.core.types import ModelSpec

RAN = ("internvl_hf", "llava_hf", "qwen2_5_vl")
"""Wrappers that were run, and gave the hf backend's texts for pictures with text between them."""
READ = tuple(
    """async_hf_model huggingface llava_onevision1_5 llava_onevision2 nanovlm neo_ov phi4_multimodal
    qwen2_5_omni qwen3_5 qwen3_omni qwen3_vl sglang vllm vllm_generate""".split()
)
"""Wrappers whose source keeps the order of a message's parts."""
_ASKS_A_SERVER = "it asks a server: use backend=server, which also reads log-probabilities"
_ONE_PICTURE = "it hands only the first picture of a message to the model"
REFUSED = {
    "aero_realtime_vllm": "it reads one video with its sound, and no pictures",
    "async_openai": _ASKS_A_SERVER,
    "bagel_lmms_engine": _ONE_PICTURE,
    "baichuan_omni": "it takes pictures as files only",
    "fastvideo": "it makes videos and writes no text",
    "gemini": _ASKS_A_SERVER,
    "lfm2_5_vl": _ONE_PICTURE,
    "litellm": _ASKS_A_SERVER,
    "longvila": "it takes pictures as files only",
    "minicpm_o": "it takes pictures as files only",
    "omnivinci": "its source says that it fails for several pictures",
    "openai": _ASKS_A_SERVER,
    "thyme": "it runs code that the model writes",
}
"""Chat wrappers that cannot show an interleaved stimulus, with the reason."""
_WHERE = "backend.options.model"
_FOLDER_NAMES = ("pretrained", "model")
"""What wrappers call the argument for the checkpoint's folder."""


def refusal(name: str) -> ProbesError | None:
    """Return why a wrapper of that name is refused; None where its name is no reason."""
    if not name:
        return ProbesError("no model wrapper is named", _WHERE, f"name one, e.g. {', '.join(RAN)}")
    if name in REFUSED:
        return _unusable(f"{name} cannot show this: {REFUSED[name]}")
    return None


def wrapper_class(name: str) -> type:
    """Import a wrapper's class and check that it can show interleaved content.

    Raises:
        ProbesError: no such wrapper, one that does not import, or one that shows all pictures
            before all text.
    """
    try:
        from lmms_eval.models import MODEL_REGISTRY_V2
    except Exception as error:
        # Its import runs much of other packages' code.
        what = f"lmms-eval does not import: {type(error).__name__}: {error}"
        raise ProbesError(what, _WHERE, "install it again") from error
    try:
        manifest = MODEL_REGISTRY_V2.get_manifest(name)
    except ValueError as error:
        fix = nearest(name, sorted(RAN + READ))
        raise ProbesError(f"lmms-eval has no model {name!r}", _WHERE, fix) from error
    if known := refusal(manifest.model_id):  # an alias of a refused one
        raise known
    if manifest.chat_class_path is None:
        raise _unusable(
            f"{name} is a simple wrapper: it gets text and pictures separately, and cannot show"
            " text between frames"
        )
    try:
        found: type = MODEL_REGISTRY_V2.get_model_class(name)
    except (Exception, SystemExit) as error:
        what = f"{name} does not import: {type(error).__name__}: {error}"
        raise _unusable(what, "install what it needs, or ") from error
    # The source is searched as well: the flag alone does not say that messages are asked for.
    if getattr(found, "is_simple", True) or not _asks_for_messages(found):
        raise _unusable(
            f"{name} never asks for messages (doc_to_messages), so it cannot show text between"
            " frames"
        )
    return found


def open_wrapper(
    found: type, folder: str, spec: ModelSpec, device: str, args: Mapping[str, Any]
) -> Any:
    """Load a wrapper's model for one request at a time.

    Args:
        found: from `wrapper_class`.
        folder: the checkpoint.
        spec: its settings are passed under the wrapper's names for them.
        device: a torch device.
        args: further or other arguments of the wrapper.

    Raises:
        ProbesError: it does not load, loads another dtype than the pair has, or might run code
            that the user has not allowed.
    """
    _check_code(folder, spec, args)
    names = _arguments(found)
    settings: dict[str, Any] = {
        "device": device,
        "device_map": device,
        "batch_size": 1,
        "dtype": spec.dtype,
        "attn_implementation": spec.attention,
        "trust_remote_code": spec.trust_remote_code,
    }
    # Some wrappers refuse an argument that they do not have.
    settings = {name: value for name, value in settings.items() if name in names}
    settings |= spec.pixel_bounds
    folder_name = next((name for name in _FOLDER_NAMES if name in names), "pretrained")
    where = f"member {spec.name}, lmms-eval's {found.__name__}"
    try:
        wrapper = found(**(settings | {folder_name: folder} | dict(args)))
    except (Exception, SystemExit) as error:
        raise ProbesError(
            f"the wrapper does not load: {type(error).__name__}: {error}",
            where,
            "see the message; backend.options.args holds further arguments of the wrapper",
        ) from error
    # Some wrappers load a dtype of their own choice and say nothing.
    dtype = str(getattr(getattr(wrapper, "model", None), "dtype", "")).removeprefix("torch.")
    if dtype and dtype != spec.dtype:
        raise ProbesError(
            f"the wrapper loads weights as {dtype}, and the pair says {spec.dtype}",
            where,
            f"set pair.dtype={dtype}",
        )
    _hide_bars(found)
    return wrapper


def check_pixel_bounds(found: type, spec: ModelSpec) -> None:
    """Raise ProbesError unless a wrapper takes the bounds of pictures that a member sets."""
    for name in spec.pixel_bounds.keys() - _arguments(found):
        raise ProbesError(
            f"lmms-eval's {found.__name__} takes no {name}",
            f"pair.{spec.role}.{name}",
            "leave it out, or use backend=hf",
        )


def check_args(args: Mapping[str, Any], spec: ModelSpec) -> None:
    """Refuse arguments that lead a wrapper to files that no cache key covers, or come twice.

    A name of the hub cannot be told from other texts: it counts as a text.
    """
    for name, value in args.items():
        where = f"backend.options.args.{name}"
        if name in spec.pixel_bounds:
            raise ProbesError(
                f"{name} is given twice", f"{where} and pair.{spec.role}.{name}", "leave one out"
            )
        if name in _FOLDER_NAMES:
            raise ProbesError(
                "the wrapper's weights are the member's", where, "set pair.ROLE.repo instead"
            )
        texts = value if isinstance(value, list | tuple) else [value]
        for text in texts:
            if isinstance(text, str) and _is_path(text):
                raise ProbesError(
                    f"{text} is a file or folder, whose content no cache key would cover",
                    where,
                    "put what it holds into the member's folder, or leave the argument out",
                )


def _is_path(text: str) -> bool:
    try:
        return "/" in text and Path(text).expanduser().exists()
    except (OSError, RuntimeError, ValueError):  # too long for a path, say
        return False


def _check_code(folder: str, spec: ModelSpec, args: Mapping[str, Any]) -> None:
    """Refuse what might run a checkpoint's own code, which some wrappers allow by themselves."""
    allow = f"pair.{spec.role}.trust_remote_code=true runs the code of {spec.repo} and of no other"
    if "trust_remote_code" in args:
        raise ProbesError(
            "code is trusted by member, not for a whole wrapper",
            "backend.options.args.trust_remote_code",
            allow,
        )
    code = sorted(path.name for path in Path(folder).rglob("*.py"))
    if code and not spec.trust_remote_code:
        raise ProbesError(
            f"the checkpoint has code of its own ({', '.join(code[:3])}), which is not trusted",
            folder,
            f"read it; {allow}",
        )


def _unusable(what: str, first: str = "") -> ProbesError:
    """Return the refusal of a wrapper; others are offered, after what could be done first."""
    fix = f"{first}use one of {', '.join(sorted(RAN + READ))}, or backend=hf"
    return ProbesError(f"lmms-eval's {what}", _WHERE, fix)


def _arguments(found: type) -> set[str]:
    """Return the names of a wrapper's arguments, those of the classes it inherits from included."""
    names: set[str] = set()
    for base in found.__mro__:
        own = base.__dict__.get("__init__")
        if own is None:
            continue
        kinds = inspect.signature(own).parameters.values()
        names |= {
            kind.name for kind in kinds if kind.kind not in (kind.VAR_POSITIONAL, kind.VAR_KEYWORD)
        }
        if not any(kind.kind is kind.VAR_KEYWORD for kind in kinds):
            break
    return names - {"self"}


def _asks_for_messages(found: type) -> bool:
    for one in found.__mro__:
        if one.__module__ == "builtins" or one.__module__.startswith("lmms_eval.api"):
            continue
        try:
            source = inspect.getsource(one)
        except (OSError, TypeError):
            return True  # without source the flag `is_simple` has to do
        if "doc_to_messages" in source:
            return True
    return False


def _hide_bars(found: type) -> None:
    """Keep a wrapper from drawing a progress bar for every single request."""
    for one in found.__mro__:
        names = vars(sys.modules[one.__module__]) if one.__module__ in sys.modules else {}
        if "tqdm" in names:
            # In the wrapper's own module: there is no switch, and other progress bars stay.
            names["tqdm"] = partial(_without_bar, names["tqdm"])


def _without_bar(bar: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    return bar(*args, **(kwargs | {"disable": True}))
