"""Between a plan and a backend: ask the model only what the output cache cannot answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import ClassVar

from probes.cache import output_cache
from probes.cache.output_cache import Store
from probes.config.settings import Answers
from probes.core import origins
from probes.core.errors import MachineError
from probes.core.redaction import redact
from probes.core.scratch import HashSet, Scratch
from probes.core.text import whole_text
from probes.core.types import FramesByHash, Output, Request, ScoringSpec
from probes.engine import answer_versions
from probes.models import Backend


class ModelSlot:
    """Room for one loaded model: the next one frees the one before."""

    def __init__(self) -> None:
        self._backend: Backend | None = None

    def enter(self, backend: Backend) -> None:
        """Make room for a backend that is about to load its model."""
        if self._backend is not backend:
            # Before the next one loads: two models at a time may not fit on the device.
            self.leave()
            self._backend = backend

    def leave(self) -> None:
        """Free the model that is loaded, if one is."""
        if self._backend is not None:
            self._backend.close()
            self._backend = None


class RequestStats:
    """Counts of the distinct requests to one model.

    Args:
        scratch: where the keys that were met are kept.
        name: of the model.
    """

    def __init__(self, scratch: Scratch, name: str) -> None:
        self.name = name
        space = f"requests to {name}"
        self._met = HashSet(scratch, space)
        self._others = HashSet(scratch, f"{space}, answered by other versions")
        self.computed = 0
        """Requests that the model answered in this run, failures included."""
        self.failed = 0
        """Requests that failed in this run; the next run asks them again."""

    def meet(self, keys: Collection[str]) -> None:
        """Note requests that have to be answered."""
        self._met.update(keys)

    def meet_others(self, taken: Mapping[str, str]) -> None:
        """Note requests that other versions of libraries have answered.

        Args:
            taken: key of the request -> key of that answer.
        """
        self._others.update(taken)

    def count(self, *, failed: bool) -> None:
        """Count an answer of the model, or its failure; a request is asked once in a run."""
        self.computed += 1
        self.failed += failed

    @property
    def unique(self) -> int:
        """Distinct requests."""
        return len(self._met)

    @property
    def others(self) -> int:
        """Of these, answered by other versions of libraries than the installed ones alone."""
        return len(self._others)

    @property
    def cached(self) -> int:
        """Of these, answered from the output cache."""
        return self.unique - self.computed

    def as_dict(self) -> dict[str, int]:
        """Return all counts, as the manifest has them."""
        return {n: getattr(self, n) for n in ("unique", "cached", "computed", "failed")}


@dataclass(frozen=True, slots=True)
class Standing:
    """Which requests have to be asked, and under which keys the others are answered."""

    missing: Mapping[str, Request]
    """By key."""
    taken: Mapping[str, str]
    """Key of the request -> key of the answer that other versions of libraries computed."""


@dataclass
class CachedModel:
    """A backend behind the output cache.

    A prompt whose answer is stored never reaches the backend, so that a model that has nothing new
    to answer is not even loaded.
    """

    backend: Backend
    store: Store
    frames: FramesByHash
    slot: ModelSlot
    stats: RequestStats
    asks: ClassVar[bool] = True
    """Whether it comes to a model; else all requests are only counted."""
    policy: Answers = "same-versions"
    """Whether answers that other versions of libraries computed are taken."""
    written: Counter[str] = field(default_factory=Counter)
    """Texts by what computed them, where the model was asked to continue prompts."""
    _unstored: dict[str, Output] = field(default_factory=dict)
    """What the model answered in this run and the output cache does not hold: failures."""

    def key(self, prompt: Request, scoring: ScoringSpec) -> str:
        """Return the output cache's key of a prompt put to this backend."""
        return output_cache.versioned(self._base(prompt, scoring), self._libraries)

    @cached_property
    def _libraries(self) -> Mapping[str, str]:
        return self.backend.libraries()

    def _base(self, prompt: Request, scoring: ScoringSpec) -> str:
        return output_cache.key(prompt, self.backend.fingerprint, scoring, self.backend.adapter)

    def standing(self, prompts: Mapping[str, Request], scoring: ScoringSpec) -> Standing:
        """Return which prompts have to be asked: not stored, nor failed in this run.

        What failed is not asked again before the next run: one prompt has one answer in a run.

        Args:
            prompts: by key.
            scoring: how they are answered.

        Raises:
            ProbesError: a prompt has an answer of other versions, which the configuration refuses.
        """
        self.stats.meet(prompts)
        # Asked anew for every block: another run on the same store may have answered meanwhile.
        known = self.store.has(prompts) | self._unstored.keys()
        missing = {key: prompt for key, prompt in prompts.items() if key not in known}
        taken: dict[str, str] = {}
        if missing and self._libraries:
            bases = {self._base(prompt, scoring): key for key, prompt in missing.items()}
            others = self.store.of_other_versions(bases)
            found = {bases[base]: answer_versions.chosen(some) for base, some in others.items()}
            self.stats.meet_others(found)
            if found and self.policy == "refuse" and self.asks:
                raise answer_versions.refusal({self.stats.name: len(found)})
            if self.policy == "any":
                taken = found
        return Standing({k: one for k, one in missing.items() if k not in taken}, taken)

    def ask(
        self, prompts: Mapping[str, Request], scoring: ScoringSpec, advance: Callable[[], None]
    ) -> None:
        """Put prompts to the model and store every answer as it comes.

        Args:
            prompts: by key; one at least.
            scoring: how they are answered.
            advance: called after every answer.
        """
        self.slot.enter(self.backend)
        # Backends answer by place, in any order: places lead back to keys.
        keys, asked = list(prompts), list(prompts.values())
        silent, origin = set(keys), None
        with self.store.writing() as put:
            for index, output in self.backend.score(asked, self.frames, scoring):
                # Not before the first answer: only then the model is loaded.
                origin = origin or self.backend.origin()
                key, output = keys[index], replace(output, origin=origin)
                silent.discard(key)
                self.stats.count(failed=output.status == "error")
                # A server's JSON may hold half a character, which SQLite and Arrow refuse.
                if not output.text.isascii():
                    output = replace(output, text=whole_text(output.text))
                if output.status == "error":
                    # Without arrays: failures stay in memory until the run ends.
                    output = replace(output, error=whole_text(redact(output.error)), arrays={})
                    self._unstored[key] = output
                put(key, output, self._base(asked[index], scoring))
                advance()
        lost = Output(status="error", error="the backend gave no answer")
        self._unstored |= dict.fromkeys(silent, lost)

    def answers(self, keys: Sequence[str]) -> dict[str, Output]:
        """Return the answer of every key: stored, or failed in this run.

        Raises:
            MachineError: an answer that was stored is not there any more.
        """
        found = self.store.get(keys)
        found |= {key: self._unstored[key] for key in keys if key in self._unstored.keys() - found}
        if gone := set(keys) - found.keys():
            raise MachineError(
                f"{len(gone)} answers that were stored are gone: the disk has lost them, or the "
                "store was changed by another program during the run",
                str(self.store.folder),
                "the same command asks them again, and nothing else",
            )
        return found

    def generate(
        self, prompts: Sequence[Request], max_new_tokens: int, advance: Callable[[], None]
    ) -> list[Output]:
        """Continue prompts greedily; `probes.stimuli.infills.Generate` once `advance` is bound."""
        scoring = ScoringSpec("generate", max_new_tokens)
        keys = [self.key(prompt, scoring) for prompt in prompts]
        now = self.standing(dict(zip(keys, prompts, strict=True)), scoring)
        for _ in range(len(prompts) - len(now.missing)):
            advance()
        if now.missing:
            self.ask(now.missing, scoring, advance)
        keys = [now.taken.get(key, key) for key in keys]
        found = self.answers(keys)
        self.written.update(origins.shown(one.origin) for one in found.values())
        return [found[key] for key in keys]
