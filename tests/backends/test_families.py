"""Which class a checkpoint gets, and that its weights arrive."""

import json
import shutil

import pytest

from probes.backends.checkpoint import find
from probes.backends.families import family_of
from probes.types import ModelSpec, ProbesError, ScoringSpec

LETTER = ScoringSpec("letter")


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
def test_the_config_says_the_family(edited, model_type, architectures):
    folder = edited(model_type=model_type, architectures=architectures)
    assert family(folder) == "llava_next_video"


def test_a_name_says_nothing(edited):
    folder = edited(model_type="internvl", architectures=["InternVL"])
    with pytest.raises(ProbesError, match="no family for model_type 'internvl'"):
        family(folder)
    assert family(folder, family="llava_next_video") == "llava_next_video"
    with pytest.raises(ProbesError, match="no family named 'llava'"):
        family(folder, family="llava")


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
    config = backend._ready.loaded.model.config
    assert config.model_type == "llava_next_video"
    # Its tokenizer has no <video>: <image> marks a frame's place, never the class's default id.
    assert (config.image_token_index, config.video_token_index) == (4, 4)


def test_weights_that_lack_parameters_are_refused(open_hf, edited, letter_prompts):
    from safetensors.torch import load_file, save_file

    folder = edited()
    weights = load_file(folder / "model.safetensors")
    gone = next(name for name in weights if "layers.1.mlp.down_proj" in name)
    weights.pop(gone)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ProbesError, match="lack 1 parameters"):
        list(open_hf(folder).score(letter_prompts, {}, LETTER))


@pytest.mark.parametrize(
    ("spec", "message"),
    [({"dtype": "int8"}, "unknown dtype"), ({"attention": "fast"}, "does not load")],
)
def test_wrong_settings_are_refused(open_hf, video_checkpoint, letter_prompts, spec, message):
    with pytest.raises(ProbesError, match=message):
        list(open_hf(video_checkpoint, spec=spec).score(letter_prompts, {}, LETTER))
