"""What every backend offers, and the door that opens one by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from probes.core.types import Output, Prompt, ScoringSpec


class BackendSettings(Protocol):
    """What a backend reads of the configuration: part of `probes.config.settings.BackendConfig`."""

    @property
    def name(self) -> str:
        """One of `NAMES`."""

    @property
    def batch_size(self) -> int:
        """Most prompts in one forward pass; a backend may take fewer."""

    @property
    def feature_cache_mb(self) -> int:
        """Bound of the cache of vision features, in MiB."""

    @property
    def device(self) -> str:
        """`auto`, `cpu`, `cuda`, `cuda:1`, ...; `auto` leaves it to the model's spec."""

    @property
    def options(self) -> Mapping[str, Any]:
        """Further settings of the named backend."""


class Backend(Protocol):
    """One member, ready to answer prompts."""

    @property
    def fingerprint(self) -> str:
        """What answers depend on: weights, config, processor files, dtype, attention, frame_as."""

    @property
    def adapter(self) -> str:
        """Version of the adapter's behaviour; part of store keys beside the fingerprint."""

    def describe(self) -> dict[str, Any]:
        """Return the facts of model and processor, read from files: no model is loaded for it."""

    def counters(self) -> dict[str, int]:
        """Return what was done so far, e.g. how many frames were perceived."""

    def score(
        self,
        prompts: Sequence[Prompt],
        frames: Mapping[str, NDArray[np.uint8]],
        scoring: ScoringSpec,
    ) -> Iterator[tuple[int, Output]]:
        """Answer prompts, batch by batch.

        Args:
            prompts: in any order; results do not depend on it.
            frames: sha256 -> uint8 [height, width, 3] RGB; every frame is asked for when needed.
            scoring: `letter` and `cloze` score `prompt.options`; `generate` writes text.

        Yields:
            (index into `prompts`, output), in any order, as batches finish. A prompt that fails
            gives an output with status `error` and does not end the others.

        Raises:
            ProbesError: the model cannot be loaded or cannot do this kind of scoring at all.
        """

    def close(self) -> None:
        """Free the model; a later `score` loads it again."""
