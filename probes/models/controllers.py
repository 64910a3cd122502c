"""Controllers: how the next token of a text is chosen.

A controller is a frozen dataclass whose fields are its parameters, with the members of
`Controller`. Installed packages add controllers by entry points of the group `probes.controllers`.

Shape suffixes: B texts of a batch, V vocabulary. Torch is not imported here before it is used.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, ClassVar, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from probes.core.hashing import sha256_json
from probes.core.plugins import Registry
from probes.core.types import Decoding
from probes.models import parameters

if TYPE_CHECKING:
    import torch

    from probes.models.hf.decoding import DecodingState


class DecodingSteps(Protocol):
    """What a controller keeps about one batch of texts."""

    def step(self, state: DecodingState) -> torch.Tensor | None:
        """Return logits [B, V] whose largest in each row is the next token, or None: texts end.

        `state.logits_BV` are the model's own. A single text ends by an end token (`state.ends`),
        which its row may be made to choose. Rows of texts that have ended may hold anything.
        Extras and arrays go into `state.collected`, by text; a list that is put there may grow.
        """


class Controller(Protocol):
    """What a controller's class has, besides its parameters as fields; see `interventions.Hook`."""

    version: ClassVar[str]
    """Raised whenever the same request and parameters would get another text."""

    def is_identity(self) -> bool:
        """Return whether, with these parameters, it writes greedily and adds nothing."""

    def start(self, state: DecodingState) -> DecodingSteps:
        """Return what chooses the tokens of one batch, whose prompts have been read."""


def _checked(_: str, loaded: object) -> type[Controller]:
    parameters.check_class(loaded, ("is_identity", "start"), {"version": str})
    return cast(type[Controller], loaded)


CONTROLLERS: Registry[type[Controller]] = Registry(
    "probes.controllers",
    "controller",
    {
        "greedy": "probes.models.controllers:Greedy",
        "sample": "probes.models.controllers:Sampling",
    },
    _checked,
)


def resolve(given: Decoding, where: str) -> Decoding | None:
    """Return a decoding as requests carry it: None where it is greedy.

    Args:
        given: name and parameters, as configured.
        where: the setting, for messages.

    Raises:
        ProbesError: there is no such controller, or a parameter that makes no sense.
    """
    entry = CONTROLLERS.get(given.name, where)
    return parameters.resolved(entry, given, where)


def controller_of(decoding: Decoding) -> Controller:
    """Return the controller of a request's decoding; ProbesError as `resolve`."""
    where = "request.decoding"
    return parameters.instance_of(CONTROLLERS.get(decoding.name, where), decoding, where)


@dataclass(frozen=True)
class Greedy:
    """The likeliest token at every step."""

    version: ClassVar[str] = "1"

    def is_identity(self) -> bool:
        """Return that it is."""
        return True

    def start(self, state: DecodingState) -> DecodingSteps:
        """Return itself: it keeps nothing."""
        return self

    def step(self, state: DecodingState) -> torch.Tensor:
        """Return the model's own logits."""
        return state.logits_BV


@dataclass(frozen=True)
class Sampling:
    """Tokens are drawn by their probability, keyed by the seed and the prompt's own content.

    A text does not depend on the batch or on its place in it, up to the rounding of logits.
    """

    version: ClassVar[str] = "1"
    temperature: float = 1.0
    """Divides the logits; above 0."""
    top_p: float = 1.0
    """Only the likeliest tokens that together have this probability are drawn; in (0, 1]."""
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise ValueError(f"temperature is {self.temperature}, which is not above 0")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p is {self.top_p}, which is not in (0, 1]")

    def is_identity(self) -> bool:
        """Return that it is not."""
        return False

    def start(self, state: DecodingState) -> DecodingSteps:
        """Return the draws of a batch."""
        return _Draws(
            self, [sha256_json([self.seed, one.ids, one.frames]) for one in state.prompts]
        )


@dataclass(frozen=True, slots=True)
class _Draws:
    sampling: Sampling
    keys: list[str]
    """Of every text."""

    def step(self, state: DecodingState) -> torch.Tensor:
        import torch

        # In float32 whatever the weights' dtype: sums over a vocabulary need it.
        logprobs_BV = (state.logits_BV.float() / self.sampling.temperature).log_softmax(-1)
        ordered_BV, order_BV = logprobs_BV.exp().sort(descending=True)
        # Of the likeliest tokens the first is always kept, whatever it exceeds.
        beyond_BV = ordered_BV.cumsum(-1) - ordered_BV >= self.sampling.top_p
        kept_BV = logprobs_BV.masked_fill(beyond_BV.scatter(1, order_BV, beyond_BV), -torch.inf)
        # A race: the least of waiting times with these probabilities as rates is a draw. A time of
        # its own for every token does not shift where rounding swaps two tokens of nearly equal
        # probability; a draw from the cumulated probabilities would.
        times_BV = np.stack([self._times(text, state) for text in state.rows])
        return kept_BV - torch.from_numpy(times_BV).to(kept_BV).log()

    def _times(self, text: int, state: DecodingState) -> NDArray[np.float64]:
        """Return the waiting times (unit rate) of all tokens for the next place of a text."""
        # By the text's own length, never by the step of the batch: texts are drawn as if alone.
        key = sha256(f"{self.keys[text]} {len(state.ids[text])}".encode()).digest()
        drawn = np.random.default_rng(int.from_bytes(key))
        return drawn.standard_exponential(state.logits_BV.shape[1])
