"""The transformers backend: log-probabilities and greedy text of a multimodal checkpoint.

Torch is not imported before the first `score`; fingerprint and facts come from files.
"""

from __future__ import annotations

import atexit
import gc
import math
import time
import weakref
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

from probes.core.errors import MachineError, ProbesError
from probes.core.hashing import sha256_json
from probes.core.types import FramesByHash, ModelSpec, Output, Request, ScoringSpec
from probes.models.base import BackendSettings, Capabilities, check_options, error_output
from probes.models.checkpoint import CHAT_FILES, PROCESSOR_FILES, TOKENIZER_FILES, Checkpoint, find
from probes.models.hf import prefix_packing
from probes.models.hf.batching import Batcher, Failed, free_memory
from probes.models.hf.families import DevicePlacement, ProcessorBundle, family_of
from probes.models.hf.families.generic import GenericFamily, GenericModel
from probes.models.hf.families.loading import check_quantize, context_of
from probes.models.hf.prefix_packing import PackedPrompts
from probes.models.hf.preprocessor import Preprocessor
from probes.models.hf.token_layout import TokenizedPrompt, Unaskable, frames_of
from probes.models.hf.vision_cache import FeatureCache, FramePrefetcher, read_frame

if TYPE_CHECKING:
    import torch

    from probes.models.hf.forward import Features

ADAPTER = "hf-1"
"""Raised whenever the same prompt and weights would get other numbers or another text."""
OPTIONS: dict[str, Any] = {
    "batch_tokens": 0,
    "frame_batch": 32,
    "device_map": None,
    "quantize": None,
}
"""Options and their defaults: most tokens in a forward pass (0: `BATCH_TOKENS`), most frames in a
vision pass, how accelerate spreads a model over devices, weights of `4bit` or `8bit`."""
BATCH_TOKENS = {"cpu": 3_072, "cuda": 16_384}
"""By kind of device. On a CPU larger batches fall out of its caches: 3,072 tokens gave 95 prompts
per second and 8,192 gave 71 (2 M parameters, one thread)."""
WINDOW = 2_048
"""Most prompts that are tokenized and sorted by length at a time."""
MASKED_ATTENTION = ("sdpa", "eager")
"""Attention kernels that take a mask of our own."""

NOT_NUMBERS = "the model's logits are not numbers (NaN)"


@dataclass(frozen=True, slots=True)
class _Ready:
    """What exists only while a model is loaded."""

    model: Any
    preprocessor: Preprocessor
    cache: FeatureCache
    prefetcher: FramePrefetcher
    batcher: Batcher
    end_tokens: frozenset[int]
    packed: bool
    """Whether the options of a prompt share one pass."""


@dataclass(frozen=True, slots=True)
class _Encoded:
    """Some prompts, by index, and the features of their frames, by sha256."""

    prompts: dict[int, TokenizedPrompt]
    features: Features
    errors: dict[str, str]
    """Why a frame has no features."""


