"""The types that every part of the project speaks: frozen, slotted, without behaviour."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from probes.core.replies import THINKING

Role = Literal["image", "video", "control"]
ROLES: tuple[Role, ...] = get_args(Role)
"""In the order in which members are shown."""
ContrastName = Literal["gain", "drop", "transfer", "did", "against", "control"]
ALL_CONTRASTS: tuple[ContrastName, ...] = get_args(ContrastName)
CONTRASTS: tuple[ContrastName, ...] = ALL_CONTRASTS[:4]
"""Those of the study; `against` sets an arm against others than its reference, and `control` the
control against the video member."""
Scoring = Literal["letter", "cloze", "generate"]
SCORINGS: tuple[Scoring, ...] = get_args(Scoring)
Status = Literal["ok", "unparsed", "error"]
FrameAs = Literal["video", "image", "auto"]
Dtype = Literal["float32", "bfloat16", "float16"]
InfillSource = Literal["none", "own", "donor", "filler"]
Presentation = Literal["interleaved", "frames_then_text", "grid"]
Layout = Literal["sequence", "matrix"]
InfillStatus = Literal["ok", "empty", "failed", "not_applicable"]
"""`empty`: the reply was empty, and the gap stays bare; `failed`: a step failed, and a
later run may write it; `not_applicable`: no text belongs there."""
EMPTY_REPLY = "the reply is empty"
"""How the error of an infill ends whose writer replied with nothing; its step comes first."""
EMPTY_REPLIES = tuple(
    f"{step}: {what}"
    for step in ("common", "event", "condense")
    for what in (EMPTY_REPLY, THINKING)
)
"""The errors of infills whose writer replied with nothing."""
FrameArray = NDArray[np.uint8]
"""Pixels of one frame: uint8 RGB [height, width, 3]."""
FramesByHash = Mapping[str, FrameArray]
"""Pixels by the sha256 of a frame."""


@dataclass(frozen=True, slots=True)
class Video:
    """A video file."""

    path: Path
    """Absolute path of the file."""


@dataclass(frozen=True, slots=True)
class Panels:
    """Pictures in the place of a clip (i-RAVEN's context panels) and, if any, pictorial options."""

    path: Path
    """Absolute path of the file that holds the pictures; a task's reader knows its format."""
    count: int
    """Number of context pictures; they are shown as that many frames."""
    options: int = 0
    """Number of pictorial options, which follow the context pictures in the file."""
    row: int = 0
    """Context pictures in a row: there is no infill across the end of one; 0 = all in one row."""


Media = Video | Panels


class ItemKey(NamedTuple):
    """Which item: ids are unique within a task only, so nothing is looked up by an id alone."""

    task: str
    id: str

    def clip(self, frames: int) -> ClipKey:
        """Return the key of the item's clip at a number of frames."""
        return ClipKey(self.task, self.id, frames)


class ClipKey(NamedTuple):
    """Which clip: an item at a number of frames."""

    task: str
    item_id: str
    frames: int

    @property
    def item(self) -> ItemKey:
        """Whose clip it is."""
        return ItemKey(self.task, self.item_id)


@dataclass(frozen=True, slots=True)
class Item:
    """One multiple-choice question about one clip or one set of panels."""

    id: str
    """Unique within the task."""
    task: str
    """Name of the task."""
    question: str
    """The question's text, without options."""
    options: tuple[str, ...]
    """Texts of the options, in the order of the letters A, B, ..."""
    answer: int | None
    """Index of the right option; None where it is withheld."""
    media: Media
    """What the question is about."""
    stratum: str = ""
    """Question type or configuration."""
    cluster: str = ""
    """Source recording: items of one cluster are not independent."""
    meta: tuple[tuple[str, str], ...] = ()
    """Further facts of the item, as sorted pairs; shown in reports, never to a model."""

    @property
    def key(self) -> ItemKey:
        """What identifies the item among those of several tasks."""
        return ItemKey(self.task, self.id)


@dataclass(frozen=True, slots=True)
class Clip:
    """The ordered frames sampled from one item's media; pixels are fetched by hash, on demand."""

    indices: tuple[int, ...]
    """Frame numbers within the media."""
    times_s: tuple[float, ...]
    """Presentation times in seconds."""
    hashes: tuple[str, ...]
    """sha256 (hex) of every frame: of its uint8 RGB bytes [height, width, 3] and its shape."""
    options: tuple[str, ...] = ()
    """sha256 of the pictorial options, where the item has such."""
    breaks: tuple[int, ...] = ()
    """Gaps that never have an infill: the ends of rows of panels; gap t follows frame t."""


@dataclass(frozen=True, slots=True)
class Infill:
    """The text placed between frame t and t+1: what may have happened between them."""

    text: str
    """What is between the frames."""
    common: str
    """Step 1: visual attributes common to both frames."""
    event: str
    """Step 2: the bridging event, before condensing."""
    generator: str
    """Fingerprint of model, prompts and condenser."""
    status: InfillStatus = "ok"
    error: str = ""
    """Why there is no text, where the status is `empty` or `failed`."""

    @property
    def ok(self) -> bool:
        """Whether there is a text."""
        return self.status == "ok"


NO_INFILL = Infill(text="", common="", event="", generator="", status="not_applicable")
"""What is in a break between two rows of panels."""


Param = str | int | float | bool | None | tuple["Param", ...]
Params = tuple[tuple[str, Param], ...]
"""Parameters as sorted pairs of name and value; `probes.core.params.frozen` makes them."""


@dataclass(frozen=True, slots=True)
class Intervention:
    """A change of the forward pass, or a readout of it: an entry of the registry of interventions.

    Part of a cache key only where there is one.
    """

    name: str
    params: Params = ()
    version: str = ""
    """Of the entry's code: raised whenever it would give other answers."""


@dataclass(frozen=True, slots=True)
class Decoding:
    """How text is written, where not greedily: an entry of the registry of controllers.

    Part of a cache key only where there is one.
    """

    name: str
    params: Params = ()
    version: str = ""
    """Of the entry's code: raised whenever it would give other answers."""


@dataclass(frozen=True, slots=True)
class Arm:
    """One experimental condition: how an item becomes a stimulus."""

    name: str
    """Name in the suite, records and tables."""
    frames: str = "own"
    """Whose frames are shown, and in which order: an entry of the registry of frame sources."""
    infills: InfillSource = "none"
    """Which text is between them."""
    presentation: Presentation = "interleaved"
    """How frames and text are laid out."""
    reference: str = ""
    """Name of the arm that this one is compared with; empty for a reference arm."""
    seed: int = 0
    """Seed of every random choice of the arm (donors, permutations)."""
    intervention: Intervention | None = None
    """What is changed inside the model, or read from inside it."""
    decoding: Decoding | None = None
    """How replies are written under `generate`; None = greedily."""


@dataclass(frozen=True, slots=True)
class FrameRef:
    """A picture within a prompt."""

    sha256: str
    """sha256 of the frame, by which its pixels are looked up."""


Part = FrameRef | str
"""One part of a stimulus: a picture, or text taken to the letter (white space included)."""


class TextSpan(NamedTuple):
    """Where something stands within the parts of a stimulus.

    A name that goes over several parts has a span in each. Nothing stands at two spans, but options
    are within `options`; an empty text has no span. The names, where T and K count from 0:

    - `frame T`: the picture in slot T, whichever frame of the clip it is.
    - `frames`: a picture composed of frames; under layout `matrix` the options are on it too.
    - `infill T`: the text after slot T itself, without the template's words around it.
    - `question`: the question's own text.
    - `options`: the listed options with their letters, or a picture composed of them alone.
    - `option K`: the option that is listed as number K, which under rotation is not the item's K;
      its text, its picture, or its letter where the pictures of all are one.
    """

    name: str
    part: int
    """Which part."""
    start: int = 0
    end: int = 0
    """Half-open range of characters within the part; 0, 0 for a picture."""


@dataclass(frozen=True, slots=True)
class Stimulus:
    """Exactly what a model is shown for (item, arm), before any chat template."""

    item_id: str
    arm: str
    parts: tuple[Part, ...]
    """Frames and text in order; the question (and the listed options, if any) come last."""
    options: tuple[str, ...]
    """What is scored: letters for `letter` and `generate`, option texts for `cloze`."""
    sha: str
    """sha256 over parts and options; covers pixels (by frame hash) and text."""
    donor_id: str | None = None
    """Id of the item that frames or infills were borrowed from."""
    spans: tuple[TextSpan, ...] = field(default=(), compare=False)
    """What stands where; no part of `sha`, as it follows from item, arm and prompts."""


@dataclass(frozen=True, slots=True)
class Request:
    """What a backend receives: no item, no arm, no answer."""

    parts: tuple[Part, ...]
    options: tuple[str, ...] = ()
    """Continuations to score; empty when text is to be generated freely."""
    intervention: Intervention | None = None
    decoding: Decoding | None = None
    spans: tuple[TextSpan, ...] = field(default=(), compare=False)
    """What stands where; part of the cache key only with an intervention or a decoding."""


@dataclass(frozen=True, slots=True)
class ScoringSpec:
    """How a prompt becomes an output; part of every store key."""

    kind: Scoring
    max_new_tokens: int = 0
    """For `generate` only."""
    answer_prefix: str = ""
    """Text forced after the generation prompt, before the scored option (e.g. "The answer is")."""


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """One member: which weights, loaded how."""

    name: str
    role: Role
    repo: str
    """Local folder, hub name, or `embedded:NAME` for a checkpoint that ships with the project."""
    revision: str | None = None
    family: str = "auto"
    """Model family, or `auto`: chosen by the checkpoint's config."""
    dtype: str = "float32"
    attention: str = "sdpa"
    frame_as: FrameAs = "video"
    """How one frame is received: as a one-frame video or by the native image path; `auto` is
    replaced before a backend is opened (`models.frame_as`)."""
    device: str = "auto"
    trust_remote_code: bool = False
    adapter: str = ""
    """Local folder or hub name of an adapter of peft that is loaded onto the weights, or empty."""
    chat_template_kwargs: Params = ()
    """Further variables of the chat template, e.g. `enable_thinking`."""
    answer_prefix: str | None = None
    """Text forced before this member's answers; None = the pair's."""
    min_pixels: int | None = field(default=None, metadata={"at_least": 1})
    """Fewest pixels to which its processor brings a picture; None = the checkpoint's own."""
    max_pixels: int | None = field(default=None, metadata={"at_least": 1})
    """Most pixels, likewise."""

    @property
    def pixel_bounds(self) -> dict[str, int]:
        """The bounds of a picture's size that are set, by name."""
        both = {"min_pixels": self.min_pixels, "max_pixels": self.max_pixels}
        return {name: value for name, value in both.items() if value is not None}


class ArrayName(NamedTuple):
    """What an array of an output holds."""

    name: str
    """E.g. `attention`."""
    layer: int | None = None
    """Which decoder layer, from 0; None where it is of none or of all."""
    span: str = ""
    """Which span, e.g. `frame 3`; empty where it is of none or of all."""


@dataclass(frozen=True, slots=True)
class Origin:
    """What computed an answer, as far as it may move the answer's last digits or more."""

    libraries: tuple[tuple[str, str], ...] = ()
    """(name, major.minor), sorted; part of the cache key, unlike the other fields."""
    device: str = ""
    """Its kind, e.g. `cpu avx2` or `cuda NVIDIA H100 80GB HBM3`."""
    dtype: str = ""
    kernels: str = ""
    """Attention kernels and the like, e.g. `sdpa`."""


@dataclass(frozen=True, slots=True)
class Output:
    """What a backend returns for one request."""

    option_logprobs: tuple[float, ...] = ()
    """Raw sums of token log-probabilities (nats), one per option; for `letter` one token each."""
    option_tokens: tuple[int, ...] = ()
    """Number of tokens behind each sum."""
    text: str = ""
    """Generated text (`generate`), with the thought before the answer if there is one."""
    input_tokens: int = 0
    output_tokens: int = 0
    seconds: float = 0.0
    """Wall time of the batch divided by its size."""
    status: Status = "ok"
    """`ok` or `error`; `unparsed` is decided by scoring, not by a backend."""
    error: str = ""
    extras: Mapping[str, float] = field(default_factory=dict, hash=False)
    """Further numbers of the answer by name, e.g. of a readout; NaN is one of them."""
    arrays: Mapping[ArrayName, NDArray[np.generic]] = field(default_factory=dict, compare=False)
    """Arrays of the answer (float16, float32, float64, int32, int64, uint8 or bool)."""
    origin: Origin | None = None
    """What computed it; the output cache adds it to what a backend returns."""
    cut_off: bool = False
    """Whether the text ends where its longest length does, and not where the model ended it."""
