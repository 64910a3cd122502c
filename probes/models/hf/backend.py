"""The transformers backend: log-probabilities and text of a multimodal checkpoint.

Torch is not imported before the first `score`; fingerprint and facts come from files.
"""

from __future__ import annotations

import atexit
import gc
import weakref
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from probes.core import origins
from probes.core.errors import ProbesError
from probes.core.examination import Examination, PassCheck
from probes.core.hashing import sha256_json
from probes.core.types import FramesByHash, ModelSpec, Origin, Output, Request, ScoringSpec
from probes.models import checked
from probes.models.base import (
    NEEDS,
    BackendSettings,
    Capabilities,
    Planning,
    check_options,
    check_requests,
)
from probes.models.checkpoint import find, part_of
from probes.models.checkpoint_files import WatchedFiles
from probes.models.hf import remarks
from probes.models.hf.answers import LoadedModel
from probes.models.hf.batching import Batcher, free_memory
from probes.models.hf.families import FAMILIES, DevicePlacement, family_of, processors
from probes.models.hf.families.generic import GenericFamily, GenericModel
from probes.models.hf.families.loading import (
    LIBRARIES,
    OneClass,
    check_device,
    check_quantize,
    context_of,
    file_facts,
    full_config,
    origin_of,
)
from probes.models.hf.families.outline import META, check_frame, check_vocabulary
from probes.models.hf.generic_answers import LoadedGenericModel
from probes.models.hf.preprocessor import Preprocessor
from probes.models.hf.vision_cache import FeatureCache, FramePrefetcher

if TYPE_CHECKING:
    from probes.models.hf.examine import Examiner

