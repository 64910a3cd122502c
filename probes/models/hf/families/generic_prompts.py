"""Prompts of a class that nothing is known of: how its template and its processor place frames."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from probes.core.errors import ProbesError
from probes.core.types import (
    FrameArray,
    FrameAs,
    FrameRef,
    FramesByHash,
    Params,
    Request,
    ScoringSpec,
)
from probes.models.base import PromptSize, Unaskable, frames_of
from probes.models.hf.chat_layout import chat_layout
from probes.models.hf.families.loading import loading
from probes.models.hf.prompt_encoder import PromptTokens, interleaved, join
from probes.models.hf.token_layout import marked, too_long
from probes.models.hf.vision_cache import FrameResults, TokenGrids, read_frame

_FRAME = FrameRef("0" * 64)
PROBE = Request(("MARKA", _FRAME, "MARKB", _FRAME, _FRAME, "MARKC"))
"""Texts and frames whose order a template has to keep."""
ONE = Request((_FRAME, "A"))
"""A prompt that shows one frame."""
_SIZES = ((96, 128), (128, 96), (96, 128))
"""Heights and widths of the frames that the processor is tried with."""
_TOKENS = ("{}_token", "boi_token", "image_token")
"""Attributes of a processor, or its tokenizer, that name what a template writes for a frame."""


@dataclass(frozen=True, slots=True)
class FramePlaces:
    """How a checkpoint's chat template places frames."""

    as_parts: bool
    """Whether frames are parts of the message; else their token is written into its one text."""
    token: str
    """What stands for a frame in a rendered text."""


@dataclass(frozen=True, slots=True)
class GenericModel:
    """A processor that keeps the order of texts and frames."""

    processor: Any
    tokens: PromptTokens
    frame_as: FrameAs
    places: FramePlaces
    context: int
    repeated: int = 1
    """How often a frame is in its video: some classes take no video of one frame."""
    counted: bool = False
    """Whether a prompt's tokens are those of its text and of its frames, by their size."""
    grids: TokenGrids = field(init=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "grids", TokenGrids(self._frame_tokens))

    @classmethod
    def of(
        cls, processor: Any, frame_as: FrameAs, context: int, where: str, variables: Params = ()
    ) -> GenericModel:
        """Find out how a processor places frames.

        Args:
            processor: with its tokenizer.
            frame_as: whether a frame is an image, or a video of one frame.
            context: most positions that the model has.
            where: folder of the checkpoint, for messages.
            variables: further ones of the chat template.

        Raises:
            ProbesError: it moves or drops frames, or fails on a prompt of text and frames.
        """
        places = _places(processor, frame_as, where, variables)
        with loading(Path(where)):
            tokens = PromptTokens(
                processor.tokenizer,
                places.token,
                processor,
                picture=(frame_as, places.token),
                variables=variables,
            )
        failed = None
        for repeated in (1, 2) if frame_as == "video" else (1,):
            made = cls(processor, tokens, frame_as, places, context, repeated)
            try:
                return replace(made, counted=made._counts())
            except Exception as error:  # processors differ in all they can fail with
                failed = failed or error
        raise _refusal(
            "its processor fails on a prompt of texts and frames:"
            f" {type(failed).__name__}: {failed}",
            where,
        ) from failed

    def _counts(self) -> bool:
        """Return whether a prompt's tokens are those of its text and of each of its frames."""
        text = self.render(PROBE)
        shown = [np.zeros((height, width, 3), np.uint8) for height, width in _SIZES]
        found = self.batch([text], [shown])["input_ids"].shape[1]
        of_frames = sum(self._frame_tokens(*size)[0] for size in _SIZES)
        return bool(found == self.tokens.count(text) - len(_SIZES) + of_frames)

    def render(self, prompt: Request, answer_prefix: str = "") -> str:
        """Return the text of a prompt with the template's own placeholder for every frame."""
        if not self.places.as_parts:
            return self.tokens.render(prompt, answer_prefix)
        parts = interleaved(prompt, self.tokens.escape_special_tokens)
        text = self.tokens.chat.render(parts)
        return join(text, self.tokens.prefix(answer_prefix)) if answer_prefix else text

    def shown(self, prompt: Request, answer_prefix: str = "") -> str:
        """Return the text that is processed, with `<frame SHA8>` for every frame."""
        return marked(self.render(prompt, answer_prefix), self.places.token, prompt)

    def inputs(self, text: str, prompt: Request, frames: FramesByHash) -> Any:
        """Return the model's inputs (tensors, batch of one) for a rendered text."""
        return self.batch([text], [[frames[name] for name in frames_of(prompt)]])

    def batch(self, texts: Sequence[str], shown: Sequence[Sequence[FrameArray]]) -> Any:
        """Return the model's inputs for rendered texts, padded on the left.

        Args:
            texts: of prompts that all show frames, or none.
            shown: frames of each, uint8 [height, width, 3].
        """
        from PIL import Image

        media: dict[str, Any] = {}
        if any(shown) and self.frame_as == "video":
            # Each a video of its own, which begins and ends at its one frame.
            videos = [frame[None].repeat(self.repeated, 0) for some in shown for frame in some]
            media = {"videos": videos, "do_sample_frames": False}
        elif any(shown):
            media = {"images": [[Image.fromarray(one) for one in frames] for frames in shown]}
        bos = self.processor.tokenizer.bos_token
        padded = {"padding": True, "padding_side": "left"} if len(texts) > 1 else {}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return self.processor(
                text=list(texts),
                **media,
                **padded,
                # A template that writes the start token gets no second one.
                add_special_tokens=not (bos and texts[0].startswith(bos)),
                return_tensors="pt",
            )

    def _lengths(
        self, prompts: Sequence[Request], frames: FramesByHash, scoring: ScoringSpec
    ) -> Iterator[tuple[int, int | Unaskable]]:
        """Yield (index, tokens) of every prompt; frames' pixels are read only where they count."""
        for at, prompt in enumerate(prompts):
            text = self.render(prompt, scoring.answer_prefix)
            names = frames_of(prompt)
            if self.counted:
                grids = self.grids.of(names, frames)
                if grids.errors:
                    yield at, Unaskable(next(iter(grids.errors.values())))
                    continue
                of_frames = sum(grids.found[name][0] for name in names)
                yield at, self.tokens.count(text) - len(names) + of_frames
                continue
            shown = pixels_of(names, frames)
            if shown.errors:
                yield at, Unaskable(next(iter(shown.errors.values())))
            else:
                yield at, self.inputs(text, prompt, shown.found)["input_ids"].shape[1]

    def sizes(
        self, prompts: Sequence[Request], frames: FramesByHash, scoring: ScoringSpec
    ) -> Iterator[tuple[int, PromptSize | Unaskable]]:
        """Yield (index, size) of every prompt."""
        for at, tokens in self._lengths(prompts, frames, scoring):
            if isinstance(tokens, Unaskable):
                yield at, tokens
                continue
            prompt, answers = prompts[at], list[list[int]]()
            if scoring.kind == "letter":
                answers = [[0] for _ in prompt.options]  # one token each, whichever it is
            elif scoring.kind == "cloze":
                text = self.render(prompt, scoring.answer_prefix)
                (encoded,) = self.tokens.continuations([text], [prompt.options])
                answers = encoded.answers
                # Where a continuation merges with the end of the text, both are scored together.
                tokens -= self.tokens.count(text) - len(encoded.ids)
            more = scoring.max_new_tokens or max(map(len, answers), default=0)
            long = too_long(tokens, 0 if scoring.kind == "letter" else more, self.context)
            yield at, long or PromptSize(tokens, tuple(map(len, answers)))

    def _frame_tokens(self, height: int, width: int) -> tuple[int, ...]:
        """Return how many tokens a frame takes, by a blank one of its size."""
        text = self.render(ONE)
        inputs = self.batch([text], [[np.zeros((height, width, 3), np.uint8)]])
        return (inputs["input_ids"].shape[1] - self.tokens.count(text) + 1,)


