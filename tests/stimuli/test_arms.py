from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from made_arms import (
    ARMS,
    BASELINE,
    BLIND,
    FILLER,
    INFILLS_ONLY,
    PROMPTS,
    REVERSED,
    SHUFFLED,
    SINGLE,
    TEXT,
    VCOT,
    VISUAL,
)

from probes.core.errors import ProbesError
from probes.core.types import Arm, Clip, FrameRef, Infill, Item, Stimulus, Video
from probes.stimuli.arms import StimulusForm, StimulusSources, build, needs_donor, needs_infills
from probes.stimuli.donors import Donors

quick = settings(max_examples=40, deadline=None)


def item(name: str = "a", cluster: str = "", stratum: str = "") -> Item:
    return Item(
        name, "t", f"What of {name}?", ("yes", "no"), 0, Video(Path("v.mp4")), stratum, cluster
    )


def find_donor(
    one: Item, items: list[Item], arm: Arm, *, same_stratum: bool, draw: int = 0
) -> Item:
    return Donors(items, same_stratum=same_stratum).find(one, arm, draw)


def clip(name: str, count: int) -> Clip:
    hashes = tuple(f"{name}{t}" for t in range(count))
    return Clip(tuple(range(count)), tuple(map(float, range(count))), hashes)


def infills(name: str, count: int, bare: frozenset[int] = frozenset()) -> tuple[Infill, ...]:
    return tuple(
        Infill(
            "" if gap in bare else f"{name} does {gap}",
            "c",
            "e",
            "g",
            status="empty" if gap in bare else "ok",
        )
        for gap in range(count - 1)
    )


def stimulus(arm: Arm, count: int = 4, scoring: str = "letter", **changes: object) -> Stimulus:
    given = {
        "donor": item("d"),
        "donor_clip": clip("d", count),
        "donor_infills": infills("d", count),
    } | changes
    own = given.pop("infills", infills("a", count))
    return build(
        item(), arm, StimulusSources(clip("a", count), own, **given), StimulusForm(PROMPTS, scoring)
    )


def shown(found: Stimulus) -> str:
    return "".join(f"[{p.sha256}]" if isinstance(p, FrameRef) else p for p in found.parts)


QUESTION = "Q What of a?\nA. yes\nB. no\nletter?"


@pytest.mark.parametrize(
    ("arm", "context"),
    [
        (BASELINE, "[a0][a1][a2]"),
        (VCOT, "[a0]<a does 0>[a1]<a does 1>[a2]"),
        (VISUAL, "[d0]<a does 0>[d1]<a does 1>[d2]"),
        (TEXT, "[a0]<d does 0>[a1]<d does 1>[a2]"),
        (Arm("all", frames="donor", infills="donor"), "[d0]<d does 0>[d1]<d does 1>[d2]"),
        (BLIND, ""),
        (INFILLS_ONLY, "<a does 0><a does 1>"),
        (REVERSED, "[a2][a1][a0]"),
        (SINGLE, "[a1]"),
        (Arm("x", frames="single", infills="own"), "<a does 0>[a1]<a does 1>"),
        (Arm("x", frames="reversed", infills="own"), "[a2]<a does 0>[a1]<a does 1>[a0]"),
        (
            Arm("x", infills="own", presentation="frames_then_text"),
            "[a0][a1][a2]<a does 0><a does 1>",
        ),
    ],
)
def test_an_arm_shows_exactly_its_frames_and_texts_before_the_question(arm, context):
    assert shown(stimulus(arm, 3)) == context + QUESTION


def test_cloze_scores_texts_and_lists_none_letter_and_generate_score_letters():
    cloze = stimulus(BLIND, scoring="cloze")
    assert (shown(cloze), cloze.options) == ("Q What of a?", ("yes", "no"))
    assert stimulus(BLIND).options == ("A", "B")
    generate = stimulus(BLIND, scoring="generate")
    assert generate.options == ("A", "B")
    assert shown(generate).endswith("A. yes\nB. no\nreply?")


