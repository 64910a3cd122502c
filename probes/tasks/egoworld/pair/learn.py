"""The training loop: packed forward passes, the rate's schedule, checkpoints without pickle.

Suffixes: B sequences, L tokens (twice: those that look, those that are seen), N frames, H height,
W width, C channels.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch.nn import functional
from torch.utils.data import DataLoader

from probes.tasks.egoworld.pair.model import PairModel, normalise
from probes.tasks.egoworld.pair.packing import IGNORED, Steps, TrainingBatch

Report = Callable[[int, int, Mapping[str, float], float], None]
"""Called with (step, steps, running mean loss of every source in nats, seconds per step)."""


def features_of(model: PairModel, batch: TrainingBatch) -> torch.Tensor:
    """Return the frames' features in the order of their placeholders: [tokens, width]."""
    pixels = normalise(batch.frames_NHWC.to(model.device))
    if batch.native:
        side = pixels.shape[-1]
        sizes = torch.tensor([[side, side]] * len(pixels))
        # A square frame of the tower's own size: base picture and tile are the same.
        tiles = pixels.unsqueeze(1).expand(-1, 2, -1, -1, -1)
        output = model.get_image_features(tiles, sizes)
    else:
        # The class pools only videos: a frame goes as a video of one frame.
        output = model.get_video_features(pixels.unsqueeze(1))
    features = output.pooler_output
    # The class returns one tensor per picture, as pictures may have several tiles.
    if not isinstance(features, torch.Tensor):
        features = torch.cat(list(features))
    return features.reshape(-1, features.shape[-1])


def logits_of(model: PairModel, batch: TrainingBatch) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (logits [M, vocabulary], positions [M] of the M learnt tokens in the flat batch)."""
    device = model.device
    ids = batch.ids_BL.to(device)
    embeds = model.get_input_embeddings()(ids)
    if len(batch.frames_NHWC):
        features = features_of(model, batch)
        config = model.config
        token = config.image_token_id if batch.native else config.video_token_id
        mask = (ids == token).unsqueeze(-1).expand_as(embeds)
        # Filled row by row, which is the order that frames were stacked in.
        embeds = embeds.masked_scatter(mask, features.to(embeds.dtype))
    blocks = batch.blocks_BL.to(device)
    length = ids.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool, device=device).tril()
    seen, seeing = blocks[:, None, :], blocks[:, :, None]
    # Padding sees padding: a row of the mask without any token would be NaN in the softmax.
    mask_BLL = causal & ((seen == 0) | (seen == seeing))
    hidden = model.model.language_model(
        inputs_embeds=embeds,
        attention_mask=mask_BLL.unsqueeze(1),
        position_ids=batch.positions_BL.to(device),
        use_cache=False,
    ).last_hidden_state
    positions = (batch.labels_BL.to(device) != IGNORED).flatten().nonzero().squeeze(1)
    # Only what is learnt gets logits: the whole batch times the vocabulary is most of the memory.
    return model.lm_head(hidden.flatten(0, 1)[positions]), positions


def loss_of(model: PairModel, batch: TrainingBatch) -> torch.Tensor:
    """Return the weighted mean cross-entropy (nats) of a batch's answers."""
    logits, positions = logits_of(model, batch)
    labels, weights = (
        values_BL.to(model.device).flatten()[positions]
        for values_BL in (batch.labels_BL, batch.weights_BL)
    )
    # In float32, whatever type autocast has given the logits.
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


@dataclass(frozen=True, slots=True)
class StageSettings:
    """How one stage is trained; the mappings are parts of conf/train/tiny.yaml."""

    stage: Mapping[str, Any]
    """One of `stages`."""
    optimiser: Mapping[str, Any]
    save_every: int
    """Steps between checkpoints."""
    compiled: bool
    """Layers are fused by torch.compile."""


