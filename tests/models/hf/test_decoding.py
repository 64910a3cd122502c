"""The decode loop and its controllers."""

from __future__ import annotations

import random
import re
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import made_hooks
import numpy as np
import pytest
import torch

from probes.core.types import ArrayName, Decoding, Intervention, Request, ScoringSpec
from probes.models.controllers import CONTROLLERS, Sampling
from probes.models.hf import decoding
from probes.models.hf.token_layout import TokenizedPrompt, positions
from probes.models.interventions import INTERVENTIONS

GENERATE = ScoringSpec("generate", max_new_tokens=6)
ENTROPY = ArrayName("token_entropy")


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    made_hooks.register(
        monkeypatch, CONTROLLERS, repeated="RepeatedGreedy", forced="Forced", odd="OddSteps"
    )
    made_hooks.register(monkeypatch, INTERVENTIONS, nothing_inside="NothingInside", odd="Odd")


@pytest.fixture(scope="module")
def backend(open_hf: Any, video_checkpoint: Any) -> Any:
    return open_hf(video_checkpoint)


@pytest.fixture(scope="module")
def loaded(backend: Any, cloze_prompts: list[Request], frames: Any) -> Any:
    """A loaded model, tokenized prompts of mixed lengths, and the features of their frames."""
    asked = [replace(one, options=()) for one in cloze_prompts]
    list(backend.score(asked[:1], frames, GENERATE))
    prompts = [
        prompt for _, prompt in backend._ready.preprocessor.tokenize(asked, frames, GENERATE)
    ]
    return backend._ready.model, prompts, backend._ready.cache.get(frames, frames).found


def written(loaded: Any, **more: Any) -> Any:
    model, prompts, features = loaded
    with torch.inference_mode():
        return decoding.write(model, prompts, features, max_new_tokens=6, **more)


def commonest(texts: list[list[int]]) -> int:
    return Counter(token for ids in texts for token in ids).most_common(1)[0][0]


def test_a_controller_that_repeats_greedy_equals_greedy(loaded: Any) -> None:
    """Token by token, in a batch whose texts end at different steps and leave it."""
    free, _ = written(loaded, ends=())
    end = commonest(free)
    greedy, plain = written(loaded, ends=[end])
    repeated, collected = written(loaded, ends=[end], controller=made_hooks.RepeatedGreedy())
    assert repeated == greedy
    assert len(set(map(len, greedy))) > 2
    assert [one.arrays for one in plain] == [{}] * len(greedy)
    for ids, one in zip(repeated, collected, strict=True):
        assert len(one.arrays[ENTROPY]) == len(ids)
        assert min(one.arrays[ENTROPY]) > 0


