"""The hf backend on random weights: equal to the ordinary path, at any batch size."""

import dataclasses
import gc
import json
import random
import re
import shutil
import weakref

import numpy as np
import pytest

from probes.core.errors import ProbesError
from probes.core.types import FrameRef, Request, ScoringSpec
from probes.models.hf import decoding, forward
from probes.models.hf.prompt_encoder import FRAME
from probes.models.hf.token_layout import tokenize

LETTER, CLOZE = ScoringSpec("letter"), ScoringSpec("cloze")
GENERATE = ScoringSpec("generate", max_new_tokens=6)


def of_kind(kind, letter_prompts, cloze_prompts):
    return letter_prompts if kind is LETTER else cloze_prompts


@pytest.fixture(scope="module", params=["video", "image"])
def both(request, open_hf, video_checkpoint):
    """The backend, and a function that gives the ordinary path's inputs: (model, text, frames)."""
    import torch
    from transformers import AutoModelForImageTextToText, AutoProcessor

    model = AutoModelForImageTextToText.from_pretrained(video_checkpoint, dtype=torch.float32)
    processor = AutoProcessor.from_pretrained(video_checkpoint)
    kind = request.param

    def inputs(prompt, frames, answer=""):
        parts = (part if isinstance(part, str) else f"<{kind}>" for part in prompt.parts)
        shown = [frames[part.sha256] for part in prompt.parts if isinstance(part, FrameRef)]
        media = {"videos": [f[None] for f in shown]} if kind == "video" else {"images": shown}
        text = f"USER: {''.join(parts)} ASSISTANT:{answer}"
        return processor(text=text, **(media if shown else {}), return_tensors="pt")

    backend = open_hf(video_checkpoint, spec={"frame_as": kind})
    return backend, model, processor, inputs


def test_letters_equal_the_ordinary_path(both, letter_prompts, frames):
    import torch

    backend, model, processor, inputs = both
    ids = processor.tokenizer.convert_tokens_to_ids([f"▁{letter}" for letter in "ABCDE"])
    outputs = dict(backend.score(letter_prompts, frames, LETTER))
    assert sorted(outputs) == list(range(len(letter_prompts)))
    for at, prompt in enumerate(letter_prompts):
        ordinary = inputs(prompt, frames)
        with torch.inference_mode():
            expected = model(**ordinary).logits[0, -1].log_softmax(-1)[ids]
        assert outputs[at].status == "ok"
        assert outputs[at].option_tokens == (1,) * 5
        assert outputs[at].input_tokens == ordinary["input_ids"].shape[1]
        assert outputs[at].option_logprobs == pytest.approx(expected.tolist(), abs=1e-4)


def test_ids_equal_the_processors_own_expansion(both, letter_prompts, frames):
    backend, model, _, inputs = both
    list(backend.score(letter_prompts[:1], frames, LETTER))
    tokens, cache = backend.preprocessor().tokens, backend._ready.cache
    marks = [model.config.image_token_index, model.config.video_token_index]
    first = FrameRef(next(iter(frames)))
    odd = [Request((FrameRef(name), " then ", first), ("A",)) for name in frames]
    prompts = letter_prompts + odd
    grids = backend.preprocessor().grids.of(frames, frames)
    assert not grids.errors
    features = cache.get(frames, frames).found
    assert {name: (len(feature),) for name, feature in features.items()} == grids.found
    tokenized = tokenize(tokens, prompts, grids.found, LETTER, 1024)
    for prompt, one in zip(prompts, tokenized, strict=True):
        (expected,) = inputs(prompt, frames)["input_ids"].tolist()
        assert list(one.ids) == [FRAME if token in marks else token for token in expected]


def test_continuations_equal_one_ordinary_pass_each(both, cloze_prompts, frames):
    import torch

    backend, model, _, inputs = both
    outputs = dict(backend.score(cloze_prompts, frames, CLOZE))
    for at in (0, 4, 7, 11):
        prompt = cloze_prompts[at]
        start = inputs(prompt, frames)["input_ids"].shape[1]
        for option, score, count in zip(
            prompt.options, outputs[at].option_logprobs, outputs[at].option_tokens, strict=True
        ):
            whole = inputs(prompt, frames, f" {option}")
            with torch.inference_mode():
                logprobs = model(**whole).logits[0].log_softmax(-1)
            ids = whole["input_ids"][0]
            expected = sum(float(logprobs[i - 1, ids[i]]) for i in range(start, len(ids)))
            assert count == len(ids) - start
            assert score == pytest.approx(expected, abs=1e-4)


