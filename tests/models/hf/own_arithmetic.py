"""Members that are run otherwise than by their own class, computed by torch and raw weights.

Nothing here knows of probes. Prompts are lists of texts and pictures, as in `plain_classes`.
"""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import transformers
from plain_classes import Plain, Prompt
from safetensors.torch import load_file


class PllavaArithmetic:
    """A LLaVA checkpoint as PLLaVA's class runs it: projector, then average pooling.

    Shape suffixes: N frames, T tokens, D features.

    Args:
        folder: with weights under their old names; LLaVA-NeXT's line breaks of tiles are not used.
    """

    def __init__(self, folder: Path) -> None:
        weights: dict[str, Any] = {}
        for path in folder.glob("*.safetensors"):
            weights |= {name: value.float() for name, value in load_file(path).items()}

        def under(prefix: str) -> dict[str, Any]:
            return {n.removeprefix(prefix): v for n, v in weights.items() if n.startswith(prefix)}

        def linear(prefix: str) -> torch.nn.Linear:
            found = under(prefix)
            made = torch.nn.Linear(*reversed(found["weight"].shape))
            made.load_state_dict(found)
            return made

        config = json.loads((folder / "config.json").read_text())
        self.tower = transformers.CLIPVisionModel(
            transformers.CLIPVisionConfig(**config["vision_config"])
        )
        names = {n.removeprefix("vision_model."): v for n, v in under("vision_tower.").items()}
        own = self.tower.state_dict()
        if next(iter(own)).startswith("vision_model."):
            names = {f"vision_model.{n}": v for n, v in names.items()}
        self.tower.load_state_dict(names)
        text = transformers.LlamaConfig(
            **{k: v for k, v in config["text_config"].items() if k != "torch_dtype"}
        )
        self.model = transformers.LlamaForCausalLM(text)
        self.model.load_state_dict(under("language_model."))
        self.first = linear("multi_modal_projector.linear_1.")
        self.second = linear("multi_modal_projector.linear_2.")
        self.pixels = transformers.CLIPImageProcessor.from_pretrained(folder)
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        self.tower.eval(), self.model.eval()

    def frames(self, pictures: list[Any]) -> Any:
        """Return the tokens of pictures, [frames, 144, features]."""
        pixels = self.pixels(images=pictures, return_tensors="pt")
        hidden = self.tower(pixels["pixel_values"], output_hidden_states=True).hidden_states[-2]
        tokens_NTD = self.second(torch.nn.functional.gelu(self.first(hidden[:, 1:])))
        grid = tokens_NTD.unflatten(1, (24, 24)).permute(0, 3, 1, 2)
        return torch.nn.functional.avg_pool2d(grid, 2).flatten(2).transpose(1, 2)

    def logprobs(self, prompt: Prompt) -> Any:
        """Return the log-probabilities [vocabulary] of the next token."""
        body = "".join(part if isinstance(part, str) else "<image>" for part in prompt)
        ids = self.tokenizer(f"USER: {body} ASSISTANT:", return_tensors="pt")["input_ids"][0]
        pictures = [part for part in prompt if not isinstance(part, str)]
        with torch.inference_mode():
            shown = list(self.frames(pictures)) if pictures else []
            embed = self.model.get_input_embeddings()
            rows = [shown.pop(0) if i == 32000 else embed(i[None]) for i in ids]
            assert not shown
            logits = self.model(inputs_embeds=torch.cat(rows)[None]).logits[0, -1]
        return logits.log_softmax(-1)


class NextAsVideo:
    """LLaVA-NeXT through LLaVA-NeXT-Video's class: a frame is a video of one picture.

    Its vocabulary has no token for a video: its token of a picture stands for one.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.plain = Plain(folder, "image")

    @cached_property
    def processor(self) -> Any:
        return self.plain.processor

    @cached_property
    def model(self) -> Any:
        own = transformers.AutoConfig.from_pretrained(self.folder)
        config = transformers.LlavaNextVideoConfig(
            vision_config=own.vision_config,
            text_config=own.text_config,
            image_token_index=own.text_config.vocab_size - 1,  # a token that no prompt has
            video_token_index=own.image_token_index,
            image_grid_pinpoints=own.image_grid_pinpoints,
        )
        kind = transformers.LlavaNextVideoForConditionalGeneration
        return kind.from_pretrained(self.folder, config=config, dtype=torch.float32).eval()

    def logprobs(self, prompt: Prompt) -> Any:
        """Return the log-probabilities [vocabulary] of the next token."""
        text = self.plain.text(prompt).replace("<image>", "<image>" * 144)
        tokens = self.processor.tokenizer
        inputs = dict(tokens(text, return_tensors="pt"))
        pictures = [part for part in prompt if not isinstance(part, str)]
        if pictures:
            own = self.processor.image_processor
            names = "size crop_size resample image_mean image_std".split()
            video = transformers.LlavaNextVideoVideoProcessor(**{n: getattr(own, n) for n in names})
            shown = [video(videos=[one[None]], return_tensors="pt") for one in pictures]
            inputs["pixel_values_videos"] = torch.cat([one["pixel_values_videos"] for one in shown])
        with torch.inference_mode():
            return self.model(**inputs).logits[0, -1].log_softmax(-1)
