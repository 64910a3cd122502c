"""A text-only LLM of Hugging Face: shortens what a member wrote (`infill.condenser`)."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probes.core.errors import ProbesError
from probes.core.hashing import sha256_file, sha256_json
from probes.core.types import ModelSpec, Output, Prompt, ScoringSpec
from probes.models.base import BackendSettings
from probes.models.checkpoint import Checkpoint, find
from probes.models.hf.batching import Batcher, Failed, free_memory

ADAPTER = "text-1"
"""Raised whenever the same prompt and weights would get another text."""
_BATCH_TOKENS = 8_192


class TextBackend:
    """Continues text greedily, in float32 on a CPU and bfloat16 on a GPU.

    Args:
        cfg: batch size and device.
        name: folder or hub name of a causal language model, or a `.gguf` file in such a folder.

    Raises:
        ProbesError: it is not there or not usable.
    """

    adapter = ADAPTER

    def __init__(self, cfg: BackendSettings, name: str) -> None:
        self._cfg = cfg
        self._name = name
        self._gguf = Path(name).name if name.endswith(".gguf") else None
        spec = ModelSpec(name=f"condenser {name}", role="image", repo=name, dtype="auto")
        if self._gguf is None:
            checkpoint = find(spec)
            self._folder = checkpoint.folder
            self.fingerprint = checkpoint.fingerprint(spec, "text")
        else:
            file = Path(name).expanduser()
            if not file.is_file():
                raise ProbesError("there is no such model file", name, "correct infill.condenser")
            self._folder = file.parent
            self.fingerprint = sha256_json({"gguf": sha256_file(file)})
        self._model: Any = None
        self._tokenizer: Any = None
        self._passes = 0

    def describe(self) -> dict[str, Any]:
        """Return what is known without loading the model."""
        checkpoint = Checkpoint(self._folder, self._name)
        return {
            "backend": "text",
            "adapter": ADAPTER,
            "fingerprint": self.fingerprint,
            "repo": self._name,
            "checkpoint_class": next(iter(checkpoint.architectures), ""),
        }

    def counters(self) -> dict[str, int]:
        """Return how many batches were generated."""
        return {"passes": self._passes}

    def close(self) -> None:
        """Free the model."""
        self._model = self._tokenizer = None
        gc.collect()
        free_memory()

    def score(
        self,
        prompts: Sequence[Prompt],
        frames: Mapping[str, NDArray[np.uint8]],
        scoring: ScoringSpec,
    ) -> Iterator[tuple[int, Output]]:
        """Continue prompts; see `Backend.score`. A prompt that holds a frame fails."""
        if scoring.kind != "generate":
            raise ProbesError("a condenser only generates", "infill.condenser")
        texts: list[str] = []
        places: list[int] = []
        for at, prompt in enumerate(prompts):
            if all(isinstance(part, str) for part in prompt.parts):
                places.append(at)
                texts.append("".join(part for part in prompt.parts if isinstance(part, str)))
            else:
                yield at, Output(status="error", error="a text model cannot see a frame")
        if not texts:
            return
        if self._model is None:
            self._load()
        rows = [self._encode(text) for text in texts]
        lengths = [len(ids) + scoring.max_new_tokens for ids in rows]
        run = Batcher(self._cfg.batch_size, _BATCH_TOKENS).run(
            lengths, lambda batch: self._answer([rows[at] for at in batch], scoring.max_new_tokens)
        )
        for batch, outputs in run:
            if isinstance(outputs, Failed):
                yield places[batch[0]], Output(status="error", error=outputs.error)
            else:
                yield from ((places[at], one) for at, one in zip(batch, outputs, strict=True))

    def _load(self) -> None:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer
        from transformers.utils import logging

        device = self._cfg.device
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        dtype = torch.float32 if device == "cpu" else torch.bfloat16
        where = {"local_files_only": True} | ({"gguf_file": self._gguf} if self._gguf else {})
        bars = logging.is_progress_bar_enabled()
        logging.disable_progress_bar()
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(self._folder, **where)
            if not self._gguf:
                where["use_safetensors"] = True
            model = AutoModelForCausalLM.from_pretrained(self._folder, dtype=dtype, **where)
            self._model = model.to(device).eval()
        except Exception as error:
            raise ProbesError(
                f"the text model does not load: {type(error).__name__}: {error}",
                str(self._folder), "name a causal language model, or infill.condenser=none",
            ) from error  # fmt: skip
        finally:
            if bars:
                logging.enable_progress_bar()

    def _encode(self, text: str) -> list[int]:
        """Return token ids, as one turn of a chat where the model knows chats."""
        tokenizer = self._tokenizer
        if tokenizer.chat_template:
            turn = [{"role": "user", "content": text}]
            text = tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
            return list(tokenizer(text, add_special_tokens=False).input_ids)
        return list(tokenizer(text).input_ids)

    def _answer(self, rows: list[list[int]], max_new_tokens: int) -> list[Output]:
        import torch

        started = time.perf_counter()
        self._passes += 1
        model, tokenizer = self._model, self._tokenizer
        ends = model.generation_config.eos_token_id or tokenizer.eos_token_id
        ends = ends if isinstance(ends, list) else [ends]
        pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else ends[0]
        width = max(map(len, rows))
        ids_BL = torch.full((len(rows), width), pad or 0, device=model.device)
        mask_BL = torch.zeros_like(ids_BL)
        for at, row in enumerate(rows):  # on the left, so that all texts end where writing begins
            ids_BL[at, width - len(row) :] = torch.tensor(row)
            mask_BL[at, width - len(row) :] = 1
        with torch.inference_mode():
            whole_BL = model.generate(
                ids_BL, attention_mask=mask_BL, max_new_tokens=max_new_tokens, do_sample=False,
                temperature=None, top_p=None, top_k=None, num_beams=1, pad_token_id=pad or 0,
            )  # fmt: skip
        outputs = []
        for row, new in zip(rows, whole_BL[:, width:].tolist(), strict=True):
            stop = next((at for at, token in enumerate(new) if token in ends), len(new))
            text = tokenizer.decode(new[:stop], skip_special_tokens=True)
            outputs.append(Output(text=text, input_tokens=len(row), output_tokens=stop))
        seconds = (time.perf_counter() - started) / len(rows)
        return [replace(output, seconds=seconds) for output in outputs]
