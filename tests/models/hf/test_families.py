"""Which class a checkpoint gets, and that its weights arrive."""

import importlib.util
import json
import re
import shutil

import numpy as np
import pytest
import tiny_models
import torch
import transformers

from probes.core import plugins
from probes.core.errors import ProbesError
from probes.core.plugins import Entry
from probes.core.types import FrameRef, ModelSpec, Request, ScoringSpec
from probes.models.checkpoint import find
from probes.models.hf.families import FAMILIES, family_of
from probes.models.hf.families.base import video_pixels
from probes.models.hf.families.qwen_vl import Qwen2VL

LETTER = ScoringSpec("letter")
GENERATE = ScoringSpec("generate", max_new_tokens=2)


@pytest.fixture
def edited(video_checkpoint, tmp_path):
    """Return a function that copies the checkpoint with changes to its config."""

    def edit(**changes):
        folder = shutil.copytree(video_checkpoint, tmp_path / "llava_next_video-by-name-only")
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | changes))
        return folder

    return edit


def family(folder, **spec):
    made = ModelSpec("tiny", "video", str(folder), **spec)
    return family_of(find(made), made).name


@pytest.mark.parametrize(
    ("model_type", "architectures"),
    [
        ("llava_next_video", ["Whatever"]),
        ("llava_next", None),
        ("", ["LlavaNextForConditionalGeneration"]),
    ],
)
def test_the_config_decides_the_family(edited, model_type, architectures):
    folder = edited(model_type=model_type, architectures=architectures)
    assert family(folder) == "llava_next_video"


def test_a_name_decides_nothing(edited, video_checkpoint):
    folder = edited(model_type="internvl_chat", architectures=["InternVLChatModel"])
    for named in ("auto", "llava_next_video"):
        with pytest.raises(ProbesError, match="reads the layout 'internvl_chat'") as caught:
            family(folder, family=named)
        assert "ends in -hf" in caught.value.fix


def test_a_family_of_another_name_is_told(video_checkpoint):
    with pytest.raises(ProbesError, match="no family named 'llava'"):
        family(video_checkpoint, family="llava")


def test_facts_of_both_ways_to_show_a_frame(open_hf, video_checkpoint, image_checkpoint):
    shown = {}
    for folder in (video_checkpoint, image_checkpoint):
        for frame_as in ("video", "image"):
            facts = open_hf(folder, spec={"frame_as": frame_as}).describe()
            shown[folder, frame_as] = {
                name: facts[name]
                for name in ("class", "image_size", "tokens_per_frame", "pooling", "context")
            }
    same = {"class": "LlavaNextVideoForConditionalGeneration", "image_size": 64, "context": 1024}
    for (_, frame_as), facts in shown.items():
        pooled = frame_as == "video"
        assert facts == same | {
            "tokens_per_frame": 4 if pooled else None,
            "pooling": "average 2x2" if pooled else "none",
        }


def test_an_image_checkpoint_answers_as_its_own_class(
    open_hf, image_checkpoint, letter_prompts, frames
):
    """LLaVA-NeXT weights in the video class: its own class's numbers on the image path."""
    import torch
    from PIL import Image
    from transformers import AutoModelForImageTextToText, AutoProcessor

    model = AutoModelForImageTextToText.from_pretrained(image_checkpoint, dtype=torch.float32)
    processor = AutoProcessor.from_pretrained(image_checkpoint)
    assert type(model).__name__ == "LlavaNextForConditionalGeneration"
    prompt = letter_prompts[7]
    names = [part.sha256 for part in prompt.parts if not isinstance(part, str)]
    assert len(names) == 2
    body = "".join(part if isinstance(part, str) else "<image>" for part in prompt.parts)
    inputs = processor(
        text=f"USER: {body} ASSISTANT:",
        images=[Image.fromarray(frames[name]) for name in names],
        return_tensors="pt",
    )
    with torch.inference_mode():
        logprobs = model(**inputs).logits[0, -1].log_softmax(-1)
    ids = processor.tokenizer.convert_tokens_to_ids([f"▁{letter}" for letter in "ABCDE"])
    backend = open_hf(image_checkpoint, spec={"frame_as": "image"})
    ((_, out),) = backend.score([prompt], frames, LETTER)
    assert out.input_tokens == inputs["input_ids"].shape[1]
    assert out.option_logprobs == pytest.approx(logprobs[ids].tolist(), abs=1e-5)


