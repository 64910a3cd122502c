"""The transformers backend: log-probabilities and greedy text of a multimodal checkpoint.

Nothing of torch is imported until the first `score`; fingerprint and facts come from files.
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
from probes.core.types import FramesByHash, ModelSpec, Output, Prompt, ScoringSpec
from probes.models.base import BackendSettings
from probes.models.checkpoint import CHAT_FILES, PROCESSOR_FILES, TOKENIZER_FILES, Checkpoint, find
from probes.models.hf import prefix_packing
from probes.models.hf.batching import Batcher, Failed, free_memory
from probes.models.hf.families import DevicePlacement, ProcessorBundle, family_of
from probes.models.hf.families.generic import GenericFamily, GenericModel
from probes.models.hf.families.loading import check_quantize, context_of
from probes.models.hf.prefix_packing import PackedPrompts
from probes.models.hf.preprocessor import Preprocessor
from probes.models.hf.token_layout import TokenizedPrompt, frames_of
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
"""Most prompts that are laid out and sorted by length at a time."""
MASKED_ATTENTION = ("sdpa", "eager")
"""Attention kernels that take a mask of our own."""

NOT_NUMBERS = "the model's logits are not numbers (NaN)"


@dataclass(frozen=True, slots=True)
class _Ready:
    """What exists only while a model is loaded."""

    model: Any
    reader: Preprocessor
    cache: FeatureCache
    ahead: FramePrefetcher
    batcher: Batcher
    ends: frozenset[int]
    packed: bool
    """Whether the options of a prompt share one pass."""


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
        for name in cfg.options:
            if name not in OPTIONS:
                raise ProbesError(
                    f"backend hf has no option {name!r}",
                    "backend.options",
                    f"its options are {', '.join(OPTIONS)}",
                )
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
        self._model: Any = None
        """Of a `GenericModel`, while it is loaded."""
        self._reader: Preprocessor | None = None
        self._prepared: ProcessorBundle | None = None
        self._whole: GenericModel | None = None
        if isinstance(self._family, GenericFamily):  # what it refuses shows before the run begins
            self._whole = self._family.prepare(self._checkpoint, spec)
        self._counts = {"perceived": 0, "recomputed": 0, "passes": 0}

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
            "perceive_once": self._whole is None,
            **self._family.facts(checkpoint, spec.frame_as),
            "frame_as": spec.frame_as,
            "dtype": spec.dtype,
            "attention": spec.attention,
            "device": str(self._ready.model.device) if self._ready else self._placement.device,
            "device_map": self._placement.device_map,
            "quantize": self._placement.quantize or None,
            "config_sha256": sha256_json(checkpoint.config),
            "tokenizer_sha256": sha256_json(checkpoint.hashes(TOKENIZER_FILES)),
            "processor_sha256": sha256_json(checkpoint.hashes(PROCESSOR_FILES)),
            "chat_template_sha256": sha256_json(checkpoint.hashes(CHAT_FILES)),
            # What a report needs to say in which keys and files two members differ.
            "config": checkpoint.config,
            "files": checkpoint.hashes(TOKENIZER_FILES + PROCESSOR_FILES + CHAT_FILES),
        }

    def counters(self) -> dict[str, int]:
        """Return frames perceived, those of them perceived again, and language model passes."""
        counts = dict(self._counts)
        if self._ready is not None:
            counts["perceived"] += self._ready.cache.perceived
            counts["recomputed"] += self._ready.cache.recomputed
        return counts

    def close(self) -> None:
        """Free the model and its features."""
        self._counts = self.counters()
        if self._ready is not None:
            self._ready.ahead.close()
        model = weakref.ref(self._ready.model) if self._ready is not None else lambda: None
        self._ready = self._model = None
        gc.collect()  # transformers models hold reference cycles
        gc.unfreeze()
        if model() is not None:  # it was frozen itself, when another was loaded beside it
            gc.collect()
        free_memory()

    def score(
        self, prompts: Sequence[Prompt], frames: FramesByHash, scoring: ScoringSpec
    ) -> Iterator[tuple[int, Output]]:
        """Answer prompts; see `Backend.score`."""
        if scoring.kind == "generate" and scoring.max_new_tokens < 1:
            raise ProbesError("generate needs max_new_tokens of at least 1", "scoring")
        if not prompts:
            return
        if self._whole is not None:
            yield from self._score_whole(self._whole, prompts, frames, scoring)
            return
        if self._ready is None:
            self._ready = self._load()
        ready = self._ready
        for start in range(0, len(prompts), WINDOW):
            rows: dict[int, TokenizedPrompt] = {}
            window = prompts[start : start + WINDOW]
            for at, row in ready.reader.rows(window, frames, scoring):
                if isinstance(row, str):
                    yield start + at, _error(row)
                else:
                    rows[start + at] = row
            for some, features, errors in self._perceived(ready, rows, frames):
                fit: dict[int, TokenizedPrompt] = {}
                for at, row in some.items():
                    failed = [errors[name] for name in row.frames if name in errors]
                    if failed:
                        yield at, _error(failed[0], len(row.ids))
                    else:
                        fit[at] = row
                yield from self._run(ready, fit, features, scoring)

    def reader(self) -> Preprocessor | GenericModel:
        """Return the checkpoint's processor, ready for prompts; no weights are loaded for it.

        Raises:
            ProbesError: it is missing, or not of the family.
        """
        if self._whole is not None:
            return self._whole
        if self._reader is None:
            family = self._family
            assert not isinstance(family, GenericFamily)
            self._prepared = family.prepare(self._checkpoint, self._spec)
            self._reader = Preprocessor(self._prepared, context_of(self._checkpoint, self._spec))
        return self._reader

    @property
    def checkpoint(self) -> Checkpoint:
        """The checkpoint's files."""
        return self._checkpoint

    def _load(self) -> _Ready:
        import torch

        family, spec, reader = self._family, self._spec, self.reader()
        prepared = self._prepared
        assert (
            not isinstance(family, GenericFamily) and isinstance(reader, Preprocessor) and prepared
        )
        if not gc.get_freeze_count():  # another model may be loaded: it must not be frozen
            gc.freeze()  # what is there outlives the model: `close` need not search it (0.3 s)
            atexit.unregister(gc.unfreeze)
            atexit.register(gc.unfreeze)  # should it never be closed
        model = family.load(self._checkpoint, spec, prepared, self._placement)
        text = model.config.get_text_config()
        ends = model.generation_config.eos_token_id
        if ends is None:
            ends = prepared.tokenizer.eos_token_id
        encode_frames = torch.inference_mode()(partial(family.encode_frames, model, prepared))
        return _Ready(
            model=model,
            reader=reader,
            cache=FeatureCache(
                encode_frames, self._cfg.feature_cache_mb * 2**20, int(self._options["frame_batch"])
            ),
            ahead=FramePrefetcher(),
            batcher=Batcher(
                self._cfg.batch_size,
                int(self._options["batch_tokens"]) or BATCH_TOKENS.get(model.device.type, 16_384),
            ),
            ends=frozenset(ends if isinstance(ends, list | tuple) else [ends]),
            packed=spec.attention in MASKED_ATTENTION
            and getattr(text, "sliding_window", None) is None,
        )

    def _score_whole(
        self,
        whole: GenericModel,
        prompts: Sequence[Prompt],
        frames: FramesByHash,
        scoring: ScoringSpec,
    ) -> Iterator[tuple[int, Output]]:
        """Put prompts one by one to a model that is run whole."""
        import torch

        if self._model is None:
            assert isinstance(self._family, GenericFamily)
            self._model = self._family.load(self._checkpoint, self._spec, self._placement)
        for at, prompt in enumerate(prompts):
            started = time.perf_counter()
            try:
                shown = {name: read_frame(frames, name) for name in frames_of(prompt)}
            except MachineError:
                raise
            except Exception as error:
                yield at, _error(f"frame: {type(error).__name__}: {error}")
                continue
            self._counts["passes"] += 1
            try:
                with torch.inference_mode():
                    output = whole.answer(self._model, prompt, shown, scoring)
            except ProbesError:
                raise
            except Exception as error:
                output = _error(f"{type(error).__name__}: {error}")
            yield at, replace(output, seconds=time.perf_counter() - started)

    def _perceived(
        self, ready: _Ready, rows: Mapping[int, TokenizedPrompt], frames: FramesByHash
    ) -> Iterator[tuple[dict[int, TokenizedPrompt], dict[str, torch.Tensor], dict[str, str]]]:
        """Perceive the frames of as many rows as the cache has room for, then go on from there.

        Sorting all rows by length would scatter an item's arms and with them the uses of its
        frames; within a group no frame is perceived twice, and callers keep items together.

        Yields:
            (rows, features and errors of their frames by sha256).
        """
        order = list(rows)
        cache, ahead = ready.cache, ready.ahead
        end = 0
        while end < len(order):
            start, used = end, 0
            features: dict[str, torch.Tensor] = {}
            errors: dict[str, str] = {}
            while end < len(order) and (end == start or used < cache.capacity):
                # One vision batch at a time, so that few frames' pixels are held.
                needed, end = self._unseen(rows, order, end, features)
                following, _ = self._unseen(rows, order, end, features.keys() | needed)
                ahead.read([name for name in following if name not in cache], frames)
                found, failed = cache.get(needed, frames)
                used += sum(feature.nbytes for feature in found.values())
                features |= found
                errors |= failed
            yield {at: rows[at] for at in order[start:end]}, features, errors

    def _unseen(
        self,
        rows: Mapping[int, TokenizedPrompt],
        order: Sequence[int],
        start: int,
        seen: Collection[str],
    ) -> tuple[list[str], int]:
        """Return the frames of a vision batch's worth of rows from `start` on, and where it ends.

        Frames in `seen` do not count.
        """
        needed: dict[str, None] = {}
        end = start
        while end < len(order) and len(needed) < int(self._options["frame_batch"]):
            needed |= dict.fromkeys(name for name in rows[order[end]].frames if name not in seen)
            end += 1
        return list(needed), end

    def _run(
        self,
        ready: _Ready,
        rows: Mapping[int, TokenizedPrompt],
        features: Features,
        scoring: ScoringSpec,
    ) -> Iterator[tuple[int, Output]]:
        import torch

        order, laid = list(rows), list(rows.values())

        @torch.inference_mode()
        def answer(batch: list[int]) -> list[list[Output]]:
            started = time.perf_counter()
            self._counts["passes"] += 1
            bundles = [pending[at] for at in batch]
            outputs = _answer(ready, bundles, features, scoring)
            seconds = (time.perf_counter() - started) / sum(map(len, outputs))
            return [[replace(one, seconds=seconds) for one in mine] for mine in outputs]

        pending = prefix_packing.unpacked(laid, range(len(laid)))
        if ready.packed and scoring.kind != "generate" and ready.batcher.size > 1:
            pending = prefix_packing.pack(laid, ready.batcher.tokens)
        while pending:
            again: list[int] = []
            lengths = [_cost(ready, bundle, scoring) for bundle in pending]
            for batch, outputs in ready.batcher.run(lengths, answer):
                if isinstance(outputs, Failed):
                    if outputs.memory and len(pending[batch[0]].rows) > 1:  # nor will others fit
                        ready.batcher.tokens = max(1, lengths[batch[0]] // 2)
                    outputs = [[_error(outputs.error)] * len(pending[batch[0]].rows)]
                for at, mine in zip(batch, outputs, strict=True):
                    places = pending[at].places
                    if len(mine) > 1 and any(one.status == "error" for one in mine):
                        again += places  # on their own: one of them may have spoiled the others
                    else:
                        yield from ((order[n], one) for n, one in zip(places, mine, strict=True))
            pending = prefix_packing.unpacked(laid, again)


def _cost(ready: _Ready, bundle: PackedPrompts, scoring: ScoringSpec) -> int:
    """Return how many tokens a bundle brings to a batch."""
    if scoring.kind == "generate":
        return bundle.tokens + scoring.max_new_tokens
    if scoring.kind == "letter" or ready.packed:
        return bundle.tokens
    (row,) = bundle.rows
    return len(row.answers) * (len(row.ids) + max(map(len, row.answers)))


def _answer(
    ready: _Ready, bundles: Sequence[PackedPrompts], features: Features, scoring: ScoringSpec
) -> list[list[Output]]:
    """Run one batch and put its numbers or texts into outputs, bundle by bundle."""
    from probes.models.hf import forward

    model, rows = ready.model, [row for bundle in bundles for row in bundle.rows]
    if scoring.kind == "generate":
        written = forward.greedy(
            model, rows, features, max_new_tokens=scoring.max_new_tokens, ends=ready.ends
        )
        return [
            [
                _error(NOT_NUMBERS, len(row.ids))
                if ids is None
                else Output(
                    text=ready.reader.tokens.decode(ids),
                    input_tokens=len(row.ids),
                    output_tokens=len(ids),
                )
            ]
            for row, ids in zip(rows, written, strict=True)
        ]
    if scoring.kind == "letter" and len(rows) == len(bundles):
        sums = forward.next_token(model, rows, features)
    elif ready.packed:
        sums = forward.packed_answers(model, bundles, features)
    else:
        sums = forward.plain_answers(model, rows, features)
    outputs = (
        _error(NOT_NUMBERS, len(row.ids))
        if any(map(math.isnan, scores))
        else Output(
            option_logprobs=tuple(scores),
            option_tokens=tuple(map(len, row.answers)),
            input_tokens=len(row.ids),
        )
        for row, scores in zip(rows, sums, strict=True)
    )
    return [list(islice(outputs, len(bundle.rows))) for bundle in bundles]


def _error(why: str, input_tokens: int = 0) -> Output:
    return Output(status="error", error=why, input_tokens=input_tokens)
