"""A loaded model of a family at work: from tokenized prompts to outputs, batch by batch."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import TYPE_CHECKING, Any

from probes.core.errors import ProbesError
from probes.core.types import FramesByHash, Output, Request, ScoringSpec
from probes.models.base import NOT_NUMBERS, Unaskable, error_output
from probes.models.controllers import Controller, controller_of
from probes.models.hf import prefix_packing
from probes.models.hf.batching import Batcher, Failed
from probes.models.hf.collecting import named_errors, with_collected
from probes.models.hf.prefix_packing import PackedPrompts
from probes.models.hf.preprocessor import Preprocessor
from probes.models.hf.token_layout import TokenizedPrompt
from probes.models.hf.vision_cache import FeatureCache, FramePrefetcher
from probes.models.interventions import Collected, Hook, hook_of
from probes.models.parameters import content_of

if TYPE_CHECKING:
    import torch

    from probes.models.hf.forward import Features

WINDOW = 2_048
"""Most prompts that are tokenized and sorted by length at a time."""


@dataclass(frozen=True, slots=True)
class AnswerKind:
    """What prompts of one batch have in common: how they are answered."""

    scoring: ScoringSpec
    content: tuple[str, str] = ("", "")
    """Of intervention and decoding: two are one kind only where their parameters are the same."""
    names: tuple[str, ...] = ()
    """What messages call the hook and the controller."""
    # Never compared: to equality True, 1 and 1.0 are one parameter.
    hook: Hook | None = field(default=None, compare=False)
    controller: Controller | None = field(default=None, compare=False)

    @property
    def needs(self) -> frozenset[str]:
        """What the hook needs."""
        return frozenset() if self.hook is None else self.hook.needs

    @property
    def packable(self) -> bool:
        """Whether prompts may share a sequence."""
        alone = self.hook is not None and self.needs & {"mask", "layers"} and not self.hook.packable
        return self.scoring.kind != "generate" and not alone


@dataclass(frozen=True, slots=True)
class _Encoded:
    """Some prompts, by index, and the features of their frames, by sha256."""

    prompts: dict[int, TokenizedPrompt]
    features: Features
    errors: dict[str, str]
    """Why a frame has no features."""


@dataclass(slots=True)
class LoadedModel:
    """What exists only while a model is loaded."""

    model: Any
    preprocessor: Preprocessor
    cache: FeatureCache[torch.Tensor]
    prefetcher: FramePrefetcher
    batcher: Batcher
    end_tokens: frozenset[int]
    packed: bool
    """Whether passes may get a mask of our own, so that the options of a prompt share one."""
    passes: int = 0
    """Passes of the language model so far."""

    def score(
        self, requests: Sequence[Request], frames: FramesByHash, scoring: ScoringSpec
    ) -> Iterator[tuple[int, Output]]:
        """Answer requests; see `Backend.score`."""
        for start in range(0, len(requests), WINDOW):
            tokenized: dict[int, TokenizedPrompt] = {}
            window = requests[start : start + WINDOW]
            for at, prompt in self.preprocessor.tokenize(window, frames, scoring):
                if isinstance(prompt, Unaskable):
                    yield start + at, error_output(prompt.reason)
                else:
                    tokenized[start + at] = prompt
            for group in self._encoded(tokenized, frames):
                kinds: dict[AnswerKind, dict[int, TokenizedPrompt]] = defaultdict(dict)
                for at, prompt in group.prompts.items():
                    failed = [group.errors[name] for name in prompt.frames if name in group.errors]
                    if failed:
                        yield at, error_output(failed[0], len(prompt.ids))
                    else:
                        kinds[_kind(requests[at], scoring)][at] = prompt
                for kind, prompts in kinds.items():
                    yield from self._answer_all(prompts, group.features, kind)

    def close(self) -> None:
        """End the thread that reads frames."""
        self.prefetcher.close()

    def counters(self) -> dict[str, int]:
        """Return frames encoded, those of them encoded again, and language model passes."""
        cache = self.cache
        return {
            "perceived": cache.encoded,
            "recomputed": cache.recomputed,
            "passes": self.passes,
        }

    def _encoded(
        self, prompts: Mapping[int, TokenizedPrompt], frames: FramesByHash
    ) -> Iterator[_Encoded]:
        """Encode the frames of as many prompts as the cache has room for, then those of the next.

        Sorting all prompts by length would scatter an item's arms and with them the uses of its
        frames; within a group no frame is encoded twice, and callers keep items together.
        """
        order = list(prompts)
        cache = self.cache
        end = 0
        while end < len(order):
            start, used = end, 0
            features: dict[str, torch.Tensor] = {}
            errors: dict[str, str] = {}
            while end < len(order) and (end == start or used < cache.capacity):
                # One vision batch at a time, so that few frames' pixels are held.
                needed, end = self._unseen(prompts, order, end, features)
                following, _ = self._unseen(prompts, order, end, features.keys() | needed)
                self.prefetcher.read([name for name in following if name not in cache], frames)
                results = cache.get(needed, frames)
                used += sum(feature.nbytes for feature in results.found.values())
                features |= results.found
                errors |= results.errors
            yield _Encoded({at: prompts[at] for at in order[start:end]}, features, errors)

    def _unseen(
        self,
        prompts: Mapping[int, TokenizedPrompt],
        order: Sequence[int],
        start: int,
        seen: Collection[str],
    ) -> tuple[list[str], int]:
        """Return the frames of prompts from `start` on that fill a vision batch, and their end.

        Frames in `seen` do not count.
        """
        needed: dict[str, None] = {}
        end = start
        while end < len(order) and len(needed) < self.cache.batch_size:
            needed |= dict.fromkeys(name for name in prompts[order[end]].frames if name not in seen)
            end += 1
        return list(needed), end

    def _answer_all(
        self, prompts: Mapping[int, TokenizedPrompt], features: Features, kind: AnswerKind
    ) -> Iterator[tuple[int, Output]]:
        """Run prompts in batches, packed; where one of a sequence fails, run each of it alone."""
        order, tokenized = list(prompts), list(prompts.values())

        def answer(batch: list[int]) -> list[list[Output]]:
            started = time.perf_counter()
            self.passes += 1
            with named_errors(kind.names, kind.hook, kind.controller):
                outputs = self._answer([pending[at] for at in batch], features, kind)
            seconds = (time.perf_counter() - started) / sum(map(len, outputs))
            return [[replace(one, seconds=seconds) for one in some] for some in outputs]

        pending = prefix_packing.unpacked(tokenized, range(len(tokenized)))
        if self.packed and kind.packable and self.batcher.size > 1:
            pending = prefix_packing.pack(tokenized, self.batcher.tokens)
        while pending:
            again: list[int] = []
            lengths = [self._cost(packed, kind) for packed in pending]
            for batch, outputs in self.batcher.run(lengths, answer):
                if isinstance(outputs, Failed):
                    failed = pending[batch[0]]
                    if outputs.memory and len(failed.prompts) > 1:  # nor will others fit
                        self.batcher.tokens = max(1, lengths[batch[0]] // 2)
                    outputs = [[error_output(outputs.error)] * len(failed.prompts)]
                for at, some in zip(batch, outputs, strict=True):
                    indices = pending[at].indices
                    if len(some) > 1 and any(one.status == "error" for one in some):
                        again += indices  # unpacked: one of them may have spoiled the others
                    else:
                        yield from ((order[n], one) for n, one in zip(indices, some, strict=True))
            pending = prefix_packing.unpacked(tokenized, again)

    def _cost(self, packed: PackedPrompts, kind: AnswerKind) -> int:
        """Return how many tokens packed prompts add to a batch."""
        if kind.scoring.kind == "generate":
            return packed.tokens + kind.scoring.max_new_tokens
        if kind.scoring.kind == "letter" or self.packed:
            return packed.tokens
        (prompt,) = packed.prompts
        return len(prompt.answers) * (len(prompt.ids) + max(map(len, prompt.answers)))

    def _answer(
        self, packed: Sequence[PackedPrompts], features: Features, kind: AnswerKind
    ) -> list[list[Output]]:
        """Run one batch; return the outputs of every sequence of packed prompts."""
        from probes.models.hf import decoding, forward

        if "mask" in kind.needs and not self.packed:
            # Known by the class's defaults only; `capabilities` goes by the checkpoint's file.
            raise ProbesError(
                "the model's layers attend to a sliding window, which a mask would undo",
                f"intervention {type(kind.hook).__name__}",
                "leave the arm out, or use another checkpoint",
            )
        prompts = [prompt for one in packed for prompt in one.prompts]
        collected: Sequence[Collected]
        with _gradients(on="grad" in kind.needs):
            if kind.hook is not None:
                features = _own(prompts, features, leaves="grad" in kind.needs)
            if kind.scoring.kind == "generate":
                texts, collected = decoding.write(
                    self.model,
                    prompts,
                    features,
                    max_new_tokens=kind.scoring.max_new_tokens,
                    ends=self.end_tokens,
                    controller=kind.controller,
                    hook=kind.hook,
                )
                most = kind.scoring.max_new_tokens
                made = [self._written(*one, most) for one in zip(prompts, texts, strict=True)]
            else:
                # Where nothing follows a prompt, causal attention is mask enough, and faster.
                one_token = kind.scoring.kind == "letter" and len(prompts) == len(packed)
                masked = "mask" in kind.needs or (self.packed and not one_token)
                sums, collected = forward.score_options(
                    self.model, packed, features, masked=masked, hook=kind.hook
                )
                made = list(map(_scored, prompts, sums))
        who = " and ".join(kind.names)
        outputs = (with_collected(*both, who) for both in zip(made, collected, strict=True))
        return [list(islice(outputs, len(one.prompts))) for one in packed]

    def _written(self, prompt: TokenizedPrompt, ids: list[int] | str, most: int) -> Output:
        if isinstance(ids, str):
            return error_output(ids, len(prompt.ids))
        return Output(
            text=self.preprocessor.tokens.decode(ids),
            input_tokens=len(prompt.ids),
            output_tokens=len(ids),
            cut_off=len(ids) >= most and ids[-1] not in self.end_tokens,
        )


def _kind(request: Request, scoring: ScoringSpec) -> AnswerKind:
    change, decoding = request.intervention, request.decoding
    names = [] if change is None else [f"intervention {change.name!r}"]
    names += [] if decoding is None else [f"decoding {decoding.name!r}"]
    return AnswerKind(
        scoring,
        (content_of(change), content_of(decoding)),
        tuple(names),
        None if change is None else hook_of(change),
        None if decoding is None else controller_of(decoding),
    )


def _gradients(*, on: bool) -> AbstractContextManager[Any]:
    import torch

    return torch.enable_grad() if on else torch.inference_mode()


def _own(prompts: Sequence[TokenizedPrompt], features: Features, *, leaves: bool) -> Features:
    """Return copies of the features of prompts; as `leaves`, a hook can take derivatives by them.

    A hook that edits them in place must not change what the cache serves to other requests.
    """
    # Tensors that were made in inference mode, as those of the cache, can have no gradient.
    names = dict.fromkeys(name for prompt in prompts for name in prompt.frames)
    copies = {name: features[name].clone() for name in names}
    return {name: one.requires_grad_() for name, one in copies.items()} if leaves else copies


def _scored(prompt: TokenizedPrompt, sums: Sequence[float]) -> Output:
    if any(map(math.isnan, sums)):
        return error_output(NOT_NUMBERS, len(prompt.ids))
    return Output(
        option_logprobs=tuple(sums),
        option_tokens=tuple(map(len, prompt.answers)),
        input_tokens=len(prompt.ids),
    )