def test_a_gap_without_infill_is_bare_and_all_bare_is_the_baseline():
    partly = stimulus(VCOT, 3, infills=infills("a", 3, frozenset({0})))
    assert shown(partly) == "[a0][a1]<a does 1>[a2]" + QUESTION
    bare = infills("a", 3, frozenset({0, 1}))
    for arm in (VCOT, FILLER):
        assert stimulus(arm, 3, infills=bare).sha == stimulus(BASELINE, 3).sha


def test_filler_has_the_words_of_the_infills_and_none_of_their_text():
    own = tuple(Infill(" ".join(["word"] * n), "", "", "g") for n in (1, 7, 60))
    texts = [p for p in stimulus(FILLER, infills=own).parts if isinstance(p, str)][:3]
    assert [len(text.split()) for text in texts] == [1, 7, 60]
    assert "word" not in " ".join(texts)


def test_filler_is_keyed_by_item_arm_and_seed():
    own = tuple(Infill("five words in this infill", "", "", "g") for _ in range(9))
    found = {
        stimulus(replace(FILLER, name=name, seed=seed), 10, infills=own).sha
        for name in ("filler", "other")
        for seed in (0, 1)
    }
    assert len(found) == 4


@quick
@given(st.sampled_from(ARMS), st.integers(1, 10), st.sampled_from(["letter", "cloze", "generate"]))
def test_same_input_same_stimulus_in_canonical_form_with_the_question_last(arm, count, scoring):
    found = stimulus(arm, count, scoring)
    assert found == stimulus(arm, count, scoring)
    kinds = ["text" if isinstance(part, str) else "frame" for part in found.parts]
    assert ("text", "text") not in set(pairwise(kinds))
    assert "" not in found.parts
    assert kinds[-1] == "text" and "Q What of a?" in found.parts[-1]
    assert (found.donor_id == "d") == needs_donor(arm)


@quick
@given(st.integers(1, 10))
def test_identity_arms_share_the_content_hash(count):
    plain = stimulus(BASELINE, count).sha
    itself = {"donor_clip": clip("a", count), "donor_infills": infills("a", count)}
    assert stimulus(Arm("alias", seed=7), count).sha == plain
    assert stimulus(Arm("flat", presentation="frames_then_text"), count).sha == plain
    assert stimulus(VISUAL, count, **itself).sha == stimulus(VCOT, count).sha
    assert stimulus(TEXT, count, **itself).sha == stimulus(VCOT, count).sha
    assert stimulus(TEXT, count, donor=item("e"), **itself).sha == stimulus(VCOT, count).sha


def test_the_hash_covers_frames_their_order_text_and_options():
    shas = {stimulus(arm).sha for arm in ARMS} | {stimulus(VCOT, scoring="cloze").sha}
    assert len(shas) == len(ARMS) + 1
    one = replace(item(), options=("yes", "maybe"))
    assert (
        build(one, BLIND, StimulusSources(clip("a", 3)), StimulusForm(PROMPTS, "cloze")).sha
        != stimulus(BLIND, scoring="cloze").sha
    )
    # A frame is not the text that its hash would make.
    asks = replace(item(), question="a0")
    only = replace(PROMPTS, cloze="{question}{context}")
    text = build(asks, BLIND, StimulusSources(clip("a", 1)), StimulusForm(only, "cloze"))
    silent, form = replace(asks, question=""), StimulusForm(only, "cloze")
    frame = build(silent, BASELINE, StimulusSources(clip("a", 1)), form)
    assert text.parts == ("a0",) and frame.parts == (FrameRef("a0"),) and text.sha != frame.sha


def test_hashes_donors_and_orders_are_the_same_in_every_release():
    assert stimulus(VCOT, 3).sha[:16] == "1438ef89f7f696d7"
    items = [item(f"i{n}", f"c{n}") for n in range(50)]
    assert find_donor(items[0], items, VISUAL, same_stratum=False).id == "i28"
    assert shown(stimulus(SHUFFLED, 5)).startswith("[a0][a1][a4][a2][a3]")


