"""What files show of a member: ids, pixels and letters, next to its class's own processor."""

from __future__ import annotations

import contextlib
import inspect
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from probes.core.errors import ProbesError
from probes.core.examination import Examination, OwnCheck, PassCheck, PromptCheck
from probes.core.hashing import sha256_json
from probes.core.text import flat
from probes.core.types import FramesByHash, ModelSpec, Output, Request, ScoringSpec
from probes.models.base import frames_of
from probes.models.hf.families.generic import GenericModel
from probes.models.hf.own_class import OwnClass, PlainPass, collapsed
from probes.models.hf.preprocessor import Preprocessor
from probes.models.hf.prompt_encoder import FRAME
from probes.models.hf.token_layout import letter_forms
from probes.models.thoughts import opened_thought, thinking_switch

TOLERANCES = {"float32": 1e-3, "float16": 0.02, "bfloat16": 0.15}
"""What rounding may make of an option's log-probability, by dtype: of 8 bits of mantissa, sums
over a few layers keep two digits."""
_SHOWN = 60  # characters of what the template writes behind a text
_NO_NUMBERS = ("processor_class", "_type", "_name_or_path", "return_tensors", "auto_map")
"""Ends of names of settings that decide on no number."""


class _PixelsTakenError(Exception):
    """Ends a family's way to a model once the pixels are there."""


class _PixelTaker:
    """Stands for a model, and takes what a family would feed to its vision tower."""

    def __init__(self) -> None:
        import torch

        self.device, self.dtype = torch.device("cpu"), torch.float32
        self.taken: Any = None

    def get_image_features(self, pixel_values: Any, *_: Any, **__: Any) -> None:
        """Keep the pixels."""
        self.taken = pixel_values
        raise _PixelsTakenError

    get_video_features = get_image_features


