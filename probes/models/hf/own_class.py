"""What a checkpoint's own processor and class make of a prompt: what all else is compared with.

Nothing of what makes runs fast is used here: texts and pictures go through the chat template and
the processor together, and one forward pass answers one prompt.

Shape suffixes: T tokens, V vocabulary.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from probes.core.types import FrameAs, FramesByHash, Request, ScoringSpec
from probes.models.base import frames_of
from probes.models.hf.prompt_encoder import FRAME, PromptTokens, interleaved
from probes.models.hf.token_layout import letter_forms

if TYPE_CHECKING:
    import torch

_MARK = "MARK"


@dataclass(frozen=True)
class OwnClass:
    """A processor as transformers means it to be used."""

    processor: Any
    tokens: PromptTokens
    """Breaks special tokens in texts, and joins answers, as in a run."""
    frame_as: FrameAs
    repeated: int = 1
    """How often a frame is in its video: some classes take no video of one frame."""
    template_kwargs: dict[str, Any] = field(default_factory=dict)
    """Further arguments of the chat template."""

    @property
    def way(self) -> FrameAs:
        """How it shows a frame: as configured, or as an image where it has no videos."""
        # By the class: a family may have put a video processor into this object.
        parts = self.processor.get_attributes() if hasattr(self.processor, "get_attributes") else ()
        return self.frame_as if f"{self.frame_as}_processor" in parts else "image"

    @property
    def token(self) -> str:
        """What stands for a frame in a text."""
        found = getattr(self.processor, f"{self.way}_token", None)
        return str(getattr(found, "content", found) or f"<{self.way}>")

    @property
    def token_ids(self) -> frozenset[int]:
        """Ids of the tokens that a processor writes for frames."""
        # InternVL's writes a picture's token for a video's too.
        names = [getattr(self.processor, f"{way}_token", None) for way in ("image", "video")]
        texts = [str(getattr(one, "content", one)) for one in names if one]
        find = self.processor.tokenizer.convert_tokens_to_ids
        return frozenset(int(find(text)) for text in texts or [self.token])

    @cached_property
    def moves_pictures(self) -> bool:
        """Whether the chat template puts pictures before texts, or fails on several."""
        picture = {"type": str(self.way)}
        try:
            text = self._parts([picture, {"type": "text", "text": _MARK}, picture])
        except Exception:  # templates are programs of others
            return True
        # One that drops pictures as well: then only texts are left as they are.
        return text.rfind(self.token) < text.find(_MARK)

    @cached_property
    def picture(self) -> str:
        """What the template writes for a picture between texts; its token alone where it moves."""
        mark = {"type": "text", "text": _MARK}
        try:
            written = self._parts([mark, {"type": str(self.way)}, mark]).split(_MARK)
        except Exception:  # templates are programs of others
            return self.token
        return written[1] if len(written) == 3 and self.token in written[1] else self.token

    def text(self, prompt: Request, answer: str = "") -> str:
        """Return the text of a prompt, and of an answer or its beginning.

        Where the template moves pictures, all goes in as one text with pictures in their places.
        """
        parts = interleaved(prompt, self.tokens.escape_special_tokens)
        if self.moves_pictures:
            body = "".join(self.picture if part is None else part for part in parts)
            text = self._chat([{"type": "text", "text": body}])
        else:
            text = self._chat(
                [
                    {"type": self.way} if part is None else {"type": "text", "text": part}
                    for part in parts
                ]
            )
        return self.tokens.with_answer(text, answer) if answer else text

    def inputs(self, text: str, prompt: Request, frames: FramesByHash) -> Any:
        """Return the class's inputs (tensors, batch of one)."""
        from PIL import Image

        # Copies: torch warns of arrays that cannot be written to, as those of the frame store.
        shown = [np.array(frames[name]) for name in frames_of(prompt)]
        media: dict[str, Any] = {}
        if shown and self.way == "video":
            videos = [frame[None].repeat(self.repeated, 0) for frame in shown]
            media = {"videos": videos, "do_sample_frames": False}
        elif shown:
            # As PIL's: not every processor takes arrays (Idefics2's).
            media = {"images": [list(map(Image.fromarray, shown))]}
        bos = self.processor.tokenizer.bos_token
        # A template that writes the start token gets no second one.
        more = {"add_special_tokens": False} if bos and text.startswith(bos) else {}
        return self.processor(text=[text], **media, **more, return_tensors="pt")

    def _chat(self, content: list[dict[str, str]]) -> str:
        try:
            text = self._parts(content)
        except Exception:  # one for texts alone takes no list of parts
            text = ""
        if "'type'" in text or not text:
            return self._rendered("".join(part.get("text", self.picture) for part in content))
        return text

    def _parts(self, content: list[dict[str, str]]) -> str:
        """Return what the template makes of parts; whatever it raises where it takes none."""
        if self._owner is None:
            return "".join(part.get("text", self.token) for part in content)
        return self._rendered(content)

    def _rendered(self, content: Any) -> str:
        named = {"add_generation_prompt": True, "tokenize": False, **self.template_kwargs}
        message = {"role": "user", "content": content}
        return str(self._owner.apply_chat_template([message], **named))

    @property
    def _owner(self) -> Any:
        """What has the chat template; None where there is none."""
        owners = (self.processor, self.processor.tokenizer)
        return next((one for one in owners if getattr(one, "chat_template", None)), None)