@quick
@given(st.integers(2, 10), st.sampled_from([VISUAL, TEXT]))
def test_a_perturbation_differs_from_vcot_in_what_it_borrows_only(count, arm):
    reference, perturbed = stimulus(VCOT, count).parts, stimulus(arm, count).parts
    assert len(reference) == len(perturbed)
    changed = [
        type(a)
        for a, b in zip(reference[:-1], perturbed[:-1], strict=True)
        if type(a) is type(b) and a != b
    ]
    kept = FrameRef if arm is TEXT else str
    assert reference[-1] == perturbed[-1]
    assert kept not in changed
    assert len(changed) == (count if arm is VISUAL else count - 1)


@quick
@given(st.integers(2, 10), st.integers(0, 5))
def test_shuffled_is_a_keyed_permutation_that_is_never_the_true_order(count, seed):
    arm = replace(SHUFFLED, seed=seed)
    frames = [p.sha256 for p in stimulus(arm, count).parts if isinstance(p, FrameRef)]
    true = [f"a{t}" for t in range(count)]
    assert frames != true and sorted(frames) == sorted(true)


def test_shuffles_vary_with_the_seed():
    assert len({stimulus(replace(SHUFFLED, seed=s), 8).sha for s in range(20)}) > 15


clusters = st.lists(
    st.tuples(st.sampled_from("pqrs"), st.sampled_from("xy")), min_size=2, max_size=30
)


def candidates(drawn: list[tuple[str, str]]) -> list[Item]:
    return [item(f"i{n}", cluster, stratum) for n, (cluster, stratum) in enumerate(drawn)]


@quick
@given(clusters, st.booleans(), st.integers(0, 3), st.integers(0, 3), st.randoms())
def test_a_donor_is_of_another_cluster_of_the_stratum_asked_and_of_no_order(
    drawn, same_stratum, seed, draw, random
):
    items = candidates(drawn)
    arm = replace(VISUAL, seed=seed)
    mixed = random.sample(items, len(items))
    for one in items:
        try:
            donor = find_donor(one, items, arm, same_stratum=same_stratum, draw=draw)
        except ProbesError:
            others = [o for o in items if o.cluster != one.cluster]
            assert not [o for o in others if not same_stratum or o.stratum == one.stratum]
            continue
        assert donor.cluster != one.cluster
        assert not same_stratum or donor.stratum == one.stratum
        again = find_donor(one, mixed, replace(arm), same_stratum=same_stratum, draw=draw)
        assert again == donor


@quick
@given(clusters, st.sampled_from("pqrs"))
def test_a_new_item_takes_donors_over_only_for_itself_and_leaving_changes_only_its_own(drawn, c):
    items = candidates(drawn)
    assume(len({one.cluster for one in items}) > 1)
    new = item("new", c, "x")
    for one in items:
        before = find_donor(one, items, VISUAL, same_stratum=False)
        after = find_donor(one, [new, *items], VISUAL, same_stratum=False)
        assert after in (before, new)


def test_a_new_item_changes_few_donors_and_donors_are_spread():
    items = [item(f"i{n}", f"c{n // 2}") for n in range(200)]
    donors = [find_donor(one, items, VISUAL, same_stratum=False) for one in items]
    more = [*items, item("new", "new")]
    changed = sum(
        find_donor(one, more, VISUAL, same_stratum=False) != donor
        for one, donor in zip(items, donors, strict=True)
    )
    assert changed <= 6  # one in 200 is expected
    assert len({donor.id for donor in donors}) > 100  # 63 % of 200 is expected


def test_donors_depend_on_seed_item_arm_and_draw():
    items = [item(f"i{n}", f"c{n}") for n in range(500)]
    keys = [(VISUAL, 0), (VISUAL, 1), (replace(VISUAL, seed=1), 0), (TEXT, 0)]
    donors = {
        find_donor(one, items, arm, same_stratum=False, draw=draw).id
        for arm, draw in keys
        for one in items[:2]
    }
    assert len(donors) == 8


