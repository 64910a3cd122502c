"""Tiny checkpoints with random weights of the genuine classes, saved with their real processors.

Each maker fills a folder as `save_pretrained` does and returns it; nothing is fetched.
"""

from __future__ import annotations

import json
import string
from pathlib import Path
from typing import Any

WORDS = """
USER: ASSISTANT: the a red blue box cup hand opens closes moves takes what happens between in both
frames answer letter question option is on at and then left right first last
"""
CONTEXT = 1024
"""Positions of every tiny language model."""

_QWEN = "im_start im_end vision_start vision_end vision_pad image_pad video_pad"
QWEN_SPECIAL = tuple(f"<|{name}|>" for name in _QWEN.split())
CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}"
    "{% if part['type'] in ('image', 'image_url') %}{{ IMAGE }}"
    "{% elif part['type'] == 'video' %}{{ VIDEO }}"
    "{% elif part['type'] == 'text' %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""Pictures stay in their places; IMAGE and VIDEO are what a family writes for one."""

LLAVA_SPECIAL = ("<unk>", "<s>", "</s>", "<pad>", "<image>", "<video>")
# Pictures first, then text, as in the official LLaVA-NeXT-Video template.
PICTURES_FIRST = (
    "{% for message in messages %}{{ message['role'].upper() + ': ' }}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'video') %}"
    "{{ '<video>\n' }}{% endfor %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}"
    "{{ content['text'] + ' ' }}{% endfor %}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)
# Pictures in their places, as in newer templates.
IN_PLACE = (
    "{% for message in messages %}{{ 'USER: ' }}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}{{ '<image>' }}{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endfor %}{% if add_generation_prompt %}{{ ' ASSISTANT:' }}{% endif %}"
)


def chatml(image: str, video: str) -> str:
    """Return the chat template with a family's own placeholders."""
    return CHATML.replace("IMAGE", repr(image)).replace("VIDEO", repr(video))


def byte_tokenizer(special: tuple[str, ...], chat_template: str, **named: str) -> Any:
    """Return a Qwen2 tokenizer over a small byte-level BPE vocabulary.

    Args:
        special: tokens that text is split at.
        chat_template: of the tokenizer.
        named: further special tokens by attribute, e.g. `image_token`.
    """
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import Qwen2Tokenizer

    base = Tokenizer(models.BPE())
    base.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=512,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        special_tokens=["<|endoftext|>"],
        show_progress=False,
    )
    base.train_from_iterator([WORDS, *(f" {letter}" for letter in "ABCDEFGHIJ" * 9)], trainer)
    model = json.loads(base.to_str())["model"]
    return Qwen2Tokenizer(
        vocab=model["vocab"],
        merges=[tuple(pair) for pair in model["merges"]],
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        extra_special_tokens=named or list(special),
        chat_template=chat_template,
    )


def unigram_tokenizer(
    special: tuple[str, ...] = LLAVA_SPECIAL,
    words: str = WORDS,
    scheme: str = "first",
    chat_template: str | None = PICTURES_FIRST,
    **named: str,
) -> Any:
    """Return a tokenizer like Llama's: pieces begin with the white space before them.

    Args:
        special: tokens that text is split at; the first four are unknown, start, end and padding.
        words: have a token each.
        scheme: where the first word of a text gets its white space.
        chat_template: of the tokenizer.
        named: special tokens by attribute; by default <image> is `image_token`, and so on.
    """
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
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        extra_special_tokens=named or {f"{t[1:-1]}_token": t for t in special[4:]},
        clean_up_tokenization_spaces=False,
        chat_template=chat_template,
    )


def _text_of(tokenizer: Any) -> dict[str, Any]:
    """Return what the language models have in common."""
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": CONTEXT,
        # Wide enough that random answers differ well beyond rounding.
        "initializer_range": 0.3,
        "bos_token_id": None,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }


VISION = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}
"""What most vision towers have in common."""


def _save(folder: Path, seed: int, model: Any, config: Any, processor: Any) -> Path:
    """Save a model of that class with random weights, and its processor."""
    import torch

    torch.manual_seed(seed)
    model(config).save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def _square(side: int) -> dict[str, Any]:
    return {"size": {"height": side, "width": side}}


