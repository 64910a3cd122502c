"""What is settled of a pair's members together: how they receive frames, and what is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tiny_models

from probes.core.types import ModelSpec
from probes.models.members import remarks, settled, ways


def spec(repo: Path | str, role: Any = "image", **more: Any) -> ModelSpec:
    return ModelSpec(f"m-{role}", role, str(repo), **({"frame_as": "auto"} | more))


@pytest.fixture(scope="module")
def llava(tmp_path_factory) -> Path:
    return tiny_models.llava(tmp_path_factory.mktemp("llava") / "member")


def test_a_pair_is_shown_videos_where_both_members_take_them(
    settings, image_checkpoint, video_checkpoint, llava
):
    both = [spec(image_checkpoint), spec(video_checkpoint, "video")]
    assert [one.frame_as for one in settled(settings(), both)] == ["video", "video"]
    mixed = [spec(llava), spec(video_checkpoint, "video")]
    assert [one.frame_as for one in settled(settings(), mixed)] == ["image", "image"]
    assert ways(settings(), spec(llava)) == ("image",)
    assert settled(settings(name="server"), both)[0].frame_as == "image"
    named = [spec(video_checkpoint, frame_as="video")]
    assert settled(settings(), named) == tuple(named)


def test_what_is_told_of_a_pair(settings, image_checkpoint, video_checkpoint, llava):
    for members, expected in (
        ([spec(video_checkpoint)], ["frames are shown as video: all members take it"]),
        ([spec(llava)], ["frames are shown as image: not all members take videos"]),
        (
            [spec(llava, frame_as="image"), spec(llava, "video", frame_as="image")],
            ["members have the same weights"],
        ),
        (
            [spec(image_checkpoint, frame_as="video"), spec(video_checkpoint, frame_as="video")],
            ["members are of different classes (LlavaNextForConditionalGeneration, LlavaNextVideo"],
        ),
    ):
        lines = remarks(settings(), settled(settings(), members), members)
        assert len(lines) == len(expected)
        for line, start in zip(lines, expected, strict=True):
            assert line.startswith(start)


def test_a_member_that_is_missing_is_said_when_it_is_opened(settings, video_checkpoint, tmp_path):
    members = [spec(tmp_path / "none"), spec(video_checkpoint, "video")]
    assert [one.frame_as for one in settled(settings(), members)] == ["video", "video"]
