"""What every backend offers, and what several of them share."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

from probes.core.errors import ProbesError
from probes.core.examination import Examination, PassCheck
from probes.core.types import (
    SCORINGS,
    Decoding,
    FrameRef,
    FramesByHash,
    Intervention,
    ModelSpec,
    Origin,
    Output,
    Request,
    Scoring,
    ScoringSpec,
)

NOT_NUMBERS = "the model's logits are not numbers (NaN)"
"""The error of a prompt whose answer cannot be computed."""
Need = Literal["mask", "layers", "grad"]
"""What the hook of an intervention needs: the attention mask, the decoder layers, gradients."""
NEEDS: frozenset[Need] = frozenset({"mask", "layers", "grad"})


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a backend can do with one checkpoint; known before anything is loaded."""

    scorings: tuple[Scoring, ...] = SCORINGS
    needs: frozenset[Need] = frozenset()
    """What the hook of an intervention may need here."""
    interventions: bool = False
    """Whether there can be any intervention."""
    decoding: bool = False
    """Whether a controller can choose the next token."""
    sampling: bool = False
    """Whether text can be drawn by temperature, top_p and seed where no controller can choose."""
    reason: str = ""
    """Why it can do no more, for messages; e.g. that attention=flash_attention_2 takes no mask."""
    unscored: str = ""
    """Why it does not have the other kinds of scoring, for messages."""
    answer_prefix: bool = True
    """Whether an answer can be made to begin with a given text."""
    adapters: bool = False
    """Whether an adapter can be loaded onto the member's weights."""
    chat_template_kwargs: bool = False
    """Whether the member's chat template can be given further variables."""
    pixel_bounds: bool = False
    """Whether bounds of a picture's size can be set for the member's processor."""


@dataclass(frozen=True, slots=True)
class Unaskable:
    """A prompt that cannot be put to this model."""

    reason: str


@dataclass(frozen=True, slots=True)
class PromptSize:
    """How long a prompt is for one member."""

    tokens: int
    """Of the prompt, its frames included: what an output calls `input_tokens`."""
    answers: tuple[int, ...] = ()
    """Of every continuation that is scored."""


@dataclass(frozen=True, slots=True)
class Planning:
    """What a plan needs to know of a member; nothing of it loads weights."""

    sizes: Callable[
        [Sequence[Request], FramesByHash, ScoringSpec],
        Iterator[tuple[int, PromptSize | Unaskable]],
    ]
    """Yields (index, size) of every request."""
    shown: Callable[[Request, str], str]
    """(request, answer prefix) -> the text that is tokenized, `<frame SHA8>` for every frame."""
    tokens: Callable[[str], int]
    """Number of tokens of a text by itself."""
    shapes: Callable[[], Mapping[str, tuple[int, ...]]]
    """Shape of every weight by name."""
    features: Callable[[Iterable[str], FramesByHash], int] | None = None
    """(sha256 of frames, pixels) -> the tokens that they take together; None where frames are not
    encoded by themselves."""
    batch_tokens: Mapping[str, int] = field(default_factory=dict)
    """Most tokens of a pass by kind of device (`cpu`, `cuda`); none where a pass has one prompt."""


class BackendSettings(Protocol):
    """What a backend reads of the configuration: part of `probes.config.settings.BackendConfig`."""

    @property
    def name(self) -> str:
        """An entry of `probes.models.registry.BACKENDS`."""

    @property
    def batch_size(self) -> int:
        """Most prompts in one forward pass; a backend may take fewer."""

    @property
    def feature_cache_mb(self) -> int:
        """Bound of the cache of vision features, in MiB."""

    @property
    def device(self) -> str:
        """`auto`, `cpu`, `cuda`, `cuda:1`, ...; `auto` leaves it to the model's spec."""

    @property
    def options(self) -> Mapping[str, Any]:
        """Further settings of the named backend."""


