"""Hooks: what they change equals a plain computation, what they leave alone stays to the bit."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import made_hooks
import numpy as np
import pytest
import tiny_models
import torch
from letter_scores import letter_ids
from test_plain_transformers import Ordinary
from test_shapes import llava_next as sliding

from probes.core.errors import ProbesError
from probes.core.types import ArrayName, FrameRef, Intervention, Request, ScoringSpec, TextSpan
from probes.models.base import NEEDS
from probes.models.hf import forward
from probes.models.interventions import INTERVENTIONS, hooks_restored

LETTER, CLOZE = ScoringSpec("letter"), ScoringSpec("cloze")
GENERATE = ScoringSpec("generate", max_new_tokens=5)
OPTIONS = ("the red box opens", "a hand moves the cup", "blue")
CUT = (("source", "question"), ("target", "frame 0"))
CASES = [
    ("llava_next_video", "video", "sdpa"),
    ("llava_next_video", "image", "eager"),
    ("internvl", "video", "sdpa"),
    ("llava_onevision", "image", "sdpa"),
    ("qwen2_vl", "image", "sdpa"),
    ("qwen2_5_vl", "video", "sdpa"),
    ("qwen2_5_vl", "image", "eager"),
]


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    made_hooks.register(
        monkeypatch,
        INTERVENTIONS,
        cut="CutEdges",
        cut_alone="CutEdgesAlone",
        gradient="FeatureGradient",
        states="LastStates",
        nothing="Nothing",
        nothing_inside="NothingInside",
        failing="Failing",
        odd="Odd",
        level="Level",
    )


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("hooks")
    return {name: make(root / name) for name, make in tiny_models.FAMILIES.items()}


@pytest.fixture(scope="module")
def requests(frames: dict[str, np.ndarray]) -> list[Request]:
    """Three questions about one clip, which may share a sequence, and one about another."""
    names = [FrameRef(name) for name in frames]
    clip = (names[0], " then the red cup opens ", names[12], names[1])
    asked = [
        Request((*clip, text), OPTIONS, spans=(TextSpan("question", 4, 1, len(text)),))
        for text in (" what is first?", " a hand?", " box closes then opens between frames?")
    ]
    # Two frames: LLaVA-OneVision's own processor shows a single one in tiles.
    short = (*names[3:5], " what?")
    return [*asked, Request(short, OPTIONS, spans=(TextSpan("question", 2, 1, 6),))]


def of_kind(requests: list[Request], kind: ScoringSpec, intervention: Any = None) -> list[Request]:
    options = {"letter": tuple("ABC"), "cloze": OPTIONS, "generate": ()}[kind.kind]
    return [replace(one, options=options, intervention=intervention) for one in requests]


def answers(backend: Any, requests: list[Request], frames: Any, kind: ScoringSpec) -> list[Any]:
    outputs = dict(backend.score(requests, frames, kind))
    assert {output.error for output in outputs.values()} == {""}
    return [outputs[at] for at in range(len(requests))]


class Plain(Ordinary):
    """A checkpoint's own class, run on whole sequences with an explicit mask, without a cache."""

    def logprobs_cut(self, inputs: Any, edges: Any, **more: Any) -> torch.Tensor:
        """Return log-probabilities [T, V] where queries of `edges` do not see its keys."""
        size = inputs["input_ids"].shape[1]
        least = torch.finfo(self.model.dtype).min
        mask_TT = torch.full((size, size), least).triu(1)
        for queries, keys in edges:
            mask_TT[np.array(queries, int)[:, None], np.array(keys, int)] = least
        inputs = dict(inputs)
        if self.name.startswith("qwen"):
            grids = {n: v for n, v in inputs.items() if n.endswith("_thw")}
            if "mm_token_type_ids" in inputs:
                grids["mm_token_type_ids"] = inputs["mm_token_type_ids"]
            more["position_ids"], _ = self.model.model.get_rope_index(
                inputs["input_ids"], attention_mask=inputs["attention_mask"], **grids
            )
        inputs["attention_mask"] = mask_TT[None, None]
        with torch.inference_mode():
            return self.model(**inputs, **more).logits[0].log_softmax(-1)


