"""Processors that not all prompts suit are called as they are meant to be."""

from __future__ import annotations

from typing import Any

import numpy as np
from transformers import Idefics2ImageProcessor, Idefics2Processor

from probes.core.types import FrameRef, Request
from probes.models.hf.families.generic_prompts import GenericModel
from probes.models.hf.own_class import OwnClass

FIRST_PART_TELLS = (  # as Idefics': what stands behind the role depends on the first part
    "{% for message in messages %}User"
    "{% if message['content'][0]['type'] == 'image' %}:{% else %}: {% endif %}"
    "{% for line in message['content'] %}{% if line['type'] == 'text' %}{{ line['text'] }}"
    "{% elif line['type'] == 'image' %}{{ '<image>' }}{% endif %}{% endfor %}\n{% endfor %}"
    "{% if add_generation_prompt %}Assistant:{% endif %}"
)


def idefics2(new_tokenizer: Any) -> Any:
    special = ("<unk>", "<s>", "</s>", "<pad>", "<image>", "<fake_token_around_image>")
    names = {"image_token": "<image>", "image_boundary_token": "<fake_token_around_image>"}
    tokenizer = new_tokenizer(special, chat_template=FIRST_PART_TELLS, **names)
    size = {"shortest_edge": 28, "longest_edge": 56}
    return Idefics2Processor(
        Idefics2ImageProcessor(size=size), tokenizer, 2, chat_template=FIRST_PART_TELLS
    )


def test_a_processor_that_takes_no_arrays_is_given_pictures(new_tokenizer: Any) -> None:
    """Of a frame that the store does not let be written to, and beside other arms' prompts."""
    processor = idefics2(new_tokenizer)
    reader = GenericModel.of(processor, "image", 512, "here")
    frame = np.full((28, 42, 3), 90, np.uint8)
    frame.setflags(write=False)
    name = "a" * 64
    for parts, begin in (
        ((FrameRef(name), "What?", FrameRef(name)), "User:<image>What?"),
        (("First", FrameRef(name), "What?"), "User: First<image>What?"),
    ):
        prompt = Request(parts)
        own = OwnClass(processor, reader.tokens, "image")
        text = own.text(prompt)
        assert text.startswith(begin)
        assert reader.render(prompt) == text
        theirs = own.inputs(text, prompt, {name: frame})
        ours = reader.inputs(text, prompt, {name: frame})
        assert theirs["input_ids"].tolist() == ours["input_ids"].tolist()
        assert (theirs["pixel_values"] == ours["pixel_values"]).all()