def test_an_item_without_a_cluster_is_one_of_its_own():
    items = [item("a"), item("b")]
    assert find_donor(items[0], items, VISUAL, same_stratum=False).id == "b"


@pytest.mark.parametrize(
    ("others", "same_stratum", "said"),
    [
        ([], False, "of 1 items 0 are of another cluster"),
        ([item("b", "p", "x")], False, "add items from other recordings"),
        ([item("b", "q", "y")], True, "task.same_stratum_donor=false"),
    ],
)
def test_no_eligible_donor_is_explained(others, same_stratum, said):
    one = item("a", "p", "x")
    with pytest.raises(ProbesError, match="finds no donor") as caught:
        find_donor(one, [one, *others], VISUAL, same_stratum=same_stratum)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("arm", "changes", "said"),
    [
        (Arm("g", presentation="round"), {}, "interleaved, frames_then_text, grid"),
        (VISUAL, {"donor": None}, "needs a donor"),
        (VISUAL, {"donor_clip": None}, "donor's clip of 4 frames"),
        (VISUAL, {"donor_clip": clip("d", 3)}, "donor's clip of 4 frames"),
        (TEXT, {"donor_infills": None}, "3 donor infills"),
        (TEXT, {"donor_infills": infills("d", 3)}, "3 donor infills"),
        (VCOT, {"infills": None}, "3 infills"),
        (FILLER, {"infills": infills("a", 5)}, "3 infills"),
    ],
)
def test_what_an_arm_lacks_is_an_error(arm, changes, said):
    with pytest.raises(ProbesError) as caught:
        stimulus(arm, 4, **changes)
    assert said in str(caught.value)


def test_needs():
    assert [arm.name for arm in ARMS if needs_donor(arm)] == [VISUAL.name, TEXT.name]
    bare = [arm.name for arm in ARMS if not needs_infills(arm)]
    assert bare == ["baseline", "blind", "shuffled", "reversed", "single"]


@quick
@given(st.text(max_size=40), st.text(max_size=20))
def test_braces_in_questions_options_and_infills_are_taken_to_the_letter(question, option):
    tricky = "{question}{options}{context}{infill}{0}"
    one = replace(item(), question=question + tricky, options=(option + tricky, tricky))
    own = (Infill(tricky, "", "", "g"),)
    found = build(one, VCOT, StimulusSources(clip("a", 2), own), StimulusForm(PROMPTS, "letter"))
    assert found.parts == (
        FrameRef("a0"),
        f"<{tricky}>",
        FrameRef("a1"),
        f"Q {question}{tricky}\nA. {option}{tricky}\nB. {tricky}\nletter?",
    )


@quick
@given(st.integers(2, 6), st.randoms())
def test_a_task_of_one_recording_borrows_from_another_task(count, dice):
    mine = [item(str(n), "r") for n in range(count)]
    # Of the same ids; those of a recording of the same name are not taken either.
    others = [
        replace(item(str(n), "r" if n % 2 else f"r{n}"), task=task)
        for n in range(count)
        for task in "uv"
    ]
    found = [find_donor(one, mine + others, VISUAL, same_stratum=False) for one in mine]
    assert {donor.task for donor in found} <= {"u", "v"}
    assert all(donor.cluster != "r" for donor in found)
    shuffled = dice.sample(mine + others, 3 * count)
    assert found == [find_donor(one, shuffled, VISUAL, same_stratum=False) for one in mine]
    # One of its own task is taken as soon as there is one.
    own = item("own", "r2")
    assert find_donor(mine[0], [*mine, *others, own], VISUAL, same_stratum=False) == own


def test_donors_of_other_tasks_are_spread_over_them():
    others = [replace(item(str(n), f"r{n}"), task=task) for n in range(9) for task in "uv"]
    mine = [item(f"m{n}", "r") for n in range(60)]
    found = Donors([*mine, *others], same_stratum=False)
    tasks = [found.find(one, VISUAL).task for one in mine]
    assert 15 <= tasks.count("u") <= 45
