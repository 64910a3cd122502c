"""The training loop: packed forward passes, the rate's schedule, checkpoints without pickle."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch.nn import functional
from torch.utils.data import DataLoader
from transformers import LlavaNextVideoForConditionalGeneration

from probes.tasks.egoworld.pair.model import normalise
from probes.tasks.egoworld.pair.packing import IGNORED, Steps, TrainingBatch

Report = Callable[[int, int, Mapping[str, float], float], None]
"""Called with (step, steps, running mean loss of every source in nats, seconds per step)."""


def features_of(
    model: LlavaNextVideoForConditionalGeneration, batch: TrainingBatch, device: torch.device
) -> torch.Tensor:
    """Return the frames' features in the order of their placeholders: [tokens, width]."""
    pixels = normalise(batch.frames_NHWC.to(device))
    if batch.native:
        side = pixels.shape[-1]
        sizes = torch.tensor([[side, side]] * len(pixels))
        # A square frame of the tower's own size: the base picture and the one tile are the same.
        tiles = pixels.unsqueeze(1).expand(-1, 2, -1, -1, -1)
        output = model.get_image_features(tiles, sizes)
    else:
        output = model.get_video_features(pixels.unsqueeze(1))
    features = output.pooler_output
    if not isinstance(features, torch.Tensor):
        features = torch.cat(list(features))
    return features.reshape(-1, features.shape[-1])


def logits_of(
    model: LlavaNextVideoForConditionalGeneration, batch: TrainingBatch, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (logits [M, vocabulary], places [M] of the M learnt tokens in the flat batch)."""
    ids = batch.ids_BL.to(device)
    embeds = model.get_input_embeddings()(ids)
    if len(batch.frames_NHWC):
        features = features_of(model, batch, device)
        config = model.config
        token = config.image_token_id if batch.native else config.video_token_id
        mask = (ids == token).unsqueeze(-1).expand_as(embeds)
        embeds = embeds.masked_scatter(mask, features.to(embeds.dtype))
    blocks = batch.blocks_BL.to(device)
    length = ids.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool, device=device).tril()
    keys, queries = blocks[:, None, :], blocks[:, :, None]
    mask_BLL = causal & ((keys == 0) | (keys == queries))
    hidden = model.model.language_model(
        inputs_embeds=embeds,
        attention_mask=mask_BLL.unsqueeze(1),
        position_ids=batch.positions_BL.to(device),
        use_cache=False,
    ).last_hidden_state
    places = (batch.labels_BL.to(device) != IGNORED).flatten().nonzero().squeeze(1)
    return model.lm_head(hidden.flatten(0, 1)[places]), places


def loss_of(
    model: LlavaNextVideoForConditionalGeneration, batch: TrainingBatch, device: torch.device
) -> torch.Tensor:
    """Return the weighted mean cross-entropy (nats) of a batch's answers."""
    logits, places = logits_of(model, batch, device)
    labels = batch.labels_BL.to(device).flatten()[places]
    weights = batch.weights_BL.to(device).flatten()[places]
    losses = functional.cross_entropy(logits.float(), labels, reduction="none")
    return (losses * weights).sum() / weights.sum()


def rate_at(step: int, stage: Mapping[str, Any], optimiser: Mapping[str, Any]) -> float:
    """Return the learning rate of a step: warm-up, flat, then cosine to the floor."""
    peak, steps, flat = float(stage["peak"]), int(stage["steps"]), float(optimiser["flat"])
    if step < stage["warmup"]:
        return peak * (step + 1) / int(stage["warmup"])
    done = max(0.0, (step / steps - flat) / (1 - flat))
    floor = float(optimiser["floor"])
    return peak * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * done)))


def learn(
    model: LlavaNextVideoForConditionalGeneration,
    steps_from: Callable[[int], Steps],
    stage: Mapping[str, Any],
    optimiser: Mapping[str, Any],
    folder: Path,
    save_every: int,
    report: Report,
    device: torch.device,
    *,
    compiled: bool,
) -> None:
    """Train a model through one stage, resuming from `folder` if it holds a checkpoint."""
    for parameter in model.model.vision_tower.parameters():
        parameter.requires_grad_(bool(stage["train_vision"]))
    named = {n: p for n, p in model.named_parameters() if p.requires_grad}
    groups = [
        {
            "params": [p for p in named.values() if p.ndim >= 2],
            "weight_decay": optimiser["weight_decay"],
        },
        {"params": [p for p in named.values() if p.ndim < 2], "weight_decay": 0.0},
    ]
    adam = torch.optim.AdamW(groups, lr=0.0, betas=tuple(optimiser["betas"]))
    first = _resume(model, adam, named, folder)
    steps = int(stage["steps"])
    if compiled:
        # Norms, rotations and activations of so small a model cost more than its matrices; fused,
        # a step takes less than half the time on a CPU.
        for layer in (
            *model.model.language_model.layers,
            *model.model.vision_tower.encoder.layers,
        ):
            layer.compile(dynamic=True)
    # One worker draws stories and paints frames while this process computes.
    loader = DataLoader(steps_from(first), batch_size=None, num_workers=1, prefetch_factor=4)
    model.train()
    began = time.monotonic()
    means: dict[str, float] = {}
    for step, batches in enumerate(loader, first):
        for group in adam.param_groups:
            group["lr"] = rate_at(step, stage, optimiser)
        for source, batch in zip(stage["sizes"], batches, strict=True):
            with torch.autocast(device.type, dtype=torch.bfloat16, enabled=_fast_bf16(device)):
                loss = loss_of(model, batch, device)
            torch.autograd.backward(loss)
            now = loss.item()
            means[source] = 0.98 * means.get(source, now) + 0.02 * now
        torch.nn.utils.clip_grad_norm_(named.values(), optimiser["clip"])
        adam.step()
        adam.zero_grad(set_to_none=True)
        report(step + 1, steps, means, (time.monotonic() - began) / (step + 1 - first))
        if (step + 1) % save_every == 0 or step + 1 == steps:
            _save(model, adam, named, folder, step + 1)


def _fast_bf16(device: torch.device) -> bool:
    """Tell whether bf16 has instructions here; emulated, it is ten times slower than fp32."""
    if device.type != "cpu":
        return True
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def _save(
    model: LlavaNextVideoForConditionalGeneration,
    adam: torch.optim.AdamW,
    named: Mapping[str, torch.nn.Parameter],
    folder: Path,
    step: int,
) -> None:
    tensors = {f"model.{n}": p.detach().contiguous() for n, p in model.named_parameters()}
    for name, parameter in named.items():
        # A weight that no step has used yet (the newline of the native path) has no moments.
        for key, value in adam.state.get(parameter, {}).items():
            tensors[f"adam.{key}.{name}"] = value
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / ".state.safetensors"
    save_file(tensors, temporary, metadata={"step": str(step)})
    temporary.replace(folder / "state.safetensors")


def _resume(
    model: LlavaNextVideoForConditionalGeneration,
    adam: torch.optim.AdamW,
    named: Mapping[str, torch.nn.Parameter],
    folder: Path,
) -> int:
    path = folder / "state.safetensors"
    if not path.exists():
        return 0
    tensors = load_file(path)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(tensors[f"model.{name}"])
    for name, parameter in named.items():
        for key in ("exp_avg", "exp_avg_sq", "step"):
            if (value := tensors.get(f"adam.{key}.{name}")) is not None:
                device = "cpu" if key == "step" else parameter.device
                adam.state[parameter][key] = value.to(device)
    with safe_open(path, framework="pt") as file:
        return int(file.metadata()["step"])
