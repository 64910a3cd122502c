"""Neutral texts in the place of infills, for one member: as long as they are by its own tokens.

Members have tokenizers of their own, so that the same infills may get another filler for another
member. Where a backend counts no tokens, words are counted instead, and the run says so.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from probes.cache import output_cache
from probes.core.hashing import sha256_json
from probes.core.scratch import SpilledDict
from probes.core.types import Arm, ClipKey, Infill, Item, ModelSpec, Output
from probes.engine.context import RunContext
from probes.models.base import CountsTokens
from probes.stimuli import fillers
from probes.stimuli.templates import fill

MOST_OFF = 0.1
"""Share by which a clip's filler may differ from its infills in tokens and still be matched."""


@dataclass(frozen=True, slots=True)
class FillerText:
    """The neutral text of one gap."""

    text: str


@dataclass
class FillerMatch:
    """How the fillers of one arm compare with the infills, over the clips of a run."""

    clips: int = 0
    wanted: int = 0
    """Tokens of all infills, each with the template's words around it."""
    made: int = 0
    """Tokens of all fillers, likewise."""
    near: int = 0
    """Clips whose filler is within `MOST_OFF` of its infills."""

    def add(self, wanted: int, made: int) -> None:
        """Count one clip."""
        self.clips += 1
        self.wanted += wanted
        self.made += made
        self.near += abs(made - wanted) <= MOST_OFF * wanted


class FillerWriter:
    """Makes the fillers of one member, and keeps them until its records are written.

    A text that was made once is stored as answers are: a finished run loads no tokenizer.

    Args:
        context: what the phases share.
        spec: the member.
    """

    def __init__(self, context: RunContext, spec: ModelSpec) -> None:
        self._context, self._spec = context, spec
        self._backend = context.member(spec).backend
        self._between = context.cfg.prompts.between
        self._made: dict[str, SpilledDict[ClipKey, FillerText]] = {}
        self._new: list[tuple[str, Output, str]] = []
        self.matches: dict[str, FillerMatch] = defaultdict(FillerMatch)
        """By arm; of those whose texts are matched by tokens."""

    def texts(
        self, arm: Arm, item: Item, frames: int, infills: Sequence[Infill]
    ) -> tuple[str, ...]:
        """Return the texts of an arm that shows filler, one per gap (frames - 1).

        Args:
            arm: whose text is filler.
            item: who is asked.
            frames: of its clip.
            infills: of that clip; empty ones leave their gap bare.
        """
        known, clip = self._of(arm.name), item.key.clip(frames)
        if clip not in known:
            own = [infill.text if infill.ok else "" for infill in infills]
            known[clip] = tuple(map(FillerText, self._make(arm, item, own)))
        return tuple(one.text for one in known[clip])

    def shown(self, arm: Arm, clip: ClipKey) -> tuple[str, ...]:
        """Return the texts that `texts` has made; none for an arm or a clip without any."""
        if arm.infills != "filler" or clip not in self._of(arm.name):
            return ()
        return tuple(one.text for one in self._of(arm.name)[clip])

    def keep(self) -> None:
        """Store what is new; a dry run stores nothing, as its infills may be placeholders."""
        if self._new and not self._context.dry:
            self._context.store.put(self._new)
        self._new.clear()

    def remarks(self) -> list[str]:
        """Return one line per arm on how its fillers compare with the infills."""
        name = self._spec.name
        lines = [
            f"arm {arm}, {name}: neutral text of {one.made / one.clips:.1f} tokens a clip in the "
            f"place of infills of {one.wanted / one.clips:.1f}; within 10 % of their own in "
            f"{one.near} of {one.clips} clips"
            for arm, one in self.matches.items()
        ]
        return lines + [
            f"arm {arm}, {name}: neutral text of as many words as the infills, not as many tokens: "
            f"backend {self._context.cfg.backend.name} does not count them"
            for arm in self._made.keys() - self.matches.keys()
        ]

    def _of(self, arm: str) -> SpilledDict[ClipKey, FillerText]:
        if arm not in self._made:
            space = f"fillers of {arm} for {self._spec.name}"
            self._made[arm] = SpilledDict(self._context.scratch, space, FillerText)
        return self._made[arm]

    def _make(self, arm: Arm, item: Item, own: Sequence[str]) -> tuple[str, ...]:
        backend, salt = self._backend, (item.id, arm.name)
        if not isinstance(backend, CountsTokens):
            return fillers.by_words(own, arm.seed, *salt)
        # With the weights' hash in it, which is more than a tokenizer is: the files of one member
        # are known together, and to make the text anew takes a millisecond a gap.
        base = sha256_json(
            ["filler", fillers.VERSION, backend.fingerprint, self._between, own, arm.seed, *salt]
        )
        key = output_cache.versioned(base, backend.libraries())
        if (stored := self._context.store.get([key]).get(key)) is not None:
            self.matches[arm.name].add(stored.input_tokens, stored.output_tokens)
            return tuple(json.loads(stored.text))
        start = backend.count_tokens("")

        def cost(text: str) -> int:
            shown = "".join(map(str, fill(self._between, {"infill": (text,)})))
            return backend.count_tokens(shown) - start

        made = fillers.matched(own, cost, arm.seed, *salt)
        wanted, reached = fillers.tokens(own, cost), fillers.tokens(made, cost)
        self.matches[arm.name].add(wanted, reached)
        text = json.dumps(made)
        self._new.append((key, Output(text=text, input_tokens=wanted, output_tokens=reached), base))
        return made