@pytest.fixture(scope="module", params=CASES, ids="-".join)
def both(request: Any, checkpoints: dict[str, Path], open_hf: Callable[..., Any]) -> Any:
    from transformers import AutoModelForImageTextToText, AutoProcessor

    name, way, attention = request.param
    folder = checkpoints[name]
    model = AutoModelForImageTextToText.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager"
    )
    plain = Plain(name, way, model, AutoProcessor.from_pretrained(folder))
    return open_hf(folder, spec={"frame_as": way, "attention": attention}), plain


def spans_of(backend: Any, request: Request, frames: Any, kind: ScoringSpec) -> dict[str, Any]:
    ((_, prompt),) = backend.preprocessor().tokenize([request], frames, kind)
    return {name: range(start, stop) for name, start, stop in prompt.spans}


@pytest.mark.parametrize("name", ["cut", "cut_alone"])
def test_cut_edges_equal_an_explicit_mask(
    name: str, both: Any, requests: list[Request], frames: dict[str, np.ndarray]
) -> None:
    backend, plain = both
    cut = Intervention(name, CUT, "1")
    for kind in (LETTER, CLOZE):
        asked = of_kind(requests, kind, cut)
        passes = backend.counters()["passes"]
        found = answers(backend, asked, frames, kind)
        passes = backend.counters()["passes"] - passes
        bare = answers(backend, of_kind(requests, kind), frames, kind)
        for request, output, other in zip(asked, found, bare, strict=True):
            spans = spans_of(backend, request, frames, kind)
            edges = [(spans["question"], spans["frame 0"])]
            if kind is LETTER:
                logprobs_TV = plain.logprobs_cut(plain.inputs(request, frames), edges)
                expected = plain.letters(logprobs_TV, 3)
            else:
                expected = [
                    continuation(plain, request, frames, option, edges, output.input_tokens)
                    for option in OPTIONS
                ]
            assert output.option_logprobs == pytest.approx(expected, abs=1e-4)
            assert output.option_logprobs != pytest.approx(other.option_logprobs, abs=1e-3)


def continuation(
    plain: Plain, request: Request, frames: Any, option: str, edges: Any, start: int
) -> float:
    inputs = plain.inputs(request, frames, option)
    ids, logprobs_TV = inputs["input_ids"][0], plain.logprobs_cut(inputs, edges)
    return sum(float(logprobs_TV[at - 1, ids[at]]) for at in range(start, len(ids)))


