"""Prompts that begin alike share one pass, and get the numbers that they get alone."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_models
from hypothesis import given
from hypothesis import strategies as st

from probes.core.types import FrameRef, Request, ScoringSpec
from probes.models.hf import forward, prefix_packing
from probes.models.hf.forward import by_prompt
from probes.models.hf.prefix_packing import PackedPrompts, one_answer_each, pack, packed_batch
from probes.models.hf.prompt_encoder import FRAME
from probes.models.hf.token_layout import TokenizedPrompt

LETTER, CLOZE = ScoringSpec("letter"), ScoringSpec("cloze")


def tokenized(*parts: int | str, answers: tuple[tuple[int, ...], ...] = ()) -> TokenizedPrompt:
    """A prompt of token ids and of frames of two tokens each."""
    ids = tuple(i for part in parts for i in ((FRAME,) * 2 if isinstance(part, str) else (part,)))
    frames = tuple(part for part in parts if isinstance(part, str))
    return TokenizedPrompt(ids, frames, ((2,),) * len(frames), answers)


PARTS = st.lists(st.sampled_from([1, 2, 3, "x", "y"]), min_size=1, max_size=9)


def contents(one: TokenizedPrompt) -> list[int | str]:
    """Ids of a prompt, with a frame's name in each of its places."""
    names = iter([name for name in one.frames for _ in range(2)])
    return [next(names) if token == FRAME else token for token in one.ids]


@given(st.lists(PARTS, min_size=1, max_size=12), st.integers(1, 60))
def test_every_prompt_is_packed_once_and_the_shared_prefix_is_its_own_beginning(
    given: list[list[int | str]], most: int
) -> None:
    prompts = [tokenized(*parts, answers=((5, 6), (7,))) for parts in given]
    found = pack(prompts, most)
    assert sorted(at for packed in found for at in packed.indices) == list(range(len(prompts)))
    for packed in found:
        assert packed.prompts == tuple(prompts[at] for at in packed.indices)
        each = [contents(one) for one in packed.prompts]
        shared_prefix = each[0][: packed.shared_prefix]
        assert all(one[: packed.shared_prefix] == shared_prefix for one in each)
        suffixes = [one[packed.shared_prefix :] for one in each]
        sequence = [*shared_prefix, *(token for suffix in suffixes for token in suffix)]
        # Of the two continuations, the first token of the longer one is read too.
        assert packed.tokens == len(sequence) + len(each)
        names = [token for token in sequence if isinstance(token, str)]
        assert [name for name in packed.frames for _ in range(2)] == names
        if len(each) > 1:
            longest = max(map(len, each))
            assert packed.shared_prefix >= longest / 2
            assert packed.tokens <= min(most, 4 * longest)


@given(st.lists(PARTS, min_size=1, max_size=9))
def test_every_token_is_found_at_its_place(given: list[list[int | str]]) -> None:
    """Packed, each with its continuations, or with a sequence for every continuation."""
    prompts = [tokenized(*parts, answers=((5, 6, 8), (7,), (9, 4))) for parts in given]
    packed = pack(prompts, 60)
    batch = packed_batch(packed)
    order = [prompt for one in packed for prompt in one.prompts]
    split = packed_batch(one_answer_each(packed))
    for found, places in ((batch, batch.places), (split, by_prompt(split.places, order))):
        for prompt, place in zip(order, places, strict=True):
            positions = found.position_ABT[0, place.prompt.row, place.prompt.at]
            assert tuple(found.ids_BT[place.prompt.row, place.prompt.at]) == prompt.ids
            assert positions.tolist() == list(range(len(prompt.ids)))
            for answer, own in zip(prompt.answers, place.answers, strict=True):
                assert tuple(found.ids_BT[own.row, own.at]) == answer[:-1]
                positions = found.position_ABT[0, own.row, own.at]
                assert positions.tolist() == [len(prompt.ids) + n for n in range(len(own.at))]
    assert len(split.ids_BT) == 3 * len(prompts)


def test_what_is_packed() -> None:
    clip = ("x", "y", 1, 2, 3)
    prompts = [tokenized(*clip, n, 9) for n in (4, 5, 6)]
    assert [one.shared_prefix for one in pack(prompts, 99)] == [7]
    assert pack(prompts, 99)[0].tokens == 7 + 3 * 2
    assert len(pack(prompts, 12)) == 2  # three would have 13 tokens
    other = [tokenized("y", "x", 1, 2, 3, n, 9) for n in (4, 5)]
    assert sorted(one.indices for one in pack(prompts + other, 99)) == [(0, 1, 2), (3, 4)]
    # A rotated question and another one about its clip: packed together they would be longer.
    rotated = [tokenized(*[7] * 60, *[8] * 30, n, *[9] * 9) for n in (1, 2, 3, 4)]
    both = [tokenized(*[7] * 60, n, *[6] * 29) for n in (4, 5)] + rotated
    found = pack(both, 999)
    assert sorted(one.indices for one in found) == [(0, 1), (2, 3, 4, 5)]
    assert sum(one.tokens for one in found) == (60 + 2 * 30) + (90 + 4 * 10)
    arms = [tokenized("x", *(n for _ in range(6))) for n in (1, 2)]  # one frame of eight tokens
    assert [one.indices for one in pack(arms, 99)] == [(0,), (1,)]
    same = [tokenized(1, 2, answers=((n,),)) for n in (3, 4)]  # other options behind one prompt
    assert pack(same, 99) == [PackedPrompts((0, 1), tuple(same), 2)]