def learn(
    model: PairModel,
    steps_from: Callable[[int], Steps],
    settings: StageSettings,
    folder: Path,
    report: Report,
) -> None:
    """Train a model through one stage, resuming from `folder` where it holds a checkpoint.

    Args:
        model: trained in place, on its device.
        steps_from: returns the batches from a step on.
        settings: how to train.
        folder: for checkpoints.
        report: called after every step.
    """
    # Before the optimiser is made: it is given only what is trained.
    for parameter in model.model.vision_tower.parameters():
        parameter.requires_grad_(bool(settings.stage["train_vision"]))
    trained = [p for p in model.parameters() if p.requires_grad]
    adam = _adam(trained, settings.optimiser)
    first = _resume(model, adam, folder)
    steps = int(settings.stage["steps"])
    if settings.compiled:
        # Norms, rotations and activations of so small a model cost more than its matrices; fused,
        # a step takes less than half the time on a CPU.
        layers = model.model.language_model.layers, model.model.vision_tower.encoder.layers
        for layer in chain(*layers):
            layer.compile(dynamic=True)
    # One worker draws stories and paints frames while this process computes.
    loader = DataLoader(steps_from(first), batch_size=None, num_workers=1, prefetch_factor=4)
    model.train()
    began = time.monotonic()
    means: dict[str, float] = {}
    for step, batches in enumerate(loader, first):
        for group in adam.param_groups:
            group["lr"] = rate_at(step, settings.stage, settings.optimiser)
        for source, batch in zip(settings.stage["sizes"], batches, strict=True):
            # Gradients add up, a backward pass for each source: one batch's activations at a time.
            loss = _add_gradients(model, batch)
            means[source] = 0.98 * means.get(source, loss) + 0.02 * loss
        # Once for the sum: clipped one by one, sources would weigh alike whatever their loss.
        torch.nn.utils.clip_grad_norm_(trained, settings.optimiser["clip"])
        adam.step()
        adam.zero_grad(set_to_none=True)
        report(step + 1, steps, means, (time.monotonic() - began) / (step + 1 - first))
        if (step + 1) % settings.save_every == 0 or step + 1 == steps:
            _save(model, adam, folder, step + 1)


def _adam(trained: Sequence[torch.nn.Parameter], optimiser: Mapping[str, Any]) -> torch.optim.AdamW:
    """Return the optimiser of these parameters: weight decay on matrices only."""
    groups = [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": optimiser["weight_decay"]},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]
    # The rate is set before every step (`rate_at`), also of the first after a resume.
    return torch.optim.AdamW(groups, lr=0.0, betas=tuple(optimiser["betas"]))


def _add_gradients(model: PairModel, batch: TrainingBatch) -> float:
    """Add the gradients of a batch's loss to the parameters, and return the loss (nats)."""
    device = model.device
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=_fast_bf16(device)):
        loss = loss_of(model, batch)
    # Outside of autocast: the backward pass repeats the types of the forward one.
    torch.autograd.backward(loss)
    return loss.item()


def _fast_bf16(device: torch.device) -> bool:
    """Return whether the device has bf16 instructions; emulated, bf16 is ten times slower."""
    if device.type != "cpu":
        return True
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def _save(model: PairModel, adam: torch.optim.AdamW, folder: Path, step: int) -> None:
    tensors = {}
    # A tied weight (lm_head is the embedding) comes once: safetensors refuses shared memory.
    for name, parameter in model.named_parameters():
        tensors[f"model.{name}"] = parameter.detach().contiguous()
        # A weight that is not trained, or that no step has used yet (the newline of the native
        # path), has no moments.
        for moment, value in adam.state.get(parameter, {}).items():
            tensors[f"adam.{moment}.{name}"] = value
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / ".state.safetensors"
    save_file(tensors, temporary, metadata={"step": str(step)})
    # Killed before this line, the next start goes on from the step that was saved last.
    temporary.replace(folder / "state.safetensors")


def _resume(model: PairModel, adam: torch.optim.AdamW, folder: Path) -> int:
    path = folder / "state.safetensors"
    if not path.exists():
        return 0
    tensors = load_file(path)
    for name, parameter in model.named_parameters():
        parameter.data.copy_(tensors[f"model.{name}"])
        for moment in ("exp_avg", "exp_avg_sq", "step"):
            if (value := tensors.get(f"adam.{moment}.{name}")) is not None:
                # AdamW counts its steps on the CPU, wherever its moments are.
                device = "cpu" if moment == "step" else parameter.device
                adam.state[parameter][moment] = value.to(device)
    with safe_open(path, framework="pt") as file:
        return int(file.metadata()["step"])