def _qwen_vl(folder: Path, seed: int, kind: str, vision: dict[str, Any]) -> Path:
    import transformers as t

    tokenizer = byte_tokenizer(
        QWEN_SPECIAL,
        chatml(*(f"<|vision_start|><|{k}_pad|><|vision_end|>" for k in ("image", "video"))),
    )
    tokens = {"image": "image_pad", "video": "video_pad"}
    tokens |= {name: name for name in ("vision_start", "vision_end")}
    rope = {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [2, 1, 1]}
    config = getattr(t, f"{kind}Config")(
        text_config=_text_of(tokenizer) | {"rope_parameters": rope},
        vision_config={"depth": 2, "num_heads": 2, "patch_size": 14, "hidden_size": 32}
        | {"temporal_patch_size": 2}
        | vision,
        **{
            f"{name}_token_id": tokenizer.convert_tokens_to_ids(f"<|{token}|>")
            for name, token in tokens.items()
        },
    )
    size = {"size": {"shortest_edge": 28 * 28, "longest_edge": 28 * 28 * 16}}
    processor = getattr(t, f"{kind}Processor")(
        image_processor=t.Qwen2VLImageProcessor(**size),
        video_processor=t.Qwen2VLVideoProcessor(**size, cap_pixels_per_frame=False),
        tokenizer=tokenizer,
        chat_template=tokenizer.chat_template,
    )
    model = getattr(t, f"{kind}ForConditionalGeneration")
    return _save(folder, seed, model, config, processor)


def qwen2_5_vl(folder: Path, seed: int = 0) -> Path:
    """Make a Qwen2.5-VL: windowed vision tower, byte-level BPE, ChatML, 3-D positions."""
    vision = {"intermediate_size": 64, "out_hidden_size": 32, "window_size": 56}
    vision |= {"fullatt_block_indexes": [1], "tokens_per_second": 2, "initializer_range": 0.1}
    return _qwen_vl(folder, seed, "Qwen2_5_VL", vision)


def qwen2_vl(folder: Path) -> Path:
    """Make a Qwen2-VL."""
    return _qwen_vl(
        folder, 0, "Qwen2VL", {"embed_dim": 32, "mlp_ratio": 2, "initializer_range": 0.1}
    )


def _clip_and_llama(tokenizer: Any, side: int, context: int) -> dict[str, Any]:
    from transformers import CLIPVisionConfig, LlamaConfig

    text = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=48,
        intermediate_size=96,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=context,
        initializer_range=0.2,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=3,
    )
    vision = CLIPVisionConfig(**VISION, image_size=side, patch_size=16, projection_dim=32)
    return {
        "vision_config": vision,
        "text_config": text,
        "image_token_index": tokenizer.convert_tokens_to_ids("<image>"),
        "vision_feature_layer": -1,
    }


def _clip_size(side: int) -> dict[str, Any]:
    return {"size": {"shortest_edge": side}, "crop_size": {"height": side, "width": side}}


_CLIP_TOKENS = {
    "patch_size": 16,
    "vision_feature_select_strategy": "default",
    "num_additional_image_tokens": 1,
}


def llava_next_video(
    folder: Path, side: int = 64, context: int = CONTEXT, **of_tokenizer: Any
) -> Path:
    """Make a LLaVA-NeXT-Video: a frame of any size takes (side / 32) ** 2 tokens as a video."""
    import transformers as t

    tokenizer = unigram_tokenizer(**of_tokenizer)
    pinpoints = [[side, side], [side, 2 * side]]
    config = t.LlavaNextVideoConfig(
        **_clip_and_llama(tokenizer, side, context),
        video_token_index=tokenizer.convert_tokens_to_ids("<video>"),
        image_grid_pinpoints=pinpoints,
    )
    processor = t.LlavaNextVideoProcessor(
        tokenizer=tokenizer,
        image_processor=t.LlavaNextImageProcessor(
            **_clip_size(side), image_grid_pinpoints=pinpoints
        ),
        video_processor=t.LlavaNextVideoVideoProcessor(**_clip_size(side)),
        chat_template=tokenizer.chat_template,
        **_CLIP_TOKENS,
    )
    return _save(folder, 0, t.LlavaNextVideoForConditionalGeneration, config, processor)


def llava_next(folder: Path, side: int = 64) -> Path:
    """Make a LLaVA-NeXT: no <video> token, no video processor, no video settings."""
    import transformers as t

    tokenizer = unigram_tokenizer(
        special=LLAVA_SPECIAL[:5], chat_template=PICTURES_FIRST.replace("video", "image")
    )
    pinpoints = [[side, side], [side, 2 * side]]
    config = t.LlavaNextConfig(
        **_clip_and_llama(tokenizer, side, CONTEXT), image_grid_pinpoints=pinpoints
    )
    processor = t.LlavaNextProcessor(
        tokenizer=tokenizer,
        image_processor=t.LlavaNextImageProcessor(
            **_clip_size(side), image_grid_pinpoints=pinpoints
        ),
        chat_template=tokenizer.chat_template,
        **_CLIP_TOKENS,
    )
    return _save(folder, 0, t.LlavaNextForConditionalGeneration, config, processor)


