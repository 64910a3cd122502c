"""Classes that are a part of something larger, or have parts that are never run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from hub_layouts import files
from hub_layouts.omni import qwen2_5_omni
from letter_scores import letter_scores
from plain_classes import Plain, pictures

from probes.core.hashing import array_sha256
from probes.core.types import FrameRef, ModelSpec, Request, ScoringSpec
from probes.models.checkpoint import find
from probes.models.hf.families.base import DevicePlacement
from probes.models.hf.families.generic import GenericFamily
from probes.models.hf.families.outline import META

TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% for part in message['content'] %}{% if part['type'] == 'text' %}{{ part['text'] }}"
    "{% else %}<|vision_bos|><|{{ part['type'] | upper }}|><|vision_eos|>{% endif %}{% endfor %}"
    "<|im_end|>\n{% endfor %}<|im_start|>assistant\n"
)
A, B = pictures([(48, 64), (90, 40)])
PROMPTS: list[list[Any]] = [["First", A, "then", B, "A or B?"], ["A or B?"]]


@pytest.fixture(scope="module")
def omni(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hub") / "Qwen2.5-Omni-7B"
    folder.mkdir()
    qwen2_5_omni(folder, TEMPLATE)
    return folder


@pytest.mark.parametrize("way", ["video", pytest.param("image", marks=pytest.mark.slow)])
def test_of_a_model_that_hears_and_speaks_the_part_that_reads_is_asked(
    way: str, omni: Path, open_hf: Any
) -> None:
    backend, plain = open_hf(omni, spec={"frame_as": way}), Plain(omni, way)
    facts = backend.describe()
    assert facts["class"] == "Qwen2_5OmniThinkerForConditionalGeneration"
    assert (facts["family"], facts["context"]) == ("fallback", 32768)
    frames = {array_sha256(one): one for one in (A, B)}
    asked = [
        Request(
            tuple(p if isinstance(p, str) else FrameRef(array_sha256(p)) for p in prompt),
            ("A", "B"),
        )
        for prompt in PROMPTS
    ]
    for at, answer in backend.score(asked, frames, ScoringSpec("letter")):
        assert answer.input_tokens == plain.inputs(PROMPTS[at])["input_ids"].shape[1]
        expected = letter_scores(plain.processor.tokenizer, plain.logprobs(PROMPTS[at]), "AB")
        assert answer.option_logprobs == pytest.approx(expected, abs=1e-3)
    backend.close()


def test_a_part_without_an_end_of_its_own_stops_at_its_tokenizers(omni: Path, open_hf: Any) -> None:
    thinker = json.loads((omni / "config.json").read_text())["thinker_config"]
    thinker.pop("eos_token_id", None)
    files.change(omni, "config.json", thinker_config=thinker)
    backend = open_hf(omni, spec={"frame_as": "image"})
    ((_, answer),) = backend.score([Request(("x",))], {}, ScoringSpec("generate", 3))
    assert answer.status == "ok"
    model = backend._ready.model
    assert model.generation_config.eos_token_id == 151645
    # A head that always writes <|im_end|>: the answer is whole, and empty.
    with torch.no_grad():
        model.lm_head.weight.zero_()
        model.lm_head.bias = torch.nn.Parameter(torch.zeros(len(model.lm_head.weight)))
        model.lm_head.bias[151645] = 9.0
    ((_, answer),) = backend.score([Request(("y",))], {}, ScoringSpec("generate", 3))
    assert (answer.text, answer.output_tokens, answer.cut_off) == ("", 1, False)
    backend.close()


@pytest.mark.parametrize("device", ["cpu", META])
def test_a_tower_without_the_kernel_is_no_reason_to_refuse_a_class(
    device: str, tmp_path: Path
) -> None:
    """Gemma 4's tower for sound, which no prompt reaches, has no sdpa."""
    small = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "head_dim": 16}
    text = small | {"vocab_size": 64, "intermediate_size": 32, "num_key_value_heads": 1}
    text |= {"vocab_size_per_layer_input": 64, "hidden_size_per_layer_input": 4}
    text |= {"global_head_dim": 16, "layer_types": ["sliding_attention", "full_attention"]}
    vision = small | {"intermediate_size": 32, "num_key_value_heads": 2, "global_head_dim": 16}
    sound = small | {"num_hidden_layers": 1, "output_proj_dims": 32}
    sound.pop("head_dim")
    sound |= {"subsampling_conv_channels": [4, 4]}
    config = transformers.Gemma4Config(text_config=text, vision_config=vision, audio_config=sound)
    transformers.Gemma4ForConditionalGeneration(config).save_pretrained(tmp_path)
    spec = ModelSpec("tiny", "video", str(tmp_path), frame_as="image")
    model = GenericFamily().load(find(spec), spec, DevicePlacement(device))
    assert model.config._attn_implementation == "sdpa"
    assert model.config.audio_config._attn_implementation == "eager"