def test_an_image_checkpoint_shows_pooled_frames_too(
    open_hf, image_checkpoint, video_checkpoint, letter_prompts, frames
):
    outputs = {
        folder: dict(open_hf(folder).score(letter_prompts, frames, LETTER))
        for folder in (image_checkpoint, video_checkpoint)
    }
    for at, out in outputs[image_checkpoint].items():
        assert out.status == "ok"
        assert out.input_tokens == outputs[video_checkpoint][at].input_tokens


def test_the_token_ids_of_an_image_checkpoint_are_set(open_hf, image_checkpoint, letter_prompts):
    backend = open_hf(image_checkpoint)
    list(backend.score(letter_prompts[:1], {}, LETTER))
    config = backend._ready.model.config
    assert config.model_type == "llava_next_video"
    # Its tokenizer has no <video>: <image> marks a frame's place, never the class's default id.
    assert (config.image_token_index, config.video_token_index) == (4, 4)


def test_weights_without_some_parameters_are_refused(open_hf, edited, letter_prompts):
    from safetensors.torch import load_file, save_file

    folder = edited()
    weights = load_file(folder / "model.safetensors")
    gone = next(name for name in weights if "layers.1.mlp.down_proj" in name)
    weights.pop(gone)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ProbesError, match=r"1 parameters of .* are missing from the weights"):
        list(open_hf(folder).score(letter_prompts, {}, LETTER))


