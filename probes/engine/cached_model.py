"""Between a plan and a backend: ask the model only what the store cannot answer."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from probes.cache import output_cache as storing
from probes.cache.output_cache import Store
from probes.core.redaction import redact
from probes.core.spool import Spool
from probes.core.text import whole_text
from probes.core.types import Output, Prompt, ScoringSpec
from probes.models import Backend


class ModelSlot:
    """Room for one loaded model: who comes in sends the one before out."""

    def __init__(self) -> None:
        self._backend: Backend | None = None

    def enter(self, backend: Backend) -> None:
        """Make room for a backend that is about to load its model."""
        if self._backend is not backend:
            self.leave()
            self._backend = backend

    def leave(self) -> None:
        """Free the model that is loaded, if one is."""
        if self._backend is not None:
            self._backend.close()
            self._backend = None


_MET, _STORED, _ANSWERED, _FAILED = range(4)
_ROW = np.dtype([("what", np.uint8), ("key", ">u8")])


class RequestStats:
    """What became of the different prompts of one asker; nine bytes a prompt and event, on disk."""

    def __init__(self) -> None:
        self._rows = Spool()

    def meet(self, keys: Collection[str], stored: Collection[str]) -> None:
        """Note prompts that have to be answered, and those of them that are stored."""
        self._note(_MET, keys)
        self._note(_STORED, stored)

    def note(self, key: str, *, failed: bool) -> None:
        """Note an answer of the model, or its failure."""
        self._note(_ANSWERED, [key])
        if failed:
            self._note(_FAILED, [key])

    @property
    def unique(self) -> int:
        """Different prompts."""
        return len(self._different(_MET))

    @property
    def cached(self) -> int:
        """Of these, answered from the store."""
        return len(np.setdiff1d(self._different(_STORED), self._different(_ANSWERED)))

    @property
    def computed(self) -> int:
        """Of these, answered by the model now, failures included."""
        return len(self._different(_ANSWERED))

    @property
    def failed(self) -> int:
        """Of these, failed now; they are asked again by the next run."""
        return len(self._different(_FAILED))

    def _note(self, what: int, keys: Collection[str]) -> None:
        self._rows.add(b"".join(bytes([what]) + bytes.fromhex(key[:16]) for key in keys))

    def _different(self, what: int) -> NDArray[np.uint64]:
        rows = np.frombuffer(self._rows.read(0, len(self._rows)), _ROW)
        return np.unique(rows["key"][rows["what"] == what])


@dataclass
class CachedModel:
    """A backend behind the store.

    A prompt whose answer is stored never reaches the backend, so that a model which has nothing
    new to say is not even loaded.
    """

    backend: Backend
    store: Store
    frames: Mapping[str, NDArray[np.uint8]]
    """sha256 -> uint8 RGB [height, width, 3]."""
    residence: ModelSlot
    counts: RequestStats = field(default_factory=RequestStats)
    _failures: dict[str, Output] = field(default_factory=dict)

    def key(self, prompt: Prompt, scoring: ScoringSpec) -> str:
        """Return the store's key of a prompt put to this backend."""
        return storing.key(prompt, self.backend.fingerprint, scoring, self.backend.adapter)

    def missing(self, prompts: Mapping[str, Prompt]) -> dict[str, Prompt]:
        """Return those prompts, by key, that have to be asked: not stored, nor failed in this run.

        What failed is not asked again before the next run: one prompt has one answer in a run.
        """
        stored = self.store.has(prompts)
        self.counts.meet(prompts, stored)
        known = stored | self._failures.keys()
        return {key: prompt for key, prompt in prompts.items() if key not in known}

    def ask(
        self, prompts: Mapping[str, Prompt], scoring: ScoringSpec, tick: Callable[[], None]
    ) -> None:
        """Put prompts to the model and store every answer as it comes.

        Args:
            prompts: by key; one at least.
            scoring: how they are answered.
            tick: called after every answer.
        """
        self.residence.enter(self.backend)
        keys = list(prompts)
        with self.store.writing() as put:
            for index, output in self.backend.score(list(prompts.values()), self.frames, scoring):
                self.counts.note(keys[index], failed=output.status == "error")
                if not output.text.isascii():
                    output = replace(output, text=whole_text(output.text))
                if output.status == "error":
                    output = replace(output, error=whole_text(redact(output.error)))
                    self._failures[keys[index]] = output
                put(keys[index], output)
                tick()

    def answers(self, keys: Sequence[str]) -> dict[str, Output]:
        """Return the answer of every key: stored, failed in this run, or never given."""
        lost = Output(status="error", error="the backend gave no answer")
        found = self.store.get(keys)
        return {key: found.get(key) or self._failures.get(key, lost) for key in keys}

    def generate(
        self, prompts: Sequence[Prompt], max_new_tokens: int, tick: Callable[[], None]
    ) -> list[Output]:
        """Continue prompts greedily; `probes.stimuli.infills.Generate` once `tick` is bound."""
        scoring = ScoringSpec("generate", max_new_tokens)
        keys = [self.key(prompt, scoring) for prompt in prompts]
        missing = self.missing(dict(zip(keys, prompts, strict=True)))
        for _ in range(len(prompts) - len(missing)):
            tick()
        if missing:
            self.ask(missing, scoring, tick)
        found = self.answers(keys)
        return [found[key] for key in keys]