@dataclass(frozen=True)
class Examiner:
    """Looks at how a member's prompts are made, and compares with its class's own way.

    Args:
        reader: what makes the ids of prompts in a run.
        family: of the checkpoint.
        spec: the member.
    """

    reader: Preprocessor | GenericModel
    family: Any
    spec: ModelSpec

    @property
    def own(self) -> OwnClass:
        """The class's own way."""
        reader = self.reader
        bundle = reader.bundle if isinstance(reader, Preprocessor) else reader
        repeated = 1 if isinstance(reader, Preprocessor) else reader.repeated
        kwargs = dict(self.spec.chat_template_kwargs)
        return OwnClass(bundle.processor, reader.tokens, bundle.frame_as, repeated, kwargs)

    def examine(
        self,
        requests: Sequence[Request],
        frames: FramesByHash,
        scoring: ScoringSpec,
        config: Mapping[str, Any],
    ) -> Examination:
        """Return what processor and configuration show, without any weight.

        Args:
            requests: made prompts; the last one without frames.
            frames: their pixels by sha256.
            scoring: how they are answered.
            config: the model's, with its class's defaults.
        """
        own, tokens = self.own, self.reader.tokens
        texts = [self._rendered(one, scoring.answer_prefix) for one in requests]
        vocabulary = own.processor.tokenizer
        checks = []
        for ids, request in zip(tokens.encode(texts), requests, strict=True):
            pieces = ("<frame>" if one == FRAME else _piece(vocabulary, one) for one in ids)
            own_ids = self._ids(own, request, frames, scoring.answer_prefix)
            pixels = self._pixels(own, request, frames)
            checks.append(PromptCheck(tuple(ids), tuple(pieces), own_ids, pixels))
        body = tokens.body(requests[-1]).rstrip()
        ending = texts[-1].rpartition(body[-20:])[2] if body else texts[-1]
        thought = opened_thought(ending)
        letters, unscorable = self._letters(requests, scoring)
        template = getattr(own.processor, "chat_template", None) or vocabulary.chat_template
        return Examination(
            prompts=tuple(checks),
            moves_pictures=own.moves_pictures,
            ending=ending[-_SHOWN:],
            thought=thought.opening if thought else "",
            closing=thought.closing if thought else "",
            switch=thinking_switch(str(template)),
            letters=letters,
            unscorable=unscorable,
            context=self.reader.context,
            tokenizer=_tokenizer(vocabulary),
            config=_plain(config),
            processor=_plain(self._settings(own)),
        )

    def compare(
        self,
        model: Any,
        asked: Mapping[Request, Output],
        frames: FramesByHash,
        scoring: ScoringSpec,
    ) -> PassCheck:
        """Compare answers with plain forward passes of the loaded class.

        What cannot be computed is stated, not raised: the answers themselves need none of it.
        """
        own, most = self.own, TOLERANCES[self.spec.dtype]
        compared, others, largest, unseen = 0, 0, 0.0, ""
        for request, answer in asked.items():
            plain = self._plain_pass(own, model, request, frames, scoring.answer_prefix)
            if answer.status != "ok":
                plain = "an answer failed"
            if isinstance(plain, str):
                unseen = unseen or plain
                continue
            try:
                if scoring.kind == "generate":
                    first = plain.first_token(request, frames, scoring)
                    others += not answer.text.startswith(first)
                else:
                    found, given = plain.options(request, frames, scoring), answer.option_logprobs
                    off = max((abs(a - b) for a, b in zip(found, given, strict=True)), default=0)
                    # Options that rounding could exchange are no other choice.
                    at = max(range(len(found)), key=found.__getitem__)
                    others += max(given) - given[at] > 2 * most
                    largest = max(largest, off)
                compared += 1
            except Exception as error:  # classes of others
                unseen = unseen or f"{type(error).__name__}: {str(error)[:200]}"
        scored = scoring.kind == "letter" and [o for o in asked.values() if o.option_logprobs]
        masses = [sum(map(math.exp, one.option_logprobs)) for one in scored or ()]
        mass = sum(masses) / len(masses) if masses else None
        return PassCheck(compared, largest, most, others, mass, unseen)

    def _rendered(self, request: Request, answer_prefix: str) -> str:
        if isinstance(self.reader, Preprocessor):
            return self.reader.tokens.render(request, answer_prefix)
        return self.reader.render(request, answer_prefix)

    def _ids(
        self, own: OwnClass, request: Request, frames: FramesByHash, answer_prefix: str
    ) -> OwnCheck:
        """Compare the ids of a prompt, places of frames included where the class has this way."""
        try:
            text = own.text(request, answer_prefix)
            found = own.inputs(text, request, frames)["input_ids"][0].tolist()
        except Exception as error:  # templates and processors of others
            return _unseen(error)
        if isinstance(self.reader, GenericModel):
            return self._whole_ids(own, found, request, frames, answer_prefix)
        (mine,) = self.reader.tokens.encode([self._rendered(request, answer_prefix)])
        ours = collapsed(mine, own.token_ids | {FRAME})
        if ours != (theirs := collapsed(found, own.token_ids)):
            return OwnCheck("differs", _first_difference(own, ours, theirs))
        if frames_of(request) and self._foreign(own):
            return OwnCheck("equal", self._foreign(own))
        text_only = len(mine) - mine.count(FRAME)
        places = len(self._expanded(mine, FRAME, request, frames)) - text_only
        if places != (count := len(found) - text_only):
            return OwnCheck("differs", f"frames take {places} tokens, in its own class {count}")
        return OwnCheck("equal")

    def _whole_ids(
        self,
        own: OwnClass,
        found: list[int],
        request: Request,
        frames: FramesByHash,
        answer_prefix: str,
    ) -> OwnCheck:
        """Compare ids that the class's processor made of a run's text, and of its own way's."""
        assert isinstance(self.reader, GenericModel)
        text = self._rendered(request, answer_prefix)
        mine = self.reader.inputs(text, request, frames)["input_ids"][0].tolist()
        if mine == found:
            return OwnCheck("equal")
        return OwnCheck("differs", _first_difference(own, mine, found))

    def _expanded(
        self, ids: Sequence[int], token: int, request: Request, frames: FramesByHash
    ) -> list[int]:
        """Return ids with as many of a token in the place of every frame as it takes."""
        assert isinstance(self.reader, Preprocessor)
        names = frames_of(request)
        grids = self.reader.grids.of(names, frames).found
        each = iter([math.prod(grids[name]) for name in names])
        return [one for id_ in ids for one in ([token] * next(each) if id_ == FRAME else [id_])]

    def _foreign(self, own: OwnClass) -> str:
        """Return that frames come in a way that the class does not have; empty where it has it."""
        if not isinstance(self.reader, Preprocessor):
            return ""
        way = self.reader.bundle.frame_as
        return "" if own.way == way else f"its own class shows no {way}s"

    def _pixels(self, own: OwnClass, request: Request, frames: FramesByHash) -> OwnCheck:
        """Compare what a family feeds to the vision tower with what the class's processor gives."""
        if not frames_of(request):
            return OwnCheck("equal")
        if isinstance(self.reader, GenericModel):
            return self._whole_pixels(own, request, frames)
        if foreign := self._foreign(own):
            return OwnCheck("unseen", foreign)
        try:
            inputs = own.inputs(own.text(request), request, frames)
            key = "pixel_values_videos" if "pixel_values_videos" in inputs else "pixel_values"
            theirs = inputs[key].float().reshape(-1)
            taken = self._taken(request, frames)
        except Exception as error:  # processors and families of others
            return _unseen(error)
        if taken is None:
            return OwnCheck("unseen", f"family {self.family.name} does not show them")
        ours = taken.float().reshape(-1)
        if ours.shape != theirs.shape:
            return OwnCheck("differs", f"{len(ours):,} values, in its own class {len(theirs):,}")
        off = float((ours - theirs).abs().max())
        return OwnCheck("differs", f"by up to {off:.3g}") if off else OwnCheck("equal")

    def _whole_pixels(self, own: OwnClass, request: Request, frames: FramesByHash) -> OwnCheck:
        """Compare all but ids of what a run gives to the class with what its own way gives."""
        assert isinstance(self.reader, GenericModel)
        try:
            theirs = own.inputs(own.text(request), request, frames)
            mine = self.reader.inputs(self._rendered(request, ""), request, frames)
        except Exception as error:  # processors and templates of others
            return _unseen(error)
        for name in sorted({*mine, *theirs} - {"input_ids", "attention_mask"}):
            one, other = mine.get(name), theirs.get(name)
            if not hasattr(one, "shape") or not hasattr(other, "shape"):
                continue
            if one.shape != other.shape or bool((one != other).any()):
                return OwnCheck("differs", f"{name} are others")
        return OwnCheck("equal")

    def _taken(self, request: Request, frames: FramesByHash) -> Any:
        """Return the pixels that a family feeds to a model; None where it goes another way."""
        assert isinstance(self.reader, Preprocessor)
        taker = _PixelTaker()
        shown = [np.array(frames[name]) for name in frames_of(request)]
        with contextlib.suppress(_PixelsTakenError):
            self.family.encode_frames(taker, self.reader.bundle, shown)
        return taker.taken

    def _plain_pass(
        self,
        own: OwnClass,
        model: Any,
        request: Request,
        frames: FramesByHash,
        answer_prefix: str,
    ) -> PlainPass | str:
        """Return what answers a prompt plainly; or why the class alone cannot be asked it."""
        if not isinstance(self.reader, Preprocessor) or not frames_of(request):
            return PlainPass(own.tokens, model, own.text, own.inputs)
        if foreign := self._foreign(own):
            if "pixel_values_videos" not in inspect.signature(model.forward).parameters:
                return foreign
            # Of the class that it runs in, as LLaVA-NeXT in LLaVA-NeXT-Video's.
            inputs = partial(self._video_inputs, model)
            return PlainPass(own.tokens, model, self._rendered, inputs)
        ids = self._ids(own, request, frames, answer_prefix)
        if ids.state != "equal":
            return f"its own class makes another prompt: {ids.detail}"
        return PlainPass(own.tokens, model, own.text, own.inputs)

    def _video_inputs(self, model: Any, text: str, request: Request, frames: FramesByHash) -> Any:
        """Return inputs with frames as videos that its own processor does not make."""
        import torch
        from transformers import BatchFeature

        (ids,) = self.reader.tokens.encode([text])
        ids = self._expanded(ids, int(model.config.video_token_id), request, frames)
        pixels = self._taken(request, frames)
        content = {"input_ids": torch.tensor([ids]), "pixel_values_videos": pixels}
        return BatchFeature(content | {"attention_mask": torch.ones_like(content["input_ids"])})

    def _letters(
        self, requests: Sequence[Request], scoring: ScoringSpec
    ) -> tuple[dict[str, tuple[tuple[int, str], ...]], str]:
        if scoring.kind != "letter":
            return {}, ""
        try:
            options = [one for request in requests for one in request.options]
            forms = letter_forms(self.reader.tokens, options)
        except ProbesError as error:
            return {}, error.what
        vocabulary = self.own.processor.tokenizer
        return {
            letter: tuple((int(one), _piece(vocabulary, one)) for one in found)
            for letter, found in forms.items()
        }, ""

    def _settings(self, own: OwnClass) -> dict[str, Any]:
        """Return the settings of the part of a processor that prepares frames."""
        part: Any = getattr(own.processor, f"{own.way}_processor", None)
        settings = flat(part.to_dict()) if hasattr(part, "to_dict") else {}
        return {k: v for k, v in settings.items() if not k.endswith(_NO_NUMBERS)}