def test_a_controller_sees_every_texts_own_logits(
    loaded: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the row of a text, whichever texts have left, they are those of one plain pass."""
    model, prompts, features = loaded
    seen: dict[tuple[int, int], Any] = {}
    rows: list[int] = []

    class Watching(made_hooks.RepeatedGreedy):
        def step(self, state: Any) -> Any:
            rows.append(len(state.rows))
            for text, logits in zip(state.rows, state.logits_BV, strict=True):
                if text in state.unfinished:
                    seen[text, len(state.ids[text])] = logits
            assert state.prompts is prompts
            return state.logits_BV

    end = commonest(written(loaded, ends=())[0])
    texts, _ = written(loaded, ends=[end], controller=Watching())
    assert rows[-1] < rows[0] == len(prompts)
    for at, (prompt, ids) in enumerate(zip(prompts, texts, strict=True)):
        whole = replace(prompt, ids=prompt.ids + tuple(ids))
        embeds = model.get_input_embeddings()(torch.tensor([whole.ids]).clamp(min=0)).detach()
        embeds = embeds.clone()
        if prompt.frames:
            embeds[torch.tensor([whole.ids]) < 0] = torch.cat([features[n] for n in prompt.frames])
        place = torch.from_numpy(positions(whole))
        states = model.model(inputs_embeds=embeds, position_ids=place).last_hidden_state
        logits = model.lm_head(states)[0, len(prompt.ids) - 1 :]
        for step in range(len(ids)):
            assert seen[at, step].numpy() == pytest.approx(logits[step].numpy(), abs=1e-4)


def test_texts_stay_in_their_rows_where_a_hook_looks(loaded: Any) -> None:
    """Cut edges hold to the last step, though most texts have ended."""
    hook = made_hooks.CutEdges("written", "last")
    whole, _ = written(loaded, ends=(), hook=hook)
    assert whole != written(loaded, ends=())[0]
    end = commonest(whole)
    some, _ = written(loaded, ends=[end], hook=hook)
    for ids, short in zip(whole, some, strict=True):
        assert short == (ids[: ids.index(end) + 1] if end in ids else ids)
    assert sum(len(ids) < 6 for ids in some) > len(some) / 4


def test_a_controller_may_end_all_texts_and_force_tokens(backend: Any, frames: Any) -> None:
    asked = [Request(("the red box",), decoding=Decoding("forced", (("tokens", (300, 301)),), "1"))]
    ((_, output),) = backend.score(asked, frames, GENERATE)
    tokenizer = backend._ready.preprocessor.tokens._tokenizer
    assert output.text == tokenizer.decode([300, 301]).strip()
    assert output.output_tokens == 2
    ((_, none),) = backend.score(
        [replace(asked[0], decoding=Decoding("forced", (("tokens", ()),), "1"))], frames, GENERATE
    )
    assert (none.status, none.text, none.output_tokens) == ("ok", "", 0)


def test_extras_and_arrays_reach_the_output(
    backend: Any, cloze_prompts: list[Request], frames: Any
) -> None:
    asked = [replace(one, options=()) for one in cloze_prompts[:5]]
    repeated = [replace(one, decoding=Decoding("repeated", (), "1")) for one in asked]
    inside = [
        replace(one, intervention=Intervention("nothing_inside", (), "1")) for one in repeated
    ]
    outputs = dict(backend.score([*asked, *repeated, *inside], frames, GENERATE))
    for at in range(5):
        plain, one, graded = (outputs[at + n] for n in (0, 5, 10))
        assert (plain.arrays, plain.extras) == ({}, {})
        assert one.text == plain.text == graded.text
        assert one.arrays[ENTROPY].shape == (one.output_tokens,)
        assert one.arrays[ENTROPY] == pytest.approx(graded.arrays[ENTROPY], abs=1e-4)
        assert one.extras == {"with_gradient": 0}
        # Of the batch's frames, where a hook asks for gradients.
        assert graded.extras == {"with_gradient": graded.output_tokens}


def test_samples_do_not_depend_on_the_batch(
    open_hf: Any, video_checkpoint: Any, cloze_prompts: list[Request], frames: Any
) -> None:
    reference: dict[int, str] = {}
    asked = [
        replace(one, options=(), decoding=Decoding("sample", (("top_p", 0.9),), "1"))
        for one in cloze_prompts
    ]
    for size in (1, 3, 16):
        order = list(range(len(asked)))
        random.Random(size).shuffle(order)
        backend = open_hf(video_checkpoint, batch_size=size)
        outputs = backend.score([asked[at] for at in order], frames, GENERATE)
        texts = {order[at]: output.text for at, output in outputs}
        reference = reference or texts
        assert texts == reference
    other = [
        replace(one, decoding=Decoding("sample", (("seed", 1), ("top_p", 0.9)), "1"))
        for one in asked
    ]
    others = {at: output.text for at, output in backend.score(other, frames, GENERATE)}
    assert sum(others[at] != text for at, text in reference.items()) > len(asked) / 2


@pytest.mark.parametrize(
    "params", [(("temperature", 1e-4),), (("top_p", 1e-9),)], ids=["cold", "top"]
)
def test_a_narrow_sample_is_greedy(
    params: Any, backend: Any, cloze_prompts: list[Request], frames: Any
) -> None:
    asked = [replace(one, options=()) for one in cloze_prompts]
    narrow = [replace(one, decoding=Decoding("sample", params, "1")) for one in asked]
    greedy = {at: output.text for at, output in backend.score(asked, frames, GENERATE)}
    assert {at: o.text for at, o in backend.score(narrow, frames, GENERATE)} == greedy


def tokens_of(
    sampling: Sampling, probabilities: list[float], prompts: list[TokenizedPrompt], step: int = 0
) -> list[int]:
    state: Any = SimpleNamespace(
        prompts=prompts,
        rows=list(range(len(prompts))),
        ids=[[0] * step for _ in prompts],
        logits_BV=torch.tensor(probabilities).log().expand(len(prompts), -1) + 3,
    )
    return sampling.start(state).step(state).argmax(-1).tolist()


def drawn(sampling: Sampling, probabilities: list[float], count: int = 4000) -> np.ndarray:
    """Frequencies of the first token over prompts that differ in their ids."""
    tokens = tokens_of(sampling, probabilities, [TokenizedPrompt((n,), ()) for n in range(count)])
    return np.bincount(tokens, minlength=len(probabilities)) / count


def test_draws_are_keyed_by_text_frames_seed_and_step() -> None:
    even = [1 / 64] * 64
    prompts = [TokenizedPrompt((n, -1), ("x",)) for n in range(50)]
    one = tokens_of(Sampling(), even, prompts)
    assert tokens_of(Sampling(), even, prompts[::-1]) == one[::-1]
    others = (
        tokens_of(Sampling(seed=1), even, prompts),
        tokens_of(Sampling(), even, prompts, step=1),
        tokens_of(Sampling(), even, [replace(prompt, frames=("y",)) for prompt in prompts]),
        tokens_of(Sampling(), even, [replace(prompt, ids=(99, *prompt.ids)) for prompt in prompts]),
    )
    for other in others:
        assert sum(a != b for a, b in zip(one, other, strict=True)) > 40


def test_samples_have_the_models_probabilities() -> None:
    given = [0.05, 0.5, 0.15, 0.3]
    near = 4 * np.sqrt(0.25 / 4000)
    assert drawn(Sampling(), given) == pytest.approx(given, abs=near)
    squared = np.array(given) ** 2 / np.square(given).sum()
    assert drawn(Sampling(temperature=0.5), given) == pytest.approx(squared, abs=near)
    # 0.5 and 0.3 have 0.8 together; a bit more needs the third.
    kept = np.array([0, 0.5, 0, 0.3]) / 0.8
    assert drawn(Sampling(top_p=0.79), given) == pytest.approx(kept, abs=near)
    assert drawn(Sampling(top_p=0.79), given)[[0, 2]].tolist() == [0, 0]
    assert drawn(Sampling(top_p=0.81), given)[2] > 0.1


def registered_on(model: Any) -> list[Any]:
    return [list(module._forward_hooks.items()) for module in model.modules()]


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("nan", "the decoding's logits are NaN, or -inf for every token"),
        ("least", "the decoding's logits are NaN, or -inf for every token"),
        ("shape", r"decoding 'odd': TypeError: `step` gives \[1, 1, \d+\], not logits \[1, \d+\]"),
        ("list", "decoding 'odd': TypeError: `step` gives list, not logits"),
        ("hooks", ""),
    ],
)
def test_a_controller_that_gives_no_choice_fails_its_own_prompts(
    what: str, said: str, backend: Any, cloze_prompts: list[Request], frames: Any
) -> None:
    asked = [replace(one, options=()) for one in cloze_prompts]
    bare = dict(backend.score(asked, frames, GENERATE))
    hit = Counter(one.input_tokens for one in bare.values()).most_common()[-1][0]
    params = (("tokens", hit), ("what", what))
    before = registered_on(backend._ready.model)
    chosen = [replace(one, decoding=Decoding("odd", params, "1")) for one in asked]
    outputs = dict(backend.score(chosen, frames, GENERATE))
    for at, output in outputs.items():
        if said and (what == "list" or bare[at].input_tokens == hit):
            assert output.status == "error"
            assert re.match(said, output.error)
        else:
            assert (output.status, output.text) == ("ok", bare[at].text)
    assert registered_on(backend._ready.model) == before


def test_hook_and_controller_give_no_number_of_one_name(backend: Any, frames: Any) -> None:
    both = Request(
        ("the red box",),
        intervention=Intervention("odd", (("what", "twice"),), "1"),
        decoding=Decoding("odd", (), "1"),
    )
    outputs = dict(backend.score([both, replace(both, intervention=None)], frames, GENERATE))
    said = r"intervention 'odd' and decoding 'odd': .*both give 'both' \(decoding.py:\d+\)"
    assert re.fullmatch(said, outputs[0].error)
    assert outputs[1].extras == {"both": 1}