def test_generation_equals_the_models_own(both, cloze_prompts, frames):
    import torch

    backend, model, processor, inputs = both
    outputs = dict(backend.score(cloze_prompts, frames, GENERATE))
    for at, prompt in enumerate(cloze_prompts):
        ordinary = inputs(prompt, frames)
        with torch.inference_mode():
            ids = model.generate(**ordinary, max_new_tokens=6, do_sample=False)[0]
        new = ids[ordinary["input_ids"].shape[1] :]
        text = processor.tokenizer.decode(new, skip_special_tokens=True).strip()
        assert (outputs[at].text, outputs[at].output_tokens) == (text, len(new))


@pytest.fixture(scope="module")
def backend(open_hf, video_checkpoint):
    return open_hf(video_checkpoint)


def test_generation_stops_at_the_end_token(backend, cloze_prompts, frames):
    import torch

    list(backend.score(cloze_prompts[:1], frames, GENERATE))
    ready = backend._ready
    features = ready.cache.get(frames, frames).found
    grids = ready.preprocessor.grids.of(frames, frames).found
    tokenized = tokenize(ready.preprocessor.tokens, cloze_prompts, grids, GENERATE, 1024)

    @torch.inference_mode()
    def write(*ends):
        return decoding.write(ready.model, tokenized, features, max_new_tokens=6, ends=ends)[0]

    free = write()
    # The commonest token becomes an end token: texts end at different steps, and leave the batch.
    end = max((token for ids in free for token in ids), key=[t for i in free for t in i].count)
    lengths = set()
    for ids, short in zip(free, write(end), strict=True):
        assert short == (ids[: ids.index(end) + 1] if end in ids else ids)
        lengths.add(len(short))
    assert len(lengths) > 1


def test_end_tokens_come_from_the_generation_config(open_hf, video_checkpoint, tmp_path):
    folder = shutil.copytree(video_checkpoint, tmp_path / "member")
    generation = json.loads((folder / "generation_config.json").read_text())
    for given, expected in ((7, {7}), ([2, 9], {2, 9}), (None, {2})):
        content = json.dumps(generation | {"eos_token_id": given})
        (folder / "generation_config.json").write_text(content)
        backend = open_hf(folder)
        list(backend.score([Request(("x",))], {}, GENERATE))
        assert backend._ready.end_tokens == expected


@pytest.mark.parametrize("kind", [LETTER, CLOZE, GENERATE], ids=lambda kind: kind.kind)
def test_results_do_not_depend_on_batch_size_or_order(
    kind, open_hf, video_checkpoint, letter_prompts, cloze_prompts, frames
):
    prompts = of_kind(kind, letter_prompts, cloze_prompts)
    reference = None
    for size in (1, 3, 16):
        order = list(range(len(prompts)))
        random.Random(size).shuffle(order)
        backend = open_hf(video_checkpoint, batch_size=size, options={"frame_batch": size})
        outputs = {
            order[at]: out for at, out in backend.score([prompts[at] for at in order], frames, kind)
        }
        reference = reference or outputs
        for at, out in outputs.items():
            assert (out.status, out.text) == ("ok", reference[at].text)
            assert out.option_logprobs == pytest.approx(reference[at].option_logprobs, abs=1e-4)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_packed_options_equal_one_sequence_each(
    attention, open_hf, video_checkpoint, cloze_prompts, frames
):
    backend = open_hf(video_checkpoint, spec={"attention": attention})
    packed = dict(backend.score(cloze_prompts, frames, CLOZE))
    assert backend._ready.packed
    # What attention kernels without masks of our own get.
    backend._ready = dataclasses.replace(backend._ready, packed=False)
    passes = backend.counters()["passes"]
    for at, out in backend.score(cloze_prompts, frames, CLOZE):
        assert out.option_logprobs == pytest.approx(packed[at].option_logprobs, abs=1e-4)
    assert backend.counters()["passes"] > passes