@pytest.fixture(
    scope="module", params=[(n, w) for n in tiny_models.FAMILIES for w in ("video", "image")]
)
def checkpoint(request: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    name, frame_as = request.param
    return tiny_models.FAMILIES[name](tmp_path_factory.mktemp("sharing") / name), frame_as


@pytest.fixture(scope="module")
def prompts(frames: dict[str, np.ndarray]) -> list[Request]:
    """Questions about two clips and none, and rotations of pictures; some prompts alike."""
    names = [FrameRef(name) for name in frames]
    first = (names[0], " then ", names[12], names[1], " the red cup opens ")
    second = (*names[3:6], "what ")
    asked = ("what is first ?", "a hand ?", "box closes then opens between the frames ?")
    options = ("the red box opens", "a hand moves the cup", "blue")
    out = [Request((*clip, text), options) for clip in (first, second) for text in asked]
    out += [Request(("what is first ? " * 9, text), options) for text in asked]
    out += [
        Request((*first, "A. ", names[a], "B. ", names[b]), options) for a, b in ((7, 8), (8, 7))
    ]
    return [*out, out[0], Request(out[0].parts, options[::-1])]


def tokens_per_pass(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return how many tokens go through the language model, pass by pass."""
    seen: list[int] = []
    genuine = forward.hidden_states

    def hidden(model: Any, ids: Any, *args: Any, **more: Any) -> Any:
        seen.append(ids.size)
        return genuine(model, ids, *args, **more)

    monkeypatch.setattr(forward, "hidden_states", hidden)
    return seen


@pytest.mark.parametrize("kind", [LETTER, CLOZE], ids=lambda kind: kind.kind)
def test_shared_passes_give_the_numbers_of_separate_ones(
    kind: ScoringSpec,
    checkpoint: tuple[Path, str],
    prompts: list[Request],
    frames: dict[str, np.ndarray],
    open_hf: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if kind is LETTER:
        prompts = [Request(prompt.parts, tuple("ABC")) for prompt in prompts]
    folder, frame_as = checkpoint
    backend = open_hf(folder, spec={"frame_as": frame_as}, batch_size=3)
    if kind is LETTER:  # the tokens of all prompts' letters are read in one pass, several of each
        ((_, one),) = backend.preprocessor().tokenize(prompts[:1], frames, kind)
        assert bool(one.alternatives) == (folder.name != "llava_next_video")
    tokens = tokens_per_pass(monkeypatch)
    shared = dict(backend.score(prompts, frames, kind))
    together = sum(tokens)
    tokens.clear()
    monkeypatch.setattr(prefix_packing, "LEAST", math.inf)
    separate = dict(backend.score(prompts, frames, kind))
    backend.close()
    assert sorted(shared) == sorted(separate) == list(range(len(prompts)))
    for at, out in shared.items():
        assert out.error == ""
        assert out.option_logprobs == pytest.approx(separate[at].option_logprobs, abs=1e-4)
        assert (out.input_tokens, out.option_tokens) == (
            separate[at].input_tokens,
            separate[at].option_tokens,
        )
    assert together < 0.9 * sum(tokens)


@pytest.mark.parametrize("failure", ["error", "no memory", "NaN"])
def test_one_bad_prompt_spoils_no_other(
    failure: str,
    video_checkpoint: Path,
    prompts: list[Request],
    frames: dict[str, np.ndarray],
    open_hf: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    backend = open_hf(video_checkpoint)
    expected = dict(backend.score(prompts, frames, CLOZE))
    genuine = forward.score_options
    longest = expected[2].input_tokens  # of the prompts that share the first clip

    def fragile(model: Any, some: list[PackedPrompts], features: Any, **more: Any) -> Any:
        sizes = [len(one.ids) for packed in some for one in packed.prompts]
        if longest not in sizes:
            return genuine(model, some, features, **more)
        if failure == "NaN":  # it spreads through a sequence, as no mask stops it
            found, collected = genuine(model, some, features, **more)
            sums = iter(found)
            each = [(packed, next(sums)) for packed in some for _ in packed.prompts]
            hit = [packed for packed in some if longest in (len(p.ids) for p in packed.prompts)]
            spread = [[math.nan] * 3 if packed in hit else scores for packed, scores in each]
            return spread, collected
        raise RuntimeError("out of memory" if failure == "no memory" else "kernel error")

    monkeypatch.setattr(forward, "score_options", fragile)
    outputs = dict(backend.score(prompts, frames, CLOZE))
    if failure == "no memory":  # what did not fit is not tried again
        assert (
            backend._ready.batcher.tokens < max(one.input_tokens for one in expected.values()) * 2
        )
    assert sorted(outputs) == list(range(len(prompts)))
    failed = sorted(at for at, out in outputs.items() if out.status == "error")
    assert failed == sorted(at for at, out in expected.items() if out.input_tokens == longest)
    for at, out in outputs.items():
        if at not in failed:
            assert out.option_logprobs == pytest.approx(expected[at].option_logprobs, abs=1e-4)