class Backend(Protocol):
    """One member, ready to answer prompts."""

    @property
    def fingerprint(self) -> str:
        """What answers depend on: weights, config, processor files, dtype, attention, frame_as."""

    @property
    def adapter(self) -> str:
        """Version of the adapter's behaviour; part of store keys, as the fingerprint is."""

    def libraries(self) -> Mapping[str, str]:
        """Return the libraries that compute its answers, as major.minor by name.

        Part of store keys. Known without importing them; empty where answers depend on none.
        """

    def origin(self) -> Origin:
        """Return what computes its answers; device and kernels once the model is loaded."""

    def capabilities(self) -> Capabilities:
        """Return what it can do; nothing is loaded for it."""

    def describe(self) -> dict[str, Any]:
        """Return the facts of model and processor, read from files without loading the model."""

    def planning(self) -> Planning | None:
        """Return what a plan needs; None where it is not known without a model."""

    def counters(self) -> dict[str, int]:
        """Return what was done so far, e.g. how many frames were encoded."""

    def score(
        self, requests: Sequence[Request], frames: FramesByHash, scoring: ScoringSpec, /
    ) -> Iterator[tuple[int, Output]]:
        """Answer requests, batch by batch.

        Args:
            requests: in any order; results do not depend on it.
            frames: sha256 -> uint8 [height, width, 3] RGB; a frame is looked up when it is needed.
            scoring: `letter` and `cloze` score `request.options`; `generate` writes text.

        Yields:
            (index into `requests`, output), in any order, as batches finish. A request that fails
            gives an output with status `error` and does not end the others.

        Raises:
            ProbesError: the model cannot be loaded or cannot do this kind of scoring at all.
        """

    def close(self) -> None:
        """Free the model; a later `score` loads it again."""


@runtime_checkable
class ExaminedBackend(Backend, Protocol):
    """A backend that shows how it treats prompts: what `probes doctor` looks at.

    It is asked for by its methods; a backend without them is one of which nothing is seen.
    """

    def examine(
        self, requests: Sequence[Request], frames: FramesByHash, scoring: ScoringSpec, /
    ) -> Examination:
        """Return what files show of how prompts become ids and pixels; no weights are loaded.

        Args:
            requests: made prompts; the last one without frames.
            frames: their pixels by sha256.
            scoring: how they are answered.

        Raises:
            ProbesError: processor or configuration do not load.
        """

    def compare(
        self, asked: Mapping[Request, Output], frames: FramesByHash, scoring: ScoringSpec, /
    ) -> PassCheck | None:
        """Compare answers with plain forward passes of the class; None where none is loaded."""


@runtime_checkable
class CountsTokens(Protocol):
    """A backend that counts tokens as its model reads them, without the model's weights."""

    def count_tokens(self, text: str) -> int:
        """Return the number of tokens of a text by itself, with a start token if it gets one.

        Raises:
            ProbesError: there is no tokenizer that can be loaded.
        """


@runtime_checkable
class RemarkingBackend(Protocol):
    """A backend that says what a user has to know of how its member is run."""

    def remarks(self) -> tuple[str, ...]:
        """Return a line each; more of them may be known once a model has answered.

        Raises:
            ProbesError: processor or configuration do not load.
        """


@runtime_checkable
class ChecksFiles(Protocol):
    """A backend that can tell from files alone whether its model will load."""

    def check_files(self, *, thorough: bool) -> None:
        """Raise unless configuration, processor, tokenizer, template and weights fit together.

        No weight is read. What passed is remembered by content.

        Args:
            thorough: all of it, for which libraries are loaded; else what takes a moment.

        Raises:
            ProbesError: what is missing or does not fit.
        """


def check_options(backend: str, given: Iterable[str], known: Collection[str]) -> None:
    """Raise unless every given option is one that the backend has."""
    for name in given:
        if name not in known:
            raise ProbesError(
                f"backend {backend} has no option {name!r}",
                "backend.options",
                f"its options are {', '.join(known)}",
            )


def check_images(spec: ModelSpec, who: str) -> None:
    """Raise unless frames are shown as images: `who` receives no videos."""
    if spec.frame_as != "image":
        raise ProbesError(
            f"{who} receives frames as images, not as {spec.frame_as}",
            "pair.frame_as",
            "set pair.frame_as=image (and compare with backend=hf under the same setting)",
        )


def refuse_adapter(spec: ModelSpec, backend: str) -> ProbesError:
    """Return the refusal of a member with an adapter by a backend that cannot load one."""
    return ProbesError(
        f"backend {backend} cannot load an adapter",
        f"pair.{spec.role}.adapter",
        "use backend=hf, or merge it into the weights by peft's `merge_and_unload` and name the"
        " merged folder as the member's repo",
    )