def _unseen(error: Exception) -> OwnCheck:
    return OwnCheck("unseen", f"{type(error).__name__}: {str(error)[:200]}")


def _piece(tokenizer: Any, token: int) -> str:
    return str(tokenizer.convert_ids_to_tokens(int(token)))


def _first_difference(own: OwnClass, ours: Sequence[int], theirs: Sequence[int]) -> str:
    pairs = zip([*ours, None], [*theirs, None], strict=False)
    at = next(at for at, (one, other) in enumerate(pairs) if one != other)

    def shown(ids: Sequence[int]) -> str:
        if at >= len(ids):
            return "no more"
        token = ids[at]
        return (
            "a frame" if token == FRAME else f"{token} {_piece(own.processor.tokenizer, token)!r}"
        )

    return f"token {at} is {shown(ours)}, in its own class {shown(theirs)}"


def _tokenizer(tokenizer: Any) -> dict[str, Any]:
    added = {str(at): str(one) for at, one in sorted(tokenizer.added_tokens_decoder.items())}
    base = {text: at for text, at in tokenizer.get_vocab().items() if str(at) not in added}
    return {
        "class": type(tokenizer).__name__,
        "size": len(tokenizer),
        "vocabulary": sha256_json(sorted(base.items())),
        "added": added,
        "start": _piece(tokenizer, tokenizer.bos_token_id) if tokenizer.bos_token else "",
        "end": str(tokenizer.eos_token or ""),
        "pad": str(tokenizer.pad_token or ""),
    }


def _plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings as JSON has them, so that a stored examination equals a new one."""
    found: dict[str, Any] = json.loads(json.dumps(dict(settings), default=str))
    return found
