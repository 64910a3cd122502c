"""Looking at a pair before its answers are believed: `probes doctor`, and a phase of every run.

What files show of a member is kept by content under `home()/doctor`; so is how its first answers
compared with its class's own forward pass. A run is stopped by what makes a member's answers
worthless, never by a difference.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from probes.analysis.comparability import Comparability, judged, passes_line
from probes.config.settings import RunConfig
from probes.core.checked_file import CheckedFiles
from probes.core.errors import UNSOUND, MachineError, ProbesError
from probes.core.examination import Examination, MemberCheck, PassCheck, examination_of
from probes.core.files import home
from probes.core.hashing import array_sha256, sha256_json
from probes.core.types import (
    Arm,
    Clip,
    FrameArray,
    Infill,
    Item,
    ModelSpec,
    Output,
    Panels,
    Request,
    ScoringSpec,
)
from probes.models.base import Backend, ChecksFiles, ExaminedBackend, RemarkingBackend
from probes.stimuli import arms
from probes.stimuli.arms import StimulusForm, StimulusSources

_log = logging.getLogger(__name__)
VERSION = 2
"""Raised whenever the same member would be described otherwise: part of the keys of results."""
COMPARED = 3
"""Prompts of a run that are put to the class itself as well."""
_SIZE = (240, 320)  # of a made picture: height, width
_EXAMPLE = {
    "question": "What does the person do after opening the door?",
    "options": (
        "They leave the room.",
        "They close it again.",
        "They take a key.",
        "They sit down.",
        "They switch on the light.",
    ),
    "infill": "The door moves slowly, and the person takes a step back.",
}
_ARMS = (Arm("baseline"), Arm("vcot", infills="own"), Arm("blind", frames="none"))


@dataclass(frozen=True)
class Doctor:
    """Looks at the members of a configuration."""

    cfg: RunConfig
    scoring: ScoringSpec
    """How a run of it would answer."""

    @cached_property
    def frames(self) -> dict[str, FrameArray]:
        """Two made pictures by sha256: slopes with a square, so that no two pixels rows are one."""
        height, width = _SIZE
        rows, columns = np.mgrid[0:height, 0:width]
        out = {}
        for shift in (0, 90):
            planes = [rows, columns + shift, rows + columns]
            picture = np.stack([plane % 256 for plane in planes], axis=-1).astype(np.uint8)
            picture[60 + shift : 120 + shift, 100:180] = (200, 40, shift)
            out[array_sha256(picture)] = picture
        return out

    @cached_property
    def prompts(self) -> tuple[Request, ...]:
        """Three prompts in the run's wording: frames alone, text between them, text alone."""
        options, infill = tuple(_EXAMPLE["options"]), str(_EXAMPLE["infill"])
        item = Item(
            "made", "made", str(_EXAMPLE["question"]), options, 0, Panels(Path(), len(self.frames))
        )
        names = tuple(self.frames)
        sources = StimulusSources(
            Clip(tuple(range(len(names))), tuple(map(float, range(len(names)))), names),
            infills=[Infill(infill, "", "", "made")],
        )
        form = StimulusForm(self.cfg.prompts, self.scoring.kind)
        made = (arms.build(item, arm, sources, form) for arm in _ARMS)
        return tuple(Request(one.parts, one.options) for one in made)

    def member(self, spec: ModelSpec, backend: Backend) -> MemberCheck:
        """Return what is known of a member without its weights.

        What its files show comes from the cache where they were looked at before.
        """
        facts = backend.describe()
        key = self._key(spec, backend)
        if not isinstance(backend, ExaminedBackend):
            unseen = (_unseen(str(self.cfg.backend.name)),)
            return MemberCheck(spec.name, facts, unseen=unseen, remarks=_kept_remarks(key) or ())
        try:
            if isinstance(backend, ChecksFiles):  # weights that do not fit are no difference
                backend.check_files(thorough=True)
            seen = _kept(key)
            if seen is None:
                seen = backend.examine(self.prompts, self.frames, self.scoring)
                _keep_remarks(key, backend)
                _keep(key, seen.plain())
        except ProbesError as error:
            return MemberCheck(spec.name, facts, errors=(does_not_load(error),))
        errors, known = tuple(_errors(spec, seen, self.scoring)), _kept_remarks(key)
        if known is None:
            known = _keep_remarks(key, backend)
        return MemberCheck(spec.name, facts, seen, _kept_passes(key), errors, remarks=known)

    def with_kept_remarks(
        self, check: MemberCheck, spec: ModelSpec, backend: Backend
    ) -> MemberCheck:
        """Add what was kept since: the same weights may have answered as another member."""
        return replace(check, remarks=_kept_remarks(self._key(spec, backend)) or check.remarks)

    def with_remarks(self, check: MemberCheck, spec: ModelSpec, backend: Backend) -> MemberCheck:
        """Add what a member that has answered lets know of how it is run, and keep that."""
        return replace(check, remarks=_keep_remarks(self._key(spec, backend), backend))

    def with_passes(
        self,
        check: MemberCheck,
        spec: ModelSpec,
        backend: Backend,
        asked: Mapping[Request, Output],
        frames: Mapping[str, FrameArray],
    ) -> MemberCheck:
        """Compare answers of a loaded member with its class's own pass, and keep the result."""
        if not isinstance(backend, ExaminedBackend) or check.seen is None:
            return check
        passes = backend.compare(asked, frames, self.scoring)
        if passes is None:
            return check
        _keep(_passes_key(self._key(spec, backend)), asdict(passes))
        return replace(check, passes=passes)

    def _key(self, spec: ModelSpec, backend: Backend) -> str:
        settings = {k: v for k, v in asdict(spec).items() if k not in ("name", "role", "device")}
        content = {
            "version": VERSION,
            "fingerprint": backend.fingerprint,
            "adapter": backend.adapter,
            "libraries": dict(backend.libraries()),
            "settings": settings,
            "scoring": asdict(self.scoring),
            "prompts": [asdict(prompt) for prompt in self.prompts],
        }
        return sha256_json(content)


