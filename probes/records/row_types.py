"""The row types of a run folder's tables: what every column holds.

To add a column, add a field here, behind the others and with a default (so that older run folders
are still read), and fill it where the rows are made (`probes/engine/answering.py`,
`probes/engine/export.py`); everything else follows (`probes.records.schema`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from probes.core.types import EMPTY_REPLIES, InfillStatus, Role, Scoring, Status

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, slots=True)
class Column:
    """What a column holds."""

    meaning: str
    """In the words of docs/records.md."""
    of_older: Callable[[pa.Table], list[Any]] | None = None
    """Makes the column of a table that was written before there was one; else the field's default
    is used for every row."""
    follows: tuple[tuple[str, ...], Callable[..., pa.Array]] | None = None
    """Names of columns, and what makes this one of them whenever a table is read: what the file
    has is not looked at."""


def _correct(choice: pa.ChunkedArray, answer: pa.ChunkedArray) -> pa.Array:
    """Return whether choices are right: null where the answer is withheld."""
    import pyarrow as pa
    import pyarrow.compute as pc

    right = pc.fill_null(pc.equal(choice, answer), False)
    return pc.if_else(pc.is_null(answer), pa.scalar(None, pa.bool_()), right)


@dataclass(frozen=True, slots=True)
class Record:
    """One answer of one member to one trial: a row of records.parquet."""

    key: Annotated[
        str,
        Column(
            "sha256 of prompt, model, scoring, adapter and the versions of libraries that computed "
            "the answer: equal keys are one computation; empty where nothing could be asked"
        ),
    ]
    task: Annotated[str, Column("name of the task")]
    item_id: Annotated[str, Column("the item; ids are unique within a task")]
    cluster: Annotated[
        str, Column("recording that the item comes from; items that share one are not independent")
    ]
    stratum: Annotated[str, Column("kind of item, e.g. i-RAVEN's configuration; may be empty")]
    pair: Annotated[str, Column("name of the pair")]
    role: Annotated[Role, Column("`image`, `video` or `control`")]
    member: Annotated[str, Column("the member's name")]
    arm: Annotated[str, Column("the condition")]
    frames: Annotated[int, Column("frames per clip")]
    scoring: Annotated[Scoring, Column("`letter`, `cloze` or `generate`")]
    seed: Annotated[int, Column("the run's seed")]
    donor_id: Annotated[str | None, Column("item that a perturbation borrowed from, if any")]
    status: Annotated[
        Status,
        Column(
            "`ok`, `unparsed` (a reply that names no option, is cut off or all thinking) or `error`"
        ),
    ]
    choice: Annotated[
        int | None, Column("index of the chosen option; null where unparsed or failed")
    ]
    answer: Annotated[int | None, Column("index of the right option; null where it is withheld")]
    correct: Annotated[
        bool | None,
        Column(
            "whether the two agree; false where unparsed or failed, null where the answer is "
            "withheld. Made from the two again whenever the table is read",
            follows=(("choice", "answer"), _correct),
        ),
    ]
    option_logprobs: Annotated[
        tuple[float, ...],
        Column(
            "per option: sum of its tokens' log-probabilities (nats); under `letter` the log of "
            "the summed probability of the tokens that the letter can be written as"
        ),
    ]
    option_tokens: Annotated[
        tuple[int, ...],
        Column(
            "per option: number of tokens behind that sum; `cloze` chooses by their ratio; 0 where "
            "a server did not list the letter, and the log-probability is only a bound"
        ),
    ]
    text: Annotated[
        str,
        Column(
            "the reply under `generate`, with the thought before the answer if there is one",
        ),
    ]
    error: Annotated[str, Column("what went wrong")]
    input_tokens: Annotated[int, Column("tokens read")]
    output_tokens: Annotated[int, Column("tokens written")]
    seconds: Annotated[float, Column("wall time of the batch divided by its size")]
    stimulus_sha: Annotated[
        str,
        Column(
            "sha256 of everything that was shown, pixels and text: equal for both members of a "
            "pair but where each wrote its own infills, or filler has the length of its own tokens"
        ),
    ]
    rotation: Annotated[
        int,
        Column(
            "places by which the listed options were rotated to the left (`option_rotation`); "
            "`choice`, `option_logprobs` and `option_tokens` are in the item's own order"
        ),
    ] = 0
    extras: Annotated[
        Mapping[str, float], Column("further numbers of the answer by name, e.g. of a readout")
    ] = dataclasses.field(default_factory=dict, hash=False)
    donor_task: Annotated[
        str | None, Column("the donor's task; null where that is the record's own, or no donor is")
    ] = None
    origin: Annotated[
        str,
        Column(
            "what computed the answer: major.minor of libraries; device; dtype; kernels. Empty "
            "where nothing was computed, and in older folders"
        ),
    ] = ""
    letter_mass: Annotated[
        float | None,
        Column(
            "probability that the member puts on the options' letters altogether; null where it "
            "was not scored by letter, and in older runs"
        ),
    ] = None
    tied: Annotated[
        bool,
        Column(
            "whether several options had exactly the best score: a draw keyed by seed, item and "
            "stimulus decided; false in older runs"
        ),
    ] = False
    infill_draw: Annotated[
        int,
        Column(
            "which of the texts of every gap was shown (`infill_draws`): 0 was written greedily, "
            "the others were sampled; 0 where no text was"
        ),
    ] = 0
    donor_draw: Annotated[
        int, Column("which of the item's donors it is, from 0 (`donor_draws`); 0 in older runs")
    ] = 0
    fillers: Annotated[
        tuple[str, ...],
        Column(
            "neutral text in each gap, as long as the infill by the member's own tokens (by words "
            "where its backend counts none); empty under arms without, and in older runs"
        ),
    ] = ()


@dataclass(frozen=True, slots=True)
class ItemRow:
    """One item that was shown: a row of items.parquet or donors.parquet."""

    id: Annotated[str, Column("unique within the task")]
    task: Annotated[str, Column("name of the task")]
    question: Annotated[str, Column("the question, without options")]
    options: Annotated[tuple[str, ...], Column("its options, in order")]
    answer: Annotated[int | None, Column("index of the right option; null where it is withheld")]
    stratum: Annotated[str, Column("as in the records")]
    cluster: Annotated[str, Column("as in the records")]
    media_path: Annotated[str, Column("the file below the task's folder")]
    media_sha256: Annotated[str | None, Column("its hash; null where it cannot be read")]
    frame_hashes: Annotated[
        Mapping[str, tuple[str, ...]],
        Column("frame count -> sha256 of each frame, in order: names of files in `frames/`"),
    ]
    option_hashes: Annotated[tuple[str, ...], Column("sha256 of options that are pictures")]
    breaks: Annotated[
        tuple[int, ...], Column("gaps that never have an infill (ends of rows of panels)")
    ]
    meta: Annotated[Mapping[str, str], Column("further facts of the item")]
    place: Annotated[
        int | None, Column("which of the task's items it is, from 0; null in older folders")
    ] = None


def _older_status(table: pa.Table) -> list[Any]:
    """Return the states of infills of a table that has only `ok` and `error`."""

    def status(ok: bool, text: str, error: str) -> InfillStatus:
        if ok:
            return "ok" if text else "not_applicable"
        return "empty" if not error or error in EMPTY_REPLIES else "failed"

    return list(map(status, *(table.column(name).to_pylist() for name in ("ok", "text", "error"))))


@dataclass(frozen=True, slots=True)
class InfillRow:
    """One text between two neighbouring frames: a row of infills.parquet."""

    role: Annotated[
        str, Column("who was shown it: `shared` for both members, or the member that wrote its own")
    ]
    frames: Annotated[int, Column("frames per clip")]
    item_id: Annotated[str, Column("the item whose clip it belongs to")]
    gap: Annotated[int, Column("which gap; 0 is between the first two frames")]
    frame_a: Annotated[str, Column("sha256 of the frame before it")]
    frame_b: Annotated[str, Column("sha256 of the frame behind it")]
    text: Annotated[str, Column("the text in the gap")]
    common: Annotated[str, Column("step 1: what both frames have in common")]
    event: Annotated[str, Column("step 2: what happened between them, before condensing")]
    generator: Annotated[str, Column("fingerprint of the writing model and its prompts")]
    ok: Annotated[bool, Column("whether there is a text")]
    error: Annotated[str, Column("why there is none")]
    leaks: Annotated[tuple[int, ...], Column("options whose whole text is in it")]
    status: Annotated[
        InfillStatus,
        Column(
            "`ok`, `empty` (an empty reply: the gap is bare) or `failed` (records that need it are "
            "errors)",
            of_older=_older_status,
        ),
    ] = "ok"
    # Empty in older folders, whose other tables say it: `probes.records.infills` reads them.
    task: Annotated[str, Column("name of the item's task")] = ""
    draw: Annotated[
        int,
        Column("which text of its gap: 0 was written greedily, the others were sampled"),
    ] = 0


@dataclass(frozen=True, slots=True)
class ArtifactRow:
    """One array of an answer: a row of artifacts.parquet."""

    key: Annotated[str, Column("as in the records; answers of one key share their arrays")]
    name: Annotated[str, Column("what it holds")]
    layer: Annotated[int | None, Column("of which decoder layer, from 0; null where of none")]
    span: Annotated[str, Column("of which span, e.g. `frame 3`; may be empty")]
    shape: Annotated[tuple[int, ...], Column("its shape")]
    dtype: Annotated[str, Column("its element type, as NumPy names it")]
    shard: Annotated[str, Column("the file in `artifacts/` that it is in (safetensors)")]
    tensor: Annotated[str, Column("its name in that file")]
    sha256: Annotated[str, Column("sha256 of its shape, as text, and its bytes")]