@pytest.mark.parametrize(
    ("spec", "message"),
    [({"dtype": "int8"}, "unknown dtype"), ({"attention": "fast"}, "does not load")],
)
def test_wrong_settings_are_refused(open_hf, video_checkpoint, letter_prompts, spec, message):
    with pytest.raises(ProbesError, match=message):
        list(open_hf(video_checkpoint, spec=spec).score(letter_prompts, {}, LETTER))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Return a function that makes a tiny checkpoint by the name of its class, once."""
    root = tmp_path_factory.mktemp("families")

    def make(name):
        folder = root / name
        return folder if folder.exists() else getattr(tiny_models, name)(folder)

    return make


@pytest.mark.parametrize(
    ("name", "frame_as", "expected"),
    [
        ("llava_onevision", "video", {"tokens_per_frame": 5, "pooling": "bilinear 2x2"}),
        ("llava_onevision", "image", {"tokens_per_frame": 17, "pooling": "none"}),
        ("internvl", "video", {"tokens_per_frame": 4, "tiles": "none"}),
        ("internvl", "image", {"tokens_per_frame": None, "tiles": "1 to 4, and the whole"}),
        ("qwen2_vl", "video", {"tokens_per_frame": None, "min_pixels": 784}),
        ("qwen2_5_vl", "image", {"tokens_per_frame": None, "max_pixels": 12544}),
        ("llava", "image", {"family": "fallback", "perceive_once": None}),
        ("gemma3", "image", {"family": "fallback", "perceive_once": None}),
    ],
)
def test_every_family_describes_how_a_frame_becomes_tokens(made, open_hf, name, frame_as, expected):
    facts = open_hf(made(name), spec={"frame_as": frame_as}).describe()
    usual = {"family": name, "perceive_once": True, "context": 1024, "frame_as": frame_as}
    assert facts | usual | expected == facts
    assert facts["checkpoint_class"] == facts["class"]
    assert facts["config"]["architectures"] == [facts["class"]]
    assert set(map(len, facts["files"].values())) == {64}
    assert "tokenizer.json" in facts["files"]


def test_every_family_of_the_table_is_chosen_by_a_config():
    families = [FAMILIES.get(name, "") for name in FAMILIES.names()]
    chosen = [kind for family in families for kind in family.model_types]
    assert len(set(chosen)) == len(chosen)
    assert [family.name for family in families] == list(FAMILIES.names())


class Foreign(Qwen2VL):
    """A family of another package, for a class that transformers does not have."""

    name = "foreign"
    model_types = ("foreign_vl",)
    architectures = ("ForeignVL", "InternVLForConditionalGeneration")


class Nameless(Foreign):
    name = "another"


class Pathless(Foreign):
    name = "pathless"
    paths = ("audio",)


class Methodless:
    name = "methodless"
    model_types, architectures, paths = (), (), ("image",)


@pytest.fixture
def installed(monkeypatch):
    """Return a function that has entry points of another package found."""

    def install(**entries):
        found = tuple(Entry(n, f"{__name__}:{c}", "package 2.0") for n, c in entries.items())
        monkeypatch.setattr(plugins, "installed", lambda group: found)
        monkeypatch.setattr(FAMILIES, "_loaded", {})

    return install


def test_installed_families_come_after_built_in_ones(edited, made, installed):
    installed(foreign="Foreign")
    folder = edited(model_type="foreign_vl", architectures=None)
    assert family(folder) == "foreign"
    assert family(made("internvl")) == "internvl"  # though it names that class too
    assert family(made("llava"), frame_as="image") == "fallback"
    assert family(made("internvl"), family="foreign") == "foreign"


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        ({"foreign": "Nameless"}, "`name` is not 'foreign'"),
        ({"pathless": "Pathless"}, "`paths` is .'audio',., not some of video and image"),
        ({"methodless": "Methodless"}, "no method facts"),
        ({"gone": "Gone"}, "no attribute 'Gone'"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_a_broken_family_harms_only_who_names_it(edited, made, installed, entry, why):
    installed(**entry)
    name = next(iter(entry))
    with pytest.raises(ProbesError, match=f"of package 2.0 cannot be loaded.*{why}"):
        family(made("internvl"), family=name)
    assert family(made("internvl")) == "internvl"
    with pytest.warns(UserWarning, match="cannot be loaded"):
        assert family(made("llava"), frame_as="image") == "fallback"


def test_the_size_of_a_frame_gives_its_tokens_before_it_is_encoded(made, open_hf, frames):
    """A prompt that cannot fit is an error with the numbers, and no frame is encoded for it."""
    for name in ("internvl", "qwen2_5_vl", "llava_onevision", "llava"):
        backend = open_hf(made(name), spec={"frame_as": "image"})
        shown = [FrameRef(sha) for sha in frames] * 40
        asked = [Request((*shown, "what?"), ("A", "B")), Request(("what?",), ("A", "B"))]
        outputs = dict(backend.score(asked, frames, GENERATE))
        assert outputs[1].status == "ok"
        assert outputs[0].status == "error"
        assert re.search(r"prompt of \d{4,} tokens and 2 more exceed .* 1024", outputs[0].error)
        assert backend.counters()["perceived"] == 0


def test_a_single_frame_of_llava_onevision_is_shown_as_one_of_several(made, open_hf, frames):
    backend = open_hf(made("llava_onevision"), spec={"frame_as": "image"})
    names = [sha for sha, frame in frames.items() if frame.shape == (64, 64, 3)]
    list(backend.score([Request((FrameRef(names[0]), "x"), ("A",))], frames, LETTER))
    encode_frames = backend._ready.cache._encode_frames
    together = encode_frames([frames[name] for name in names[:3]])
    (alone,) = encode_frames([frames[names[0]]])
    assert alone.shape == (17, 32)
    assert alone == pytest.approx(together[0], abs=1e-5)


@pytest.mark.parametrize("size", [(480, 854), (854, 480), (48, 64), (64, 64), (3, 5), (300, 3)])
def test_pixels_equal_a_video_processors_for_each_frame(size):
    processor, frames = video_processor(), several(size)
    alone = [
        processor(
            # Planes of colour first, and declared as such: three rows would be taken for planes.
            videos=[torch.from_numpy(frame).permute(2, 0, 1)[None].contiguous()],
            input_data_format="channels_first",
            do_sample_frames=False,
            return_tensors="pt",
        )["pixel_values_videos"]
        for frame in frames
    ]
    assert torch.equal(video_pixels(processor, frames), torch.cat(alone))


def test_a_video_processor_with_steps_of_its_own_gets_every_frame_as_a_video():
    class Own(transformers.LlavaNextVideoVideoProcessor):
        def _preprocess(self, videos, **more):
            assert [len(video) for video in videos] == [1, 1, 1]
            return super()._preprocess(videos, **more)

    frames = several((48, 64))
    found = video_pixels(video_processor(Own), frames)
    assert torch.equal(found, video_pixels(video_processor(), frames))


def video_processor(made=transformers.LlavaNextVideoVideoProcessor):
    return made(size={"shortest_edge": 64}, crop_size={"height": 64, "width": 64})


def several(size):
    return list(np.random.default_rng(0).integers(0, 256, (3, *size, 3), np.uint8))


def test_llava_next_runs_in_its_own_class_on_request(open_hf, image_checkpoint, video_checkpoint):
    for folder in (image_checkpoint, video_checkpoint):
        spec = {"family": "llava_next", "frame_as": "image"}
        backend = open_hf(folder, spec=spec)
        list(backend.score([Request(("x",), ("A",))], {}, LETTER))
        assert type(backend._ready.model).__name__ == "LlavaNextForConditionalGeneration"
        with pytest.raises(ProbesError, match="no way to receive a frame as video") as caught:
            open_hf(folder, spec=spec | {"frame_as": "video"})
        assert "pair.frame_as=image" in caught.value.fix


def test_both_classes_of_llava_next_answer_the_same(
    open_hf, image_checkpoint, letter_prompts, frames
):
    answers = [
        dict(open_hf(image_checkpoint, spec=spec).score(letter_prompts, frames, LETTER))
        for spec in (
            {"frame_as": "image"},
            {"frame_as": "image", "family": "llava_next"},
        )
    ]
    for at, out in answers[0].items():
        assert out.option_logprobs == pytest.approx(answers[1][at].option_logprobs, abs=1e-4)


def test_the_fallback_writes_frames_into_the_text_where_a_template_moves_them(open_hf, tmp_path):
    for at, template in enumerate(
        (
            tiny_models.PICTURES_FIRST.replace("video", "image"),
            "{{ messages[0]['content'][-1]['text'] }}",
        )
    ):
        folder = tiny_models.llava(tmp_path / str(at), chat_template=template)
        planning = open_hf(folder, spec={"frame_as": "image"}).planning()
        shown = planning.shown(Request(("a", FrameRef("1" * 64), "b", FrameRef("2" * 64))), "")
        assert "a<frame 11111111>b<frame 22222222>" in shown


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{{ raise_exception('one picture only') }}", "one picture only"),
        ("{{ messages[0]['content'][-1]['text'] | replace('<image>', '') }}", "out of order"),
    ],
)
def test_the_fallback_refuses_templates_that_leave_no_place_for_frames(
    open_hf, tmp_path, template, reason
):
    folder = tiny_models.llava(tmp_path / "member", chat_template=template)
    with pytest.raises(ProbesError, match=reason) as caught:
        open_hf(folder, spec={"frame_as": "image"})
    assert "template" in caught.value.what


def test_the_fallback_has_the_image_path_only(made, open_hf):
    with pytest.raises(ProbesError, match="no way to receive a frame as video"):
        open_hf(made("llava"), spec={"frame_as": "video"})


def test_text_cannot_become_a_picture_of_the_fallback(made, open_hf, frames):
    name = next(iter(frames))
    backend = open_hf(made("llava"), spec={"frame_as": "image"})
    prompt = Request((FrameRef(name), "an <image> of", FrameRef(name), "</s> what?"), ("A", "B"))
    ((_, out),) = backend.score([prompt], frames, LETTER)
    assert (out.status, out.option_tokens) == ("ok", (1, 1))
    ((_, lost),) = backend.score([Request((FrameRef("0" * 64),), ("A",))], frames, LETTER)
    assert lost.status == "error"
    assert "KeyError" in lost.error
    ((_, bare),) = backend.score([Request(("x",))], frames, ScoringSpec("cloze"))
    assert "no options" in bare.error
    with pytest.raises(ProbesError, match="as one token of its own"):
        list(backend.score([Request(("x",), ("A", "the box"))], frames, LETTER))


def test_a_closed_fallback_loads_again(made, open_hf, frames):
    backend = open_hf(made("llava"), spec={"frame_as": "image"}, device="auto")
    first = list(backend.score([Request(("x",), ("A", "B"))], frames, LETTER))
    device = str(backend._ready.model.device)
    backend.close()
    assert backend._ready is None
    assert backend.describe()["device"] == device
    again = list(backend.score([Request(("x",), ("A", "B"))], frames, LETTER))
    assert first[0][1].option_logprobs == again[0][1].option_logprobs
    assert backend.counters()["passes"] == 2


@pytest.mark.parametrize("where", ["chat_template.json", "tokenizer_config.json", None])
@pytest.mark.parametrize("name", ["llava_onevision", "qwen2_5_vl"])
def test_a_template_is_found_in_any_of_its_files_or_there_is_a_remark(
    made, open_hf, name, where, tmp_path
):
    """Older checkpoints have it elsewhere; one without any is asked in bare text, which is said."""
    folder = shutil.copytree(made(name), tmp_path / "member")
    template = (folder / "chat_template.jinja").read_text()
    (folder / "chat_template.jinja").unlink()
    if where:
        content = json.loads((folder / where).read_text()) if (folder / where).exists() else {}
        (folder / where).write_text(json.dumps(content | {"chat_template": template}))
    backend = open_hf(folder)
    shown = backend.preprocessor().shown(Request(("what?",), ("A", "B")))
    said = [one for one in backend.remarks() if "no chat template" in one]
    if where:
        assert shown == open_hf(made(name)).preprocessor().shown(Request(("what?",), ("A", "B")))
        assert "assistant" in shown
        assert not said
    else:
        assert shown == "what?"
        assert "bare text" in said[0]


@pytest.mark.parametrize("bits", ["4bit", "8bit"])
@pytest.mark.parametrize("name", ["llava_next_video", "qwen2_5_vl", "llava"])
def test_settings_of_quantisation_reach_the_loader(
    made, open_hf, name, bits, monkeypatch, tmp_path
):
    """The package is not needed: only its name and version are looked up."""
    import transformers

    installed = tmp_path / "bitsandbytes-0.48.0.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: bitsandbytes\nVersion: 0.48.0\n"
    )
    (tmp_path / "bitsandbytes.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    seen = {}

    def from_pretrained(folder, **settings):
        seen.update(settings)
        raise RuntimeError("far enough")

    config = json.loads((made(name) / "config.json").read_text())
    chosen = (
        transformers.AutoModelForImageTextToText
        if name == "llava"
        else getattr(transformers, config["architectures"][0])
    )
    monkeypatch.setattr(chosen, "from_pretrained", from_pretrained)
    spec = {"frame_as": "image", "dtype": "bfloat16", "attention": "eager"}
    backend = open_hf(made(name), spec=spec, options={"quantize": bits})
    with pytest.raises(ProbesError, match="far enough"):
        list(backend.score([Request(("x",), ("A", "B"))], {}, LETTER))
    given = seen["quantization_config"]
    assert (given.load_in_4bit, given.load_in_8bit) == (bits == "4bit", bits == "8bit")
    if bits == "4bit":
        assert str(given.bnb_4bit_compute_dtype) == "torch.bfloat16"
        assert given.bnb_4bit_quant_type == "nf4"
    assert seen["device_map"] == {"": "cpu"}
    assert (str(seen["dtype"]), seen["attn_implementation"]) == ("torch.bfloat16", "eager")
    assert seen["use_safetensors"] is True


def test_quantised_weights_need_their_package(open_hf, video_checkpoint, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *_: None)
    with pytest.raises(ProbesError, match="bitsandbytes, which is not installed"):
        open_hf(video_checkpoint, options={"quantize": "4bit"})
    with pytest.raises(ProbesError, match="no quantisation '2bit'"):
        open_hf(video_checkpoint, options={"quantize": "2bit"})


def test_quantised_weights_answer_by_another_fingerprint(open_hf, video_checkpoint, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *_: True)
    fingerprints = {
        open_hf(video_checkpoint, options={"quantize": bits}).fingerprint
        for bits in (None, "4bit", "8bit")
    }
    assert len(fingerprints) == 3
    assert open_hf(video_checkpoint).fingerprint in fingerprints
