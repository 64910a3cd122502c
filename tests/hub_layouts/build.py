"""Every layout by a short name, with the repository that it is the layout of."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

from hub_layouts import internvl, llava, qwen, qwen3
from hub_layouts.glm import GLM
from hub_layouts.idefics import IDEFICS
from hub_layouts.llama4 import LLAMA4
from hub_layouts.mistral import MISTRAL
from hub_layouts.mllama import mllama
from hub_layouts.newer import NEWER
from hub_layouts.omni import OMNI
from hub_layouts.others import OTHERS

LAYOUTS: dict[str, tuple[str, Callable[[Path], None]]] = {
    "next": ("llava-v1.6-vicuna-7b-hf", llava.llava_next),
    "next_13b": ("llava-v1.6-vicuna-13b-hf", partial(llava.llava_next, seed=21, large=True)),
    "next_video": ("LLaVA-NeXT-Video-7B-hf", llava.llava_next_video),
    "next_video_dpo": ("LLaVA-NeXT-Video-7B-DPO-hf", partial(llava.llava_next_video, seed=12)),
    "pllava": ("LLaVA-NeXT-7B-Video-FT", llava.pllava),
    "pllava_13b": ("LLaVA-NeXT-13B-Video-FT", partial(llava.pllava, large=True)),
    "onevision": ("llava-onevision-qwen2-7b-ov-hf", llava.llava_onevision),
    "onevision_si": ("llava-onevision-qwen2-7b-si-hf", partial(llava.llava_onevision, seed=15)),
    "qwen2_vl": ("Qwen2-VL-7B-Instruct", qwen.qwen2_vl),
    "qwen2_5_vl": ("Qwen2.5-VL-7B-Instruct", qwen.qwen2_5_vl),
    "video_r1": ("Video-R1-7B", partial(qwen.qwen2_5_vl, seed=13)),
    "video_r1_old": (
        "Video-R1-7B-old",
        partial(qwen.qwen2_5_vl, seed=13, image_processor="Qwen2_5_VLImageProcessor"),
    ),
    "qwen3_vl": ("Qwen3-VL-8B-Instruct", qwen3.qwen3_vl),
    "qwen3_vl_thinking": (
        "Qwen3-VL-8B-Thinking",
        partial(qwen3.qwen3_vl, seed=32, thinking=True),
    ),
    "internvl3": ("InternVL3-8B-hf", internvl.internvl),
    "internvl3_5": ("InternVL3_5-8B-HF", partial(internvl.internvl, seed=16, qwen3=True)),
    "internvl_chat": ("Mini-InternVL-Chat-4B-V1-5", internvl.internvl_chat),
    "next_mistral": ("llava-v1.6-mistral-7b-hf", llava.llava_next_mistral),
    "onevision_converted": (
        "llava-onevision-qwen2-0.5b-ov-hf",
        llava.llava_onevision_converted,
    ),
    "qwen3_vl_4b": (
        "Qwen3-VL-4B-Instruct",
        partial(qwen3.qwen3_vl, seed=34, published=("trl", "qwen3_vl")),
    ),
    "qwen3_vl_4b_thinking": (
        "Qwen3-VL-4B-Thinking",
        partial(qwen3.qwen3_vl, seed=35, published=("xinference", "Qwen3-VL-Thinking")),
    ),
    "mllama": ("Llama-3.2-11B-Vision-Instruct", mllama),
    **OTHERS,
    **NEWER,
    **OMNI,
    **LLAMA4,
    **GLM,
    **MISTRAL,
    **IDEFICS,
}

_MODELS = "transformers/models/"
PUBLISHED: dict[str, tuple[str, str]] = {
    "qwen3_5": ("trl", "qwen3_5_think"),
    "qwen3_5_small": ("trl", "qwen3_5_nothink"),
    "qwen3_5_moe": ("trl", "qwen3_5_think"),
    "gemma4": ("trl", "gemma4_v5"),
    "gemma4_moe": ("trl", "gemma4_v5"),
    "gemma4_unified": ("trl", "gemma4_v5"),
    "qwen2_5_omni": ("xinference", "qwen2.5-omni"),
    "qwen3_omni": ("xinference", "Qwen3-Omni-Instruct"),
    "llama4": ("axolotl", "llama4"),
    "gemma3": ("trl", "gemma3"),
    "qwen2_vl": ("xinference", "qwen2-vl-instruct"),
    "qwen2_5_vl": ("trl", "qwen2_5_vl"),
    "next_video": (
        "transformers 4.43",
        f"{_MODELS}llava_next_video/processing_llava_next_video.py:default_chat_template",
    ),
    "next_mistral": ("trl", "llava_next"),
    "onevision_converted": (
        "transformers 4.47",
        f"{_MODELS}llava_onevision/convert_llava_onevision_weights_to_hf.py:chat_template",
    ),
    "qwen3_vl_4b": ("trl", "qwen3_vl"),
    "qwen3_vl_4b_thinking": ("xinference", "Qwen3-VL-Thinking"),
    "qwen3_vl_moe": ("xinference", "Qwen3-VL-Instruct"),
    "idefics2": (
        "transformers 4.43",
        f"{_MODELS}idefics2/processing_idefics2.py:default_chat_template",
    ),
    "idefics3": ("trl", "idefics3"),
    "smolvlm": ("trl", "smolvlm"),
    "mistral3": ("llama.cpp", "Mistral-Small-3.2-24B-Instruct-2506"),
    "mllama": ("xinference", "llama-3.2-vision-instruct"),
}
"""Layouts whose chat template is one that was published, and where `published.template` finds it.
Their vocabularies are those of the repositories; of other layouts the template was written anew."""


def build(name: str, root: Path) -> Path:
    """Write a checkpoint below `root`, once; return its folder."""
    repository, fill = LAYOUTS[name]
    folder = root / repository
    if not folder.exists():
        folder.mkdir(parents=True)
        try:
            fill(folder)
        except BaseException:  # the next one to ask must not be given half of it
            shutil.rmtree(folder)
            raise
    return folder
