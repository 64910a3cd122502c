"""lmms-eval's wrappers: which are refused, and how stand-ins and real ones are driven."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import tiny_models

from probes.core.errors import ProbesError
from probes.core.hashing import array_sha256
from probes.core.types import FrameRef, ModelSpec, Request, ScoringSpec
from probes.models import open_backend
from probes.models.base import CountsTokens
from probes.models.lmms_eval import wrappers
from probes.models.lmms_eval.backend import messages

TEXT = ScoringSpec("generate", max_new_tokens=8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that is accepted as a checkpoint until it is loaded."""
    made: Path = tmp_path_factory.mktemp("checkpoint")
    (made / "config.json").write_text('{"model_type": "any"}')
    (made / "model.safetensors").write_text("")
    return made


@pytest.fixture
def opened(folder: Path, settings: Any) -> Callable[..., Any]:
    def make(model: str | None, spec: dict[str, Any] | None = None, **options: Any) -> Any:
        member = {"frame_as": "image", "dtype": "bfloat16"} | (spec or {})
        given = {"model": model} | options
        return open_backend(
            settings(name="lmms", options=given), ModelSpec("tiny", "image", str(folder), **member)
        )

    return make


def ask(backend: Any, prompts: list[Request], frames: Any) -> list[Any]:
    found = dict(backend.score(prompts, frames, TEXT))
    return [found[at] for at in range(len(prompts))]


@pytest.fixture(scope="module")
def stand_in() -> Callable[[Callable[..., Any]], str]:
    """Return a function that registers a wrapper which answers by a function of its request."""
    from lmms_eval.api.model import lmms
    from lmms_eval.models import MODEL_REGISTRY_V2
    from lmms_eval.models.registry_v2 import ModelManifest

    class Base(lmms):  # type: ignore[misc]
        is_simple = False
        reply: ClassVar[Callable[..., Any]]

        def __init__(self, pretrained: str, batch_size: int = 4, device: str = "cuda") -> None:
            super().__init__()
            assert batch_size == 1
            assert device == "cpu"

        def generate_until(self, requests: Any) -> list[Any]:
            # The first request's messages for all of them, as in some real wrappers.
            _, doc_to_messages, settings, number, task, split = requests[0].args
            shown = doc_to_messages(self.task_dict[task][split][number])
            return [type(self).reply(shown, settings)] * len(requests)

        def loglikelihood(self, requests: Any) -> Any:
            raise AssertionError

        generate_until_multi_round = clean = loglikelihood

    def register(reply: Callable[..., Any], **members: Any) -> str:
        name = f"stand_in_{len(globals())}"
        globals()[name] = type(name, (Base,), {"reply": staticmethod(reply), **members})
        path = f"{__name__}.{name}"
        MODEL_REGISTRY_V2.register_manifest(ModelManifest(name, chat_class_path=path))
        return name

    return register


# What is refused


@pytest.mark.parametrize(
    ("model", "why"),
    [
        (None, "no model wrapper"),
        ("openai", "backend=server"),
        ("minicpm_o", "files only"),
        ("lfm2_5_vl", "first picture"),
        ("thyme", "runs code"),
    ],
)
def test_wrappers_known_to_be_unsuitable_are_refused_without_importing_anything(
    model: str | None, why: str, opened: Any
) -> None:
    with pytest.raises(ProbesError, match=why) as caught:
        opened(model)
    assert "qwen2_5_vl" in caught.value.fix


def test_the_tables_name_each_wrapper_once() -> None:
    from lmms_eval.models import AVAILABLE_CHAT_TEMPLATE_MODELS

    named = [*wrappers.RAN, *wrappers.READ, *wrappers.REFUSED]
    assert len(named) == len(set(named))
    assert set(named) == set(AVAILABLE_CHAT_TEMPLATE_MODELS)  # of the installed version


@pytest.mark.parametrize(
    ("model", "why", "fix"),
    [
        ("qwen2_5_v", "no model 'qwen2_5_v'", "qwen2_5_vl"),
        ("qwen2_vl", "a simple wrapper", "backend=hf"),
        ("openai_compatible", "it asks a server", "backend=hf"),
    ],
)
def test_wrappers_that_cannot_interleave_are_refused(
    model: str, why: str, fix: str, opened: Any
) -> None:
    with pytest.raises(ProbesError, match=why) as caught:
        ask(opened(model), [Request(("q",))], {})
    assert fix in caught.value.fix


