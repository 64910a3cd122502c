"""Checkpoints run by transformers alone: its class, its processor, one prompt at a time.

Nothing here knows of probes. Prompts are lists of texts and pictures (uint8 [height, width, 3]).
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from PIL import Image

Prompt = list[Any]


@dataclass(frozen=True)
class Plain:
    """A checkpoint.

    Args:
        folder: of the checkpoint.
        frame_as: `video` or `image`.
        kind: the transformers class; by default the one of `config.json`.
    """

    folder: Path
    frame_as: str
    kind: str = ""

    @cached_property
    def processor(self) -> Any:
        try:
            return transformers.AutoProcessor.from_pretrained(self.folder)
        except (RecursionError, ValueError):  # what a repository lacks, the class's parts have
            return self._from_parts()

    def _from_parts(self) -> Any:
        config = transformers.AutoConfig.from_pretrained(self.folder)
        if config.model_type == "llava_next_video":
            kind = transformers.LlavaNextVideoProcessor
            image: Any = transformers.LlavaNextImageProcessor
            video: Any = transformers.LlavaNextVideoVideoProcessor
        else:
            assert config.model_type == "qwen2_5_vl"
            kind = transformers.Qwen2_5_VLProcessor
            image, video = transformers.Qwen2VLImageProcessor, transformers.Qwen2VLVideoProcessor
        settings, _ = kind.get_processor_dict(self.folder)
        settings.pop("processor_class", None)
        return kind(
            image_processor=image.from_pretrained(self.folder),
            tokenizer=transformers.AutoTokenizer.from_pretrained(self.folder),
            video_processor=video.from_pretrained(self.folder),
            **settings,
        )

    @cached_property
    def model(self) -> Any:
        kind: Any = transformers.AutoModelForImageTextToText
        more = {}
        config = transformers.AutoConfig.from_pretrained(self.folder)
        if self.kind:
            kind = getattr(transformers, self.kind)
        elif hasattr(config, "thinker_config"):  # the whole hears and speaks; this part reads
            name = type(config).__name__.removesuffix("Config")
            kind = getattr(transformers, f"{name}ThinkerForConditionalGeneration")
            more = {"config": config.thinker_config}
        return kind.from_pretrained(self.folder, dtype=torch.float32, **more).eval()

    @property
    def moves_pictures(self) -> bool:
        """Whether the template puts pictures before texts."""
        rendered = self._render([{"type": "text", "text": "MARK"}, {"type": self.frame_as}])
        token = getattr(self.processor, f"{self.frame_as}_token")
        # InternVL's template writes the token of a picture as the processor does.
        return rendered.find(str(token)) < rendered.find("MARK")

    def _render(self, content: list[dict[str, str]]) -> str:
        message = [{"role": "user", "content": content}]
        return str(self.processor.apply_chat_template(message, add_generation_prompt=True))

    def text(self, prompt: Prompt) -> str:
        if self.moves_pictures:  # then all goes in as one text, pictures in their places
            token = str(getattr(self.processor, f"{self.frame_as}_token"))
            body = "".join(part if isinstance(part, str) else token for part in prompt)
            return self._render([{"type": "text", "text": body}])
        content: list[dict[str, str]] = []
        for is_text, parts in groupby(prompt, lambda part: isinstance(part, str)):
            # Neighbouring texts are one part: some templates write white space between parts.
            if is_text:
                content.append({"type": "text", "text": "".join(parts)})
            else:
                content += [{"type": self.frame_as} for _ in parts]
        return self._render(content)

    def inputs(self, prompt: Prompt, answer_prefix: str = "") -> Any:
        shown = [part for part in prompt if not isinstance(part, str)]
        media: dict[str, Any] = {}
        if shown and self.frame_as == "video":
            # These take no video of one frame; their towers see two at a time.
            two = ("Qwen3VLProcessor", "Glm4vProcessor")
            times = 2 if type(self.processor).__name__ in two else 1
            videos = [frame[None].repeat(times, 0) for frame in shown]
            media = {"videos": videos, "do_sample_frames": False}
        elif shown:
            # As PIL's: Idefics2's processor takes no arrays.
            media = {"images": [list(map(Image.fromarray, shown))]}
        text = self.text(prompt) + answer_prefix
        bos = self.processor.tokenizer.bos_token
        more = {"add_special_tokens": False} if bos and text.startswith(bos) else {}
        made = self.processor(text=[text], **media, **more, return_tensors="pt")
        return made.to(torch.float32)  # Llama 4's gives pixels in 16 bits

    def logprobs(self, prompt: Prompt, answer_prefix: str = "") -> Any:
        """Return the log-probabilities [vocabulary] of the next token."""
        return self._last(self.inputs(prompt, answer_prefix), 1)[0]

    def _last(self, inputs: Any, count: int) -> Any:
        """Return the log-probabilities [count, vocabulary] at the last places."""
        # Logits of all places take gigabytes, and not every class leaves some out.
        kept = "logits_to_keep" in inspect.signature(self.model.forward).parameters
        more = {"logits_to_keep": count} if kept else {}
        with torch.inference_mode():
            return self.model(**inputs, **more).logits[0, -count:].log_softmax(-1)

    def continued(self, prompt: Prompt, options: list[str]) -> list[float]:
        """Return the mean log-probability of each option's tokens behind the generation prompt.

        Options are joined by a space unless white space is there. Where the prompt's last tokens
        are others before an option, all options are scored from the last token they share.
        """
        ends_in_space = self.text(prompt)[-1:].isspace()
        joined = [option if ends_in_space else f" {option}" for option in options]
        alone = self.inputs(prompt)["input_ids"][0].tolist()
        inputs = [self.inputs(prompt, one) for one in joined]
        every = [alone, *(one["input_ids"][0].tolist() for one in inputs)]
        shared = 0
        while all(len(ids) > shared and ids[shared] == alone[shared] for ids in every):
            shared += 1
        means = []
        for one, ids in zip(inputs, every[1:], strict=True):
            behind = ids[shared:]
            logprobs = self._last(one, len(behind) + 1)[:-1]
            found = [float(row[token]) for row, token in zip(logprobs, behind, strict=True)]
            means.append(sum(found) / len(found))
        return means

    def generated(self, prompt: Prompt, tokens: int) -> str:
        """Return the text that is written greedily."""
        inputs = self.inputs(prompt)
        with torch.inference_mode():
            ids = self.model.generate(
                **inputs,
                max_new_tokens=tokens,
                do_sample=False,
                num_beams=1,
                repetition_penalty=1.0,
                temperature=None,
                top_p=None,
                top_k=None,
            )[0, inputs["input_ids"].shape[1] :]
        return str(self.processor.tokenizer.decode(ids, skip_special_tokens=True)).strip()


def pictures(sizes: list[tuple[int, int]], seed: int = 0) -> list[Any]:
    """Return pictures of noise over a slope, uint8 [height, width, 3]."""
    draw = np.random.default_rng(seed)
    out = []
    for height, width in sizes:
        slope = np.linspace(0, 180, width)[None, :, None] * np.ones((height, 1, 3))
        out.append((slope + draw.integers(0, 75, (height, width, 3))).astype(np.uint8))
    return out