def pixels_of(names: Sequence[str], frames: FramesByHash) -> FrameResults[FrameArray]:
    """Read frames by sha256."""
    results: FrameResults[FrameArray] = FrameResults()
    for name in dict.fromkeys(names):
        results.add(name, partial(read_frame, frames, name))
    return results


def _places(processor: Any, frame_as: FrameAs, where: str, variables: Params) -> FramePlaces:
    """Find out how frames get into a text.

    Raises:
        ProbesError: neither as parts of a message nor by their token in its text do they stay in
            their places.
    """
    # First by itself: a variable that the template does not read is no matter of frames.
    chat = chat_layout(processor, processor.tokenizer, frame_as, "", variables)
    reasons = []
    tokens = _named(processor, frame_as)
    for in_text in ("", *tokens):
        try:
            if in_text:
                with loading(Path(where)):
                    tried = PromptTokens(
                        processor.tokenizer, in_text, processor, variables=variables
                    )
                text = tried.render(PROBE)
            else:
                text = chat.render(interleaved(PROBE, str))
        except Exception as error:  # templates are programs of others
            reasons.append(f"it fails on a message of texts and frames: {error}")
            continue
        between = re.search("MARKA(.*)MARKB(.*)MARKC", text, re.DOTALL)
        if not between:
            reasons.append(f"it renders texts out of order: {text!r}")
            continue
        piece, both = between.groups()
        known = [one for one in [*tokens, piece.strip()] if one and piece.count(one) == 1]
        if known and both.count(known[0]) == 2 and text.count(known[0]) == 3:
            return FramePlaces(not in_text, known[0])
        reasons.append(f"it moves frames or drops them: {text!r}")
    raise _refusal(f"the chat template does not accept interleaved frames: {reasons[0]}", where)


def _named(processor: Any, frame_as: FrameAs) -> list[str]:
    """Return the tokens that may stand for a frame in a text."""
    found = []
    for name in _TOKENS:
        for owner in (processor, processor.tokenizer):
            token = getattr(owner, name.format(frame_as), None)
            # Some processors hold the token as an object with its text inside.
            token = str(getattr(token, "content", token) or "")
            if token and (frame_as == "image" or name == "{}_token"):
                found.append(token)
    return list(dict.fromkeys(found))


def _refusal(what: str, where: str) -> ProbesError:
    return ProbesError(
        what,
        where,
        "use a checkpoint of a class that `probes models` lists, or give this one a template that"
        " leaves frames in their places",
    )
