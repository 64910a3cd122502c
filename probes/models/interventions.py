"""Interventions: changes of a forward pass, and readouts of one.

An intervention is a hook: a frozen dataclass whose fields are its parameters, with the members of
`Hook`. It is prepared for one batch as a context manager; what it adds to a model is gone behind
it. Installed packages add hooks by entry points of the group `probes.interventions`.

Shape suffixes: B sequences of a batch, T padded tokens, Q queries and K keys of a pass, A axes of a
position (1 or 3). Torch is not imported here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from probes.core.plugins import Registry
from probes.core.text import nearest
from probes.core.types import ArrayName, Intervention
from probes.models import parameters
from probes.models.base import NEEDS, Need

if TYPE_CHECKING:
    import torch

    from probes.models.hf.prefix_packing import PromptPlaces
    from probes.models.hf.token_layout import TokenizedPrompt

EditMask = Callable[["torch.Tensor", int, int], "torch.Tensor"]
"""(mask [B, 1, Q, K], layer, place of the first query) -> a new mask for that layer."""


@dataclass(slots=True)
class Collected:
    """What is collected about the answer to one prompt."""

    extras: dict[str, float] = field(default_factory=dict)
    arrays: dict[ArrayName, Any] = field(default_factory=dict)
    """Tensors, NumPy arrays or lists of numbers."""


@dataclass(slots=True)
class HookBatch:
    """One batch, as a hook sees it; lists are by prompt.

    For options one pass runs over `ids_BT`, padded at the right: a prompt, and behind it the
    continuations, each of which sees the prompt and itself. A packable hook may get sequences of
    several prompts: a shared prefix, then the suffix of each with its continuations. For text the
    prompts are read in a first pass, padded at the left, and a pass of one query follows for every
    token.
    """

    prompts: Sequence[TokenizedPrompt]
    """With ids, frames and spans."""
    ids_BT: NDArray[np.int64]
    """Token ids; -1 for every token of every frame."""
    position_ABT: NDArray[np.int64]
    places: Sequence[PromptPlaces]
    """Where the tokens of every prompt and of its continuations are in the batch."""
    features: Mapping[str, torch.Tensor]
    """Features [tokens, width] by sha256 of the frame; with `grad`, leaves that require it."""
    mask_B1TT: torch.Tensor | None = None
    """What is added to attention scores; only with `mask`."""
    layers: Sequence[Any] = ()
    """The decoder's layers (modules), first to last; only with `mask` or `layers`."""
    logprobs: list[list[torch.Tensor]] = field(default_factory=list)
    """Behind the pass: of every option the log-probabilities (nats, float32) of its tokens; of a
    letter one, summed over all tokens that it can be written as."""
    texts: list[list[int]] = field(default_factory=list)
    """Behind the last pass: the ids of every text, where text is written."""
    cleanup: ExitStack = field(default_factory=ExitStack)
    """Closed behind the last pass, after errors too: for handles of a hook's own."""

    def at(self, prompt: int, name: str) -> NDArray[np.int64]:
        """Return the places, within its sequence, of the tokens of a prompt's spans of a name.

        Raises:
            ValueError: the prompt has no such span.
        """
        spans = self.prompts[prompt].spans
        found = [self.places[prompt].prompt.at[a:b] for own, a, b in spans if own == name]
        if not found:
            known = dict.fromkeys(span.name for span in spans)
            raise ValueError(f"the prompt has no span {name!r}: {nearest(name, known)}")
        return np.unique(np.concatenate(found))

    def edit_masks(self, edit: EditMask) -> None:
        """Have the mask of every layer and pass go through `edit`; needs `mask`.

        A query's place counts from the batch's first column on, in the passes over written tokens
        too; keys begin at 0. `edit` returns a new mask and leaves the given one as it is: all
        layers share it.
        """
        if self.mask_B1TT is None:
            raise TypeError("this hook has no `mask` among its needs")
        # `number` is a default of `change`: a closure would see the last layer's in all layers.
        for number, layer in enumerate(self.layers):

            def change(
                _: Any, args: Any, given: dict[str, Any], number: int = number
            ) -> tuple[Any, dict[str, Any]]:
                mask_B1QK = given["attention_mask"]
                # Queries are the last of the keys: behind a cache there are fewer of them.
                first = mask_B1QK.shape[-1] - mask_B1QK.shape[-2]
                return args, given | {"attention_mask": edit(mask_B1QK, number, first)}

            handle = layer.register_forward_pre_hook(change, with_kwargs=True)
            self.cleanup.callback(handle.remove)


class Hook(Protocol):
    """What an intervention's class has, besides its parameters as fields with defaults or without.

    Types of parameters are checked: text, numbers, bool, None, `Literal`, tuples and unions of
    these. `__post_init__` may raise ValueError for values that make no sense.
    """

    version: ClassVar[str]
    """Raised whenever the same request and parameters would get another output."""
    needs: ClassVar[frozenset[Need]]
    packable: ClassVar[bool]
    """Whether it works on sequences of several prompts; only asked with `mask` or `layers`."""

    def is_identity(self) -> bool:
        """Return whether, with these parameters, it changes and reads nothing.

        Such a request carries no intervention, and has the cache key of a plain one.
        """

    def apply(self, model: Any, batch: HookBatch) -> AbstractContextManager[Sequence[Collected]]:
        """Return what surrounds the passes over one batch.

        It may change masks by `batch.edit_masks`, and register hooks of torch, removed by
        `batch.cleanup` or by itself. Behind the passes, on leaving, it finds `batch.logprobs` or
        `batch.texts`.

        Args:
            model: of transformers; its decoder's layers are `batch.layers`.
            batch: what is run.

        Returns:
            A context manager that gives a `Collected` for every prompt of the batch, filled when it
            is left. An exception other than ProbesError fails the prompts that cause it, no others.
        """


