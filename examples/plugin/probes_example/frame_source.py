"""A frame source: the second half of the clip is hidden."""

from probes.core.types import FrameRef
from probes.stimuli.frame_sources import FrameSource


def first_half(item, arm, clip, donor_clip):
    """Return the pictures of the first half, rounded up; the places of the others stay empty."""
    shown = (len(clip.hashes) + 1) // 2
    return [FrameRef(sha) if t < shown else None for t, sha in enumerate(clip.hashes)]


FIRST_HALF = FrameSource(first_half, "the first half of the frames, the others hidden")
