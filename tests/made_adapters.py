"""Adapters of peft with random weights, saved as peft saves them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

TARGETS = ["q_proj", "v_proj", "down_proj"]
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "lora": ("LoraConfig", {"r": 4, "lora_alpha": 8}),
    "dora": ("LoraConfig", {"r": 4, "use_dora": True}),
    "rslora": ("LoraConfig", {"r": 4, "use_rslora": True, "modules_to_save": ["lm_head"]}),
    "adalora": ("AdaLoraConfig", {"init_r": 4, "target_r": 2, "total_step": 10}),
    "ia3": ("IA3Config", {"feedforward_modules": ["down_proj"]}),
    "loha": ("LoHaConfig", {"r": 4}),
    "lokr": ("LoKrConfig", {"r": 4}),
    "oft": ("OFTConfig", {"r": 4, "oft_block_size": 0}),
}
"""Class and settings of a configuration by name."""


def adapter(folder: Path, base: Path, model_class: Any, kind: str = "lora", **more: Any) -> Path:
    """Save an adapter for a checkpoint whose random weights change its answers."""
    import peft
    import torch

    name, settings = KINDS[kind]
    config = getattr(peft, name)(**{"target_modules": TARGETS} | settings | more)
    model = peft.get_peft_model(model_class.from_pretrained(base, dtype=torch.float32), config)
    torch.manual_seed(len(kind))
    for one in model.parameters():
        if one.requires_grad:
            with torch.no_grad():
                one.add_(torch.randn_like(one) * 0.3)
    model.save_pretrained(folder)
    return folder


def reconfigured(folder: Path, **content: Any) -> Path:
    """Change settings of a saved adapter."""
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | content))
    return folder