ADAPTER = "hf-2"
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
MASKED_ATTENTION = ("sdpa", "eager")
"""Attention kernels that take a mask of our own."""


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
        self._ready: LoadedModel | LoadedGenericModel | None = None
        self._device = self._placement.device
        """As configured, until the model is loaded: then the one that it is on."""
        self._watched: WatchedFiles | None = None
        """Weights that a loaded model still reads from."""
        self._preprocessor: Preprocessor | GenericModel | None = None
        if isinstance(self._family, GenericFamily):  # it may refuse before the run begins
            self._preprocessor = self._family.prepare(self._checkpoint, spec)
        self._counts = {"perceived": 0, "recomputed": 0, "passes": 0}

    @cached_property
    def fingerprint(self) -> str:
        """What answers depend on. Made when it is asked for: it takes the hash of all weights."""
        family = self._family.name
        # Of an installed family the package's version counts as well: it is its code.
        return self._checkpoint.fingerprint(
            self._spec, family + FAMILIES.whose(family), self._placement.quantize
        )

    def check_files(self, *, thorough: bool) -> None:
        """Raise unless the files fit together; see `base.ChecksFiles`."""
        family = self._family.name
        facts = {
            **file_facts(self._checkpoint, self._spec, self.libraries()),
            "family": family + FAMILIES.whose(family),
            "placement": repr(self._placement),
        }
        checked.once(facts, self._check_files if thorough else self._check_names, keep=thorough)

    def _check_names(self) -> None:
        processors.check_present(self._checkpoint.folder)
        if not self._spec.trust_remote_code:
            processors.check_names(self._checkpoint.folder, self._checkpoint.architectures)

    def _check_files(self) -> None:
        self._check_names()
        check_device(self._placement.device)
        family, preprocessor = self._family, self.preprocessor()
        place = DevicePlacement(META)
        if isinstance(family, GenericFamily):
            assert isinstance(preprocessor, GenericModel)
            model = family.load(self._checkpoint, self._spec, place)
            tokenizer = preprocessor.processor.tokenizer
        elif isinstance(family, OneClass):
            assert isinstance(preprocessor, Preprocessor)
            model = family.load(self._checkpoint, self._spec, preprocessor.bundle, place)
            tokenizer = preprocessor.bundle.tokenizer
        else:
            return  # a family of others may read weights whatever the device
        check_vocabulary(model, tokenizer, self._checkpoint.folder)
        check_frame(preprocessor.sizes, self._checkpoint.folder)

    def libraries(self) -> dict[str, str]:
        """Return the libraries that an answer depends on."""
        quantized = ("bitsandbytes",) if self._placement.quantize else ()
        adapted = ("peft",) if self._checkpoint.adapter is not None else ()
        return origins.versions(LIBRARIES + quantized + adapted)

    def origin(self) -> Origin:
        """Return what computes answers, once the model is loaded."""
        model = None if self._ready is None else self._ready.model
        return origin_of(self.libraries(), model, self._placement.quantize)

    def capabilities(self) -> Capabilities:
        """Return what this backend can do."""
        if isinstance(self._family, GenericFamily):
            reason = "a checkpoint of no family of its own is run as one piece"
            return Capabilities(
                reason=reason, adapters=True, chat_template_kwargs=True, pixel_bounds=True
            )
        attention, reason = self._spec.attention, ""
        if attention not in MASKED_ATTENTION:
            reason = f"attention={attention} takes no mask"
        elif self._checkpoint.has_sliding_window:
            reason = "its layers attend to a sliding window"
        needs = frozenset() if reason else NEEDS
        return Capabilities(
            needs=needs,
            interventions=True,
            decoding=True,
            reason=reason,
            adapters=True,
            chat_template_kwargs=True,
            pixel_bounds=True,
        )

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
            "perceive_once": True,
            **self._family.facts(checkpoint, spec.frame_as),
            **spec.pixel_bounds,
            "frame_as": spec.frame_as,
            "dtype": spec.dtype,
            "attention": spec.attention,
            "chat_template_kwargs": dict(spec.chat_template_kwargs),
            "device": self._device,
            "device_map": self._placement.device_map,
            "quantize": self._placement.quantize or None,
            "config_sha256": sha256_json(checkpoint.config),
            "tokenizer_sha256": sha256_json(checkpoint.hashes("tokenizer")),
            "processor_sha256": sha256_json(checkpoint.hashes("processor")),
            "chat_template_sha256": sha256_json(checkpoint.hashes("chat_template")),
            "weights_sha256": sha256_json(checkpoint.hashes("weights")),
            **({"own_code": sha256_json(checkpoint.code())} if spec.trust_remote_code else {}),
            "peft_adapter": checkpoint.adapter.describe() if checkpoint.adapter else None,
            # For a report on the settings and files in which two members differ.
            "config": checkpoint.config,
            "files": {n: h for n, h in checkpoint.files.items() if part_of(n) != "weights"},
        }

    def planning(self) -> Planning:
        """Return what a plan needs, by processor and files.

        Raises:
            ProbesError: the processor is missing, or not of the family.
        """
        reader, shapes = self.preprocessor(), self._checkpoint.shapes
        features = batch_tokens = None
        if isinstance(reader, Preprocessor):
            features = reader.grids.tokens
            own = int(self._options["batch_tokens"])
            batch_tokens = {kind: own or most for kind, most in BATCH_TOKENS.items()}
        return Planning(
            reader.sizes, reader.shown, reader.tokens.count, shapes, features, batch_tokens or {}
        )

    def count_tokens(self, text: str) -> int:
        """Return the number of tokens of a text by itself; see `base.CountsTokens`."""
        return self.preprocessor().tokens.count(text)

    def examine(
        self, requests: Sequence[Request], frames: FramesByHash, scoring: ScoringSpec
    ) -> Examination:
        """Return what files show of how prompts are made; see `ExaminedBackend`."""
        config = full_config(self._checkpoint, self._spec)
        return self._examiner().examine(requests, frames, scoring, config)

    def compare(
        self, asked: Mapping[Request, Output], frames: FramesByHash, scoring: ScoringSpec
    ) -> PassCheck | None:
        """Compare answers with the loaded class's own passes; see `ExaminedBackend`."""
        if self._ready is None:
            return None
        return self._examiner().compare(self._ready.model, asked, frames, scoring)

    def _examiner(self) -> Examiner:
        from probes.models.hf.examine import Examiner

        return Examiner(self.preprocessor(), self._family, self._spec)

    def remarks(self) -> tuple[str, ...]:
        """Return what a user has to know of how it is run; see `RemarkingBackend`."""
        found = [*remarks.of_files(self._checkpoint, self._spec, self.preprocessor())]
        if isinstance(self._ready, LoadedGenericModel):
            found += remarks.of_passes(self._ready.proven)
        return tuple(found)

    def counters(self) -> dict[str, int]:
        """Return frames encoded, those of them encoded again, and language model passes."""
        more = {} if self._ready is None else self._ready.counters()
        return {name: count + more.get(name, 0) for name, count in self._counts.items()}

    def close(self) -> None:
        """Free the model and its features."""
        self._counts = self.counters()
        if self._ready is not None:
            self._ready.close()
        model = weakref.ref(self._ready.model) if self._ready is not None else lambda: None
        self._ready = self._watched = None
        gc.collect()  # transformers models hold reference cycles
        gc.unfreeze()
        if model() is not None:  # it was frozen itself, when another was loaded too
            gc.collect()
        free_memory()

    def score(
        self, requests: Sequence[Request], frames: FramesByHash, scoring: ScoringSpec
    ) -> Iterator[tuple[int, Output]]:
        """Answer requests; see `Backend.score`."""
        if scoring.kind == "generate" and scoring.max_new_tokens < 1:
            raise ProbesError("generate needs max_new_tokens of at least 1", "scoring")
        check_requests(self.capabilities(), "hf", requests, scoring)
        if not requests:
            return
        if self._ready is None:
            self._ready = self._load_watched()
        for answer in self._ready.score(requests, frames, scoring):
            if self._watched is not None:
                self._watched.check()
            yield answer

    def preprocessor(self) -> Preprocessor | GenericModel:
        """Return the checkpoint's processor, ready for prompts; no weights are loaded for it.

        Raises:
            ProbesError: it is missing, or not of the family.
        """
        if self._preprocessor is None:
            family = self._family
            assert not isinstance(family, GenericFamily)
            bundle = family.prepare(self._checkpoint, self._spec)
            context = context_of(self._checkpoint, self._spec)
            self._preprocessor = Preprocessor(bundle, context, self._spec.chat_template_kwargs)
        return self._preprocessor

    def _load_watched(self) -> LoadedModel | LoadedGenericModel:
        """Load the model from files that are those of the fingerprint, all the while."""
        watched = self._checkpoint.watched()
        ready = self._load()
        for one in watched:
            one.check()
        adapter = self._checkpoint.adapter
        if adapter is not None and not hasattr(ready.model, "peft_config"):
            raise ProbesError(
                f"family {self._family.name} loads no adapter",
                str(adapter.folder),
                "merge it into the weights by peft's `merge_and_unload`",
            )
        # On a CPU tensors are maps of their files: what is written there later changes them.
        mapped = any(one.device.type in ("cpu", "meta") for one in ready.model.parameters())
        watched[0].narrow(self._checkpoint.weights())
        self._watched = watched[0] if mapped else None
        return ready

    def _load(self) -> LoadedModel | LoadedGenericModel:
        import torch

        family, spec, preprocessor = self._family, self._spec, self.preprocessor()
        if isinstance(family, GenericFamily):
            assert isinstance(preprocessor, GenericModel)
            model = family.load(self._checkpoint, spec, self._placement)
            self._device = str(model.device)
            capacity = self._cfg.feature_cache_mb * 2**20
            return LoadedGenericModel(model, preprocessor, self._batcher(model), capacity)
        assert isinstance(preprocessor, Preprocessor)
        bundle = preprocessor.bundle
        if not gc.get_freeze_count():  # another model may be loaded: it must not be frozen
            gc.freeze()  # objects that outlive the model: `close` need not search them (0.3 s)
            atexit.unregister(gc.unfreeze)
            atexit.register(gc.unfreeze)  # should it never be closed
        model = family.load(self._checkpoint, spec, bundle, self._placement)
        model.requires_grad_(False)  # a hook's derivatives are by features, never by weights
        self._device = str(model.device)
        ends = model.generation_config.eos_token_id
        if ends is None:
            ends = bundle.tokenizer.eos_token_id
        encode_frames = torch.inference_mode()(partial(family.encode_frames, model, bundle))
        window = getattr(model.config.get_text_config(), "sliding_window", None)
        return LoadedModel(
            model=model,
            preprocessor=preprocessor,
            cache=FeatureCache(
                encode_frames, self._cfg.feature_cache_mb * 2**20, int(self._options["frame_batch"])
            ),
            prefetcher=FramePrefetcher(),
            batcher=self._batcher(model),
            end_tokens=frozenset(ends if isinstance(ends, list | tuple) else [ends]),
            packed=spec.attention in MASKED_ATTENTION and window is None,
        )

    def _batcher(self, model: Any) -> Batcher:
        most = int(self._options["batch_tokens"]) or BATCH_TOKENS.get(model.device.type, 16_384)
        return Batcher(self._cfg.batch_size, most)
