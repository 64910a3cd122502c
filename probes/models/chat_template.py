"""Stimuli as chat messages for a server or wrapper, and whether its template keeps their order.

The official LLaVA templates put all pictures of a message before all of its text. A server or
wrapper that uses such a template turns every interleaved stimulus into frames first and text after,
and still answers. Where the checkpoint's files are at hand the template is checked before the first
prompt; elsewhere the order is `unknown`, and the manifest says so.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from probes.core.errors import ProbesError
from probes.core.hashing import array_sha256
from probes.core.types import FrameRef, FramesByHash, ModelSpec, Request
from probes.models.base import frames_of
from probes.models.checkpoint import Checkpoint, find
from probes.models.hf.prompt_encoder import broken, interleaved
from probes.models.repositories import EMBEDDED
from probes.models.thoughts import opened_thought

# The tokenizer is not at hand, so special tokens are recognised by their usual shapes.
_SPECIAL = re.compile(
    r"</?s>|</?img>|<(?:image|video|audio|IMG_CONTEXT|pad|bos|eos|unk)>|<\|[^|<>\s]{1,40}\|>"
)
_FILES = (
    "processor_config.json",
    "chat_template.json",
    "chat_template.jinja",
    "tokenizer_config.json",
)
"""Where a checkpoint keeps its template, in the order in which transformers looks."""
_BEFORE, _AFTER = "MARKBEFORE", "MARKAFTER"
PictureOrder = Literal["kept", "moved", "unknown"]
"""What a template does with a picture between two texts; `unknown` where there is no template, or
it does not render."""


def message_parts(
    prompt: Request, picture: Callable[[str], dict[str, Any]]
) -> list[dict[str, Any]]:
    """Return the parts of one user message: the prompt's texts and frames, in their order.

    Args:
        prompt: what is shown.
        picture: sha256 of a frame -> its part of the message.
    """
    names = iter(frames_of(prompt))
    return [
        picture(next(names)) if text is None else {"type": "text", "text": text}
        # Neighbouring texts are joined first: "<ima" and "ge>" are one token too.
        for text in interleaved(prompt, escape_special_tokens)
    ]


def escape_special_tokens(text: str) -> str:
    """Break what looks like a special token with a zero-width space, as the hf backend does.

    Text of a data set must not become a picture or an end of turn.
    """
    return broken(_SPECIAL, text)


def first_request(*, pictures: bool) -> tuple[Request, FramesByHash]:
    """Return a small question, about a grey frame if there are pictures, and that frame."""
    grey = np.full((224, 224, 3), 128, np.uint8)
    name = array_sha256(grey)
    parts = (FrameRef(name), "What is shown?") if pictures else ("What is shown?",)
    return Request(parts, ("A",)), {name: grey}


def has_pictures(prompts: Iterable[Request]) -> bool:
    """Return whether any prompt shows a frame."""
    return any(isinstance(part, FrameRef) for prompt in prompts for part in prompt.parts)


def local_checkpoint(spec: ModelSpec) -> Checkpoint | None:
    """Return the checkpoint if `repo` is a local folder or ships with the project, else None."""
    if spec.repo.startswith(EMBEDDED) or Path(spec.repo).expanduser().is_dir():
        return find(spec)
    return None


def kept_order(
    local: Checkpoint | None, spec: ModelSpec, *, by_user: bool, who: str, where: str, fix: str
) -> str:
    """Return what is known about the order of pictures and texts, for the manifest.

    Args:
        local: as for `order_of_pictures`.
        spec: likewise.
        by_user: whether the user has seen that it is kept.
        who: uses the template, for the message.
        where: of the message.
        fix: of the message.

    Raises:
        ProbesError: it is not kept, as far as the checkpoint's files show.
    """
    order = "kept, says the user" if by_user else order_of_pictures(local, spec)
    if order == "moved":
        raise ProbesError(
            "the checkpoint's chat template puts all pictures before all text, so a"
            f" {who} that uses it cannot show text between frames",
            where,
            fix,
        )
    return order


def order_of_pictures(local: Checkpoint | None, spec: ModelSpec) -> PictureOrder:
    """Return what the template does with a picture between two texts.

    Args:
        local: the checkpoint, if it is a local folder.
        spec: else its hub name, which is looked up in the local cache only.
    """
    template = _template(local, spec)
    if template is None:
        return "unknown"

    def between_marks(*parts: dict[str, str]) -> str:
        # A template may add text around a turn, or leave one of the marks out.
        _, _, rest = _rendered(template, parts, {}).partition(_BEFORE)
        middle, found, _ = rest.partition(_AFTER)
        if not found:
            raise ValueError("the marks are missing")
        return middle

    before, after = {"type": "text", "text": _BEFORE}, {"type": "text", "text": _AFTER}
    try:
        bare = between_marks(before, after)
        shown = between_marks(before, {"type": "image"}, after)
    except Exception:
        # Templates are programs of others: whatever they raise, the order stays unknown.
        return "unknown"
    # Only what stands between the marks is compared: every model has its own text for a picture.
    return "moved" if bare == shown else "kept"


def opens_thought(
    local: Checkpoint | None, spec: ModelSpec, template_kwargs: Mapping[str, Any]
) -> bool:
    """Return whether the template ends a prompt within a thought, as far as files here show.

    Args:
        local: as for `order_of_pictures`.
        spec: likewise.
        template_kwargs: what the template is rendered with.
    """
    template = _template(local, spec)
    if template is None:
        return False
    try:
        text = _rendered(template, [{"type": "text", "text": _BEFORE}], template_kwargs)
    except Exception:  # as above
        return False
    return opened_thought(text) is not None


def _rendered(
    template: str, parts: Sequence[Mapping[str, str]], template_kwargs: Mapping[str, Any]
) -> str:
    """Render one user message; raises whatever the template does."""
    from transformers.utils.chat_template_utils import render_jinja_template

    # A template is a program of others: transformers runs it in Jinja's sandbox.
    texts, _ = render_jinja_template(
        conversations=[[{"role": "user", "content": list(parts)}]],
        chat_template=template,
        add_generation_prompt=True,
        **{"bos_token": "<s>", "eos_token": "</s>"} | dict(template_kwargs),
    )
    return str(texts[0])


def _template(local: Checkpoint | None, spec: ModelSpec) -> str | None:
    for name in _FILES:
        path = checkpoint_file(local, spec, name)
        if path is None or not path.is_file():
            continue
        text = path.read_text("utf-8")
        if path.suffix == ".jinja":
            return text
        try:
            found: Any = json.loads(text).get("chat_template")
        except (ValueError, AttributeError):
            continue
        if isinstance(found, str):
            return found
    return None


def checkpoint_file(local: Checkpoint | None, spec: ModelSpec, name: str) -> Path | None:
    """Return where a file of a checkpoint is, or would be, on this machine; None where nowhere.

    Args:
        local: as for `order_of_pictures`.
        spec: likewise.
        name: of the file.
    """
    if local is not None:
        return local.folder / name
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        found = try_to_load_from_cache(spec.repo, name, revision=spec.revision)
    except HFValidationError:  # a served name need not be one of the hub's
        return None
    # Not a text where the hub is known to lack the file: then it is an object of the library's.
    return Path(found) if isinstance(found, str) else None
