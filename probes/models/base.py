"""What every backend offers, and what several of them share."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from probes.core.errors import ProbesError
from probes.core.types import (
    SCORINGS,
    Decoding,
    FramesByHash,
    Intervention,
    Output,
    Request,
    Scoring,
    ScoringSpec,
)

Need = Literal["mask", "layers", "grad"]
"""What the hook of an intervention needs: the attention mask, the decoder layers, gradients."""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a backend can do with one checkpoint; known before anything is loaded."""

    scorings: tuple[Scoring, ...] = SCORINGS
    needs: frozenset[Need] = frozenset()
    """What the hook of an intervention may need here."""
    interventions: bool = False
    """Whether there can be any intervention."""
    decoding: bool = False
    """Whether a controller can choose the next token."""
    reason: str = ""
    """Why it can do no more, for messages; e.g. that attention=flash_attention_2 takes no mask."""


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
        """Version of the adapter's behaviour; part of store keys, as the fingerprint is."""

    def capabilities(self) -> Capabilities:
        """Return what it can do; nothing is loaded for it."""

    def describe(self) -> dict[str, Any]:
        """Return the facts of model and processor, read from files without loading the model."""

    def counters(self) -> dict[str, int]:
        """Return what was done so far, e.g. how many frames were encoded."""

    def score(
        self, requests: Sequence[Request], frames: FramesByHash, scoring: ScoringSpec, /
    ) -> Iterator[tuple[int, Output]]:
        """Answer requests, batch by batch.

        Args:
            requests: in any order; results do not depend on it.
            frames: sha256 -> uint8 [height, width, 3] RGB; a frame is looked up when it is needed.
            scoring: `letter` and `cloze` score `request.options`; `generate` writes text.

        Yields:
            (index into `requests`, output), in any order, as batches finish. A request that fails
            gives an output with status `error` and does not end the others.

        Raises:
            ProbesError: the model cannot be loaded or cannot do this kind of scoring at all.
        """

    def close(self) -> None:
        """Free the model; a later `score` loads it again."""


def check_options(backend: str, given: Iterable[str], known: Collection[str]) -> None:
    """Raise unless every given option is one that the backend has."""
    for name in given:
        if name not in known:
            raise ProbesError(
                f"backend {backend} has no option {name!r}",
                "backend.options",
                f"its options are {', '.join(known)}",
            )


def check_capabilities(
    can: Capabilities,
    backend: str,
    scoring: Scoring,
    interventions: Collection[Intervention],
    decodings: Collection[Decoding],
) -> None:
    """Stand-in: refuse what a backend cannot do."""
    if scoring not in can.scorings:
        raise ProbesError(
            f"backend {backend} cannot score by {scoring}: it has no log-probabilities of "
            + ("given text" if "letter" in can.scorings else "given text, nor of letters"),
            "scoring",
            f"set {' or '.join(f'scoring={one}' for one in can.scorings)}, or use backend=hf",
        )
    if (interventions and not can.interventions) or (decodings and not can.decoding):
        raise ProbesError(f"backend {backend} cannot do this", "suite.arms", "use backend=hf")


def error_output(error: str, input_tokens: int = 0) -> Output:
    """Return the output of a prompt that failed."""
    return Output(status="error", error=error, input_tokens=input_tokens)
