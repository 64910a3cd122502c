"""A checkpoint whose class transformers does not know: configuration, model and processor in code.

The class is LLaVA's with another output: its logits are those of LLaVA, halved. So what ran is seen
by the numbers.
"""

from __future__ import annotations

import json
from pathlib import Path

import tiny_models

CODE = {
    "configuration_own.py": """
from transformers import LlavaConfig


class OwnConfig(LlavaConfig):
    model_type = "own_vl"
""",
    "parts_own.py": """
SCALE = 0.5
""",
    "modeling_own.py": """
from transformers import LlavaForConditionalGeneration

from .configuration_own import OwnConfig
from .parts_own import SCALE


class OwnForConditionalGeneration(LlavaForConditionalGeneration):
    config_class = OwnConfig

    def forward(self, input_ids=None, pixel_values=None, attention_mask=None, **kwargs):
        more = {"pixel_values": pixel_values, "attention_mask": attention_mask, **kwargs}
        found = super().forward(input_ids=input_ids, **more)
        found.logits = found.logits * SCALE
        return found
""",
    "processing_own.py": """
from transformers import LlavaProcessor


class OwnProcessor(LlavaProcessor):
    tokenizer_class = "AutoTokenizer"
""",
}
_AUTO = {
    "config.json": {
        "AutoConfig": "configuration_own.OwnConfig",
        "AutoModelForImageTextToText": "modeling_own.OwnForConditionalGeneration",
        "AutoProcessor": "processing_own.OwnProcessor",
    },
    "processor_config.json": {"AutoProcessor": "processing_own.OwnProcessor"},
}
_TRACE = """
import os
from pathlib import Path

if os.environ.get("SEEN_IN"):
    Path(os.environ["SEEN_IN"], f"IMPORTED_{__name__.rsplit('.', 1)[-1]}").touch()
"""


def own_class(folder: Path, seed: int = 0) -> Path:
    """Write a checkpoint with code of its own."""
    from safetensors.torch import save_file
    from transformers import LlavaForConditionalGeneration

    tiny_models.llava(folder, seed=seed)
    # Under the class's own names: older ones are known to transformers by model_type.
    model = LlavaForConditionalGeneration.from_pretrained(folder)
    weights = {name: value.contiguous().clone() for name, value in model.state_dict().items()}
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    for name, auto_map in _AUTO.items():
        content = json.loads((folder / name).read_text()) | {"auto_map": auto_map}
        if name == "config.json":
            content |= {"model_type": "own_vl", "architectures": ["OwnForConditionalGeneration"]}
        else:
            content["processor_class"] = "OwnProcessor"
        (folder / name).write_text(json.dumps(content, indent=2))
    for name, text in CODE.items():
        # By its place as well: transformers imports code of one content once.
        (folder / name).write_text(f"# {folder}\n{_TRACE.strip()}\n{text}")
    return folder


def in_hub_cache(folder: Path, cache: Path, repo: str, commit: str, branch: str = "main") -> Path:
    """Lay a checkpoint into a cache as huggingface_hub does: blobs, links to them, a branch."""
    place = cache / f"models--{repo.replace('/', '--')}"
    snapshot = place / "snapshots" / commit
    for at, path in enumerate(sorted(one for one in folder.rglob("*") if one.is_file())):
        blob = place / "blobs" / f"{at:040x}"
        link = snapshot / path.relative_to(folder)
        for one in (blob, link):
            one.parent.mkdir(parents=True, exist_ok=True)
        blob.write_bytes(path.read_bytes())
        link.symlink_to(blob)
    (place / "refs").mkdir(exist_ok=True)
    (place / "refs" / branch).write_text(commit)
    return snapshot
