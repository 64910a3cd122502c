"""What a user has to know of how a checkpoint is run here, one line each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from probes.core.text import listed
from probes.core.types import ModelSpec
from probes.models.checkpoint import Checkpoint
from probes.models.hf.families import processors
from probes.models.hf.families.generic import GenericModel
from probes.models.hf.generic_proof import Proven
from probes.models.hf.preprocessor import Preprocessor

_LAYOUTS = {
    "none": "it has no chat template: its prompts are bare text, without the turns that a chat"
    " model was trained with (a template goes into chat_template.jinja of the checkpoint's folder)",
    "moved": "its chat template moves pictures before texts: a prompt goes in as one text with the"
    " pictures in their places, the same way under every arm",
    "trimmed": "its chat template drops the white space around texts: the text between frames comes"
    " out trimmed",
    "numbered": "its chat template numbers pictures, which its prompts then do",
    "one text": "its chat template takes one text alone: pictures are written into it",
}
"""By what a template does with parts; one that keeps them needs no remark."""


def of_files(
    checkpoint: Checkpoint, spec: ModelSpec, reader: Preprocessor | GenericModel
) -> Iterator[str]:
    """Yield what files and settings show.

    Args:
        checkpoint: of the member.
        spec: the member.
        reader: its processor, ready for prompts.
    """
    source = reader if isinstance(reader, GenericModel) else reader.bundle
    processor: Any = source.processor
    if isinstance(reader, GenericModel):
        yield (
            "its class has no family here: it is run by its own processor and forward pass, without"
            " interventions and controllers of decoding"
        )
    if spec.trust_remote_code:
        at = f"commit {checkpoint.commit}" if checkpoint.commit else "its folder, by content"
        code = listed(sorted(checkpoint.code()), 5)
        yield (
            f"its own code is run: {code} ({at})"
            if code
            else "it has no code of its own: trust_remote_code changes nothing"
        )
    if checkpoint.adapter is not None:
        yield f"an adapter is loaded onto its weights: {checkpoint.adapter.repo}"
    if reason := processors.assembled_because(processor):
        yield (
            "its processor does not load by itself and was put together from the parts of its"
            f" class, as `probes doctor` compares: {reason}"
        )
    if (layout := reader.tokens.layout) in _LAYOUTS:
        yield _LAYOUTS[layout]
    if reader.tokens.chat.writes_date:
        yield (
            "its chat template writes the day of asking into every prompt, and stored answers are"
            " those of another day: give the date by chat_template_kwargs, by the template's name"
        )
    if isinstance(reader, GenericModel) and not reader.places.as_parts and layout != "moved":
        yield "the token of a frame is written into the text of its message"
    if isinstance(reader, GenericModel) and reader.repeated > 1:
        yield "its class takes no video of one frame: a frame is shown as a video of itself twice"
    if spec.pixel_bounds:
        shown = " and ".join(f"{name}={value}" for name, value in spec.pixel_bounds.items())
        yield f"its pictures are resized within bounds that are not the checkpoint's own: {shown}"


def of_passes(proven: Proven) -> Iterator[str]:
    """Yield what comparing passes of a loaded class came to."""
    if proven.whole:
        yield f"its frames are encoded with every prompt, not once: {proven.whole}"
    if proven.alone:
        yield f"its prompts are run one by one: {proven.alone}"
