"""Small pictures of frames: how they are made to fit a budget."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from browser_runs import PaintedFrames
from PIL import Image

from probes.core.hashing import array_sha256
from probes.report import frame_images


def noise(folder: Path, count: int) -> list[tuple[str, Path]]:
    """Frames that no codec makes small."""
    folder.mkdir()
    store = PaintedFrames(folder)
    rng = np.random.default_rng(0)
    frames = []
    for _ in range(count):
        picture = rng.integers(0, 256, (160, 200, 3), np.uint8)
        sha = array_sha256(picture)
        Image.fromarray(picture).save(store.path(sha))
        frames.append((sha, store.path(sha)))
    return frames


def test_pictures_shrink_step_by_step_until_they_fit(tmp_path: Path) -> None:
    frames = noise(tmp_path / "frames", 12)
    seen = []
    for budget in (10**7, 200_000, 100_000, 60_000, 30_000, 12_000):
        made = frame_images.make(frames, budget)
        assert made.size <= budget
        assert (made.height, made.quality) in frame_images.QUALITIES
        seen.append(frame_images.QUALITIES.index((made.height, made.quality)))
        whole = made.height == frame_images.QUALITIES[-1][0] or not made.missing
        assert whole
    assert seen == sorted(seen) and len(set(seen)) > 3
    none = frame_images.make(frames, 4_000)
    assert 0 < sum(map(bool, none.webp)) < 12
    assert set(none.missing) == {place for place, one in enumerate(none.webp) if not one}
    assert set(none.missing.values()) == {"left out to keep this page small"}
    assert min(none.missing) == sum(map(bool, none.webp))  # the last ones go first
