"""Any other image-text-to-text class of transformers, run by its own processor and forward pass.

Nothing is known of such a class beforehand: how its chat template and its processor place frames
is found out from both when they are loaded, and refused where frames would not stay in place.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from probes.core.types import FrameAs, ModelSpec
from probes.models.checkpoint import Checkpoint
from probes.models.hf.families.base import DevicePlacement
from probes.models.hf.families.generic_prompts import GenericModel
from probes.models.hf.families.loading import (
    context_of,
    load_processor,
    load_weights,
    loading,
    own_config,
)

__all__ = ["GenericFamily", "GenericModel"]


READING_PARTS = {
    "qwen2_5_omni": "qwen2_5_omni_thinker",
    "qwen3_omni_moe": "qwen3_omni_moe_thinker",
}
"""By model_type of a model that hears and speaks: that of its part which reads and writes text."""


class GenericFamily:
    """Whatever `AutoModelForImageTextToText` loads and has no family of its own.

    Of a model that hears and speaks, the part that reads and writes text is loaded.
    """

    name = "fallback"
    model_types: tuple[str, ...] = ()
    architectures: tuple[str, ...] = ()
    paths: tuple[FrameAs, ...] = ("video", "image")
    """What some class of it takes; see `paths_of`."""

    def knows(self, model_type: str, architectures: Sequence[str]) -> bool:
        """Return whether transformers has an image-text-to-text class for a config."""
        from transformers.models.auto.modeling_auto import (
            MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES as CLASSES,
        )

        if model_type in READING_PARTS:  # whose architectures are those of the whole
            return True
        # A layout of other authors may have the same model_type.
        return model_type in CLASSES and (not architectures or CLASSES[model_type] in architectures)

    def paths_of(self, model_type: str) -> tuple[FrameAs, ...]:
        """Return how a class may receive a frame, by the parts that its processor has."""
        import transformers
        from transformers.models.auto.processing_auto import PROCESSOR_MAPPING_NAMES as PROCESSORS

        # The part has no entry of its own: its processor is that of the whole.
        whole = next((one for one, part in READING_PARTS.items() if part == model_type), model_type)
        kind = getattr(transformers, PROCESSORS.get(whole) or "", None)
        if kind is not None and "video_processor" in kind.get_attributes():
            return ("video", "image")
        return ("image",)

    def facts(self, checkpoint: Checkpoint, frame_as: FrameAs) -> dict[str, Any]:
        """Return the few facts that files of all classes have."""
        from transformers.models.auto.modeling_auto import (
            MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES as CLASSES,
        )

        config, kind = checkpoint.config, (checkpoint.architectures or ("",))[0]
        if (part := READING_PARTS.get(str(config.get("model_type")))) is not None:
            config, kind = config.get("thinker_config") or {}, CLASSES[part]
        return {
            "class": kind,
            "tokens_per_frame": None,
            "patches_per_token": None,
            # Known once its passes were compared, when weights are loaded.
            "perceive_once": None,
            "context": (config.get("text_config") or config).get("max_position_embeddings"),
        }

    def prepare(self, checkpoint: Checkpoint, spec: ModelSpec) -> GenericModel:
        """Load the processor.

        Raises:
            ProbesError: it, or its chat template, does not leave frames in their places.
        """
        processor = load_processor(checkpoint, spec)
        context = context_of(checkpoint, spec)
        return GenericModel.of(
            processor, spec.frame_as, context, str(checkpoint.folder), spec.chat_template_kwargs
        )

    def load(self, checkpoint: Checkpoint, spec: ModelSpec, placement: DevicePlacement) -> Any:
        """Load the model."""
        from transformers import AutoModelForImageTextToText

        config = None
        if checkpoint.config.get("model_type") in READING_PARTS:
            with loading(checkpoint.folder):
                config = own_config(checkpoint, spec).thinker_config
        return load_weights(AutoModelForImageTextToText, config, checkpoint, spec, placement)
