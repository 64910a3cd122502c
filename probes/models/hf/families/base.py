"""What the backend needs to know of a class that encodes frames separately from the text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from probes.core.errors import ProbesError
from probes.core.types import FrameArray, FrameAs, ModelSpec, Params
from probes.models.checkpoint import Checkpoint
from probes.models.hf.prompt_encoder import PromptTokens
from probes.models.hf.token_layout import TokenGrid

if TYPE_CHECKING:
    import torch

PIXEL_SETTINGS = """size crop_size resample image_mean image_std rescale_factor do_resize
do_center_crop do_rescale do_normalize do_convert_rgb""".split()
"""Settings of CLIP's image processors that all of them share."""


@dataclass(frozen=True, slots=True)
class ProcessorBundle:
    """Everything that turns prompts into token ids; no weights are needed for it."""

    processor: Any
    placeholder: str
    """The special token that stands for a frame's features in a text."""
    frame_as: FrameAs
    grid: Callable[[int, int], TokenGrid]
    """(height, width) of a frame in pixels -> how many tokens it takes."""
    before: str = ""
    """What the class writes before a frame's placeholder."""
    after: str = ""
    """What it writes behind it."""

    @property
    def tokenizer(self) -> Any:
        """The processor's."""
        return self.processor.tokenizer

    def tokens(self, variables: Params = ()) -> PromptTokens:
        """Return what tokenizes prompts with this processor.

        Args:
            variables: further variables of the chat template (`chat_template_kwargs`).

        Raises:
            ProbesError: the template does not read one of them.
        """
        token = getattr(self.processor, f"{self.frame_as}_token", None) or self.placeholder
        return PromptTokens(
            self.tokenizer,
            self.placeholder,
            self.processor,
            before=self.before,
            after=self.after,
            picture=(self.frame_as, str(token)),
            variables=variables,
        )


@dataclass(frozen=True, slots=True)
class DevicePlacement:
    """On which device a model is, and how its weights are kept there."""

    device: str = "auto"
    """`auto`, `cpu`, `cuda`, `cuda:1`, ..."""
    device_map: str | dict[str, Any] | None = None
    """How accelerate spreads the model over devices; None puts all of it on `device`."""
    quantize: str = ""
    """`4bit`, `8bit`, or empty: not quantised."""


class Family(Protocol):
    """A transformers class, and how frames reach it: what a contributor writes.

    A class with these four attributes and four methods, made without arguments, and an entry point
    of the group `probes.families` under its `name`. `families.loading` has what most of them share:
    `load_processor`, `load_weights`, and `OneClass`, whose `load` serves a family of one class.
    It may have an attribute `also`: further model types that it reads where it is named.
    """

    name: str
    """Part of the fingerprint, and so of cache keys."""
    model_types: tuple[str, ...]
    """Values of `config.json`'s `model_type` that this family is chosen for."""
    architectures: tuple[str, ...]
    """Values of `architectures`, for a config without a known `model_type`."""
    paths: tuple[FrameAs, ...]
    """The ways in which the class can receive a frame."""

    def facts(self, checkpoint: Checkpoint, frame_as: FrameAs) -> dict[str, Any]:
        """Return what the checkpoint's files say about how frames become tokens.

        At least `class`, `context` (positions), `tokens_per_frame` (None where it depends on the
        frame) and `patches_per_token`; the two members of a pair are compared by all of them.
        """

    def prepare(self, checkpoint: Checkpoint, spec: ModelSpec) -> ProcessorBundle:
        """Load processor and tokenizer.

        Raises:
            ProbesError: they are missing or of another class.
        """

    def load(
        self,
        checkpoint: Checkpoint,
        spec: ModelSpec,
        bundle: ProcessorBundle,
        placement: DevicePlacement,
    ) -> Any:
        """Load the model, in eval mode.

        Of the model are used: `get_input_embeddings()`, `model(inputs_embeds=, attention_mask=,
        position_ids=, past_key_values=, use_cache=)`, which gives `last_hidden_state`, `lm_head`,
        `config.get_text_config()`, `generation_config.eos_token_id`, `device` and `dtype`; and for
        interventions `get_decoder().layers`, which get their mask as `attention_mask=`.

        Raises:
            ProbesError: the weights do not load, or parameters of the class are missing.
        """

    def encode_frames(
        self, model: Any, bundle: ProcessorBundle, frames: Sequence[FrameArray]
    ) -> list[torch.Tensor]:
        """Return one tensor [tokens, hidden] per frame, to be put among text embeddings.

        Args:
            model: from `load`.
            bundle: from `prepare`.
            frames: uint8 [height, width, 3] RGB, all of one size.
        """


def video_pixels(processor: Any, frames: Sequence[FrameArray]) -> torch.Tensor:
    """Have a video processor prepare frames, each as a video of its own.

    The result is bit for bit that of one call per frame, in a quarter of the time: 20 ms instead of
    75 for 32 frames of 854 x 480 on one core. By itself the processor splits a frame into planes of
    colour, copies those of all frames into one block, and shrinks that; the same kernel shrinks
    pixels in their original layout faster.

    Args:
        processor: a video processor of transformers.
        frames: uint8 [height, width, 3] RGB, all of one size.

    Returns:
        `pixel_values_videos`: [frames, 1, 3, height, width].
    """
    import torch
    from transformers.video_processing_utils import BaseVideoProcessor

    named: dict[str, Any] = {"do_sample_frames": False, "return_tensors": "pt"}
    pixels: torch.Tensor
    if type(processor)._preprocess is not BaseVideoProcessor._preprocess:
        # Steps of its own may depend on how many frames a video has.
        pixels = processor(videos=[frame[None] for frame in frames], **named)["pixel_values_videos"]
        return pixels
    block = torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2)
    pixels = processor(videos=[block], input_data_format="channels_first", **named)[
        "pixel_values_videos"
    ]
    # One video of many frames becomes many videos of one.
    return pixels[0][:, None]


def is_token(tokenizer: Any, text: str) -> bool:
    """Return whether a text is one token of the vocabulary."""
    return text in tokenizer.get_vocab()


def frame_token(processor: Any, name: str, folder: str) -> tuple[str, int]:
    """Return the special token that a processor calls `<name>_token`, and its id.

    Args:
        processor: with its tokenizer.
        name: `image` or `video`.
        folder: for the message.

    Raises:
        ProbesError: the processor names none, or the tokenizer does not have it.
    """
    token = getattr(processor, f"{name}_token", None)
    if not token or not is_token(processor.tokenizer, token):
        raise ProbesError(
            f"the tokenizer has no token for a frame ({token or f'<{name}>'})",
            folder,
            "use the checkpoint's own tokenizer and processor files",
        )
    return str(token), processor.tokenizer.convert_tokens_to_ids(token)


def counted(
    token: int, prepare: Callable[[FrameArray], Any], frames: int = 1
) -> Callable[[int, int], TokenGrid]:
    """Return a function that counts a frame's tokens by having the processor prepare a blank one.

    Only the processor knows what tiles and paddings add up to; one frame of a size is enough, as no
    step depends on the pixels.

    Args:
        token: id that is counted.
        prepare: calls the processor for a frame, with a text that shows it.
        frames: how many times that text shows it.
    """

    def grid(height: int, width: int) -> TokenGrid:
        ids = prepare(np.zeros((height, width, 3), np.uint8))["input_ids"][0]
        return (list(ids).count(token) // frames,)

    return grid