def llava_onevision(folder: Path) -> Path:
    """Make a LLaVA-OneVision: a frame takes 5 tokens as a video, 17 as an image."""
    import transformers as t

    named = {"image_token": "<image>", "video_token": "<video>", "start_token": "<|im_start|>"}
    tokenizer = byte_tokenizer((), chatml("<image>", "<video>"), **named)
    side, pinpoints = 64, [[64, 64], [64, 128]]
    vision = t.SiglipVisionConfig(**VISION, image_size=side, patch_size=16, vision_use_head=False)
    config = t.LlavaOnevisionConfig(
        vision_config=vision,
        text_config=t.Qwen2Config(**_text_of(tokenizer)),
        image_token_index=tokenizer.image_token_id,
        video_token_index=tokenizer.video_token_id,
        image_grid_pinpoints=pinpoints,
    )
    processor = t.LlavaOnevisionProcessor(
        image_processor=t.LlavaOnevisionImageProcessor(
            **_square(side), image_grid_pinpoints=pinpoints
        ),
        video_processor=t.LlavaOnevisionVideoProcessor(**_square(side)),
        tokenizer=tokenizer,
        num_image_tokens=16,
        vision_feature_select_strategy="full",
        chat_template=tokenizer.chat_template,
    )
    return _save(folder, 0, t.LlavaOnevisionForConditionalGeneration, config, processor)


def internvl(folder: Path, seed: int = 0) -> Path:
    """Make an InternVL: 4 tokens a tile; an image is 1 to 4 tiles and a small copy of all of it."""
    import transformers as t

    tokenizer = byte_tokenizer(
        (),
        chatml("<IMG_CONTEXT>", "<video>"),
        start_image_token="<img>",
        end_image_token="</img>",
        context_image_token="<IMG_CONTEXT>",
        video_token="<video>",
        start_token="<|im_start|>",
    )
    side = 56
    config = t.InternVLConfig(
        vision_config=t.InternVLVisionConfig(
            **VISION, image_size=side, patch_size=14, initializer_range=0.1
        ),
        text_config=t.Qwen2Config(**_text_of(tokenizer)),
        image_token_id=tokenizer.context_image_token_id,
        image_seq_length=4,
        tie_word_embeddings=False,
    )
    processor = t.InternVLProcessor(
        image_processor=t.GotOcr2ImageProcessor(**_square(side), max_patches=4),
        video_processor=t.InternVLVideoProcessor(**_square(side)),
        tokenizer=tokenizer,
        image_seq_length=4,
        chat_template=tokenizer.chat_template,
    )
    return _save(folder, seed, t.InternVLForConditionalGeneration, config, processor)


def llava(folder: Path, chat_template: str = IN_PLACE, seed: int = 0) -> Path:
    """Make a LLaVA 1.5, a class without a family of its own."""
    import transformers as t

    tokenizer = unigram_tokenizer(special=LLAVA_SPECIAL[:5], chat_template=chat_template)
    config = t.LlavaConfig(**_clip_and_llama(tokenizer, 64, CONTEXT), image_seq_length=16)
    processor = t.LlavaProcessor(
        tokenizer=tokenizer,
        image_processor=t.CLIPImageProcessor(**_clip_size(64)),
        chat_template=chat_template,
        **_CLIP_TOKENS,
    )
    return _save(folder, seed, t.LlavaForConditionalGeneration, config, processor)


def gemma3(folder: Path) -> Path:
    """Make a Gemma 3, without a family of its own: tokens of a picture attend to one another."""
    import transformers as t

    special = (*LLAVA_SPECIAL[:4], "<soft>", "<boi>", "<eoi>")
    template = IN_PLACE.replace("<image>", "<boi>")
    named = {"image_token": "<soft>", "boi_token": "<boi>", "eoi_token": "<eoi>"}
    tokenizer = unigram_tokenizer(special=special, chat_template=template, **named)
    text = _text_of(tokenizer) | {"bos_token_id": 1, "head_dim": 8, "query_pre_attn_scalar": 8}
    text |= {"sliding_window": 16, "layer_types": ["sliding_attention", "full_attention"]}
    vision = t.SiglipVisionConfig(**VISION, image_size=64, patch_size=16, vision_use_head=False)
    config = t.Gemma3Config(
        text_config=t.Gemma3TextConfig(**text),
        vision_config=vision,
        mm_tokens_per_image=4,
        image_token_index=tokenizer.image_token_id,
        boi_token_index=tokenizer.boi_token_id,
        eoi_token_index=tokenizer.eoi_token_id,
    )
    processor = t.Gemma3Processor(
        image_processor=t.Gemma3ImageProcessor(**_square(64)),
        tokenizer=tokenizer,
        chat_template=template,
        image_seq_length=4,
    )
    return _save(folder, 0, t.Gemma3ForConditionalGeneration, config, processor)


FAMILIES = {
    "llava_next_video": llava_next_video,
    "llava_onevision": llava_onevision,
    "internvl": internvl,
    "qwen2_vl": qwen2_vl,
    "qwen2_5_vl": qwen2_5_vl,
}
"""Those whose frames are encoded once, by the type in their configuration."""
