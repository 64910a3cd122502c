"""What all phases of a run share: configuration, output cache, frames, and the models."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

from probes.cache.output_cache import Store
from probes.config.settings import Answers, RunConfig
from probes.core.examination import MemberCheck
from probes.core.files import home
from probes.core.progress import Progress
from probes.core.scratch import Scratch
from probes.core.types import ModelSpec
from probes.engine.cached_model import CachedModel, ModelSlot, RequestStats
from probes.media.frame_store import FrameStore
from probes.media.prefetch import ClipPrefetcher
from probes.models import Backend, open_backend
from probes.models.members import remarks, settled
from probes.tasks import pictures

_log = logging.getLogger(__name__)
_JOIN_S = 5.0  # for threads that decode; what they write is whole or not there: they may be left

MakeModel = Callable[[Backend, Store, FrameStore, ModelSlot, RequestStats, Answers], CachedModel]


def settled_config(cfg: RunConfig) -> RunConfig:
    """Return a configuration whose members have no `frame_as: auto` any more.

    It depends on all members together, and what a member is depends on it.
    """
    members = settled(cfg.backend, cfg.pair.members)
    return replace(cfg, pair=replace(cfg.pair, members=members))


def told_config(cfg: RunConfig) -> tuple[RunConfig, tuple[str, ...]]:
    """Return that configuration, and what a user has to know of its pair, which is logged."""
    found = settled_config(cfg)
    lines = tuple(remarks(cfg.backend, found.pair.members, cfg.pair.members))
    for line in lines:
        _log.info("%s", line)
    return found, lines


@dataclass
class RunContext:
    """What all phases of a run share; `close` frees it."""

    cfg: RunConfig
    """Settled: see `told_config`."""
    store: Store
    """The output cache."""
    progress: Progress = field(default_factory=Progress)
    make_model: MakeModel = CachedModel
    """Makes what is asked; a dry run only counts what it would ask."""
    frames: FrameStore = field(
        default_factory=lambda: FrameStore(home(), read_panels=pictures.read)
    )
    dry: bool = False
    """Whether no model is asked: the names of phases say so."""
    scratch: Scratch = field(default_factory=Scratch)
    """What a phase hands to a later one and memory need not hold."""
    models: dict[str, CachedModel] = field(default_factory=dict)
    """Models that were opened, by name of member, or of another model that writes infills."""
    remarks: tuple[str, ...] = ()
    """What a user has to know of the pair as a whole: see `told_config`."""
    checks: dict[str, MemberCheck] = field(default_factory=dict)
    """What is known of the members before their answers are believed, by name."""
    clips: ClipPrefetcher | None = None
    """The run's clips, once they are being decoded."""
    _slot: ModelSlot = field(default_factory=ModelSlot)

    def model(self, name: str, open_one: Callable[[], Backend]) -> CachedModel:
        """Return the model of that name; its checkpoint is found, no weights are loaded."""
        if name not in self.models:
            stats = RequestStats(self.scratch, name)
            self.models[name] = self.make_model(
                open_one(), self.store, self.frames, self._slot, stats, self.cfg.answers
            )
        return self.models[name]

    def others(self) -> dict[str, int]:
        """Return how many requests only other versions of libraries have answered, by model."""
        return {name: model.stats.others for name, model in self.models.items()}

    def member(self, spec: ModelSpec) -> CachedModel:
        """Return a member's model."""
        return self.model(spec.name, partial(open_backend, self.cfg.backend, spec))

    def close(self) -> None:
        """Free the model that is loaded and end all decoding, even during a video."""
        if self.clips is not None:
            self.clips.stop()
        try:
            # Kills the children, so that threads in the middle of a video come to an end.
            self.frames.close()
        finally:
            self._slot.leave()
            if self.clips is not None:
                self.clips.join(_JOIN_S)
            # Last: threads that decode write their clips into it until they have ended.
            self.scratch.close()