@dataclass(frozen=True, slots=True)
class PlainPass:
    """Answers a prompt by plain forward passes of a loaded model, one for every text.

    Which tokens count for a letter, and how an answer is joined to a prompt, is the run's rule.
    """

    tokens: PromptTokens
    model: Any
    text: Callable[[Request, str], str]
    """(prompt, beginning of the answer) -> what is tokenized."""
    inputs: Callable[[str, Request, FramesByHash], Any]
    """(text, prompt, pixels) -> the model's inputs (tensors, batch of one)."""

    def options(
        self, prompt: Request, frames: FramesByHash, scoring: ScoringSpec
    ) -> tuple[float, ...]:
        """Return the log-probability of every option, by `letter` or `cloze`."""
        text = self.text(prompt, scoring.answer_prefix)
        if scoring.kind == "letter":
            forms = letter_forms(self.tokens, prompt.options)
            next_V = self._logprobs(text, prompt, frames, 0)[-1]
            return tuple(float(next_V[list(forms[one])].logsumexp(0)) for one in prompt.options)
        (encoded,) = self.tokens.continuations([text], [prompt.options])
        sums = []
        for option, answer in zip(prompt.options, encoded.answers, strict=True):
            joint = self.tokens.with_answer(text, option)
            logprobs_TV = self._logprobs(joint, prompt, frames, len(answer))[:-1]
            sums.append(sum(float(p[t]) for p, t in zip(logprobs_TV, answer, strict=True)))
        return tuple(sums)

    def first_token(self, prompt: Request, frames: FramesByHash, scoring: ScoringSpec) -> str:
        """Return the text of the most probable next token; empty for one that is no text."""
        text = self.text(prompt, scoring.answer_prefix)
        best = int(self._logprobs(text, prompt, frames, 0)[-1].argmax())
        return self.tokens.decode([best])

    def _logprobs(
        self, text: str, prompt: Request, frames: FramesByHash, count: int
    ) -> torch.Tensor:
        """Return log-probabilities [count + 1, V] of the last tokens, and of the next."""
        import torch

        inputs = self.inputs(text, prompt, frames).to(self.model.device, self.model.dtype)
        keeps = "logits_to_keep" in inspect.signature(self.model.forward).parameters
        more = {"logits_to_keep": count + 1} if keeps else {}
        with torch.inference_mode():
            logits_TV = self.model(**inputs, **more).logits[0, -count - 1 :]
        kept: torch.Tensor = logits_TV.float().log_softmax(-1).cpu()
        return kept


def collapsed(ids: Sequence[int], frames: frozenset[int]) -> list[int]:
    """Return ids with every run of a frame's tokens as one `FRAME`."""
    out: list[int] = []
    for one in ids:
        if one not in frames:
            out.append(one)
        elif not out or out[-1] != FRAME:
            out.append(FRAME)
    return out
