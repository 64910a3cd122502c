"""The verdict on a pair follows from what is known of its members."""

from __future__ import annotations

from dataclasses import replace

import pytest

from probes.analysis.comparability import judged
from probes.core.examination import Examination, MemberCheck, OwnCheck, PassCheck, PromptCheck

EQUAL = OwnCheck("equal")
PROMPT = PromptCheck((1, -1, 7), ("<s>", "<frame>", "seven"), EQUAL, EQUAL)
SEEN = Examination(
    prompts=(PROMPT,),
    moves_pictures=False,
    ending="assistant:",
    thought="",
    closing="",
    switch="",
    letters={"A": ((5, "A"),)},
    unscorable="",
    context=100,
    tokenizer={"vocabulary": "v", "size": 9, "added": {"8": "<image>"}, "start": "<s>", "end": ""},
    config={"text_config.rms_norm_eps": 1e-5, "text_config.use_cache": True, "side": 1},
    processor={"size.height": 336},
)
FACTS = {"dtype": "float32", "family": "f", "fingerprint": "1", "repo": "a", "pooling": "2x2"}
IMAGE = MemberCheck("image", FACTS, SEEN)
VIDEO = MemberCheck("video", FACTS | {"fingerprint": "2", "repo": "b"}, SEEN)


def test_equal_members_are_comparable_whatever_they_are_called() -> None:
    found = judged([IMAGE, VIDEO])
    assert (found.verdict, found.differences, found.faults) == ("comparable", (), ())


BOUNDED = {"size.shortest_edge": 3136, "size.longest_edge": 12845056}


@pytest.mark.parametrize(
    ("mine", "theirs"),
    [
        ({}, {"max_pixels": 784}),
        ({"min_pixels": 4, "max_pixels": 784}, {"min_pixels": 4, "max_pixels": 900}),
    ],
)
def test_other_bounds_of_pixels_are_other_tokens(
    mine: dict[str, int], theirs: dict[str, int]
) -> None:
    """By what the processor came to, where it was seen; of other classes it is no line."""
    names = {"min_pixels": "size.shortest_edge", "max_pixels": "size.longest_edge"}

    def seen(given: dict[str, int]) -> Examination:
        return replace(SEEN, processor=BOUNDED | {names[k]: v for k, v in given.items()})

    one = replace(IMAGE, facts=IMAGE.facts | mine, seen=seen(mine))
    other = replace(VIDEO, facts=VIDEO.facts | theirs, seen=seen(theirs))
    (only,) = judged([one, other]).differences
    assert only.startswith("pixel bounds differ: min_pixels ")
    assert only.endswith("in video: not the same tokens for the same frames")
    assert f"max_pixels {theirs['max_pixels']} in video" in only
    same = replace(other, facts=VIDEO.facts | mine, seen=seen(mine))
    assert judged([one, same]).differences == ()
    foreign = replace(other, facts=other.facts | {"class": "B"}, seen=None)
    lines = judged([replace(IMAGE, facts=IMAGE.facts | {"class": "A"}), foreign]).differences
    assert not [text for text in lines if "pixel" in text]


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"config": SEEN.config | {"text_config.rms_norm_eps": 1e-6}}, "rms_norm_eps: 1e-05 in"),
        ({"config": SEEN.config | {"text_config.rope_parameters.factor": 2.5}}, "factor: unset in"),
        ({"processor": {"size.height": 224}}, "processor size.height: 336 in image, 224 in video"),
        ({"moves_pictures": True}, "only video's chat template moves pictures"),
        ({"letters": {"A": ((6, " A"),)}}, "scored letters: 5 'A' in image, 6 ' A' in video"),
        (
            {"tokenizer": SEEN.tokenizer | {"added": {"8": "<video>"}}},
            "token 8 is '<image>' in image, '<video>' in video",
        ),
        (
            {"prompts": (replace(PROMPT, ids=(1, -1, 4), pieces=("<s>", "<frame>", "four")),)},
            "token 2 is 'seven' in image, 'four' in video",
        ),
    ],
)
def test_every_difference_is_a_line(changes: dict[str, object], line: str) -> None:
    other = replace(VIDEO, seen=replace(SEEN, **changes))
    found = judged([IMAGE, other])
    assert found.verdict == "comparable with these differences"
    (only,) = found.differences
    assert line in only


def test_what_changes_no_number_is_no_difference() -> None:
    config = SEEN.config | {"text_config.use_cache": False, "spatial_pool_stride": 2}
    assert judged([IMAGE, replace(VIDEO, seen=replace(SEEN, config=config))]).differences == ()


def test_how_members_are_run_is_compared() -> None:
    facts = VIDEO.facts | {"dtype": "bfloat16", "pooling": "none", "peft_adapter": {"type": "LORA"}}
    lines = judged([IMAGE, replace(VIDEO, facts=facts)]).differences
    assert [line.split(":")[0] for line in lines] == [
        "run with dtype",
        "run with pooling",
        "run with peft_adapter",
    ]


def test_other_ids_or_scores_than_its_own_class_has_are_faults() -> None:
    wrong = replace(PROMPT, own_ids=OwnCheck("differs", "token 2 is 7"))
    passes = PassCheck(3, largest=0.5, tolerance=1e-3, other_choices=1)
    found = judged(
        [replace(IMAGE, seen=replace(SEEN, prompts=(wrong,))), replace(VIDEO, passes=passes)]
    )
    assert found.verdict == "not comparable"
    assert "ids are not those of its own class's processor (frames alone)" in found.faults[0]
    assert "differ by 0.5" in found.faults[1]
    assert "1 of 3 prompts get another choice" in found.faults[1]


def test_what_is_not_seen_is_said_and_no_verdict_is_made_up() -> None:
    blind = [MemberCheck(name, unseen=("nothing to look at",)) for name in ("one", "other")]
    found = judged(blind)
    assert found.verdict == "not checked"
    assert found.unseen == ("one: nothing to look at", "other: nothing to look at")