def test_every_frame_is_encoded_once(open_hf, video_checkpoint, letter_prompts, frames):
    backend = open_hf(video_checkpoint)
    for kind in (LETTER, CLOZE, GENERATE):
        list(backend.score(letter_prompts, frames, kind))
    counts = backend.counters()
    assert (counts["perceived"], counts["recomputed"]) == (10, 0)
    backend.close()
    assert backend.counters() == counts


def test_a_small_cache_costs_time_but_not_correctness(
    open_hf, video_checkpoint, letter_prompts, frames
):
    large = dict(open_hf(video_checkpoint).score(letter_prompts, frames, LETTER))
    backend = open_hf(video_checkpoint, feature_cache_mb=0, options={"frame_batch": 2})
    small = dict(backend.score(letter_prompts, frames, LETTER))
    assert backend.counters()["recomputed"] > 0
    assert sorted(small) == sorted(large)
    for at, out in small.items():
        assert out.option_logprobs == pytest.approx(large[at].option_logprobs, abs=1e-4)


@pytest.mark.parametrize("frame_as", ["video", "image"])
def test_features_do_not_depend_on_the_batch(open_hf, video_checkpoint, frames, frame_as):
    import torch

    backend = open_hf(video_checkpoint, spec={"frame_as": frame_as})
    list(backend.score([Request(("x",), ("A",))], frames, CLOZE))
    encode_frames = backend._ready.cache._encode_frames
    same_size = [frame for frame in frames.values() if frame.shape == (64, 64, 3)]
    together = encode_frames(same_size)
    for frame, feature in zip(same_size, together, strict=True):
        torch.testing.assert_close(encode_frames([frame])[0], feature, atol=1e-5, rtol=0)


@pytest.mark.parametrize("message", ["CUDA out of memory", "DefaultCPUAllocator: can't allocate"])
def test_a_batch_that_does_not_fit_is_halved(
    message, open_hf, video_checkpoint, letter_prompts, frames, monkeypatch
):
    expected = dict(open_hf(video_checkpoint).score(letter_prompts, frames, LETTER))
    genuine = forward.score_options

    def crowded(model, packed, features, **more):
        if len(packed) > 2:
            raise RuntimeError(message)
        return genuine(model, packed, features, **more)

    monkeypatch.setattr(forward, "score_options", crowded)
    backend = open_hf(video_checkpoint, batch_size=16)
    outputs = dict(backend.score(letter_prompts, frames, LETTER))
    assert {at: out.status for at, out in outputs.items()} == dict.fromkeys(expected, "ok")
    for at, out in outputs.items():
        assert out.option_logprobs == pytest.approx(expected[at].option_logprobs, abs=1e-4)


def test_one_failing_prompt_does_not_fail_the_others(
    open_hf, video_checkpoint, letter_prompts, frames, monkeypatch
):
    genuine = forward.score_options

    def fragile(model, packed, features, **more):
        if any(len(prompt.ids) > 100 for one in packed for prompt in one.prompts):
            raise RuntimeError("kernel error")
        return genuine(model, packed, features, **more)

    monkeypatch.setattr(forward, "score_options", fragile)
    outputs = dict(open_hf(video_checkpoint).score(letter_prompts, frames, LETTER))
    assert len(outputs) == len(letter_prompts)
    # Ten frames with text between them; the same frames without text are short enough.
    failed = {at: out.error for at, out in outputs.items() if out.status == "error"}
    assert failed == {13: "RuntimeError: kernel error"}


@pytest.mark.parametrize("kind", [LETTER, CLOZE, GENERATE], ids=lambda kind: kind.kind)
def test_logits_that_are_not_numbers_are_errors(
    kind, open_hf, video_checkpoint, letter_prompts, frames
):
    import torch

    backend = open_hf(video_checkpoint)
    list(backend.score(letter_prompts[:1], frames, LETTER))
    with torch.no_grad():
        backend._ready.model.lm_head.weight[7, 3] = torch.nan
    for _, out in backend.score(letter_prompts, frames, kind):
        assert (out.status, out.option_logprobs) == ("error", ())
        assert "NaN" in out.error


