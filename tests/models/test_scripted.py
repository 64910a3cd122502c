"""The backend without a model."""

from dataclasses import replace

import pytest

from probes.core.errors import ProbesError
from probes.core.types import FrameRef, ModelSpec, Output, Request, ScoringSpec
from probes.models import open_backend
from probes.models.scripted import ScriptedBackend

PROMPTS = [Request((FrameRef(f"{i:064}"), f"what? {i}"), tuple("ABCDE")) for i in range(200)]
LETTER, CLOZE = ScoringSpec("letter"), ScoringSpec("cloze")
GENERATE = ScoringSpec("generate", max_new_tokens=4)


def choices(backend, prompts=PROMPTS):
    scores = {at: out.option_logprobs for at, out in backend.score(prompts, {}, LETTER)}
    return {prompts[at]: max(range(5), key=scores[at].__getitem__) for at in scores}


def test_answers_depend_on_content_and_name_only():
    first = choices(ScriptedBackend(name="a"))
    assert choices(ScriptedBackend(name="a"), PROMPTS[::-1]) == first
    assert choices(ScriptedBackend(name="b")) != first
    assert set(first.values()) == set(range(5))
    assert ScriptedBackend(name="a").fingerprint != ScriptedBackend(name="b").fingerprint


def test_outputs_look_like_a_models():
    (_, out), *_ = ScriptedBackend().score([Request(("x",), ("one", "two words"))], {}, CLOZE)
    assert out.status == "ok"
    assert out.option_tokens == (1, 2)
    assert all(score < 0 for score in out.option_logprobs)


def test_text_is_short_and_answers_where_there_are_options():
    backend = ScriptedBackend()
    asked = [replace(PROMPTS[0], options=()), PROMPTS[0]]
    (_, free), (_, lettered) = backend.score(asked, {}, GENERATE)
    assert free.output_tokens == len(free.text.split()) == 4
    assert lettered.text in "ABCDE"
    assert backend.counters() == {"calls": 1, "scored": 2}


def test_a_function_answers():
    backend = ScriptedBackend(lambda prompt: Output(text=str(prompt.parts[-1])))
    assert [out.text for _, out in backend.score(PROMPTS[:2], {}, GENERATE)] == [
        "what? 0",
        "what? 1",
    ]


def test_it_opens_by_configuration_and_fails_as_configured(settings):
    spec = ModelSpec("member", "image", "none")
    backend = open_backend(
        settings(name="scripted", options={"policy": "first", "errors": 0.3}), spec
    )
    outputs = [out for _, out in backend.score(PROMPTS, {}, LETTER)]
    failed = [out for out in outputs if out.status == "error"]
    assert 30 < len(failed) < 90
    assert all(
        max(out.option_logprobs) == out.option_logprobs[0] for out in outputs if out.status == "ok"
    )
    repeated = ScriptedBackend.from_options(spec, {"policy": "first"})
    assert repeated.fingerprint == backend.fingerprint
    assert all(out.status == "ok" for _, out in repeated.score(PROMPTS, {}, LETTER))


@pytest.mark.parametrize(
    ("options", "message"),
    [({"policy": "oracle"}, "no policy 'oracle'"), ({"polisy": "hash"}, "no option 'polisy'")],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(ProbesError, match=message):
        ScriptedBackend.from_options(ModelSpec("m", "image", "none"), options)
