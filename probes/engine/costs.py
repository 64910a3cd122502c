"""What prompts cost: arithmetic, memory and time of one model, from its files' headers."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from probes.core.types import Scoring
from probes.engine.workload import Workload

UTILISATION = 0.4
"""Share of a device's peak that passes over prompts are assumed to reach."""
BANDWIDTH = 0.6
"""Share of a device's memory bandwidth that writing token by token is assumed to reach."""
BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
_VISION = """vision_tower vision_model visual. multi_modal_projector image_newline mlp1. connector
embed_vision""".split()
_LAYER = re.compile(r"\blayers\.(\d+)\.")


@dataclass(frozen=True, slots=True)
class Device:
    """A device, by its data sheet."""

    half: float
    """Peak of dense bfloat16 arithmetic with float32 sums, in TFLOP/s."""
    full: float
    """Peak of float32 arithmetic without TF32, in TFLOP/s."""
    memory: int
    """GB (10 ** 9 bytes)."""
    bandwidth: float
    """TB/s."""


# From NVIDIA's data sheets of the products (SXM variants of H200, H100 and A100), without sparsity;
# for the two GeForce cards from the architecture white papers.
DEVICES = {
    "H200": Device(989, 67, 141, 4.8),
    "H100": Device(989, 67, 80, 3.35),
    "A100": Device(312, 19.5, 80, 2.0),
    "L40S": Device(362, 91.6, 48, 0.864),
    "RTX4090": Device(165, 82.6, 24, 1.008),
    "RTX3090": Device(71, 35.6, 24, 0.936),
    "L4": Device(121, 30.3, 24, 0.3),
}


@dataclass(frozen=True, slots=True)
class ParameterCounts:
    """A model's parameters by what they are used for, and the sizes that follow from shapes."""

    vision: int
    """Tower and projector."""
    layers: int
    """Language model without embeddings and head."""
    embeddings: int
    head: int
    """Weights of the map to the vocabulary, the embeddings' or its own."""
    tied: bool
    depth: int
    hidden: int
    vocabulary: int
    queries: int
    """Width of all attention heads together."""
    keys: int
    """Width of all key-value heads together."""
    inner: int
    """Width of the widest layer of a block."""

    @property
    def total(self) -> int:
        """All parameters."""
        return self.vision + self.layers + self.embeddings + (0 if self.tied else self.head)


def weights_of(shapes: Mapping[str, tuple[int, ...]]) -> ParameterCounts | None:
    """Sort a checkpoint's parameters; None where the names are not those of a known layout.

    Args:
        shapes: of every tensor by name.
    """
    language = {n: s for n, s in shapes.items() if not any(part in n for part in _VISION)}

    def first(*ends: str) -> tuple[int, ...]:
        return next((s for n, s in language.items() if n.endswith(ends) and len(s) == 2), ())

    embed, head = first("embed_tokens.weight"), first("lm_head.weight")
    depth = {int(found[1]) for name in language if (found := _LAYER.search(name))}
    if not embed or not depth:
        return None
    counted = {name: math.prod(shape) for name, shape in shapes.items()}
    outer = sum(math.prod(s) for s in (embed, head) if s)
    hidden = embed[1]
    return ParameterCounts(
        vision=sum(n for name, n in counted.items() if name not in language),
        layers=sum(n for name, n in counted.items() if name in language) - outer,
        embeddings=math.prod(embed),
        head=math.prod(head or embed),
        tied=not head,
        depth=len(depth),
        hidden=hidden,
        vocabulary=embed[0],
        queries=(first("q_proj.weight") or (hidden,))[0],
        keys=(first("k_proj.weight") or (hidden,))[0],
        inner=(first("gate_proj.weight", "up_proj.weight") or (4 * hidden,))[0],
    )


def encoding(weights: ParameterCounts, features: int, patches_per_token: float) -> float:
    """Return the FLOPs of encoding frames of `features` tokens; attention is left out."""
    # One token of the language model may be merged from several patches of the tower.
    return 2.0 * weights.vision * features * patches_per_token