def test_a_prompt_longer_than_the_context_says_so(backend, frames):
    prompt = Request((" the" * 1020,), ("A", "B"))
    ((_, out),) = backend.score([prompt], frames, GENERATE)
    assert out.status == "error"
    assert re.search(r"prompt of 10\d\d tokens and 6 more exceed .* 1024", out.error)
    ((_, out),) = backend.score([Request((" the" * 900,), ("A", "B"))], frames, GENERATE)
    assert out.status == "ok"


def test_prompts_that_cannot_be_scored_are_errors(backend, frames):
    name = next(iter(frames))
    asked = [
        Request((FrameRef("0" * 64), "what?"), ("A", "B")),
        Request((FrameRef(name), "what?"), ()),
        Request((FrameRef(name), "what?"), ("A", "B")),
    ]
    outputs = dict(backend.score(asked, frames, CLOZE))
    assert [outputs[at].status for at in range(3)] == ["error", "error", "ok"]
    assert "000000000000: KeyError" in outputs[0].error
    assert "no options" in outputs[1].error


@pytest.mark.parametrize("options", [("A", "the red"), ("é", "B")])
def test_letters_must_be_single_tokens(backend, options):
    with pytest.raises(ProbesError, match="as one token of its own") as caught:
        list(backend.score([Request(("what?",), options)], {}, LETTER))
    assert "member" in caught.value.where  # the tokenizer's folder


def test_an_answer_prefix_comes_before_the_answer(backend, frames):
    prompt = Request(("what?",), ("A", "B"))
    ((_, bare),) = backend.score([prompt], frames, LETTER)
    ((_, out),) = backend.score(
        [prompt], frames, ScoringSpec("letter", answer_prefix="the answer is")
    )
    assert out.input_tokens == bare.input_tokens + 3
    assert out.option_logprobs != pytest.approx(bare.option_logprobs, abs=1e-3)


def test_generation_needs_a_length(backend):
    with pytest.raises(ProbesError, match="max_new_tokens"):
        list(backend.score([Request(("what?",))], {}, ScoringSpec("generate")))


def test_half_precision_answers(open_hf, video_checkpoint, letter_prompts, frames):
    full = dict(open_hf(video_checkpoint).score(letter_prompts, frames, LETTER))
    backend = open_hf(video_checkpoint, spec={"dtype": "bfloat16"})
    for at, out in backend.score(letter_prompts, frames, LETTER):
        assert np.allclose(out.option_logprobs, full[at].option_logprobs, atol=0.5)


def test_closing_frees_the_model_even_where_another_is_loaded(open_hf, video_checkpoint):
    models, backends = [], [open_hf(video_checkpoint), open_hf(video_checkpoint)]
    for backend in backends:
        list(backend.score([Request(("x",), ("A",))], {}, LETTER))
        model = backend._ready.model
        model.itself = [model]  # as transformers' own may: only a search finds that it is free
        models.append(weakref.ref(model))
        del model
    gc.disable()
    try:
        backends[0].close()
        assert (models[0]() is None, models[1]() is None) == (True, False)
        list(backends[0].score([Request(("x",), ("A",))], {}, LETTER))  # freezes the other's model
        backends[1].close()
        assert models[1]() is None
    finally:
        gc.enable()
    backends[0].close()
    assert gc.get_freeze_count() == 0


def test_the_device_of_a_model_that_was_freed_stays_known(open_hf, video_checkpoint):
    backend = open_hf(video_checkpoint, device="auto")
    before = backend.describe()
    assert before["device"] == "auto"
    list(backend.score([Request(("x",), ("A",))], {}, LETTER))
    device = str(backend._ready.model.device)
    backend.close()
    assert backend.describe() == before | {"device": device}


def test_a_closed_backend_loads_again(open_hf, video_checkpoint, letter_prompts, frames):
    backend = open_hf(video_checkpoint)
    assert list(backend.score([], frames, LETTER)) == []
    assert backend._ready is None
    first = dict(backend.score(letter_prompts, frames, LETTER))
    backend.close()
    again = dict(backend.score(letter_prompts, frames, LETTER))
    assert {at: out.option_logprobs for at, out in first.items()} == {
        at: out.option_logprobs for at, out in again.items()
    }
