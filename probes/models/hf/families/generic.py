"""Any other image-text-to-text model of transformers, run as one piece on text and pictures.

Frames are not encoded once: pictures go through the model with every prompt, one prompt at a time,
so that nothing depends on how a class pads. The chat template decides where pictures are put; one
that moves them to the front is refused.

Shape suffixes: T tokens, V vocabulary, N scored tokens.
"""

from __future__ import annotations

import inspect
import math
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

from probes.core.errors import ProbesError
from probes.core.types import (
    FrameArray,
    FrameAs,
    FramesByHash,
    ModelSpec,
    Output,
    Request,
    ScoringSpec,
)
from probes.models.base import NOT_NUMBERS, PromptSize, Unaskable, error_output, frames_of
from probes.models.checkpoint import Checkpoint
from probes.models.hf.families.base import DevicePlacement
from probes.models.hf.families.loading import (
    GREEDY,
    context_of,
    load_processor,
    load_weights,
    loading,
)
from probes.models.hf.prompt_encoder import PromptTokens, interleaved, join
from probes.models.hf.token_layout import letter_forms, marked, too_long
from probes.models.hf.vision_cache import FrameResults, read_frame

if TYPE_CHECKING:
    import torch

_PROBE = ("MARKA", None, "MARKB", None, None, "MARKC")
"""Texts and pictures (None) whose order a template has to keep."""


class GenericFamily:
    """Whatever `AutoModelForImageTextToText` loads and has no family of its own."""

    name = "fallback"
    model_types: tuple[str, ...] = ()
    architectures: tuple[str, ...] = ()
    paths: tuple[FrameAs, ...] = ("image",)

    def knows(self, model_type: str, architectures: Sequence[str]) -> bool:
        """Return whether transformers has an image-text-to-text class for a config."""
        from transformers.models.auto.modeling_auto import (
            MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES as CLASSES,
        )

        # A layout of other authors may have the same model_type.
        return model_type in CLASSES and (not architectures or CLASSES[model_type] in architectures)

    def facts(self, checkpoint: Checkpoint, frame_as: FrameAs) -> dict[str, Any]:
        """Return the few facts that files of all classes have."""
        config = checkpoint.config
        return {
            "class": (config.get("architectures") or [""])[0],
            "tokens_per_frame": None,
            "patches_per_token": None,
            "perceive_once": False,
            "context": (config.get("text_config") or config).get("max_position_embeddings"),
        }

    def prepare(self, checkpoint: Checkpoint, spec: ModelSpec) -> GenericModel:
        """Load the processor.

        Raises:
            ProbesError: its chat template does not leave pictures in their places.
        """
        processor = load_processor(checkpoint, spec)
        with loading(checkpoint.folder):
            tokens = PromptTokens(
                processor.tokenizer,
                _image_token(processor),
                processor,
                variables=spec.chat_template_kwargs,
            )
        context = context_of(checkpoint, spec)
        model = GenericModel(processor, tokens, context, str(checkpoint.folder))
        model.check()
        return model

    def load(self, checkpoint: Checkpoint, spec: ModelSpec, placement: DevicePlacement) -> Any:
        """Load the model."""
        from transformers import AutoModelForImageTextToText

        return load_weights(AutoModelForImageTextToText, None, checkpoint, spec, placement)