def refuse_variables(spec: ModelSpec, backend: str) -> ProbesError:
    """Return the refusal of variables for a chat template by a backend that takes none."""
    return ProbesError(
        f"backend {backend} gives the chat template no further variables",
        f"pair.{spec.role}.chat_template_kwargs",
        "leave them out, or use backend=hf or backend=server",
    )


def refuse_pixel_bounds(spec: ModelSpec, backend: str) -> ProbesError:
    """Return the refusal of bounds of a picture's size by a backend that resizes nothing."""
    fix = "leave it out, or use backend=hf"
    if backend == "server":
        fix = (
            "leave it out, and start the server with it (vLLM: --mm-processor-kwargs"
            " '{\"max_pixels\": N}'; then set backend.options.deployment anew)"
        )
    return ProbesError(
        f"backend {backend} does not bring pictures to a size, so it can bound none",
        f"pair.{spec.role}.{next(iter(spec.pixel_bounds))}",
        fix,
    )


def check_answer_prefix(can: Capabilities, backend: str, scoring: ScoringSpec) -> None:
    """Raise ProbesError unless a backend can make an answer begin as it should."""
    if scoring.answer_prefix and not can.answer_prefix:
        raise ProbesError(
            f"backend {backend} cannot make an answer begin with a given text",
            "pair.answer_prefix",
            'set pair.answer_prefix="" (or that of the member), or use backend=hf',
        )


def check_capabilities(
    can: Capabilities,
    backend: str,
    scoring: Scoring,
    interventions: Collection[Intervention],
    decodings: Collection[Decoding],
) -> None:
    """Raise ProbesError unless a backend can do what is wanted of it."""
    if scoring not in can.scorings:
        raise ProbesError(
            f"backend {backend} cannot score by {scoring}: {can.unscored}",
            "scoring",
            f"set {' or '.join(f'scoring={one}' for one in can.scorings)}, or use backend=hf",
        )
    from probes.models.interventions import INTERVENTIONS  # it reads this module's types

    reason = f": {can.reason}" if can.reason else ""
    for one in interventions:
        lacking = sorted(INTERVENTIONS.get(one.name, "suite.arms").needs - can.needs)
        if lacking or not can.interventions:
            needs = f", which needs {' and '.join(lacking)}" if lacking else ""
            raise ProbesError(
                f"backend {backend} cannot apply intervention {one.name!r}{needs}{reason}",
                "suite.arms",
                "use backend=hf with pair.attention=sdpa or eager and a checkpoint of one of its "
                "families, or leave the arm out",
            )
    for chosen in () if can.decoding else decodings:
        if can.sampling and chosen.name == "sample":
            continue
        raise ProbesError(
            f"backend {backend} cannot write by {chosen.name!r}, only greedily{reason}",
            "suite.arms",
            "use backend=hf with a checkpoint of one of its families, or leave the arm out",
        )


def check_requests(
    can: Capabilities, backend: str, requests: Sequence[Request], scoring: ScoringSpec
) -> None:
    """Raise ProbesError unless a backend can answer requests this way; the answer prefix too."""
    check_answer_prefix(can, backend, scoring)
    from probes.models.controllers import controller_of  # they read this module's types
    from probes.models.interventions import hook_of

    # By name: thousands of requests share a few.
    interventions = {o.intervention.name: o.intervention for o in requests if o.intervention}
    decodings = {one.decoding.name: one.decoding for one in requests if one.decoding}
    check_capabilities(can, backend, scoring.kind, interventions.values(), decodings.values())
    for one in requests:
        if one.intervention is not None:
            hook_of(one.intervention)
        if one.decoding is not None:
            controller_of(one.decoding)


def frames_of(request: Request) -> tuple[str, ...]:
    """Return the sha256 of a request's frames, in order."""
    return tuple(part.sha256 for part in request.parts if isinstance(part, FrameRef))


def error_output(error: str, input_tokens: int = 0) -> Output:
    """Return the output of a prompt that failed."""
    return Output(status="error", error=error, input_tokens=input_tokens)