def test_a_wrapper_that_does_not_import_is_an_error_with_the_reason(opened: Any) -> None:
    from lmms_eval.models import MODEL_REGISTRY_V2
    from lmms_eval.models.registry_v2 import ModelManifest

    manifest = ModelManifest("stand_in_absent", chat_class_path="no_such_module.Wrapper")
    MODEL_REGISTRY_V2.register_manifest(manifest)
    with pytest.raises(ProbesError, match="no_such_module"):
        ask(opened("stand_in_absent"), [Request(("q",))], {})


def test_a_chat_wrapper_has_to_ask_for_messages(opened: Any, stand_in: Any) -> None:
    from lmms_eval.api.model import lmms
    from lmms_eval.models import MODEL_REGISTRY_V2
    from lmms_eval.models.registry_v2 import ModelManifest

    class NoMessages(lmms):  # type: ignore[misc]
        """Has the flag of a chat wrapper, and takes texts and pictures separately all the same."""

        is_simple = False

    name = stand_in(lambda shown, settings: "x")
    assert wrappers._asks_for_messages(wrappers.wrapper_class(name)) is True
    globals()["NoMessages"] = NoMessages
    path = f"{__name__}.NoMessages"
    MODEL_REGISTRY_V2.register_manifest(ModelManifest("no_messages", chat_class_path=path))
    with pytest.raises(ProbesError, match="never asks for messages"):
        ask(opened("no_messages"), [Request(("q",))], {})


@pytest.mark.parametrize(
    ("scoring", "fix"),
    [
        (ScoringSpec("letter"), "scoring=generate"),
        (ScoringSpec("cloze"), "scoring=generate"),
        (ScoringSpec("generate", 8, "Answer:"), "answer_prefix"),
    ],
)
def test_wrappers_only_write_text(scoring: ScoringSpec, fix: str, opened: Any) -> None:
    with pytest.raises(ProbesError) as caught:
        list(opened("qwen2_5_vl").score([Request(("q",))], {}, scoring))
    assert fix in caught.value.fix


def test_frames_as_videos_and_strange_options_are_refused(opened: Any) -> None:
    with pytest.raises(ProbesError) as caught:
        opened("qwen2_5_vl", spec={"frame_as": "video"})
    assert "pair.frame_as=image" in caught.value.fix
    with pytest.raises(ProbesError, match="no further variables") as caught:
        opened("qwen2_5_vl", spec={"chat_template_kwargs": (("think", False),)})
    assert caught.value.where.endswith(".chat_template_kwargs")
    with pytest.raises(ProbesError, match="no option 'pretrained'"):
        opened("qwen2_5_vl", pretrained="x")
    with pytest.raises(ProbesError, match="not a group of arguments"):
        opened("qwen2_5_vl", args="x=1")


def test_arguments_that_lead_to_files_that_no_key_covers_are_refused(
    opened: Callable[..., Any], tmp_path: Path
) -> None:
    for name in ("pretrained", "model"):
        with pytest.raises(ProbesError, match="the wrapper's weights are the member's"):
            opened("qwen2_5_vl", args={name: "other/model"})
    (tmp_path / "lora").mkdir()
    for value in (str(tmp_path / "lora"), ["x", str(tmp_path / "lora")]):
        with pytest.raises(ProbesError, match="whose content no cache key would cover") as caught:
            opened("qwen2_5_vl", args={"delta": value})
        assert caught.value.where == "backend.options.args.delta"
    plain = {"system_prompt": "Answer A/B/C. " * 500, "max_pixels": 784}
    opened("qwen2_5_vl", args=plain)


def test_bounds_of_pixels_go_to_wrappers_that_take_them(opened: Any, stand_in: Any) -> None:
    with pytest.raises(ProbesError, match="max_pixels is given twice") as caught:
        opened("qwen2_5_vl", spec={"max_pixels": 784}, args={"max_pixels": 784})
    assert caught.value.where == "backend.options.args.max_pixels and pair.image.max_pixels"
    opened("qwen2_5_vl", spec={"max_pixels": 784}).check_files(thorough=True)
    bound, free = opened("qwen2_5_vl", spec={"max_pixels": 784}), opened("qwen2_5_vl")
    assert bound.describe()["max_pixels"] == 784
    assert bound.fingerprint != free.fingerprint
    name = stand_in(lambda shown, given: "x")
    with pytest.raises(ProbesError, match="takes no max_pixels") as caught:
        opened(name, spec={"max_pixels": 784}).check_files(thorough=True)
    assert caught.value.where == "pair.image.max_pixels"
    opened(name).check_files(thorough=True)


