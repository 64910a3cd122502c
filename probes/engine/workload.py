"""What one model still has to do, measured without loading it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import count, takewhile
from typing import ClassVar

from probes.core.types import FrameRef, Output, Request, Scoring, ScoringSpec
from probes.engine.cached_model import CachedModel
from probes.engine.placeholder_text import has_placeholder, placeholder
from probes.models.base import Planning, PromptSize, Unaskable, frames_of

WORDS_PER_TOKEN = 0.75
"""Length of a text that is not written yet where a backend has no tokenizer to measure it by."""
_NOT_ASKED = Output(status="error", error="not asked yet")


@dataclass(slots=True)
class Workload:
    """Prompts of one kind that one model still has to answer; tokens of those that fit."""

    prompts: int = 0
    tokens: int = 0
    squares: int = 0
    """Sum of the squares of the prompts' lengths, which attention costs."""
    longest: int = 0
    answers: int = 0
    """Tokens of continuations that are scored."""
    scored: int = 0
    """Positions whose whole distribution over the vocabulary is needed."""
    written: int = 0
    """Tokens that are written at most."""
    too_long: int = 0
    """Prompts that exceed the context: planned errors."""
    problem: str = ""
    """Why one of those cannot be asked."""

    def add(self, size: PromptSize, scoring: ScoringSpec) -> None:
        """Count one prompt that fits."""
        self.prompts += 1
        self.tokens += size.tokens
        self.squares += size.tokens**2
        self.longest = max(self.longest, size.tokens + sum(size.answers) + scoring.max_new_tokens)
        if scoring.kind == "cloze":
            self.answers += sum(size.answers)
        self.scored += {"letter": 1, "cloze": sum(size.answers)}.get(scoring.kind, 0)
        self.written += scoring.max_new_tokens


@dataclass
class DryRunModel(CachedModel):
    """A model that is not asked: what is missing from the output cache is measured.

    Its answers are those stored, and placeholders of texts that are not written yet.
    """

    asks: ClassVar[bool] = False
    keep: int = 0
    """How many prompts of each kind are kept, to be timed; none with texts not written yet."""
    workloads: dict[Scoring, Workload] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    """Tokens of the prompts that are not stored, by key; nothing where they are not known."""
    shown: set[str] = field(default_factory=set)
    """sha256 of the frames in prompts that are not stored."""
    kept: dict[ScoringSpec, list[tuple[Request, int]]] = field(default_factory=dict)
    """Prompts, and what each adds to the length of a kind's `Workload`."""
    _words: dict[int, int] = field(default_factory=dict)

    @cached_property
    def planning(self) -> Planning | None:
        """What the backend knows without a model; asking for it may load a processor."""
        return self.backend.planning()

    def ask(
        self, prompts: Mapping[str, Request], scoring: ScoringSpec, advance: Callable[[], None]
    ) -> None:
        """Measure prompts where the backend knows their length without a model."""
        keys, asked = list(prompts), list(prompts.values())
        workload = self.workloads.setdefault(scoring.kind, Workload())
        measured: Iterator[tuple[int, PromptSize | Unaskable | None]]
        if self.planning is None:
            measured = ((at, None) for at in range(len(asked)))
        else:
            measured = self.planning.sizes(asked, self.frames, scoring)
        # Known from now on, so that none is measured twice.
        self._unstored |= dict.fromkeys(keys, _NOT_ASKED)
        for at, size in measured:
            self.stats.count(failed=False)
            if isinstance(size, PromptSize):
                workload.add(size, scoring)
                self.sizes[keys[at]] = size.tokens
            elif size is None:
                workload.prompts += 1
            else:
                workload.too_long += 1
                workload.problem = workload.problem or size.reason
            if scoring.kind == "generate":
                words = self._allowed(scoring.max_new_tokens)
                self._unstored[keys[at]] = Output(text=placeholder(asked[at], words))
            if not isinstance(size, Unaskable):
                self._keep(asked[at], scoring, size)
            self.shown.update(frames_of(asked[at]))
            advance()

    def features(self) -> int | None:
        """Return how many tokens the frames take that have to be encoded; None if unknown."""
        if self.planning is None or self.planning.features is None:
            return None
        return self.planning.features(self.shown, self.frames)

    def _allowed(self, max_new_tokens: int) -> int:
        """Return how many words a placeholder has that is as long as a text may be."""
        if max_new_tokens not in self._words:
            words = max(1, round(WORDS_PER_TOKEN * max_new_tokens))
            if self.planning is not None:
                tokens = self.planning.tokens
                # Any two frames: their names have as many tokens as those of most.
                sample = Request((FrameRef("5e6f7a8b"), FrameRef("1a2b3c4d")))
                lengths = (tokens(placeholder(sample, n)) for n in count(1))
                # More words are more tokens: the first text beyond the bound ends the search.
                words = sum(1 for _ in takewhile(lambda size: size <= max_new_tokens, lengths))
            self._words[max_new_tokens] = words
        return self._words[max_new_tokens]

    def _keep(self, prompt: Request, scoring: ScoringSpec, size: PromptSize | None) -> None:
        kept = self.kept.setdefault(scoring, [])
        if len(kept) < self.keep and not has_placeholder(prompt):
            length = size.tokens + sum(size.answers) + scoring.max_new_tokens if size else 1
            kept.append((prompt, length))