@dataclass(frozen=True, slots=True)
class GenericModel:
    """A processor that keeps the order of texts and pictures, and the ways to ask its model."""

    processor: Any
    tokens: PromptTokens
    context: int
    where: str
    """Folder of the checkpoint, for messages."""

    def check(self) -> None:
        """Raise unless the chat template leaves pictures in their places."""
        try:
            text = self._chat([{"type": "image"} if p is None else _text(p) for p in _PROBE])
        except Exception as error:  # templates are programs of others
            self._refuse(f"it fails on a message of texts and pictures: {error}")
        between = re.search("MARKA(.*)MARKB(.*)MARKC(.*)", text, re.DOTALL)
        if not between:
            self._refuse(f"it renders texts out of order: {text!r}")
        first, second, rest = between.groups()
        token = _image_token(self.processor)
        if (first.count(token), second.count(token), rest.count(token)) != (1, 2, 0):
            self._refuse(f"it moves pictures or drops them: {text!r}")

    def render(self, prompt: Request, answer_prefix: str = "") -> str:
        """Return the text of a prompt with the template's own placeholder for every frame."""
        parts = interleaved(prompt, self.tokens.escape_special_tokens)
        text = self._chat([{"type": "image"} if p is None else _text(p) for p in parts])
        return join(text, self.tokens.prefix(answer_prefix)) if answer_prefix else text

    def sizes(
        self, prompts: Sequence[Request], frames: FramesByHash, scoring: ScoringSpec
    ) -> Iterator[tuple[int, PromptSize | Unaskable]]:
        """Yield (index, size) of every prompt."""
        for at, prompt in enumerate(prompts):
            shown = _pixels(prompt, frames)
            if isinstance(shown, Unaskable):
                yield at, shown
                continue
            text = self.render(prompt, scoring.answer_prefix)
            tokens = self.inputs(text, prompt, shown)["input_ids"].shape[1]
            answers: list[list[int]] = []
            if scoring.kind == "letter":
                answers = [[0] for _ in prompt.options]  # one token each, whichever it is
            elif scoring.kind == "cloze":
                (encoded,) = self.tokens.continuations([text], [prompt.options])
                answers = encoded.answers
                # Where a continuation merges with the end of the text, both are scored together.
                tokens -= self.tokens.count(text) - len(encoded.ids)
            more = scoring.max_new_tokens or max(map(len, answers), default=0)
            long = too_long(tokens, 0 if scoring.kind == "letter" else more, self.context)
            yield at, long or PromptSize(tokens, tuple(map(len, answers)))

    def shown(self, prompt: Request, answer_prefix: str = "") -> str:
        """Return the text that is processed, with `<frame SHA8>` for every picture."""
        return marked(self.render(prompt, answer_prefix), _image_token(self.processor), prompt)

    def inputs(self, text: str, prompt: Request, frames: FramesByHash) -> Any:
        """Return the model's inputs (tensors, batch of one) for a rendered text."""
        from PIL import Image

        shown = [Image.fromarray(frames[name]) for name in frames_of(prompt)]
        bos = self.processor.tokenizer.bos_token
        return self.processor(
            text=[text],
            **({"images": [shown]} if shown else {}),
            # A template that writes the start token gets no second one.
            add_special_tokens=not (bos and text.startswith(bos)),
            return_tensors="pt",
        )

    def answer(
        self, model: Any, prompt: Request, frames: FramesByHash, scoring: ScoringSpec
    ) -> Output:
        """Put one prompt to the model.

        Raises:
            ProbesError: the tokenizer cannot write letters as single tokens.
        """
        text = self.render(prompt, scoring.answer_prefix)
        if scoring.kind == "generate":
            return self._generate(model, self.inputs(text, prompt, frames), scoring.max_new_tokens)
        if scoring.kind == "letter":
            return self._letter(model, text, prompt, frames)
        (encoded,) = self.tokens.continuations([text], [prompt.options])
        answers = encoded.answers
        if not answers or not all(answers):
            return error_output("the prompt has no options to score, or one adds no token to it")
        sums: list[float] = []
        for option, answer in zip(prompt.options, answers, strict=True):
            inputs = self.inputs(self.tokens.with_answer(text, option), prompt, frames)
            length = inputs["input_ids"].shape[1] - len(answer)
            if long := too_long(length, len(answer), self.context):
                return error_output(long.reason, length)
            logprobs_NV = self._logprobs(model, inputs, len(answer))[:-1]
            sums.append(sum(float(p[t]) for p, t in zip(logprobs_NV, answer, strict=True)))
        if any(map(math.isnan, sums)):
            return error_output(NOT_NUMBERS, length)
        return Output(
            option_logprobs=tuple(sums),
            option_tokens=tuple(map(len, answers)),
            input_tokens=length,
        )

    def _letter(self, model: Any, text: str, prompt: Request, frames: FramesByHash) -> Output:
        """Score the letters by the token behind the prompt; one pass gives all of them."""
        if not prompt.options:
            return error_output("the prompt has no options to score")
        forms = letter_forms(self.tokens, prompt.options)
        inputs = self.inputs(text, prompt, frames)
        length = inputs["input_ids"].shape[1]
        if long := too_long(length, 0, self.context):
            return error_output(long.reason, length)
        logprobs_V = self._logprobs(model, inputs, 0)[-1]
        sums = [float(logprobs_V[list(forms[one])].logsumexp(0)) for one in prompt.options]
        if any(map(math.isnan, sums)):
            return error_output(NOT_NUMBERS, length)
        return Output(
            option_logprobs=tuple(sums), option_tokens=(1,) * len(sums), input_tokens=length
        )

    def _chat(self, content: list[dict[str, str]]) -> str:
        return self.tokens.chat.text(content)

    def _logprobs(self, model: Any, inputs: Any, count: int) -> torch.Tensor:
        """Return log-probabilities [count + 1, vocabulary]: of the last tokens, and of the next."""
        inputs = inputs.to(model.device, model.dtype)
        # The first of the tokens is read off the place before it. Not every class can leave out the
        # other places, whose logits take gigabytes for a long prompt.
        keeps = "logits_to_keep" in inspect.signature(model.forward).parameters
        logits_1TV = model(**inputs, **({"logits_to_keep": count + 1} if keeps else {})).logits
        # The place before a token predicts it; float32, as sums over 16 bits are too coarse.
        kept: torch.Tensor = logits_1TV[0, -count - 1 :].float().log_softmax(-1).cpu()
        return kept

    def _generate(self, model: Any, inputs: Any, max_new_tokens: int) -> Output:
        length = inputs["input_ids"].shape[1]
        if long := too_long(length, max_new_tokens, self.context):
            return error_output(long.reason, length)
        ids = model.generate(
            **inputs.to(model.device, model.dtype),
            max_new_tokens=max_new_tokens,
            **GREEDY,
            repetition_penalty=1.0,
            no_repeat_ngram_size=0,
        )[0, length:].tolist()
        return Output(text=self.tokens.decode(ids), input_tokens=length, output_tokens=len(ids))

    def _refuse(self, reason: str) -> NoReturn:
        raise ProbesError(
            f"the chat template does not accept interleaved pictures: {reason}",
            self.where,
            "use a checkpoint of a family that is listed in docs/own_pair.md, or give this one a"
            " template that leaves pictures in their places",
        )


