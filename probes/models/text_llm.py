"""A text-only LLM of Hugging Face: shortens what a member wrote (`infill.condenser`).

Shape suffixes: B texts, L padded tokens.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from probes.core import origins
from probes.core.errors import ProbesError
from probes.core.types import FramesByHash, ModelSpec, Origin, Output, Request, ScoringSpec
from probes.models import checked
from probes.models.base import BackendSettings, Capabilities, check_requests, error_output
from probes.models.checkpoint import Checkpoint, find
from probes.models.checkpoint_files import WatchedFiles
from probes.models.hf.batching import Batcher, Failed, free_memory
from probes.models.hf.families.base import DevicePlacement
from probes.models.hf.families.loading import (
    GREEDY,
    LIBRARIES,
    best_device,
    check_device,
    file_facts,
    load_weights,
    loading,
    origin_of,
)
from probes.models.hf.families.outline import META, check_vocabulary

ADAPTER = "text-1"
"""Raised whenever the same prompt and weights would get another text."""
_BATCH_TOKENS = 8_192


class TextBackend:
    """Continues text greedily, in float32 on a CPU and bfloat16 on a GPU.

    Args:
        cfg: batch size and device.
        name: folder or hub name of a causal language model, or a `.gguf` file in such a folder.

    Raises:
        ProbesError: it does not exist or is not usable.
    """

    adapter = ADAPTER

    def __init__(self, cfg: BackendSettings, name: str) -> None:
        self._cfg = cfg
        self._name = name
        self._device = cfg.device if cfg.device != "auto" else best_device()
        self._spec = ModelSpec(
            name=f"condenser {name}",
            role="image",
            repo=name,
            # The device decides it, and other digits are other texts.
            dtype="float32" if self._device == "cpu" else "bfloat16",
        )
        if name.endswith(".gguf"):
            file = Path(name).expanduser()
            if not file.is_file():
                raise ProbesError("there is no such model file", name, "correct infill.condenser")
            # Not where a link leads: files of the hub's cache have other names there.
            self._checkpoint = Checkpoint(file.absolute().parent, name, gguf=file.name)
        else:
            self._checkpoint = find(self._spec)
        self._watched: WatchedFiles | None = None
        self._model: Any = None
        self._tokenizer: Any = None
        self._passes = 0

    @cached_property
    def fingerprint(self) -> str:
        """What texts depend on. Made when it is asked for: it takes the hash of all weights."""
        return self._checkpoint.fingerprint(self._spec, "text")

    def check_files(self, *, thorough: bool) -> None:
        """Raise unless the files fit together; see `base.ChecksFiles`."""
        if thorough:
            facts = file_facts(self._checkpoint, self._spec, self.libraries())
            checked.once(facts, self._check_files)

    def _check_files(self) -> None:
        from transformers import AutoModelForCausalLM

        check_device(self._device)
        checkpoint, tokenizer = self._checkpoint, self._read_tokenizer()
        if checkpoint.gguf:
            return  # its header is of another kind
        place = DevicePlacement(META)
        model = load_weights(AutoModelForCausalLM, None, checkpoint, self._spec, place)
        check_vocabulary(model, tokenizer, checkpoint.folder)

    def libraries(self) -> dict[str, str]:
        """Return the libraries that a text depends on."""
        return origins.versions(LIBRARIES)

    def origin(self) -> Origin:
        """Return what writes texts, once the model is loaded."""
        return origin_of(self.libraries(), self._model)

    def capabilities(self) -> Capabilities:
        """Return what this backend can do."""
        return Capabilities(("generate",), unscored="a condenser only generates")

    def planning(self) -> None:
        """Return that lengths are not known without asking."""

    def describe(self) -> dict[str, Any]:
        """Return what is known without loading the model."""
        checkpoint = self._checkpoint
        return {
            "backend": "text",
            "adapter": ADAPTER,
            "fingerprint": self.fingerprint,
            "repo": self._name,
            "commit": checkpoint.commit,
            "dtype": self._spec.dtype,
            "peft_adapter": checkpoint.adapter.describe() if checkpoint.adapter else None,
            "checkpoint_class": next(iter(checkpoint.architectures), ""),
        }

    def counters(self) -> dict[str, int]:
        """Return how many batches were generated."""
        return {"passes": self._passes}

    def close(self) -> None:
        """Free the model."""
        self._model = self._tokenizer = self._watched = None
        gc.collect()
        free_memory()

    def score(
        self, prompts: Sequence[Request], frames: FramesByHash, scoring: ScoringSpec
    ) -> Iterator[tuple[int, Output]]:
        """Continue prompts; see `Backend.score`. A prompt that holds a frame fails."""
        check_requests(self.capabilities(), "text", prompts, scoring)
        texts: dict[int, str] = {}
        for at, prompt in enumerate(prompts):
            parts = [part for part in prompt.parts if isinstance(part, str)]
            if len(parts) == len(prompt.parts):
                texts[at] = "".join(parts)
            else:
                yield at, error_output("a text model cannot see a frame")
        if not texts:
            return
        if self._model is None:
            self._load()
        indices = list(texts)
        ids = [self._encode(text) for text in texts.values()]
        lengths = [len(one) + scoring.max_new_tokens for one in ids]
        run = Batcher(self._cfg.batch_size, _BATCH_TOKENS).run(
            lengths, lambda batch: self._answer([ids[n] for n in batch], scoring.max_new_tokens)
        )
        for batch, outputs in run:
            if self._watched is not None:
                self._watched.check()
            if isinstance(outputs, Failed):
                yield indices[batch[0]], error_output(outputs.error)
            else:
                yield from ((indices[n], one) for n, one in zip(batch, outputs, strict=True))

    def _load(self) -> None:
        from transformers import AutoModelForCausalLM

        checkpoint = self._checkpoint
        watched = checkpoint.watched()
        self._tokenizer = self._read_tokenizer()
        place = DevicePlacement(self._device)
        self._model = load_weights(AutoModelForCausalLM, None, checkpoint, self._spec, place)
        for one in watched:
            one.check()
        watched[0].narrow(checkpoint.weights())
        self._watched = watched[0] if self._device == "cpu" else None

    def _read_tokenizer(self) -> Any:
        from transformers import AutoTokenizer

        checkpoint = self._checkpoint
        # Said, not left out: without an answer transformers asks the terminal whether to run code.
        source: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
        if checkpoint.gguf:
            source["gguf_file"] = checkpoint.gguf
        with loading(checkpoint.folder, "name a causal language model, or infill.condenser=none"):
            return AutoTokenizer.from_pretrained(checkpoint.folder, **source)

    def _encode(self, text: str) -> list[int]:
        """Return token ids, as one turn of a chat where the model knows chats."""
        tokenizer = self._tokenizer
        if tokenizer.chat_template:
            turn = [{"role": "user", "content": text}]
            text = tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
            # The template has written the special tokens already, a start token among them.
            return list(tokenizer(text, add_special_tokens=False).input_ids)
        return list(tokenizer(text).input_ids)

    def _answer(self, batch: list[list[int]], max_new_tokens: int) -> list[Output]:
        import torch

        started = time.perf_counter()
        self._passes += 1
        model, tokenizer = self._model, self._tokenizer
        ends = model.generation_config.eos_token_id or tokenizer.eos_token_id
        # A model may have several end tokens, e.g. one of a turn and one of a text.
        ends = ends if isinstance(ends, list) else [ends]
        pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else ends[0]
        width = max(map(len, batch))
        ids_BL = torch.full((len(batch), width), pad or 0, device=model.device)
        mask_BL = torch.zeros_like(ids_BL)
        for at, ids in enumerate(batch):  # on the left, so that all texts end where writing begins
            ids_BL[at, width - len(ids) :] = torch.tensor(ids)
            mask_BL[at, width - len(ids) :] = 1
        with torch.inference_mode():
            whole_BL = model.generate(
                ids_BL,
                attention_mask=mask_BL,
                max_new_tokens=max_new_tokens,
                **GREEDY,
                pad_token_id=pad or 0,
            )
        outputs = []
        for ids, new in zip(batch, whole_BL[:, width:].tolist(), strict=True):
            # A text that ended early is filled up to the longest of its batch.
            stop = next((at for at, token in enumerate(new) if token in ends), len(new))
            text = tokenizer.decode(new[:stop], skip_special_tokens=True)
            outputs.append(Output(text=text, input_tokens=len(ids), output_tokens=stop))
        seconds = (time.perf_counter() - started) / len(batch)
        return [replace(output, seconds=seconds) for output in outputs]
