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
from numpy.typing import NDArray
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
        self._placeholders = (
            tokenizer.convert_tokens_to_ids("<video>"),
            tokenizer.convert_tokens_to_ids("<image>"),
        )
        self._eos, self._pad = tokenizer.eos_token_id, tokenizer.pad_token_id

        @functools.lru_cache(maxsize=100_000)
        def encode(text: str) -> tuple[int, ...]:
            return tuple(tokenizer(text, add_special_tokens=False)["input_ids"])

        self._encode = encode

    def pack(self, samples: Sequence[Sample], *, native: bool) -> TrainingBatch:
        """Pack samples into one padded batch."""
        rows = [self._row(sample, native) for sample in samples]
        length = max(len(row[0]) for row in rows)
        shape = (len(rows), length)
        arrays: list[NDArray[Any]] = [
            np.full(shape, self._pad),
            np.zeros(shape, np.int64),
            np.full(shape, -1),
            np.full(shape, IGNORED),
            np.zeros(shape, np.float32),
        ]
        for at, row in enumerate(rows):
            for target, values in zip(arrays, row, strict=True):
                target[at, : len(values)] = values
        ids, positions, blocks, labels, weights = map(torch.from_numpy, arrays)
        frames = [p for s in samples for p in s.context if not isinstance(p, str)]
        return TrainingBatch(
            ids,
            positions,
            blocks,
            labels,
            weights,
            torch.from_numpy(np.stack(frames)) if frames else torch.empty(0, dtype=torch.uint8),
            native,
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


class Steps(Dataset[list[TrainingBatch]]):
    """The batches of every step of a stage; step k's content depends on (seed, stage, k) only.

    So training that is resumed gives exactly the same weights.
    """

    def __init__(
        self,
        curriculum: Curriculum,
        packer: Packer,
        stage: Mapping[str, object],
        native_share: float,
        seed: tuple[int, int],
        first: int,
    ) -> None:
        self._curriculum, self._packer, self._stage = curriculum, packer, stage
        self._native_share, self._seed, self._first = native_share, seed, first

    def __len__(self) -> int:
        return int(str(self._stage["steps"])) - self._first

    def __getitem__(self, index: int) -> list[TrainingBatch]:
        rng = np.random.default_rng([*self._seed, self._first + index])
        sizes: Mapping[str, int] = self._stage["sizes"]  # type: ignore[assignment]
        return [self._batch(source, size, rng) for source, size in sizes.items()]

    def _batch(self, source: str, size: int, rng: np.random.Generator) -> TrainingBatch:
        native = source not in ("text", "drill") and bool(rng.random() < self._native_share)
        # The native path has nine times the tokens: fewer sequences keep the time of a step.
        size = max(1, size // (4 if native else 1))
        noise: Mapping[str, float] = self._stage["noise"]  # type: ignore[assignment]
        return self._packer.pack(
            [self._curriculum.draw(source, noise, rng) for _ in range(size)], native=native
        )