@dataclass(slots=True)
class LoadedGenericModel:
    """What exists only while a model of no family is loaded; prompts are put to it one by one."""

    model: Any
    preprocessor: GenericModel
    passes: int = 0
    """Prompts that were put to it."""

    def score(
        self, requests: Sequence[Request], frames: FramesByHash, scoring: ScoringSpec
    ) -> Iterator[tuple[int, Output]]:
        """Answer requests; see `Backend.score`."""
        import torch

        for at, request in enumerate(requests):
            started = time.perf_counter()
            shown = _pixels(request, frames)
            if isinstance(shown, Unaskable):
                yield at, error_output(shown.reason)
                continue
            self.passes += 1
            try:
                with torch.inference_mode():
                    output = self.preprocessor.answer(self.model, request, shown, scoring)
            except ProbesError:
                raise
            except Exception as error:
                output = error_output(f"{type(error).__name__}: {error}")
            yield at, replace(output, seconds=time.perf_counter() - started)

    def counters(self) -> dict[str, int]:
        """Return the passes."""
        return {"passes": self.passes}

    def close(self) -> None:
        """Leave everything to the garbage collector."""


def _pixels(prompt: Request, frames: FramesByHash) -> dict[str, FrameArray] | Unaskable:
    """Return the frames of a prompt, or why one of them cannot be read."""
    results: FrameResults[FrameArray] = FrameResults()
    for name in frames_of(prompt):
        results.add(name, partial(read_frame, frames, name))
    return Unaskable(next(iter(results.errors.values()))) if results.errors else results.found


def _text(text: str | None) -> dict[str, str]:
    return {"type": "text", "text": text or ""}


def _image_token(processor: Any) -> str:
    token = getattr(processor, "image_token", None)
    # Some processors hold the token as an object with its text inside.
    return str(getattr(token, "content", token) or "<image>")