def does_not_load(error: ProbesError) -> str:
    """Return what is said of a member that cannot be opened or looked at."""
    more = "; ".join(one for one in (error.where, error.fix) if one)
    return f"it does not load: {error.what}" + (f" ({more})" if more else "")


def verdict(checks: Mapping[str, MemberCheck]) -> Comparability:
    """Return the verdict on the members of a run, by name."""
    return judged(list(checks.values()))


def say(found: Comparability) -> None:
    """Log what makes a run's numbers doubtful, and how many differences there are."""
    for fault in found.faults:
        _log.warning("doctor: %s", fault)
    if found.differences:
        count = len(found.differences)
        _log.info("doctor: %s: %d; `probes doctor` and the report name them", found.verdict, count)


def say_remarks(check: MemberCheck, before: Sequence[str] = ()) -> None:
    """Log what a user has to know of how a member is run, but for what was logged before."""
    for line in check.remarks:
        if line not in before:
            _log.info("%s: %s", check.name, line)


def say_passes(check: MemberCheck) -> None:
    """Log that a member's answers are not those of its class, if they are not."""
    if check.passes is not None and not check.passes.holds:
        _log.warning("doctor: %s: %s", check.name, passes_line(check))


def first_prompts(prompts: Mapping[str, Request]) -> dict[str, Request]:
    """Return those of the prompts, by key, that can be put to a class as it is."""
    plain = (
        (key, one)
        for key, one in prompts.items()
        if one.intervention is None and one.decoding is None
    )
    return dict(islice(plain, COMPARED))


def _errors(spec: ModelSpec, seen: Examination, scoring: ScoringSpec) -> Iterator[str]:
    if seen.thought and scoring.kind != "generate":
        ways = []  # in quotes, as a shell takes them
        if seen.switch:
            ways.append(f"set 'pair.{spec.role}.chat_template_kwargs={{{seen.switch}: false}}'")
        closing = seen.closing + r"\n\n"
        ways.append(f"close it with 'pair.{spec.role}.answer_prefix=\"{closing}\"'")
        ways.append("set scoring=generate")
        yield (
            f"its prompt ends in an opened thought ({seen.ending!r}): scoring={scoring.kind} would "
            f"score how the thought begins ({', or '.join(ways)})"
        )
    if seen.unscorable:
        yield f"no letter can be scored: {seen.unscorable} (set scoring=cloze or scoring=generate)"
    longest = max((len(one.ids) for one in seen.prompts), default=0)
    if longest > seen.context:
        yield f"a prompt of {longest} tokens is beyond its context of {seen.context}"


def _unseen(backend: str) -> str:
    if backend == "scripted":
        return "backend scripted has no model: no prompt, tokenizer or configuration to look at"
    return (
        f"backend {backend} shows no ids, letters, template or configuration: they are not looked"
        " at (run `probes doctor` with backend=hf on the same checkpoint)"
    )


def _files() -> CheckedFiles:
    return CheckedFiles(home() / "doctor")


def _keep(key: str, content: dict[str, Any]) -> None:
    # A finished plan runs where nothing can be written; one that asks is refused by the store.
    with contextlib.suppress(MachineError):
        _files().put(key, content)


def _kept(key: str) -> Examination | None:
    found = _files().get(key)
    if found is None:
        return None
    try:
        return examination_of(found)
    except UNSOUND:  # of another version that forgot to say so
        return None


def _keep_remarks(key: str, backend: Backend) -> tuple[str, ...]:
    """Keep what a backend says now besides what it has said before, and return all of it."""
    said = backend.remarks() if isinstance(backend, RemarkingBackend) else ()
    found = tuple(dict.fromkeys((*(_kept_remarks(key) or ()), *said)))
    _keep(_remarks_key(key), {"remarks": list(found)})
    return found


def _kept_remarks(key: str) -> tuple[str, ...] | None:
    found = _files().get(_remarks_key(key))
    return None if found is None else tuple(map(str, found.get("remarks", ())))


def _remarks_key(key: str) -> str:
    return sha256_json({"remarks": key})


def _passes_key(key: str) -> str:
    return sha256_json({"passes": key})


def _kept_passes(key: str) -> PassCheck | None:
    found = _files().get(_passes_key(key))
    try:
        return None if found is None else PassCheck(**found)
    except UNSOUND:
        return None
