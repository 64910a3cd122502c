"""Between a plan and a backend: ask the model only what the output cache cannot answer."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from probes.cache import output_cache
from probes.cache.output_cache import Store
from probes.core.redaction import redact
from probes.core.scratch import HashSet, Scratch
from probes.core.text import whole_text
from probes.core.types import FramesByHash, Output, Request, ScoringSpec
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
        space: a name of its own there.
    """

    def __init__(self, scratch: Scratch, space: str) -> None:
        self._met = HashSet(scratch, space)
        self.computed = 0
        """Requests that the model answered in this run, failures included."""
        self.failed = 0
        """Requests that failed in this run; the next run asks them again."""

    def meet(self, keys: Collection[str]) -> None:
        """Note requests that have to be answered."""
        self._met.update(keys)

    def count(self, *, failed: bool) -> None:
        """Count an answer of the model, or its failure; a request is asked once in a run."""
        self.computed += 1
        self.failed += failed

    @property
    def unique(self) -> int:
        """Distinct requests."""
        return len(self._met)

    @property
    def cached(self) -> int:
        """Of these, answered from the output cache."""
        return self.unique - self.computed

    def as_dict(self) -> dict[str, int]:
        """Return all counts, as the manifest has them."""
        return {n: getattr(self, n) for n in ("unique", "cached", "computed", "failed")}


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
    _unstored: dict[str, Output] = field(default_factory=dict)
    """What the model answered in this run and the output cache does not hold: failures."""

    def key(self, prompt: Request, scoring: ScoringSpec) -> str:
        """Return the output cache's key of a prompt put to this backend."""
        return output_cache.key(prompt, self.backend.fingerprint, scoring, self.backend.adapter)

    def missing(self, prompts: Mapping[str, Request]) -> dict[str, Request]:
        """Return those prompts, by key, that have to be asked: not stored, nor failed in this run.

        What failed is not asked again before the next run: one prompt has one answer in a run.
        """
        self.stats.meet(prompts)
        # Asked anew for every block: another run on the same store may have answered meanwhile.
        known = self.store.has(prompts) | self._unstored.keys()
        return {key: prompt for key, prompt in prompts.items() if key not in known}

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
        keys = list(prompts)
        with self.store.writing() as put:
            for index, output in self.backend.score(list(prompts.values()), self.frames, scoring):
                self.stats.count(failed=output.status == "error")
                # A server's JSON may hold half a character, which SQLite and Arrow refuse.
                if not output.text.isascii():
                    output = replace(output, text=whole_text(output.text))
                if output.status == "error":
                    # Without arrays: failures stay in memory until the run ends.
                    output = replace(output, error=whole_text(redact(output.error)), arrays={})
                    self._unstored[keys[index]] = output
                put(keys[index], output)
                advance()

    def answers(self, keys: Sequence[str]) -> dict[str, Output]:
        """Return the answer of every key: stored, failed in this run, or never given."""
        lost = Output(status="error", error="the backend gave no answer")
        found = self.store.get(keys)
        return {key: found.get(key) or self._unstored.get(key, lost) for key in keys}

    def generate(
        self, prompts: Sequence[Request], max_new_tokens: int, advance: Callable[[], None]
    ) -> list[Output]:
        """Continue prompts greedily; `probes.stimuli.infills.Generate` once `advance` is bound."""
        scoring = ScoringSpec("generate", max_new_tokens)
        keys = [self.key(prompt, scoring) for prompt in prompts]
        missing = self.missing(dict(zip(keys, prompts, strict=True)))
        for _ in range(len(prompts) - len(missing)):
            advance()
        if missing:
            self.ask(missing, scoring, advance)
        found = self.answers(keys)
        return [found[key] for key in keys]
