"""A loaded model of a class without a family at work: from requests to outputs, batch by batch.

Shape suffixes: B rows, T tokens, V vocabulary.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

from probes.core.types import FrameArray, FramesByHash, Output, Request, ScoringSpec
from probes.models.base import NOT_NUMBERS, Unaskable, error_output, frames_of
from probes.models.hf.batching import Batcher, Failed
from probes.models.hf.families.generic_prompts import GenericModel, pixels_of
from probes.models.hf.families.loading import GREEDY
from probes.models.hf.generic_proof import Proven, encoder, logprobs, prove
from probes.models.hf.shared_features import FrameFeatures, compose, made_of, pixel_sums
from probes.models.hf.token_layout import letter_forms, too_long
from probes.models.hf.vision_cache import FeatureCache

WINDOW = 512
"""Most prompts that are sorted by length at a time."""


@dataclass(frozen=True, slots=True)
class _Row:
    """One sequence of a pass."""

    text: str
    frames: tuple[str, ...]
    """sha256 of its frames, in order."""
    answer: tuple[int, ...] = ()
    """Its last tokens, where they are scored."""


@dataclass(slots=True)
class LoadedGenericModel:
    """What exists only while a model of no family is loaded.

    Args:
        model: of transformers.
        preprocessor: its prompts.
        batcher: bounds of a batch.
        capacity: bound of the cache of features, in bytes.
    """

    model: Any
    preprocessor: GenericModel
    batcher: Batcher
    capacity: int
    passes: int = 0
    """Passes of the model so far."""
    whole: int = 0
    """Passes among them that went through with pixels although frames are encoded once."""
    proven: Proven = field(init=False)
    cache: FeatureCache[FrameFeatures] | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        import torch

        with torch.inference_mode():
            self.proven = prove(self.model, self.preprocessor)
        if self.proven.alone:
            self.batcher.size = 1
        # A part of a larger model may have no end of its own: the whole gives it one, or none does.
        if self.model.generation_config.eos_token_id is None:
            tokenizer = self.preprocessor.processor.tokenizer
            self.model.generation_config.eos_token_id = tokenizer.eos_token_id
        if self.proven.methods is not None and self.proven.recipe is not None:
            encode = encoder(self.model, self.preprocessor, self.proven.methods, self.proven.recipe)
            self.cache = FeatureCache(encode, self.capacity, 1)

    def score(
        self, requests: Sequence[Request], frames: FramesByHash, scoring: ScoringSpec
    ) -> Iterator[tuple[int, Output]]:
        """Answer requests; see `Backend.score`."""
        for start in range(0, len(requests), WINDOW):
            window = requests[start : start + WINDOW]
            # Not every processor takes prompts with frames and prompts without in one call.
            groups: dict[bool, list[tuple[int, int]]] = {True: [], False: []}
            for at, size in self.preprocessor.sizes(window, frames, scoring):
                if isinstance(size, Unaskable):
                    yield start + at, error_output(size.reason)
                else:
                    groups[bool(frames_of(window[at]))].append((at, size.tokens))
            for group in groups.values():
                for at, output in self._answer_all(window, group, frames, scoring):
                    yield start + at, output

    def counters(self) -> dict[str, int]:
        """Return frames encoded, those of them encoded again, and passes."""
        cache = self.cache
        return {
            "perceived": cache.encoded if cache else 0,
            "recomputed": cache.recomputed if cache else 0,
            "passes": self.passes,
        }

    def close(self) -> None:
        """Leave everything to the garbage collector."""

    def _answer_all(
        self,
        requests: Sequence[Request],
        group: Sequence[tuple[int, int]],
        frames: FramesByHash,
        scoring: ScoringSpec,
    ) -> Iterator[tuple[int, Output]]:
        import torch

        places = [at for at, _ in group]

        def answer(batch: list[int]) -> list[Output]:
            started = time.perf_counter()
            with torch.inference_mode():
                made = self._answers([requests[places[one]] for one in batch], frames, scoring)
            seconds = (time.perf_counter() - started) / len(batch)
            return [replace(one, seconds=seconds) for one in made]

        costs = []
        for at, length in group:
            rows = max(1, len(requests[at].options)) if scoring.kind == "cloze" else 1
            more = scoring.max_new_tokens if scoring.kind == "generate" else 0
            costs.append(rows * (length + more))
        for batch, outputs in self.batcher.run(costs, answer):
            if isinstance(outputs, Failed):
                outputs = [error_output(outputs.error)]
            yield from zip((places[one] for one in batch), outputs, strict=True)

    def _answers(
        self, prompts: Sequence[Request], frames: FramesByHash, scoring: ScoringSpec
    ) -> list[Output]:
        """Answer one batch; what a prompt's frames or options forbid costs that prompt only."""
        names = [name for prompt in prompts for name in frames_of(prompt)]
        shown = pixels_of(names, frames)
        errors = dict(shown.errors)
        features: dict[str, FrameFeatures] = {}
        if self.cache is not None:
            encoded = self.cache.get(shown.found, shown.found)
            errors |= encoded.errors
            features = encoded.found
        outputs: dict[int, Output] = {}
        askable: dict[int, Request] = {}
        for at, prompt in enumerate(prompts):
            failed = [errors[name] for name in frames_of(prompt) if name in errors]
            if failed:
                outputs[at] = error_output(failed[0])
            elif scoring.kind != "generate" and not prompt.options:
                outputs[at] = error_output("the prompt has no options to score")
            else:
                askable[at] = prompt
        ways = {"letter": self._letters, "cloze": self._clozes, "generate": self._texts}
        if askable:
            pass_ = _Pass(self, shown.found, features)
            made = ways[scoring.kind](list(askable.values()), pass_, scoring)
            outputs |= dict(zip(askable, made, strict=True))
        return [outputs[at] for at in range(len(prompts))]

    def _letters(
        self, prompts: Sequence[Request], pass_: _Pass, scoring: ScoringSpec
    ) -> list[Output]:
        """Score the letters by the token behind each prompt."""
        reader = self.preprocessor
        forms = letter_forms(reader.tokens, [o for prompt in prompts for o in prompt.options])
        rows = [_Row(reader.render(p, scoring.answer_prefix), frames_of(p)) for p in prompts]
        inputs, lengths = pass_.inputs(rows)
        logprobs_BV = pass_.logprobs(inputs, rows, 0)[:, -1]
        out = []
        for prompt, length, logprobs_V in zip(prompts, lengths, logprobs_BV, strict=True):
            sums = [float(logprobs_V[list(forms[one])].logsumexp(0)) for one in prompt.options]
            out.append(self._scored(sums, [1] * len(sums), length, 0))
        return out

    def _clozes(
        self, prompts: Sequence[Request], pass_: _Pass, scoring: ScoringSpec
    ) -> list[Output]:
        """Score the options by their tokens; those of all prompts are rows of one pass."""
        reader = self.preprocessor
        texts = [reader.render(prompt, scoring.answer_prefix) for prompt in prompts]
        encoded = reader.tokens.continuations(texts, [prompt.options for prompt in prompts])
        rows = [
            _Row(reader.tokens.with_answer(text, option), frames_of(prompt), tuple(answer))
            for prompt, text, one in zip(prompts, texts, encoded, strict=True)
            for option, answer in zip(prompt.options, one.answers, strict=True)
        ]
        scored: list[tuple[float, int]] = []
        step = len(rows) if self.batcher.size > 1 else 1
        for start in range(0, len(rows), step):
            some = rows[start : start + step]
            inputs, lengths = pass_.inputs(some)
            found = pass_.logprobs(inputs, some, max(len(row.answer) for row in some))
            for row, length, logprobs_TV in zip(some, lengths, found, strict=True):
                own = logprobs_TV[-len(row.answer) - 1 : -1]
                total = sum(float(p[t]) for p, t in zip(own, row.answer, strict=True))
                scored.append((total, length - len(row.answer)))
        out, each = [], iter(scored)
        for one in encoded:
            taken = [next(each) for _ in one.answers]
            if not all(one.answers):
                out.append(error_output("an option adds no token to the prompt"))
                continue
            sums, counts = [total for total, _ in taken], list(map(len, one.answers))
            out.append(self._scored(sums, counts, taken[0][1], max(counts)))
        return out

    def _texts(
        self, prompts: Sequence[Request], pass_: _Pass, scoring: ScoringSpec
    ) -> list[Output]:
        """Write texts greedily."""
        reader, model = self.preprocessor, self.model
        rows = [_Row(reader.render(p, scoring.answer_prefix), frames_of(p)) for p in prompts]
        inputs, lengths = pass_.inputs(rows)
        width = inputs["input_ids"].shape[1]
        if width + scoring.max_new_tokens > reader.context and len(prompts) > 1:
            raise ValueError("a prompt of the batch is too long")  # each alone then
        if long := too_long(lengths[0], scoring.max_new_tokens, reader.context):
            return [error_output(long.reason, lengths[0])]
        with pass_.serving(inputs, rows):
            ids_BT = model.generate(
                **inputs,
                max_new_tokens=scoring.max_new_tokens,
                **GREEDY,
                repetition_penalty=1.0,
                no_repeat_ngram_size=0,
            )[:, width:].tolist()
        ends = model.generation_config.eos_token_id
        stops = set(ends if isinstance(ends, list | tuple) else [ends])
        out = []
        for ids, length in zip(ids_BT, lengths, strict=True):
            # Behind its end a row is padded until the last of the batch ends.
            end = next((at + 1 for at, token in enumerate(ids) if token in stops), len(ids))
            text = reader.tokens.decode(ids[:end])
            out.append(
                Output(
                    text=text,
                    input_tokens=length,
                    output_tokens=end,
                    cut_off=stops.isdisjoint(ids),
                )
            )
        return out

    def _scored(self, sums: list[float], counts: list[int], length: int, more: int) -> Output:
        if long := too_long(length, more, self.preprocessor.context):
            return error_output(long.reason, length)
        if any(map(math.isnan, sums)):
            return error_output(NOT_NUMBERS, length)
        return Output(option_logprobs=tuple(sums), option_tokens=tuple(counts), input_tokens=length)