def _checked(_: str, loaded: object) -> type[Hook]:
    parameters.check_class(
        loaded, ("is_identity", "apply"), {"version": str, "needs": frozenset, "packable": bool}
    )
    hook = cast(type[Hook], loaded)
    for need in sorted(hook.needs - NEEDS, key=str):
        raise ValueError(f"there is no need {need!r}: {nearest(str(need), sorted(NEEDS))}")
    return hook


INTERVENTIONS: Registry[type[Hook]] = Registry(
    "probes.interventions",
    "intervention",
    {
        "none": "probes.models.interventions:NoIntervention",
        "entropy": "probes.models.interventions:OptionEntropy",
    },
    _checked,
)


def resolve(given: Intervention, where: str) -> Intervention | None:
    """Return an intervention as requests carry it: None where it changes and reads nothing.

    Args:
        given: name and parameters, as configured.
        where: the setting, for messages.

    Raises:
        ProbesError: there is no such intervention, or a parameter that makes no sense.
    """
    entry = INTERVENTIONS.get(given.name, where)
    return parameters.resolved(entry, given, where)


def hook_of(intervention: Intervention) -> Hook:
    """Return the hook of a request's intervention; ProbesError as `resolve`."""
    where = "request.intervention"
    entry = INTERVENTIONS.get(intervention.name, where)
    return parameters.instance_of(entry, intervention, where)


@contextmanager
def applied(hook: Hook | None, model: Any, batch: HookBatch) -> Iterator[Sequence[Collected]]:
    """Surround the passes over a batch with a hook, if there is one."""
    if hook is None:
        yield [Collected() for _ in batch.prompts]
        return
    # `cleanup` is entered before it, hence left behind it: a hook that fails on leaving leaves no
    # handle.
    with hooks_restored(model), batch.cleanup, hook.apply(model, batch) as collected:
        yield collected
    count = len(batch.prompts)
    if len(collected) != count or not all(isinstance(one, Collected) for one in collected):
        raise TypeError(f"`apply` gives {len(collected)} of {count} `Collected`, one per prompt")


@contextmanager
def hooks_restored(model: Any) -> Iterator[None]:
    """Give a model the hooks of torch back that it had, whatever was registered meanwhile."""
    kept = [
        (registered, dict(registered))
        for module in model.modules()
        for name, registered in vars(module).items()
        if name.startswith("_") and "_hooks" in name and isinstance(registered, dict)
    ]
    try:
        yield
    finally:
        # Transformers registers its own in the first pass that asks for states, once for good.
        own = {
            at
            for registered, _ in kept
            for at, hook in registered.items()
            if str(getattr(hook, "__module__", "")).startswith("transformers.")
        }
        for registered, before in kept:
            if registered != before:
                after = before | {at: hook for at, hook in registered.items() if at in own}
                registered.clear()
                registered.update(after)


@dataclass(frozen=True)
class NoIntervention:
    """Nothing is changed, and nothing read."""

    version: ClassVar[str] = "1"
    needs: ClassVar[frozenset[Need]] = frozenset()
    packable: ClassVar[bool] = True

    def is_identity(self) -> bool:
        """Return that it is."""
        return True

    @contextmanager
    def apply(self, model: Any, batch: HookBatch) -> Iterator[Sequence[Collected]]:
        """Leave the batch as it is."""
        yield [Collected() for _ in batch.prompts]


@dataclass(frozen=True)
class OptionEntropy:
    """How undecided an answer is: the entropy over the options, as extra `option_entropy` (nats).

    Options have the weights by which they are compared: their log-probabilities under `letter`,
    the means over their tokens under `cloze`. Text has no options and no entropy.
    """

    version: ClassVar[str] = "1"
    needs: ClassVar[frozenset[Need]] = frozenset()
    packable: ClassVar[bool] = True

    def is_identity(self) -> bool:
        """Return that it is not."""
        return False

    @contextmanager
    def apply(self, model: Any, batch: HookBatch) -> Iterator[Sequence[Collected]]:
        """Read the options' log-probabilities."""
        collected = [Collected() for _ in batch.prompts]
        yield collected
        # Not strict: where text is written there are no options.
        for one, options in zip(collected, batch.logprobs, strict=False):
            one.extras["option_entropy"] = entropy([float(logs.mean()) for logs in options])


def entropy(logs: Sequence[float]) -> float:
    """Return the entropy (nats) of weights that are given as logarithms, not normalised."""
    most = max(logs)  # subtracted, as weights of long options are too small for a float
    total = math.log(sum(math.exp(log - most) for log in logs)) + most
    return -sum(math.exp(log - total) * (log - total) for log in logs if log > -math.inf)
