"""A run gone through without a model: every prompt is built and measured, none is asked.

It takes the steps of `probes.engine.run` with a model that counts, so what is planned is what a run
asks. Infills that are not stored yet are stood in for by text of an assumed length.
"""

from __future__ import annotations

import math
import re
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import count, takewhile

from probes.cache.output_cache import Store
from probes.config.settings import RunConfig
from probes.core.files import home
from probes.core.hashing import sha256_json
from probes.core.progress import Progress
from probes.core.types import FrameRef, Output, Part, Prompt, Scoring, ScoringSpec
from probes.engine import plan
from probes.engine.answer_log import TrialRequest
from probes.engine.cached_model import CachedModel
from probes.engine.run import RunContext, RunState, carry_out
from probes.media.frame_store import FrameStore
from probes.models.hf.backend import HfBackend
from probes.models.hf.preprocessor import Preprocessor
from probes.models.hf.token_layout import PromptSize, Unaskable, frames_of
from probes.stimuli.words import filler
from probes.tasks import pictures

_LOOKED_UP = 2_048  # answers that are read from the store at a time
WORDS_PER_TOKEN = 0.75
"""Length of a text that is not written yet where a backend has no tokenizer to measure it by."""
_MARK = re.compile(r"(\[not written yet(?: [0-9a-f]{8})+\])(?: [^.]*\.)?")
_NAMES = re.compile(r"\[not written yet((?: [0-9a-f]{8})+)\]")


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
    """An asker that asks nobody: it measures what is missing from the store."""

    keep: int = 0
    """How many prompts of each kind are kept, to be timed; none with texts not written yet."""
    loads: dict[Scoring, Workload] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    """Tokens of the prompts that are not stored, by key; nothing where they are not known."""
    shown: set[str] = field(default_factory=set)
    """sha256 of the frames in prompts that are not stored."""
    kept: dict[ScoringSpec, list[tuple[Prompt, int]]] = field(default_factory=dict)
    """Prompts, and what each brings to the length of a kind's `Workload`."""
    _words: dict[int, int] = field(default_factory=dict)
    _measured: set[str] = field(default_factory=set)
    _stood_in: dict[str, Output] = field(default_factory=dict)

    def missing(self, prompts: Mapping[str, Prompt]) -> dict[str, Prompt]:
        """Return those prompts, by key, that are neither stored nor measured."""
        missing = super().missing(prompts)
        return {key: prompt for key, prompt in missing.items() if key not in self._measured}

    def ask(
        self, prompts: Mapping[str, Prompt], scoring: ScoringSpec, tick: Callable[[], None]
    ) -> None:
        """Measure prompts where the backend can tell their length without a model."""
        keys, asked = list(prompts), list(prompts.values())
        load = self.loads.setdefault(scoring.kind, Workload())
        measured: Iterator[tuple[int, PromptSize | Unaskable | None]]
        if isinstance(self.backend, HfBackend):
            measured = self.backend.preprocessor().sizes(asked, self.frames, scoring)
        else:
            measured = ((at, None) for at in range(len(asked)))
        self._measured.update(keys)
        for at, size in measured:
            self.counts.note(keys[at], failed=False)
            if isinstance(size, PromptSize):
                load.add(size, scoring)
                self.sizes[keys[at]] = size.tokens
            elif size is None:
                load.prompts += 1
            else:
                load.too_long += 1
                load.problem = load.problem or size.reason
            if scoring.kind == "generate":
                words = self._allowed(scoring.max_new_tokens)
                self._stood_in[keys[at]] = Output(text=stand_in(asked[at], words))
            if not isinstance(size, Unaskable):
                self._keep(asked[at], scoring, size)
            self.shown.update(frames_of(asked[at]))
            tick()

    def answers(self, keys: Sequence[str]) -> dict[str, Output]:
        """Return stored answers, and texts that stand for those that are not written yet."""
        lost = Output(status="error", error="not asked yet")
        found = self.store.get(keys)
        return {key: found.get(key) or self._stood_in.get(key, lost) for key in keys}

    def _allowed(self, max_new_tokens: int) -> int:
        """Return how many words a stand-in has that is as long as a text may be."""
        if max_new_tokens not in self._words:
            words = max(1, round(WORDS_PER_TOKEN * max_new_tokens))
            if isinstance(self.backend, HfBackend):
                tokens = self.backend.preprocessor().tokens
                sample = Prompt((FrameRef("5e6f7a8b"), FrameRef("1a2b3c4d")))
                lengths = (len(tokens.encode([stand_in(sample, n)])[0]) for n in count(1))
                words = sum(1 for _ in takewhile(lambda size: size <= max_new_tokens, lengths))
            self._words[max_new_tokens] = words
        return self._words[max_new_tokens]

    def _keep(self, prompt: Prompt, scoring: ScoringSpec, size: PromptSize | None) -> None:
        kept = self.kept.setdefault(scoring, [])
        text = "".join(part for part in prompt.parts if isinstance(part, str))
        if len(kept) < self.keep and not _NAMES.search(text):
            length = size.tokens + sum(size.answers) + scoring.max_new_tokens if size else 1
            kept.append((prompt, length))