def test_packable_hooks_share_sequences_and_others_do_not(
    both: Any, requests: list[Request], frames: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend, _ = both
    seen: list[list[int]] = []
    genuine = forward.score_options

    def score_options(model: Any, packed: Any, *args: Any, **more: Any) -> Any:
        seen.append(sorted(len(one.prompts) for one in packed))
        return genuine(model, packed, *args, **more)

    monkeypatch.setattr(forward, "score_options", score_options)
    answers(backend, of_kind(requests, CLOZE, Intervention("cut", CUT, "1")), frames, CLOZE)
    assert seen == [[1, 3]]
    seen.clear()
    answers(backend, of_kind(requests, CLOZE, Intervention("cut_alone", CUT, "1")), frames, CLOZE)
    assert seen == [[1, 1, 1, 1]]


def test_one_layer_is_cut_alone(both: Any, requests: list[Request], frames: Any) -> None:
    backend, plain = both
    cut = Intervention("cut", (("layers", (1,)), *CUT), "1")
    asked = of_kind(requests[:1], LETTER, cut)
    (output,) = answers(backend, asked, frames, LETTER)
    spans = spans_of(backend, asked[0], frames, LETTER)
    whole = plain.model.get_decoder().layers[0]
    size = plain.inputs(asked[0], frames)["input_ids"].shape[1]
    causal_TT = torch.full((size, size), torch.finfo(torch.float32).min).triu(1)
    handle = whole.register_forward_pre_hook(
        lambda _, args, given: (args, given | {"attention_mask": causal_TT[None, None]}),
        with_kwargs=True,
    )
    edges = [(spans["question"], spans["frame 0"])]
    expected = plain.letters(plain.logprobs_cut(plain.inputs(asked[0], frames), edges), 3)
    handle.remove()
    everywhere = plain.letters(plain.logprobs_cut(plain.inputs(asked[0], frames), edges), 3)
    assert output.option_logprobs == pytest.approx(expected, abs=1e-4)
    if len(plain.model.get_decoder().layers) > 1:
        assert expected != pytest.approx(everywhere, abs=1e-4)


@pytest.mark.parametrize("source", ["question", "written"])
def test_cut_edges_hold_while_text_is_written(
    source: str, both: Any, requests: list[Request], frames: dict[str, np.ndarray]
) -> None:
    """Of mixed lengths, so that there is padding; against whole passes without a cache."""
    backend, plain = both
    cut = Intervention("cut", (("source", source), ("target", "frame 0")), "1")
    asked = of_kind(requests, GENERATE, cut)
    for request, output in zip(asked, answers(backend, asked, frames, GENERATE), strict=True):
        spans = spans_of(backend, request, frames, GENERATE)
        inputs = dict(plain.inputs(request, frames))
        start = inputs["input_ids"].shape[1]
        new: list[int] = []
        while len(new) < 5 and plain.model.generation_config.eos_token_id not in new:
            size = inputs["input_ids"].shape[1]
            queries = range(start, size) if source == "written" else spans["question"]
            logprobs_TV = plain.logprobs_cut(inputs, [(queries, spans["frame 0"])])
            new.append(int(logprobs_TV[-1].argmax()))
            for name, value in (
                ("input_ids", new[-1]),
                ("attention_mask", 1),
                ("mm_token_type_ids", 0),
            ):
                if name in inputs:
                    more = torch.full((1, 1), value)
                    inputs[name] = torch.cat([inputs[name], more], 1)
        text = plain.processor.tokenizer.decode(new, skip_special_tokens=True).strip()
        assert (output.text, output.output_tokens) == (text, len(new))


@pytest.mark.parametrize("kind", [LETTER, CLOZE, GENERATE], ids=lambda kind: kind.kind)
def test_a_hook_that_does_nothing_changes_no_bit(
    kind: ScoringSpec, both: Any, requests: list[Request], frames: dict[str, np.ndarray]
) -> None:
    backend, _ = both
    bare = answers(backend, of_kind(requests, kind), frames, kind)
    for name in ("none", "nothing", *(["nothing_inside"] if kind is CLOZE else [])):
        asked = of_kind(requests, kind, Intervention(name, (), "1"))
        for one, other in zip(bare, answers(backend, asked, frames, kind), strict=True):
            assert (one.option_logprobs, one.text) == (other.option_logprobs, other.text)
    # `letter` and `generate` without a hook need no mask of our own: another kernel is taken.
    inside = of_kind(requests, kind, Intervention("nothing_inside", (), "1"))
    for one, other in zip(bare, answers(backend, inside, frames, kind), strict=True):
        assert one.option_logprobs == pytest.approx(other.option_logprobs, abs=1e-5)
        assert one.text == other.text


def test_gradients_by_features_equal_plain_ones(
    both: Any, requests: list[Request], frames: dict[str, np.ndarray]
) -> None:
    backend, plain = both
    gradient = Intervention("gradient", (("option", 1),), "1")
    for kind in (LETTER, CLOZE):
        asked = of_kind(requests, kind, gradient)
        found = answers(backend, asked, frames, kind)
        for request, output in zip(asked, found, strict=True):
            ((_, prompt),) = backend.preprocessor().tokenize([request], frames, kind)
            features = backend._ready.cache.get(prompt.frames, frames).found
            ids = [] if kind is CLOZE else letter_ids(plain.processor.tokenizer, "B")
            expected = plain_gradients(plain.model, prompt, features, 1, ids)
            for t, one in enumerate(expected):
                array = output.arrays[ArrayName("gradient", None, f"frame {t}")]
                assert array.dtype == np.float32
                assert np.isfinite(array).all()
                assert np.abs(array).max() > 1e-4
                assert array == pytest.approx(one, abs=1e-4)


def plain_gradients(
    model: Any, prompt: Any, features: Any, option: int, letter: list[int]
) -> list[np.ndarray]:
    """Derivatives of an option's log-probability, one sequence and one backward pass.

    `letter` are the ids that a letter can be written as; none for a continuation.
    """
    from probes.models.hf.token_layout import positions

    leaves = [features[name].clone().requires_grad_() for name in dict.fromkeys(prompt.frames)]
    answer = prompt.answers[option]
    ids = torch.tensor([prompt.ids + answer])
    embeds = model.get_input_embeddings()(ids.clamp(min=0)).detach()
    embeds[ids < 0] = torch.cat(leaves)
    place = positions(replace(prompt, ids=prompt.ids + answer))
    more = {"position_ids": torch.from_numpy(place)[:, None]} if len(place) == 3 else {}
    states = model.model(inputs_embeds=embeds, **more).last_hidden_state
    logprobs = model.lm_head(states)[0].log_softmax(-1)
    start = len(prompt.ids)
    total: Any = sum(logprobs[start + n - 1, token] for n, token in enumerate(answer))
    if letter:
        total = logprobs[start - 1, letter].exp().sum().log()
    return [one.numpy() for one in torch.autograd.grad(total, leaves)]


def test_states_of_layers_are_read(
    both: Any, requests: list[Request], frames: dict[str, np.ndarray]
) -> None:
    backend, plain = both
    for kind in (LETTER, GENERATE):
        asked = of_kind(requests, kind, Intervention("states", (), "1"))
        for request, output in zip(asked, answers(backend, asked, frames, kind), strict=True):
            with torch.inference_mode():
                inputs = plain.inputs(request, frames)
                states = plain.model(**inputs, output_hidden_states=True).hidden_states
            count = len(plain.model.get_decoder().layers)
            assert output.extras == {"layers": count}
            assert len(output.arrays) == count
            for layer in range(count - 1):  # the last of transformers' states is normalised
                array = output.arrays[ArrayName("states", layer, "last")]
                assert array == pytest.approx(states[layer + 1][0, -1].numpy(), abs=1e-4)


def test_arrays_of_half_precision_become_float32(
    checkpoints: dict[str, Path], open_hf: Any, requests: list[Request], frames: Any
) -> None:
    backend = open_hf(checkpoints["internvl"], spec={"dtype": "bfloat16"})
    asked = of_kind(requests, LETTER, Intervention("states", (), "1"))
    for output in answers(backend, asked, frames, LETTER):
        assert {array.dtype for array in output.arrays.values()} == {np.dtype("float32")}


def test_requests_with_and_without_hooks_answer_together_as_apart(
    both: Any, requests: list[Request], frames: dict[str, np.ndarray]
) -> None:
    backend, _ = both
    kinds = [None, Intervention("cut", CUT, "1"), Intervention("entropy", (), "1")]
    apart = [answers(backend, of_kind(requests, CLOZE, one), frames, CLOZE) for one in kinds]
    each = [of_kind(requests, CLOZE, kind) for kind in kinds]
    mixed = [one for some in zip(*each, strict=True) for one in some]
    together = answers(backend, mixed, frames, CLOZE)
    for at, output in enumerate(together):
        other = apart[at % 3][at // 3]
        assert output.option_logprobs == other.option_logprobs
        assert output.extras == other.extras
    assert [bool(output.extras) for output in together] == [False, False, True] * len(requests)


def test_the_entropy_over_options(
    both: Any, requests: list[Request], frames: dict[str, np.ndarray]
) -> None:
    backend, _ = both
    for kind in (LETTER, CLOZE):
        asked = of_kind(requests, kind, Intervention("entropy", (), "1"))
        bare = answers(backend, of_kind(requests, kind), frames, kind)
        for output, other in zip(answers(backend, asked, frames, kind), bare, strict=True):
            assert output.option_logprobs == other.option_logprobs
            means = np.array(output.option_logprobs) / output.option_tokens
            weights = np.exp(means) / np.exp(means).sum()
            expected = -(weights * np.log(weights)).sum()
            assert 0 < expected < math.log(3)
            assert output.extras == {"option_entropy": pytest.approx(expected, abs=1e-5)}
    (written, *_) = answers(
        backend, of_kind(requests, GENERATE, asked[0].intervention), frames, GENERATE
    )
    assert written.extras == {}


@pytest.mark.parametrize("when", ["enter", "pass", "leave"])
@pytest.mark.parametrize("kind", [CLOZE, GENERATE], ids=lambda kind: kind.kind)
def test_a_failing_hook_fails_its_own_prompts_and_leaves_nothing_behind(
    kind: ScoringSpec,
    when: str,
    checkpoints: Any,
    open_hf: Any,
    requests: list[Request],
    frames: Any,
) -> None:
    backend = open_hf(checkpoints["llava_next_video"])
    bare = answers(backend, of_kind(requests, kind), frames, kind)
    hit = bare[1].input_tokens
    failing = Intervention("failing", (("tokens", hit), ("when", when)), "1")
    outputs = dict(backend.score(of_kind(requests, kind, failing), frames, kind))
    assert [outputs[at].error for at in (0, 2, 3)] == [""] * 3
    said = r"intervention 'failing': RuntimeError: the hook failed \(made_hooks.py:\d+\)"
    assert re.fullmatch(said, outputs[1].error)
    for layer in backend._ready.model.get_decoder().layers:
        assert not layer._forward_pre_hooks
        assert not layer._forward_hooks
    for one, other in zip(
        bare, answers(backend, of_kind(requests, kind), frames, kind), strict=True
    ):
        assert (one.option_logprobs, one.text) == (other.option_logprobs, other.text)


def test_a_hook_asks_for_a_span_that_is_not_there(
    checkpoints: Any, open_hf: Any, requests: list[Request], frames: Any
) -> None:
    cut = Intervention("cut", (("source", "question"), ("target", "frame 2")), "1")
    asked = of_kind(requests, LETTER, cut)
    outputs = dict(open_hf(checkpoints["internvl"]).score(asked, frames, LETTER))
    assert [outputs[at].status for at in range(4)] == ["ok", "ok", "ok", "error"]
    assert re.search(r"no span 'frame 2': did you mean frame [01]\?", outputs[3].error)


def test_what_cannot_be_hooked_is_refused_before_anything_is_loaded(
    checkpoints: Any, open_hf: Any, requests: list[Request], frames: Any, tmp_path: Path
) -> None:
    cut = Intervention("cut", CUT, "1")
    flash = open_hf(checkpoints["internvl"], spec={"attention": "flash_attention_2"})
    generic = open_hf(tiny_models.llava(tmp_path / "llava"), spec={"frame_as": "image"})
    for backend, name, reason in (
        (flash, "cut", "needs mask: attention=flash_attention_2 takes no mask"),
        (flash, "gradient", "needs grad"),
        (generic, "entropy", "run as one piece"),
    ):
        asked = of_kind(requests, LETTER, replace(cut, name=name, params=()))
        with pytest.raises(ProbesError, match=reason) as caught:
            list(backend.score(asked, frames, LETTER))
        assert "pair.attention=sdpa or eager" in caught.value.fix
        assert backend._ready is None
    assert flash.capabilities().interventions
    assert flash.capabilities().needs == frozenset()


def test_a_kernel_without_masks_has_hooks_that_need_none(
    checkpoints: Any, open_hf: Any, requests: list[Request], frames: Any
) -> None:
    """A sequence for every continuation: what is collected still is by prompt."""
    backend = open_hf(checkpoints["qwen2_5_vl"])
    asked = of_kind(requests, CLOZE, Intervention("entropy", (), "1"))
    packed = answers(backend, asked, frames, CLOZE)
    backend._ready = replace(backend._ready, packed=False)
    for one, other in zip(packed, answers(backend, asked, frames, CLOZE), strict=True):
        assert one.option_logprobs == pytest.approx(other.option_logprobs, abs=1e-4)
        entropy = pytest.approx(other.extras["option_entropy"], abs=1e-5)
        assert one.extras == {"option_entropy": entropy}


def test_a_sliding_window_takes_no_mask(
    open_hf: Any, requests: list[Request], frames: Any, tmp_path: Path
) -> None:
    """Known by the file before anything is loaded, and else by the class's default."""
    folder = sliding(tmp_path / "member", tiny_models.llava_next)
    asked = of_kind(requests, LETTER, Intervention("cut", CUT, "1"))
    for known in (True, False):
        content = json.loads((folder / "config.json").read_text())
        if not known:
            content["text_config"].pop("sliding_window")  # Mistral's default is a window too
            (folder / "config.json").write_text(json.dumps(content))
        backend = open_hf(folder, spec={"frame_as": "image"})
        assert backend.capabilities().needs == (frozenset() if known else NEEDS)
        with pytest.raises(ProbesError, match="sliding window"):
            list(backend.score(asked, frames, LETTER))
        assert (backend._ready is None) == known
        plain = answers(backend, of_kind(requests, LETTER), frames, LETTER)
        assert len(plain) == len(requests)
        backend.close()


@pytest.fixture(scope="module")
def video(checkpoints: dict[str, Path], open_hf: Any) -> Any:
    return open_hf(checkpoints["llava_next_video"])


def registered_on(model: Any) -> list[Any]:
    return [[list(one._forward_hooks), list(one._forward_pre_hooks)] for one in model.modules()]


def test_hooks_that_are_transformers_own_stay() -> None:
    layer = torch.nn.Linear(1, 1)
    first = layer.register_forward_hook(lambda *given: None)

    def theirs(*given: Any) -> None: ...

    theirs.__module__ = "transformers.utils.output_capturing"
    with pytest.raises(KeyError), hooks_restored(layer):
        first.remove()
        kept = layer.register_forward_hook(theirs, with_kwargs=True)
        layer.register_forward_hook(lambda *given: None, with_kwargs=True)
        layer.register_full_backward_hook(lambda *given: None)
        raise KeyError
    assert list(layer._forward_hooks) == [first.id, kept.id]
    assert list(layer._forward_hooks_with_kwargs) == [kept.id]
    assert not layer._backward_hooks


def odd(what: str) -> Intervention:
    return Intervention("odd", (("what", what),), "1")


@pytest.mark.parametrize("kind", [LETTER, GENERATE], ids=lambda kind: kind.kind)
def test_what_a_hook_does_to_features_and_leaves_registered_is_undone(
    kind: ScoringSpec, video: Any, requests: list[Request], frames: Any
) -> None:
    asked = of_kind(requests, kind)
    bare = answers(video, asked, frames, kind)
    kept = {name: one.clone() for name, one in video._ready.cache.get(frames, frames).found.items()}
    held: list[Any] = []
    own = video._ready.model.register_forward_hook(lambda *given: held.append(given))
    before = registered_on(video._ready.model)
    for what in ("features", "hooks"):
        changed = answers(video, of_kind(requests, kind, odd(what)), frames, kind)
        if kind is LETTER:
            assert changed[0].option_logprobs != pytest.approx(bare[0].option_logprobs, abs=1e-3)
        assert registered_on(video._ready.model) == before
        after = video._ready.cache.get(frames, frames).found
        assert all(torch.equal(one, after[name]) for name, one in kept.items())
        again = answers(video, asked, frames, kind)
        assert [(o.option_logprobs, o.text) for o in again] == [
            (o.option_logprobs, o.text) for o in bare
        ]
    own.remove()


@pytest.mark.parametrize("what", [*made_hooks.odd_extras(), *made_hooks.odd_arrays(), "fewer"])
def test_bad_readouts_fail_their_own_prompts(
    what: str, video: Any, requests: list[Request], frames: Any, tmp_path: Path
) -> None:
    from probes.cache.output_cache import Store

    asked = of_kind(requests, LETTER, odd(what))[:2] + of_kind(requests, LETTER)[2:]
    outputs = dict(video.score(asked, frames, LETTER))
    assert [outputs[at].status for at in (2, 3)] == ["ok", "ok"]
    for at in (0, 1):
        if what == "twice":  # alone it is as good as any other
            assert outputs[at].extras == {"both": 1}
        else:
            assert outputs[at].status == "error"
            assert outputs[at].error.startswith("intervention 'odd': ")
    with Store(tmp_path) as store:
        store.put((str(at), output) for at, output in outputs.items())


def test_parameters_that_are_equal_in_python_alone_are_answered_apart(
    video: Any, requests: list[Request], frames: Any
) -> None:
    kinds = [Intervention("level", (("level", one),), "1") for one in (1, 1.0, True)]
    asked = [of_kind(requests[:1], LETTER, one)[0] for one in kinds]
    outputs = dict(video.score(asked, frames, LETTER))
    assert [outputs[at].extras for at in range(3)] == [{"int": 1}, {"float": 1}, {"bool": 1}]
