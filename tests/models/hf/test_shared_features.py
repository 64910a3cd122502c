"""Features of a prompt's frames are those of each frame alone, put together as the class does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from check_classes import FAMILIES, FILE, compared
from hub_layouts.build import build
from hub_layouts.published import NotFetchedError
from transformers.modeling_outputs import BaseModelOutputWithPooling

from probes.models.hf.shared_features import FeatureMethods, compose, learn, made_of, pixel_sums


def parts(*sizes: int) -> list[Any]:
    draw = torch.Generator().manual_seed(0)
    return [torch.randn(size, 3, generator=draw) for size in sizes]


def test_every_structure_is_put_together_again():
    a, b, c = parts(2, 4, 2)
    for joint, single in (
        (torch.cat([a, b, c]), [a, b, c]),
        (torch.cat([a, b, c])[None], [a[None], b[None], c[None]]),
        ((a, b, c), [(a,), (b,), (c,)]),
        ([(a, b), (b, a)], [[(a,), (b,)], [(b,), (a,)]]),
    ):
        made = compose(learn(joint, single, 1e-6), single)
        assert all(map(torch.equal, flat(made), flat(joint)))
    pooled = [BaseModelOutputWithPooling(pooler_output=one, last_hidden_state=a) for one in (a, b)]
    joint = BaseModelOutputWithPooling(pooler_output=torch.cat([a, b]), last_hidden_state=a)
    made = compose(learn(joint, pooled, 1e-6), pooled)
    assert torch.equal(made.pooler_output, joint.pooler_output)
    assert torch.equal(made.last_hidden_state, a)


def flat(value: Any) -> list[Any]:
    return [value] if hasattr(value, "shape") else [one for part in value for one in flat(part)]


def test_features_that_depend_on_other_frames_are_not_put_together():
    a, b, _ = parts(2, 4, 2)
    for joint in (torch.cat([a, b + 1e-3]), torch.cat([a, a]), [a], "text"):
        with pytest.raises(ValueError, match="frame"):
            learn(joint, [a, b] if hasattr(joint, "shape") else [[a], [b]], 1e-4)


class Encoder:
    """A class of which one method calls the other."""

    def __init__(self) -> None:
        self.calls = 0

    def get_image_features(self, pixels: int) -> int:
        self.calls += 1
        return 2 * pixels

    def get_video_features(self, pixels: int) -> int:
        return self.get_image_features(pixels) + 1

    def __call__(self, pixels: int) -> int:
        return self.get_video_features(pixels) * 10


def test_a_pass_takes_what_is_served_and_computes_the_rest():
    model = Encoder()
    methods = FeatureMethods(model)
    assert methods.computed({"pixels": 4}) == 9
    assert model(4) == 90
    with methods.serving(7):
        assert model(4) == 70
    assert (model(4), model.calls) == (90, 3)
    with pytest.raises(ValueError, match="has no get_image_features"):
        FeatureMethods(object())


def test_pixels_of_a_prompt_are_those_of_its_frames_or_not():
    a, b = ({"pixel_values": one} for one in parts(2, 4))
    both = pixel_sums({"pixel_values": torch.cat([a["pixel_values"], b["pixel_values"]])})
    assert made_of(both, [pixel_sums(a), pixel_sums(b)])
    assert not made_of(both, [pixel_sums(a), pixel_sums(a)])


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hub")


@pytest.mark.parametrize(("name", "way"), [("qwen3_vl", "video"), ("video_llama_3", "image")])
def test_the_file_says_what_the_comparison_finds(name: str, way: str, hub: Path) -> None:
    folder = build(name, hub)
    found = compared(folder, "fallback", way)
    assert found is not None
    assert (found["wrong"], found["once"], found["batches"]) == ([], True, True)
    ways = json.loads(FILE.read_text())["classes"][f"fallback:{found['class']}"]
    known = ways[way][folder.name]
    known.pop("published", None)  # where the template is from, not what was found
    assert known == {key: found[key] for key in known}


@pytest.mark.slow
@pytest.mark.parametrize("way", ["video", "image"])
@pytest.mark.parametrize("name", [n for n, ways in FAMILIES.items() if "fallback" in ways])
def test_every_class_of_the_table_equals_transformers(name: str, way: str, hub: Path) -> None:
    try:
        folder = build(name, hub)
    except NotFetchedError as error:
        pytest.skip(str(error))
    found = compared(folder, "fallback", way)
    assert found is None or found["wrong"] == []
