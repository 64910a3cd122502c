"""Tiny random checkpoints of the genuine classes, made once per session."""

from __future__ import annotations

import string
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from probes.backends import open_backend
from probes.provenance import array_sha256
from probes.types import FrameRef, ModelSpec, Prompt

SPECIAL = ("<unk>", "<s>", "</s>", "<pad>", "<image>", "<video>")
WORDS = """
USER: ASSISTANT: the a red blue box cup hand opens closes moves takes what happens between in both
frames answer letter question option is on at and then left right first last
"""
# Pictures first, then text, as in the official LLaVA-NeXT-Video template.
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ message['role'].upper() + ': ' }}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'video') %}"
    "{{ '<video>\n' }}{% endfor %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}"
    "{{ content['text'] + ' ' }}{% endfor %}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)


@dataclass(frozen=True)
class Settings:
    """Stands for the configuration's backend section."""

    name: str = "hf"
    batch_size: int = 8
    feature_cache_mb: int = 64
    device: str = "cpu"
    options: dict[str, Any] = field(default_factory=dict)


def make_tokenizer(special=SPECIAL, words=WORDS, scheme="first", chat_template=CHAT_TEMPLATE):
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    pieces = [(token, 0.0) for token in special]
    pieces += [(f"<0x{byte:02X}>", -20.0) for byte in range(256)]
    pieces += [(c, -10.0) for c in "▁\n" + string.printable[:95].replace(" ", "")]
    pieces += [("▁" + word, -1.0) for word in dict.fromkeys([*words.split(), *"ABCDEFGHIJ"])]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=0, byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme)
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in special])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 1)]
    )
    named = {f"{t[1:-1]}_token": t for t in special if t in ("<image>", "<video>")}
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        extra_special_tokens=named,
        clean_up_tokenization_spaces=False,
        chat_template=chat_template,
    )


def text_and_vision(tokenizer, side=64, context=1024, seed=0):
    import torch
    from transformers import CLIPVisionConfig, LlamaConfig

    torch.manual_seed(seed)
    vision = CLIPVisionConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=side,
        patch_size=16,
        projection_dim=32,
    )
    text = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=48,
        intermediate_size=96,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=context,
        # Wide enough that random answers differ well beyond rounding.
        initializer_range=0.2,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=3,
    )
    return {"vision_config": vision, "text_config": text}


def processors_of(side, pinpoints):
    from transformers import LlavaNextImageProcessor, LlavaNextVideoVideoProcessor

    size = {"size": {"shortest_edge": side}, "crop_size": {"height": side, "width": side}}
    return (
        LlavaNextImageProcessor(**size, image_grid_pinpoints=pinpoints),
        LlavaNextVideoVideoProcessor(**size),
    )


def make_video_checkpoint(folder: Path, side=64, context=1024, **kwargs) -> Path:
    from transformers import (
        LlavaNextVideoConfig,
        LlavaNextVideoForConditionalGeneration,
        LlavaNextVideoProcessor,
    )

    tokenizer = make_tokenizer(**kwargs)
    pinpoints = [[side, side], [side, 2 * side]]
    model = LlavaNextVideoForConditionalGeneration(
        LlavaNextVideoConfig(
            **text_and_vision(tokenizer, side, context),
            image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
            video_token_index=tokenizer.convert_tokens_to_ids("<video>"),
            image_grid_pinpoints=pinpoints,
            vision_feature_layer=-1,
        )
    )
    image, video = processors_of(side, pinpoints)
    processor = LlavaNextVideoProcessor(
        tokenizer=tokenizer,
        image_processor=image,
        video_processor=video,
        patch_size=16,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=tokenizer.chat_template,
    )
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def make_image_checkpoint(folder: Path, side=64) -> Path:
    """A LLaVA-NeXT checkpoint: no <video> token, no video processor, no video settings."""
    from transformers import LlavaNextConfig, LlavaNextForConditionalGeneration, LlavaNextProcessor

    tokenizer = make_tokenizer(
        special=SPECIAL[:5], chat_template=CHAT_TEMPLATE.replace("video", "image")
    )
    pinpoints = [[side, side], [side, 2 * side]]
    model = LlavaNextForConditionalGeneration(
        LlavaNextConfig(
            **text_and_vision(tokenizer, side),
            image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
            image_grid_pinpoints=pinpoints,
            vision_feature_layer=-1,
        )
    )
    processor = LlavaNextProcessor(
        tokenizer=tokenizer,
        image_processor=processors_of(side, pinpoints)[0],
        patch_size=16,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=tokenizer.chat_template,
    )
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def video_checkpoint(tmp_path_factory) -> Path:
    return make_video_checkpoint(tmp_path_factory.mktemp("video") / "member")


@pytest.fixture(scope="session")
def image_checkpoint(tmp_path_factory) -> Path:
    return make_image_checkpoint(tmp_path_factory.mktemp("image") / "member")


@pytest.fixture(scope="session")
def new_tokenizer():
    """Return the function that makes a small tokenizer with byte fallback."""
    return make_tokenizer


@pytest.fixture(scope="session")
def settings():
    """Return the class that stands for the configuration's backend section."""
    return Settings


@pytest.fixture(scope="session")
def open_hf():
    """Return a function that opens the hf backend on a folder."""

    def opened(folder: Path, *, spec: dict[str, Any] | None = None, **of_settings: Any):
        return open_backend(
            Settings(**of_settings), ModelSpec("tiny", "video", str(folder), **(spec or {}))
        )

    return opened


@pytest.fixture(scope="session")
def frames() -> dict[str, np.ndarray]:
    """Twelve frames of one size and two of others, by hash."""
    draw = np.random.default_rng(0)
    sizes = [(64, 64)] * 12 + [(48, 80), (90, 60)]
    made = [draw.integers(0, 256, (*size, 3), np.uint8) for size in sizes]
    return {array_sha256(frame): frame for frame in made}


@pytest.fixture(scope="session")
def cloze_prompts(frames) -> list[Prompt]:
    """Prompts of mixed lengths: no frames, one, several; with and without text between."""
    names = list(frames)
    options = ("the red box opens", "a hand moves the cup", "blue", "box closes then opens", "no")
    out = []
    for count in (0, 1, 2, 5, 10):
        for text in (" ", " the hand takes the red cup ", ""):
            parts: list[Any] = ["what is first ?"] if count % 2 else []
            for name in names[:count]:
                parts += [FrameRef(name), text] if text else [FrameRef(name)]
            out.append(Prompt((*parts, " what happens between the frames?"), options))
    return out


@pytest.fixture(scope="session")
def letter_prompts(cloze_prompts) -> list[Prompt]:
    return [replace(prompt, options=tuple("ABCDE")) for prompt in cloze_prompts]