class HfBackend:
    """A checkpoint of one of the families, run by transformers.

    Args:
        cfg: batch size, cache bound, device and `OPTIONS`.
        spec: the member.

    Raises:
        ProbesError: the checkpoint is missing, not usable, or of no known family.
    """

    adapter = ADAPTER

    def __init__(self, cfg: BackendSettings, spec: ModelSpec) -> None:
        check_options("hf", cfg.options, OPTIONS)
        self._cfg = cfg
        self._spec = spec
        self._options = OPTIONS | dict(cfg.options)
        self._placement = DevicePlacement(
            cfg.device if cfg.device != "auto" else spec.device,
            self._options["device_map"],
            str(self._options["quantize"] or ""),
        )
        check_quantize(self._placement.quantize)
        self._checkpoint = find(spec)
        self._family = family_of(self._checkpoint, spec)
        self.fingerprint = self._checkpoint.fingerprint(
            spec, self._family.name, self._placement.quantize
        )
        self._ready: _Ready | None = None
        self._device = self._placement.device
        """As configured, until the model is loaded: then the one that it is on."""
        self._model: Any = None
        """Of a `GenericModel`, while it is loaded."""
        self._preprocessor: Preprocessor | None = None
        self._bundle: ProcessorBundle | None = None
        self._generic: GenericModel | None = None
        if isinstance(self._family, GenericFamily):  # it may refuse before the run begins
            self._generic = self._family.prepare(self._checkpoint, spec)
        self._counts = {"perceived": 0, "recomputed": 0, "passes": 0}

    def capabilities(self) -> Capabilities:
        """Return what this backend can do."""
        return Capabilities()

    def describe(self) -> dict[str, Any]:
        """Return the facts of checkpoint, class, processor and settings, for manifest and diffs."""
        checkpoint, spec = self._checkpoint, self._spec
        return {
            "backend": "hf",
            "adapter": ADAPTER,
            "fingerprint": self.fingerprint,
            "repo": spec.repo,
            "commit": checkpoint.commit,
            "family": self._family.name,
            "checkpoint_class": next(iter(checkpoint.architectures), ""),
            "perceive_once": self._generic is None,
            **self._family.facts(checkpoint, spec.frame_as),
            "frame_as": spec.frame_as,
            "dtype": spec.dtype,
            "attention": spec.attention,
            "device": self._device,
            "device_map": self._placement.device_map,
            "quantize": self._placement.quantize or None,
            "config_sha256": sha256_json(checkpoint.config),
            "tokenizer_sha256": sha256_json(checkpoint.hashes(TOKENIZER_FILES)),
            "processor_sha256": sha256_json(checkpoint.hashes(PROCESSOR_FILES)),
            "chat_template_sha256": sha256_json(checkpoint.hashes(CHAT_FILES)),
            # For a report on the settings and files in which two members differ.
            "config": checkpoint.config,
            "files": checkpoint.hashes(TOKENIZER_FILES + PROCESSOR_FILES + CHAT_FILES),
        }

    def counters(self) -> dict[str, int]:
        """Return frames encoded, those of them encoded again, and language model passes."""
        counts = dict(self._counts)
        if self._ready is not None:
            counts["perceived"] += self._ready.cache.encoded
            counts["recomputed"] += self._ready.cache.recomputed
        return counts

    def close(self) -> None:
        """Free the model and its features."""
        self._counts = self.counters()
        if self._ready is not None:
            self._ready.prefetcher.close()
        model = weakref.ref(self._ready.model) if self._ready is not None else lambda: None
        self._ready = self._model = None
        gc.collect()  # transformers models hold reference cycles
        gc.unfreeze()
        if model() is not None:  # it was frozen itself, when another was loaded too
            gc.collect()
        free_memory()

    def score(
        self, prompts: Sequence[Request], frames: FramesByHash, scoring: ScoringSpec
    ) -> Iterator[tuple[int, Output]]:
        """Answer prompts; see `Backend.score`."""
        if scoring.kind == "generate" and scoring.max_new_tokens < 1:
            raise ProbesError("generate needs max_new_tokens of at least 1", "scoring")
        if not prompts:
            return
        if self._generic is not None:
            yield from self._score_generic(self._generic, prompts, frames, scoring)
            return
        if self._ready is None:
            self._ready = self._load()
        ready = self._ready
        for start in range(0, len(prompts), WINDOW):
            tokenized: dict[int, TokenizedPrompt] = {}
            window = prompts[start : start + WINDOW]
            for at, prompt in ready.preprocessor.tokenize(window, frames, scoring):
                if isinstance(prompt, Unaskable):
                    yield start + at, error_output(prompt.reason)
                else:
                    tokenized[start + at] = prompt
            for group in self._encoded(ready, tokenized, frames):
                complete: dict[int, TokenizedPrompt] = {}
                for at, prompt in group.prompts.items():
                    failed = [group.errors[name] for name in prompt.frames if name in group.errors]
                    if failed:
                        yield at, error_output(failed[0], len(prompt.ids))
                    else:
                        complete[at] = prompt
                yield from self._answer_all(ready, complete, group.features, scoring)

    def preprocessor(self) -> Preprocessor | GenericModel:
        """Return the checkpoint's processor, ready for prompts; no weights are loaded for it.

        Raises:
            ProbesError: it is missing, or not of the family.
        """
        if self._generic is not None:
            return self._generic
        if self._preprocessor is None:
            family = self._family
            assert not isinstance(family, GenericFamily)
            self._bundle = family.prepare(self._checkpoint, self._spec)
            context = context_of(self._checkpoint, self._spec)
            self._preprocessor = Preprocessor(self._bundle, context)
        return self._preprocessor

    @property
    def checkpoint(self) -> Checkpoint:
        """The checkpoint's files."""
        return self._checkpoint

    def _load(self) -> _Ready:
        import torch

        family, spec, preprocessor = self._family, self._spec, self.preprocessor()
        bundle = self._bundle
        assert not isinstance(family, GenericFamily)
        assert isinstance(preprocessor, Preprocessor)
        assert bundle is not None
        if not gc.get_freeze_count():  # another model may be loaded: it must not be frozen
            gc.freeze()  # objects that outlive the model: `close` need not search them (0.3 s)
            atexit.unregister(gc.unfreeze)
            atexit.register(gc.unfreeze)  # should it never be closed
        model = family.load(self._checkpoint, spec, bundle, self._placement)
        self._device = str(model.device)
        text = model.config.get_text_config()
        ends = model.generation_config.eos_token_id
        if ends is None:
            ends = bundle.tokenizer.eos_token_id
        encode_frames = torch.inference_mode()(partial(family.encode_frames, model, bundle))
        return _Ready(
            model=model,
            preprocessor=preprocessor,
            cache=FeatureCache(
                encode_frames, self._cfg.feature_cache_mb * 2**20, int(self._options["frame_batch"])
            ),
            prefetcher=FramePrefetcher(),
            batcher=Batcher(
                self._cfg.batch_size,
                int(self._options["batch_tokens"]) or BATCH_TOKENS.get(model.device.type, 16_384),
            ),
            end_tokens=frozenset(ends if isinstance(ends, list | tuple) else [ends]),
            packed=spec.attention in MASKED_ATTENTION
            and getattr(text, "sliding_window", None) is None,
        )

    def _score_generic(
        self,
        generic: GenericModel,
        prompts: Sequence[Request],
        frames: FramesByHash,
        scoring: ScoringSpec,
    ) -> Iterator[tuple[int, Output]]:
        """Put prompts one by one to a model without a family of its own."""
        import torch

        if self._model is None:
            assert isinstance(self._family, GenericFamily)
            self._model = self._family.load(self._checkpoint, self._spec, self._placement)
            self._device = str(self._model.device)
        for at, prompt in enumerate(prompts):
            started = time.perf_counter()
            try:
                shown = {name: read_frame(frames, name) for name in frames_of(prompt)}
            except MachineError:
                raise
            except Exception as error:
                yield at, error_output(f"frame: {type(error).__name__}: {error}")
                continue
            self._counts["passes"] += 1
            try:
                with torch.inference_mode():
                    output = generic.answer(self._model, prompt, shown, scoring)
            except ProbesError:
                raise
            except Exception as error:
                output = error_output(f"{type(error).__name__}: {error}")
            yield at, replace(output, seconds=time.perf_counter() - started)

    def _encoded(
        self, ready: _Ready, prompts: Mapping[int, TokenizedPrompt], frames: FramesByHash
    ) -> Iterator[_Encoded]:
        """Encode the frames of as many prompts as the cache has room for, then those of the next.

        Sorting all prompts by length would scatter an item's arms and with them the uses of its
        frames; within a group no frame is encoded twice, and callers keep items together.
        """
        order = list(prompts)
        cache = ready.cache
        end = 0
        while end < len(order):
            start, used = end, 0
            features: dict[str, torch.Tensor] = {}
            errors: dict[str, str] = {}
            while end < len(order) and (end == start or used < cache.capacity):
                # One vision batch at a time, so that few frames' pixels are held.
                needed, end = self._unseen(prompts, order, end, features)
                following, _ = self._unseen(prompts, order, end, features.keys() | needed)
                ready.prefetcher.read([name for name in following if name not in cache], frames)
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
        while end < len(order) and len(needed) < int(self._options["frame_batch"]):
            needed |= dict.fromkeys(name for name in prompts[order[end]].frames if name not in seen)
            end += 1
        return list(needed), end

    def _answer_all(
        self,
        ready: _Ready,
        prompts: Mapping[int, TokenizedPrompt],
        features: Features,
        scoring: ScoringSpec,
    ) -> Iterator[tuple[int, Output]]:
        """Run prompts in batches, packed; where one of a sequence fails, run each of it alone."""
        import torch

        order, tokenized = list(prompts), list(prompts.values())

        @torch.inference_mode()
        def answer(batch: list[int]) -> list[list[Output]]:
            started = time.perf_counter()
            self._counts["passes"] += 1
            outputs = _answer(ready, [pending[at] for at in batch], features, scoring)
            seconds = (time.perf_counter() - started) / sum(map(len, outputs))
            return [[replace(one, seconds=seconds) for one in some] for some in outputs]

        pending = prefix_packing.unpacked(tokenized, range(len(tokenized)))
        if ready.packed and scoring.kind != "generate" and ready.batcher.size > 1:
            pending = prefix_packing.pack(tokenized, ready.batcher.tokens)
        while pending:
            again: list[int] = []
            lengths = [_cost(ready, packed, scoring) for packed in pending]
            for batch, outputs in ready.batcher.run(lengths, answer):
                if isinstance(outputs, Failed):
                    failed = pending[batch[0]]
                    if outputs.memory and len(failed.prompts) > 1:  # nor will others fit
                        ready.batcher.tokens = max(1, lengths[batch[0]] // 2)
                    outputs = [[error_output(outputs.error)] * len(failed.prompts)]
                for at, some in zip(batch, outputs, strict=True):
                    indices = pending[at].indices
                    if len(some) > 1 and any(one.status == "error" for one in some):
                        again += indices  # unpacked: one of them may have spoiled the others
                    else:
                        yield from ((order[n], one) for n, one in zip(indices, some, strict=True))
            pending = prefix_packing.unpacked(tokenized, again)


def _cost(ready: _Ready, packed: PackedPrompts, scoring: ScoringSpec) -> int:
    """Return how many tokens packed prompts add to a batch."""
    if scoring.kind == "generate":
        return packed.tokens + scoring.max_new_tokens
    if scoring.kind == "letter" or ready.packed:
        return packed.tokens
    (prompt,) = packed.prompts
    return len(prompt.answers) * (len(prompt.ids) + max(map(len, prompt.answers)))


def _answer(
    ready: _Ready, packed: Sequence[PackedPrompts], features: Features, scoring: ScoringSpec
) -> list[list[Output]]:
    """Run one batch; return the outputs of every sequence of packed prompts."""
    from probes.models.hf import forward

    model, prompts = ready.model, [prompt for one in packed for prompt in one.prompts]
    if scoring.kind == "generate":
        texts = forward.greedy(
            model, prompts, features, max_new_tokens=scoring.max_new_tokens, ends=ready.end_tokens
        )
        return [[_written(ready, prompt, ids)] for prompt, ids in zip(prompts, texts, strict=True)]
    if scoring.kind == "letter" and len(prompts) == len(packed):
        sums = forward.next_token(model, prompts, features)
    elif ready.packed:
        sums = forward.packed_answers(model, packed, features)
    else:
        sums = forward.plain_answers(model, prompts, features)
    outputs = (_scored(prompt, some) for prompt, some in zip(prompts, sums, strict=True))
    return [list(islice(outputs, len(one.prompts))) for one in packed]


def _written(ready: _Ready, prompt: TokenizedPrompt, ids: list[int] | None) -> Output:
    if ids is None:
        return error_output(NOT_NUMBERS, len(prompt.ids))
    return Output(
        text=ready.preprocessor.tokens.decode(ids),
        input_tokens=len(prompt.ids),
        output_tokens=len(ids),
    )


def _scored(prompt: TokenizedPrompt, sums: Sequence[float]) -> Output:
    if any(map(math.isnan, sums)):
        return error_output(NOT_NUMBERS, len(prompt.ids))
    return Output(
        option_logprobs=tuple(sums),
        option_tokens=tuple(map(len, prompt.answers)),
        input_tokens=len(prompt.ids),
    )
