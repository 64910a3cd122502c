"""A member's shown name follows the weights that answer, however they were given."""

from __future__ import annotations

from pathlib import Path

import pytest

from probes.config import labels
from probes.config.compose import compose
from probes.core.errors import ProbesError


def names(*arguments: str) -> dict[str, str]:
    return {str(one.role): one.name for one in compose(arguments).pair.members}


def test_a_preset_names_its_own_weights_alone() -> None:
    assert names() == {"image": "tiny-image", "video": "tiny-video"}
    control = names("pair=tiny", "pair.video.repo=embedded:control")
    assert control == {"image": "tiny-image", "video": "control"}
    assert names("pair=llava_next_7b", "++pair.image.repo=org/Name-7B")["image"] == "Name-7B"
    assert names("pair=tiny", "pair.video.repo=/models/mine/")["video"] == "mine"
    assert names("experiment=ci", "pair.video.repo=a/b")["video"] == "b"


def test_a_name_that_is_given_too_is_shown() -> None:
    given = ["pair=tiny", "pair.video.repo=embedded:control", "pair.video.name=mine"]
    assert names(*given)["video"] == "mine"
    assert names("pair=tiny", "pair.video.name=mine")["video"] == "mine"


def test_an_adapter_is_seen_in_the_name() -> None:
    assert names("pair=tiny", "pair.video.adapter=me/lora-1")["video"] == "video+lora-1"


def test_one_repository_needs_a_pair() -> None:
    with pytest.raises(ProbesError, match="one repository is named") as caught:
        compose(["pair.video.repo=a/b"])
    assert caught.value.where == "pair.video.repo"
    assert "pair=tiny" in caught.value.fix


def test_weights_that_are_given_as_a_mapping_are_seen_too() -> None:
    assert names("pair=tiny", "pair.video={repo: 'embedded:control'}")["video"] == "control"
    named = names("pair=tiny", "pair.video={repo: 'embedded:control', name: mine}")
    assert named["video"] == "mine"
    with pytest.raises(ProbesError, match="one repository is named"):
        compose(["pair.video={repo: a/b}"])
    both = compose(["pair.image={repo: a/b}", "pair.video={repo: c/d}"]).pair
    assert (both.name, [one.name for one in both.members]) == ("own", ["b", "d"])


def test_files_of_a_user_that_give_weights_without_a_name(tmp_path: Path) -> None:
    for group in ("pair", "experiment"):
        (tmp_path / group).mkdir()
    (tmp_path / "pair" / "mine.yaml").write_text(
        "defaults: [tiny, _self_]\nname: mine\nvideo: {repo: 'embedded:control'}\n"
    )
    (tmp_path / "experiment" / "mine.yaml").write_text(
        "# @package _global_\ndefaults: [{override /pair: tiny}]\n"
        "pair: {image: {repo: 'embedded:control'}}\n"
    )
    folder = ["--config-dir", str(tmp_path)]
    assert names(*folder, "pair=mine") == {"image": "tiny-image", "video": "control"}
    assert names(*folder, "experiment=mine") == {"image": "control", "video": "tiny-video"}
    assert names(*folder, "pair=mine", "pair.video.name=x")["video"] == "x"


def test_every_pair_of_the_package_names_what_it_loads() -> None:
    for pair, members in labels.presets().items():
        if pair != "own":
            assert all(name and name != "None" for name, _ in members.values()), pair
    assert labels.is_control("embedded:control")
    assert not labels.is_control("embedded:video")
