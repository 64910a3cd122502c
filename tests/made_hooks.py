"""Hooks and controllers for tests, as a package would add them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest

from probes.core.plugins import Entry, Registry
from probes.core.types import ArrayName
from probes.models.interventions import Collected, HookBatch


def register(monkeypatch: pytest.MonkeyPatch, registry: Registry[Any], **entries: str) -> None:
    """Add entries by name: classes of this module, for the time of a test."""
    for name, class_name in entries.items():
        entry = Entry(name, f"{__name__}:{class_name}", "tests 1.0")
        monkeypatch.setitem(registry._builtin, name, entry)


class Changing:
    """What all hooks here have in common."""

    version: ClassVar[str] = "1"
    needs: ClassVar[frozenset[Any]] = frozenset()
    packable: ClassVar[bool] = True

    def is_identity(self) -> bool:
        return False


@dataclass(frozen=True)
class CutEdges(Changing):
    """Tokens of one span do not attend to those of another; `written` are those written so far."""

    needs: ClassVar[frozenset[Any]] = frozenset({"mask"})
    source: str
    target: str
    layers: tuple[int, ...] | None = None

    @contextmanager
    def apply(self, model: Any, batch: HookBatch) -> Iterator[Sequence[Collected]]:
        import torch

        def edit(mask_B1QK: torch.Tensor, layer: int, first: int) -> torch.Tensor:
            if self.layers is not None and layer not in self.layers:
                return mask_B1QK
            changed = mask_B1QK.clone()
            for number, place in enumerate(batch.places):
                keys = batch.at(number, self.target)
                if self.source == "written":
                    sources = np.arange(batch.ids_BT.shape[1], mask_B1QK.shape[3])
                else:
                    sources = batch.at(number, self.source)
                queries = sources[sources >= first] - first
                changed[place.prompt.row, 0, queries[:, None], keys] = torch.finfo(
                    changed.dtype
                ).min
            return changed

        batch.edit_masks(edit)
        yield [Collected() for _ in batch.prompts]


@dataclass(frozen=True)
class CutEdgesAlone(CutEdges):
    """The same, for sequences of one prompt."""

    packable: ClassVar[bool] = False


@dataclass(frozen=True)
class FeatureGradient(Changing):
    """The gradient of an option's log-probability by the features of every frame."""

    needs: ClassVar[frozenset[Any]] = frozenset({"grad"})
    option: int = 0

    @contextmanager
    def apply(self, model: Any, batch: HookBatch) -> Iterator[Sequence[Collected]]:
        import torch

        collected = [Collected() for _ in batch.prompts]
        yield collected
        for one, prompt, options in zip(collected, batch.prompts, batch.logprobs, strict=True):
            features = [batch.features[name] for name in dict.fromkeys(prompt.frames)]
            if not features:
                continue
            found = torch.autograd.grad(options[self.option].sum(), features, retain_graph=True)
            for t, gradient in enumerate(found):
                one.arrays[ArrayName("gradient", None, f"frame {t}")] = gradient


@dataclass(frozen=True)
class LastStates(Changing):
    """What leaves every decoder layer at the place that an answer is read from."""

    needs: ClassVar[frozenset[Any]] = frozenset({"layers"})
    packable: ClassVar[bool] = False

    @contextmanager
    def apply(self, model: Any, batch: HookBatch) -> Iterator[Sequence[Collected]]:
        collected = [Collected() for _ in batch.prompts]
        for number, layer in enumerate(batch.layers):

            def keep(_: Any, given: Any, states: Any, number: int = number) -> None:
                for n, one in enumerate(collected):
                    (place,) = batch.at(n, "last")
                    name = ArrayName("states", number, "last")
                    if place < states.shape[1] and name not in one.arrays:
                        one.arrays[name] = states[batch.places[n].prompt.row, place]

            batch.cleanup.callback(layer.register_forward_hook(keep).remove)
        yield collected
        for one in collected:
            one.extras["layers"] = len(batch.layers)


@dataclass(frozen=True)
class Nothing(Changing):
    """Changes and reads nothing, and says that it does."""

    @contextmanager
    def apply(self, model: Any, batch: HookBatch) -> Iterator[Sequence[Collected]]:
        assert batch.mask_B1TT is None
        assert not len(batch.layers)
        yield [Collected() for _ in batch.prompts]


@dataclass(frozen=True)
class NothingInside(Changing):
    """The same with everything that a hook may need."""

    needs: ClassVar[frozenset[Any]] = frozenset({"mask", "layers", "grad"})

    @contextmanager
    def apply(self, model: Any, batch: HookBatch) -> Iterator[Sequence[Collected]]:
        assert batch.mask_B1TT.shape == (*batch.ids_BT.shape[:1], 1, *batch.ids_BT.shape[1:] * 2)
        batch.edit_masks(lambda mask_B1QK, layer, first: mask_B1QK.clone())
        yield [Collected() for _ in batch.prompts]


@dataclass(frozen=True)
class Failing(CutEdges):
    """Fails at one moment for prompts of a length, with its changes in place."""

    source: str = "last"
    target: str = "last"
    layers: tuple[int, ...] | None = ()
    when: str = "enter"
    tokens: int = 0

    @contextmanager
    def apply(self, model: Any, batch: HookBatch) -> Iterator[Sequence[Collected]]:
        with super().apply(model, batch) as collected:
            hit = any(len(prompt.ids) == self.tokens for prompt in batch.prompts)
            if hit and self.when == "pass":
                layer = batch.layers[1]
                batch.cleanup.callback(layer.register_forward_pre_hook(_fail).remove)
            if hit and self.when == "enter":
                raise RuntimeError("the hook failed")
            yield collected
            if hit and self.when == "leave":
                raise RuntimeError("the hook failed")


