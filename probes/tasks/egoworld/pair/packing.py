"""From samples to tensors: several questions packed behind one shared context, for training.

Every question sees the context and itself, not the other questions, and its positions continue
from the context's end: to the model each looks like a prompt of its own.

Suffixes: B sequences, L tokens, N frames, H height, W width, C channels.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset
from transformers import PreTrainedTokenizerFast

from probes.tasks.egoworld.pair.curriculum import Curriculum, Sample

IGNORED = -100


@dataclass(frozen=True, slots=True)
class TrainingBatch:
    """One batch."""

    ids_BL: torch.Tensor
    positions_BL: torch.Tensor
    blocks_BL: torch.Tensor
    """0 the context, 1.. the questions, -1 padding."""
    labels_BL: torch.Tensor
    """The next token where it is learnt, IGNORED elsewhere."""
    weights_BL: torch.Tensor
    frames_NHWC: torch.Tensor
    """uint8, in the order of their placeholders."""
    native: bool
    """Frames go by the native image path."""


class Packer:
    """Packs samples with one tokenizer.

    Args:
        tokenizer: the pair's.
        tokens_per_frame: by a one-frame video, and by the native image path.
        letter_weight: loss weight of a letter.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerFast,
        tokens_per_frame: tuple[int, int],
        letter_weight: float,
    ) -> None:
        self._tokens_per_frame, self._letter_weight = tokens_per_frame, letter_weight
        # Indexed by `native`, as are the tokens per frame: False comes first.
        self._placeholders = tokenizer.convert_tokens_to_ids(["<video>", "<image>"])
        self._eos, self._pad = tokenizer.eos_token_id, tokenizer.pad_token_id

        @functools.lru_cache(maxsize=100_000)
        def encode(text: str) -> tuple[int, ...]:
            return tuple(tokenizer(text, add_special_tokens=False)["input_ids"])

        self._encode = encode

    def pack(self, samples: Sequence[Sample], *, native: bool) -> TrainingBatch:
        """Pack samples into one padded batch."""
        rows = [self._row(sample, native) for sample in samples]
        fills = (self._pad, 0, -1, IGNORED, 0.0)
        ids, positions, blocks, labels, weights = (
            pad_sequence([*map(torch.tensor, column)], batch_first=True, padding_value=fill)
            for column, fill in zip(zip(*rows, strict=True), fills, strict=True)
        )
        frames = [p for s in samples for p in s.context if not isinstance(p, str)]
        # Text alone: an array of length 0, which `logits_of` asks for.
        stacked = np.stack(frames) if frames else np.empty(0, np.uint8)
        return TrainingBatch(
            ids, positions, blocks, labels, weights, torch.from_numpy(stacked), native
        )

    def _row(self, sample: Sample, native: bool) -> tuple[list[int], ...]:
        ids: list[int] = []
        for piece in sample.context:
            if isinstance(piece, str):
                ids += self._encode(piece)
            else:
                ids += [self._placeholders[native]] * self._tokens_per_frame[native]
        start = len(ids)
        positions, blocks = list(range(start)), [0] * start
        labels, weights = [IGNORED] * start, [0.0] * start
        for block, ask in enumerate(sample.asks, 1):
            prompt, answer = self._encode(ask.prompt), (*self._encode(ask.answer), self._eos)
            # Labels are one ahead of the inputs: the prompt's last token is where the answer's
            # first one is learnt, and nothing follows the end token, so it is no input.
            inputs = (*prompt, *answer[:-1])
            ids += inputs
            positions += range(start, start + len(inputs))
            blocks += [block] * len(inputs)
            labels += [IGNORED] * (len(prompt) - 1) + list(answer)
            weight = self._letter_weight if ask.kind == "letter" else 1.0
            weights += [0.0] * (len(prompt) - 1) + [weight] * len(answer)
        return ids, positions, blocks, labels, weights  # type: ignore[return-value]


@dataclass(frozen=True)
class Steps(Dataset[list[TrainingBatch]]):
    """The batches of every step of a stage; step k's content depends on (seed, stage, k) only.

    So training that is resumed gives exactly the same weights.
    """

    curriculum: Curriculum
    packer: Packer
    stage: Mapping[str, Any]
    """One of `stages` of conf/train/tiny.yaml."""
    native_share: float
    """Of batches with frames, those that go by the native image path."""
    seed: tuple[int, int]
    """Of the run, and the stage's number."""
    first: int
    """The step that index 0 stands for."""

    def __len__(self) -> int:
        return int(self.stage["steps"]) - self.first

    def __getitem__(self, index: int) -> list[TrainingBatch]:
        rng = np.random.default_rng([*self.seed, self.first + index])
        return [self._batch(source, size, rng) for source, size in self.stage["sizes"].items()]

    def _batch(self, source: str, size: int, rng: np.random.Generator) -> TrainingBatch:
        native = source not in ("text", "drill") and bool(rng.random() < self.native_share)
        # The native path has nine times the tokens: fewer sequences keep the time of a step.
        size = max(1, size // (4 if native else 1))
        noise = self.stage["noise"]
        samples = [self.curriculum.draw(source, noise, rng) for _ in range(size)]
        return self.packer.pack(samples, native=native)
