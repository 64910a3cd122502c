"""A model family: LLaVA-NeXT-Video that sees no colours. Chosen by `pair.family=NAME`."""

from probes.models.hf.families.llava_next import LlavaNextVideo


class GreyFrames(LlavaNextVideo):
    """Three of the four methods are those of the class; frames are made grey before the fourth."""

    name = "grey_llava_next_video"
    model_types = ()  # no config.json chooses it by itself
    architectures = ()

    def encode_frames(self, model, bundle, frames):
        """Encode frames without their colours."""
        grey = [frame.mean(-1, keepdims=True).astype("uint8").repeat(3, -1) for frame in frames]
        return super().encode_frames(model, bundle, grey)