def _fail(*_: Any) -> None:
    raise RuntimeError("the hook failed")


@dataclass(frozen=True)
class RepeatedGreedy:
    """Greedy once more, with the entropy of every token and how often gradients could be taken."""

    version: ClassVar[str] = "1"

    def is_identity(self) -> bool:
        return False

    def start(self, state: Any) -> Any:
        for one in state.collected:
            one.arrays[ArrayName("token_entropy")] = []
            one.extras["with_gradient"] = 0
        return self

    def step(self, state: Any) -> Any:
        logs_BV = state.logits_BV.float().log_softmax(-1)
        entropy_B = -(logs_BV.exp() * logs_BV).sum(-1)
        for text, value in zip(state.rows, entropy_B.tolist(), strict=True):
            if text in state.unfinished:
                state.collected[text].arrays[ArrayName("token_entropy")].append(value)
                state.collected[text].extras["with_gradient"] += state.logits_BV.requires_grad
        return state.logits_BV * 2


@dataclass(frozen=True)
class Forced:
    """Writes given tokens, then ends all texts."""

    version: ClassVar[str] = "1"
    tokens: tuple[int, ...] = (7, 8, 9)

    def is_identity(self) -> bool:
        return False

    def start(self, state: Any) -> Any:
        return self

    def step(self, state: Any) -> Any:
        step = max(map(len, state.ids))
        if step == len(self.tokens):
            return None
        chosen_BV = state.logits_BV.clone()
        chosen_BV[:, self.tokens[step]] = np.inf
        return chosen_BV


@dataclass(frozen=True)
class Odd(Changing):
    """Gives or leaves behind what it should not."""

    needs: ClassVar[frozenset[Any]] = frozenset({"layers"})
    what: str = ""

    @contextmanager
    def apply(self, model: Any, batch: HookBatch) -> Iterator[Sequence[Collected]]:
        collected = [Collected() for _ in batch.prompts]
        if self.what == "features":
            for feature in batch.features.values():
                feature.mul_(-3)
        if self.what == "hooks":
            batch.layers[0].register_forward_hook(lambda module, given, states: states * 2)
            model.register_forward_pre_hook(lambda module, given: None)
        yield collected[1:] if self.what == "fewer" else collected
        for one in collected:
            one.extras |= odd_extras().get(self.what, {})
            one.arrays |= odd_arrays().get(self.what, {})


def odd_extras() -> dict[str, dict[Any, Any]]:
    return {
        "text extra": {"a": "1e3"},
        "unnamed extra": {"": 1},
        "control extra": {"a\n": 1},
        "number extra": {1: 1},
        "complex extra": {"a": 1j},
        "twice": {"both": 1},
        "none extra": {"a": None},
    }


def odd_arrays() -> dict[str, dict[Any, Any]]:
    ones = np.ones(2)
    return {
        "text key": {"attention": ones},
        "tuple key": {("attention", None, ""): ones},
        "layer zero": {ArrayName("a", "zero"): ones},  # type: ignore[arg-type]
        "layer -1": {ArrayName("a", -1): ones},
        "layer 1.5": {ArrayName("a", 1.5): ones},  # type: ignore[arg-type]
        "layer true": {ArrayName("a", True): ones},
        "span none": {ArrayName("a", 1, None): ones},  # type: ignore[arg-type]
        "unnamed": {ArrayName(""): ones},
        "objects": {ArrayName("a"): np.array([None])},
        "texts": {ArrayName("a"): np.array(["x"])},
        "int8": {ArrayName("a"): ones.astype("int8")},
        "complex": {ArrayName("a"): ones * 1j},
        "ragged": {ArrayName("a"): [[1], [1, 2]]},
    }


@dataclass(frozen=True)
class OddSteps:
    """Chooses what cannot be chosen, for the texts of prompts of a length."""

    version: ClassVar[str] = "1"
    what: str = ""
    tokens: int = 0

    def is_identity(self) -> bool:
        return False

    def start(self, state: Any) -> Any:
        if self.what == "hooks":
            state.model.get_decoder().layers[0].register_forward_hook(lambda *given: None)
        for one in state.collected:
            one.extras["both"] = 1
        return self

    def step(self, state: Any) -> Any:
        logits_BV = state.logits_BV.clone()
        hit = [len(state.prompts[text].ids) == self.tokens for text in state.rows]
        if self.what == "shape" and any(hit):
            return logits_BV[:, None]
        if self.what == "list":
            return logits_BV.tolist()
        for row, is_hit in enumerate(hit):
            if is_hit and self.what == "nan":
                logits_BV[row, 3] = np.nan
            elif is_hit and self.what == "least":
                logits_BV[row] = -np.inf
            elif not is_hit and state.rows[row] not in state.unfinished:
                logits_BV[row] = np.nan  # of a text that has ended: nobody looks
        return logits_BV


@dataclass(frozen=True)
class Level(Changing):
    """Says of which type its parameter is."""

    level: int | float | bool = 0

    @contextmanager
    def apply(self, model: Any, batch: HookBatch) -> Iterator[Sequence[Collected]]:
        yield [Collected({type(self.level).__name__: 1}) for _ in batch.prompts]