def reading(weights: ParameterCounts, load: Workload) -> float:
    """Return the FLOPs of passes over prompts and the continuations that are scored.

    Two per weight and token, four per layer, query width and pair of positions that see one
    another, and the map to the vocabulary where a distribution is needed.
    """
    dense = 2.0 * weights.layers * (load.tokens + load.answers)
    # Half of all pairs: a token sees those before it only. A continuation sees a mean prompt.
    seen = load.squares / 2 + load.answers * (load.tokens / max(1, load.prompts))
    return dense + 4.0 * weights.depth * weights.queries * seen + 2.0 * weights.head * load.scored


def writing(weights: ParameterCounts, load: Workload) -> float:
    """Return the FLOPs of writing as much as is allowed, token by token."""
    behind = load.tokens / max(1, load.prompts)
    each = 2.0 * (weights.layers + weights.head) + 4.0 * weights.depth * weights.queries * behind
    return each * load.written


@dataclass(frozen=True, slots=True)
class Memory:
    """What one model needs at its largest, in bytes."""

    weights: int
    features: int
    cache: int
    """Keys and values of one batch that is being written."""
    pass_: int
    """States, and distributions over the vocabulary, of one batch."""

    @property
    def total(self) -> int:
        """All of it."""
        return self.weights + self.features + self.cache + self.pass_


@dataclass(frozen=True, slots=True)
class Execution:
    """How a model is run."""

    dtype: str
    """Of weights and arithmetic."""
    batch_tokens: int
    """Most tokens of one pass; a longer prompt goes alone."""
    batch_size: int
    """Most prompts of one pass."""
    quantize: str = ""
    """`4bit`, `8bit` or empty; linear maps outside the head are kept that way."""
    feature_cache: int = 0
    """Bound of the cache of frames' features, in bytes."""


def memory(
    weights: ParameterCounts, loads: Mapping[Scoring, Workload], execution: Execution, features: int
) -> Memory:
    """Estimate the memory of one model.

    Args:
        weights: of the model.
        loads: what it has to do, by kind of scoring.
        execution: how it is run.
        features: tokens of all frames that it encodes.
    """
    size = BYTES[execution.dtype]
    linear = weights.vision + weights.layers
    kept = {"4bit": 0.5, "8bit": 1.0}.get(execution.quantize, size)
    rows = max([execution.batch_tokens, *(load.longest for load in loads.values())])
    writes = [load for load in loads.values() if load.written]
    per_prompt = max(
        (-(-load.scored // max(1, load.prompts)) for load in loads.values()), default=0
    )
    return Memory(
        weights=int(linear * kept) + (weights.total - linear) * size,
        # The prompts at work need the same amount once more.
        features=min(features * weights.hidden * size, 2 * execution.feature_cache),
        cache=2 * weights.depth * weights.keys * size * rows if writes else 0,
        # Around a block: its input, output, queries, keys, values, and the two inner states; then
        # logits in the model's precision and log-probabilities in float32.
        pass_=rows * (4 * weights.hidden + 2 * weights.queries + 2 * weights.inner) * size
        + max(1, per_prompt) * execution.batch_size * weights.vocabulary * (size + 8),
    )


def seconds(
    weights: ParameterCounts,
    loads: Mapping[Scoring, Workload],
    execution: Execution,
    encoding_flops: float,
    device: Device,
) -> float:
    """Estimate the time of one model on a device.

    Passes over prompts are bound by arithmetic, writing by reading all weights once a step.

    Args:
        weights: of the model.
        loads: what it has to do.
        execution: how it is run.
        encoding_flops: FLOPs of encoding its frames.
        device: on which.
    """
    peak = (device.full if execution.dtype == "float32" else device.half) * 1e12
    flops = encoding_flops + sum(reading(weights, load) for load in loads.values())
    time = flops / (peak * UTILISATION)
    for load in loads.values():
        if load.written:
            length = (load.tokens + load.written) / load.prompts
            batch = max(1, min(execution.batch_size, int(execution.batch_tokens // length)))
            # All texts of a batch are written in the same steps, so weights are read once for all.
            steps = math.ceil(load.prompts / batch) * load.written / load.prompts
            read = (weights.layers + weights.head) * BYTES[execution.dtype]
            time += steps * read / (device.bandwidth * 1e12 * BANDWIDTH)
    return time