@dataclass(slots=True)
class _Pass:
    """Frames and features of a batch, and passes over rows of it."""

    loaded: LoadedGenericModel
    frames: dict[str, FrameArray]
    features: dict[str, FrameFeatures]
    _sums: tuple[float, float] = (0.0, 0.0)

    def inputs(self, rows: Sequence[_Row]) -> tuple[Any, list[int]]:
        """Return the model's inputs on its device, and how many tokens each row has."""
        made = self.loaded.preprocessor.batch(
            [row.text for row in rows], [[self.frames[n] for n in row.frames] for row in rows]
        )
        self._sums = pixel_sums(made)
        width = made["input_ids"].shape[1]
        lengths = made["attention_mask"].sum(1).tolist() if len(rows) > 1 else [width]
        return made.to(self.loaded.model.device, self.loaded.model.dtype), lengths

    def logprobs(self, inputs: Any, rows: Sequence[_Row], count: int) -> Any:
        """Return log-probabilities [rows, count + 1, vocabulary]; see `generic_proof.logprobs`."""
        with self.serving(inputs, rows):
            return logprobs(self.loaded.model, inputs, count)

    def serving(self, inputs: Any, rows: Sequence[_Row]) -> AbstractContextManager[None]:
        """Make the class take its frames' features from the cache, in the pass within."""
        proven, names = self.loaded.proven, [name for row in rows for name in row.frames]
        self.loaded.passes += 1
        if proven.recipe is None or proven.methods is None or not names:
            return nullcontext()
        parts = [self.features[name] for name in names]
        # A prompt whose frames are prepared otherwise than alone goes through with its pixels.
        if not made_of(self._sums, [one.pixels for one in parts]):
            self.loaded.whole += 1
            return nullcontext()
        return proven.methods.serving(compose(proven.recipe, [one.value for one in parts]))