def stand_in(prompt: Prompt, words: int) -> str:
    """Return a text in the place of one that is not written yet; it differs from gap to gap.

    Args:
        prompt: what the text would answer; the frames in it name the gap.
        words: number of words, the name included; it has no fewer than the name.
    """
    names = [name[:8] for name in frames_of(prompt)]
    if not names:  # the condenser's: its text speaks of a gap already
        said = _NAMES.search("".join(map(str, prompt.parts)))
        names = said[1].split() if said else [sha256_json(list(map(str, prompt.parts)))[:8]]
    mark = f"[not written yet {' '.join(names)}]"
    return f"{mark} {filler(words - len(mark.split()), 0)}".strip()


def without_stand_ins(prompt: Prompt) -> Prompt:
    """Return a prompt for people: of a text that is not written yet only its name is left."""

    def short(part: Part) -> Part:
        return part if isinstance(part, FrameRef) else _MARK.sub(r"\1", part)

    return Prompt(tuple(map(short, prompt.parts)), prompt.options)


@dataclass(frozen=True, slots=True)
class CellWorkload:
    """The cells of one member under one arm at one number of frames."""

    member: str
    arm: str
    frames: int
    count: int
    broken: int
    """Cells whose media cannot be shown."""
    tokens: int | None
    """Of all their prompts together; None where the backend cannot tell."""
    longest: int | None


@dataclass(frozen=True, slots=True)
class DryRun:
    """What a run of a configuration would do."""

    cfg: RunConfig
    items: int
    clips: int
    """Clips of all numbers of frames, those of donors included."""
    frames: int
    """Different frames that are shown in answered cells."""
    infills: int
    """Different pairs of neighbouring frames that text is written for."""
    cells: tuple[CellWorkload, ...]
    askers: Mapping[str, DryRunModel]
    """By name of member, and of other models that write infills."""
    done: RunState
    broken: Mapping[str, str]
    """Why an item's media cannot be shown, by item id."""


@contextmanager
def forecast(cfg: RunConfig, progress: Progress | None = None, keep: int = 0) -> Iterator[DryRun]:
    """Go through a run without asking a model; stores are open while the `with` block runs.

    Made data are made and frames are decoded if they have not been: a run would do the same, and
    finds both then.

    Args:
        cfg: checked configuration.
        progress: where to show what is going on.
        keep: how many prompts of each kind to keep for timing.

    Raises:
        ProbesError: whatever would end the run before a model is loaded.
    """
    new = partial(DryRunModel, keep=keep)
    with (
        Store(home() / "store") as store,
        closing(
            RunContext(
                cfg,
                store,
                FrameStore(home(), read_panels=pictures.read),
                progress or Progress(),
                new=new,
            )
        ) as desk,
    ):
        done = carry_out(desk)
        askers = {name: one for name, one in desk.askers.items() if isinstance(one, DryRunModel)}
        needing = [item for item in done.plan.needing_infills() if done.written]
        clips = done.material.clips
        blocks = plan.infill_blocks(needing, clips, sys.maxsize)
        yield DryRun(
            cfg=cfg,
            items=len(done.plan.items),
            clips=len(clips),
            frames=len(done.frames),
            infills=sum(len(pairs) for _, pairs in blocks),
            cells=tuple(_cells(cfg, done, askers)),
            askers=askers,
            done=done,
            broken=clips.broken(),
        )


def _cells(
    cfg: RunConfig, done: RunState, askers: Mapping[str, DryRunModel]
) -> Iterator[CellWorkload]:
    for spec in cfg.pair.members:
        asker, asked = askers[spec.name], done.asked[spec.role]
        keys = [one.key for one in asked if one.key]
        sizes = dict(asker.sizes)
        for start in range(0, len(keys), _LOOKED_UP):
            some = [key for key in keys[start : start + _LOOKED_UP] if key not in sizes]
            sizes |= {key: out.input_tokens for key, out in asker.store.get(some).items()}
        groups: dict[tuple[str, int], list[TrialRequest]] = defaultdict(list)
        for cell, one in zip(done.plan.cells(), asked, strict=True):
            groups[cell.arm.name, cell.frames].append(one)
        for (arm, frames), mine in groups.items():
            found = [sizes[one.key] for one in mine if one.key in sizes]
            yield CellWorkload(
                member=spec.name,
                arm=arm,
                frames=frames,
                count=len(mine),
                broken=sum(not one.key for one in mine),
                tokens=sum(found) if found else None,
                longest=max(found, default=None),
            )


def features_of(asker: DryRunModel) -> int | None:
    """Return how many tokens the frames take that an asker has to perceive; None if unknown."""
    if not isinstance(asker.backend, HfBackend):
        return None
    preprocessor = asker.backend.preprocessor()
    if not isinstance(preprocessor, Preprocessor):
        return None
    results = preprocessor.grids.of(asker.shown, asker.frames)
    return sum(map(math.prod, results.found.values()))