def test_any_file_of_the_folder_counts_and_is_watched(
    folder: Path, tmp_path: Path, settings: Any, stand_in: Any
) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "member"))
    (copy / "pytorch_model.bin").write_text("pickled")

    def make() -> Any:
        spec = ModelSpec("tiny", "image", str(copy), frame_as="image", dtype="bfloat16")
        return open_backend(settings(name="lmms", options={"model": name}), spec)

    name = stand_in(lambda shown, given: "fine")
    first = make()
    assert len(ask(first, [Request(("q",))], {})) == 1
    (copy / "pytorch_model.bin").write_text("other")
    assert make().fingerprint != first.fingerprint
    with pytest.raises(ProbesError, match=r"pytorch_model\.bin changed after"):
        ask(first, [Request(("q",))], {})


def test_a_template_that_moves_pictures_is_refused(
    opened: Any, stand_in: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = stand_in(lambda shown, settings: "x")
    monkeypatch.setattr("probes.models.chat_template.order_of_pictures", lambda *_: "moved")
    with pytest.raises(ProbesError, match="all pictures before all text"):
        ask(opened(name), [Request(("q",))], {})
    (output,) = ask(opened(name, order_is_checked=True), [Request(("q",))], {})
    assert output.text == "x"


# How wrappers are driven


def test_every_request_is_separate_and_has_settings_of_its_own(
    opened: Any, stand_in: Any, frames: dict[str, np.ndarray]
) -> None:
    seen: list[dict[str, Any]] = []

    def reply(shown: Any, settings: dict[str, Any]) -> str:
        seen.append(dict(settings))
        settings |= {"image_sizes": 3, "temperature": 1.0}  # as some wrappers do
        return " " + " ".join(
            part["text"] if part["type"] == "text" else str(part["url"].size)
            for part in shown[0]["content"]
        )

    a, b = list(frames)[-2:]
    parts = (FrameRef(a), "then <image>", FrameRef(b), "what?")
    outputs = ask(opened(stand_in(reply)), [Request(parts), Request(("only text",))], frames)
    assert [one.text for one in outputs] == [
        "(80, 48) then <\u200bimage> (60, 90) what?",
        "only text",
    ]
    assert len(seen) == 3  # the preflight prompt is the first
    wanted = {"max_new_tokens": 8, "temperature": 0, "do_sample": False, "num_beams": 1}
    assert all(one == wanted for one in seen)


def test_pixels_reach_the_wrapper_unchanged(frames: dict[str, np.ndarray]) -> None:
    sha = next(iter(frames))
    ((part,),) = (one["content"] for one in messages(Request((FrameRef(sha),)), frames))
    assert array_sha256(np.asarray(part["url"])) == sha


def test_exceptions_and_empty_replies_are_records(opened: Any, stand_in: Any) -> None:
    from lmms_eval.api.instance import GenerationResult, TokenCounts
    from loguru import logger

    def reply(shown: Any, settings: Any) -> Any:
        text = shown[0]["content"][-1]["text"]
        if text == "raise":
            raise ValueError("too many pictures")
        if text == "exit":
            raise SystemExit(1)
        if text == "swallow":
            logger.error("Error out of memory in generating")
            return GenerationResult("", None)
        if text == "end at once":
            return GenerationResult("", TokenCounts(output_tokens=1))
        if text == "failed":
            return "[LMMS_EVAL_REQUEST_FAILED after 3 retries] no route"
        return GenerationResult(" fine ", TokenCounts(input_tokens=5, output_tokens=2))

    kinds = ["raise", "exit", "swallow", "end at once", "failed", "silent", "fine"]
    backend = opened(stand_in(reply))
    found = dict(zip(kinds, ask(backend, [Request((kind,)) for kind in kinds], {}), strict=True))
    assert {kind: one.status for kind, one in found.items() if one.status != "error"} == {
        "end at once": "ok",
        "silent": "ok",
        "fine": "ok",
    }
    assert found["raise"].error == "ValueError: too many pictures"
    assert "SystemExit" in found["exit"].error
    assert "out of memory" in found["swallow"].error
    assert "no route" in found["failed"].error
    assert (found["end at once"].text, found["end at once"].output_tokens) == ("", 1)
    assert (found["fine"].text, found["fine"].input_tokens) == ("fine", 5)
    assert backend.counters() == {"requests": len(kinds)}
    backend.close()  # never through the wrapper's own clean(), which raises here


def test_a_wrapper_that_always_fails_ends_the_run_at_once(opened: Any, stand_in: Any) -> None:
    def reply(shown: Any, settings: Any) -> str:
        raise TypeError("audios is deprecated")

    with pytest.raises(ProbesError, match="fails: TypeError: audios is deprecated"):
        ask(opened(stand_in(reply)), [Request(("q",))], {})


def test_another_dtype_than_the_pairs_is_refused(opened: Any, stand_in: Any) -> None:
    model = type("model", (), {"dtype": "torch.bfloat16"})
    name = stand_in(lambda shown, settings: "x", model=model)
    with pytest.raises(ProbesError, match="loads weights as bfloat16") as caught:
        ask(opened(name, spec={"dtype": "float32"}), [Request(("q",))], {})
    assert caught.value.fix == "set pair.dtype=bfloat16"
    assert ask(opened(name), [Request(("q",))], {})[0].text == "x"


def test_arguments_go_to_the_wrapper_and_into_the_fingerprint(opened: Any, stand_in: Any) -> None:
    name = stand_in(lambda shown, settings: "x")
    with pytest.raises(ProbesError, match="unexpected keyword argument 'pixels'"):
        ask(opened(name, args={"pixels": 3}), [Request(("q",))], {})
    different = [
        opened("qwen2_5_vl"),
        opened("llava_hf"),
        opened("qwen2_5_vl", args={"max_pixels": 784}),
        opened("qwen2_5_vl", spec={"dtype": "float32"}),
    ]
    assert len({one.fingerprint for one in different}) == len(different)
    assert different[0].describe()["wrapper"] == "qwen2_5_vl"


# Real wrappers


@pytest.mark.slow
@pytest.mark.parametrize(
    ("wrapper", "make", "args"),
    [
        # The wrapper's own bounds of pixels and of tiles, set to those of the checkpoint.
        ("qwen2_5_vl", tiny_models.qwen2_5_vl, {"min_pixels": 784, "max_pixels": 12_544}),
        ("llava_hf", tiny_models.llava, {}),
        ("internvl_hf", tiny_models.internvl, {"max_patches": 4}),
    ],
)
def test_real_wrappers_write_what_the_hf_backend_writes(
    wrapper: str,
    make: Callable[[Path], Path],
    args: dict[str, Any],
    settings: Any,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    folder = make(tmp_path / "member")
    draw = np.random.default_rng(0)
    sizes = ((56, 56), (112, 112), (84, 140))  # multiples of 28: they are not resized twice
    shown = [draw.integers(0, 256, (*size, 3), np.uint8) for size in sizes]
    frames = {array_sha256(frame): frame for frame in shown}
    a, b, c = map(FrameRef, frames)
    prompts = [
        Request((a, "what is on?")),
        Request((a, b, c, "red box the hand then?")),
        Request((a, " red box ", b, " the hand ", c, " then?")),
        Request((c, " red box ", b, " the hand ", a, " then?")),
        Request(("what is first ?",)),
    ]
    spec = ModelSpec("tiny", "image", str(folder), frame_as="image", dtype="bfloat16")
    lmms = open_backend(settings(name="lmms", options={"model": wrapper, "args": args}), spec)
    capfd.readouterr()
    there = ask(lmms, prompts, frames)
    assert "Model Responding" not in capfd.readouterr().err
    here = ask(open_backend(settings(), spec), prompts, frames)
    alone = 4 if wrapper == "llava_hf" else 5  # it fails on a prompt without a picture
    assert [one.text for one in there[:alone]] == [one.text for one in here[:alone]]
    assert len({one.text for one in here}) == len(prompts)
    assert [one.status for one in there[alone:]] == ["error"] * (len(prompts) - alone)


def test_tokens_are_counted_by_the_checkpoints_own_tokenizer(
    opened: Any, stand_in: Any, settings: Any
) -> None:
    name = stand_in(lambda shown, given: "B")
    spec = ModelSpec("tiny", "image", "embedded:image", frame_as="image")
    backend = open_backend(settings(name="lmms", options={"model": name}), spec)
    assert isinstance(backend, CountsTokens)
    start = backend.count_tokens("")
    # As the tiny pair's vocabulary has it: a phrase is one token, an unknown word is spelled out.
    assert backend.count_tokens(" the red box") - start == 1
    assert backend.count_tokens(" passage") - start == 8
    with pytest.raises(ProbesError, match="tokenizer"):
        opened(name).count_tokens("a")
