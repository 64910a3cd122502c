"""The table at the end of training: what each member can do on stories of the tuning split.

Everything is read from teacher-forced forward passes: an answer is exact when every one of its
tokens is the model's first choice, that is when greedy decoding would write it.
"""

# Suffixes of a batch: B sequences, L tokens.
from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from probes.tasks.egoworld.pair.curriculum import END, LETTERS, Ask, Curriculum, Sample
from probes.tasks.egoworld.pair.learn import logits_of
from probes.tasks.egoworld.pair.model import PairModel, tokens_per_frame
from probes.tasks.egoworld.pair.packing import IGNORED, Packer
from probes.tasks.egoworld.pair.vocabulary import build_tokenizer
from probes.tasks.egoworld.world import load_world

NO_NOISE = {"other": 0.0, "gaps": 0.0, "missing": 0.0, "wrong": 0.0}
SEED = 20_000
BATCH = 25
SOURCES = {"describe": (0,), "look": (10, 5), "text": (10,), "read": (10, 5), "watch": (10, 5)}
"""Frames of a clip (0: a single frame) by source of samples."""


def evaluate(out: Path, stories: int) -> dict[str, dict[str, float]]:
    """Return member -> measure -> share of right answers, over `stories` held-out stories each."""
    table = {}
    for folder in sorted(p.parent for p in out.glob("*/model.safetensors")):
        model = PairModel.from_pretrained(folder, dtype=torch.float32)
        table[folder.name] = measure(model.eval(), stories, SEED)
    return table


@torch.inference_mode()
def measure(model: PairModel, stories: int, seed: int) -> dict[str, float]:
    """Return measure -> share of right answers for one model."""
    vision = model.config.vision_config
    per_frame = tokens_per_frame(vision.image_size, vision.patch_size)
    packer = Packer(build_tokenizer(), per_frame, 1.0)
    out = {}
    for source, count in ((one, count) for one, counts in SOURCES.items() for count in counts):
        mix = {"wrong_common": 0.0, "letter_share": 1.0, "frame_counts": {count or 10: 1.0}}
        curriculum = Curriculum(load_world(), mix, vision.image_size, "tuning")
        # The same stories for every member: differences are the members' own.
        rng = np.random.default_rng([seed, count])
        samples = [curriculum.draw(source, NO_NOISE, rng) for _ in range(stories)]
        suffix = f", {count} frames" if count else ""
        for kind, share in _measure(model, packer, samples).items():
            out[f"{source}: {kind}{suffix}"] = round(share, 4)
    return out


def _measure(model: PairModel, packer: Packer, samples: Sequence[Sample]) -> dict[str, float]:
    right: dict[str, list[bool]] = defaultdict(list)
    for start in range(0, len(samples), BATCH):
        batch = samples[start : start + BATCH]
        exact, _ = _answers(model, packer, batch)
        for sample, answers in zip(batch, exact, strict=True):
            for ask, is_exact in zip(sample.asks, answers, strict=True):
                # Cloze is a choice among options, as in the harness, not writing word for word.
                if ask.kind != "cloze":
                    right[ask.kind].append(is_exact)
        flat = [Sample(s.context, asks) for s in batch for asks in _as_choices(s)]
        if flat:
            _, scores = _answers(model, packer, flat)
            right["cloze"] += [int(np.argmax(row)) == 0 for row in scores]
    return {kind: float(np.mean(hits)) for kind, hits in right.items()}


def _as_choices(sample: Sample) -> list[tuple[Ask, ...]]:
    """Return each listed question's options as answers to the unlisted one, the right one first."""
    out = []
    for ask in sample.asks:
        if ask.kind != "letter":
            continue
        lines = ask.prompt.split("\n")
        # Question, five lines "A. option", instruction: only the prompt has the options' texts.
        options = [line[3:] for line in lines[1:-1]]
        right = LETTERS.index(ask.answer.strip())
        order = [right, *(i for i in range(len(options)) if i != right)]
        out.append(tuple(Ask(lines[0] + END, f" {options[i]}", "cloze") for i in order))
    return out


def _answers(
    model: PairModel, packer: Packer, samples: Sequence[Sample]
) -> tuple[list[list[bool]], list[list[float]]]:
    """Return for every sample and ask: exact, and mean log-probability without the end token."""
    # Each frame as a video of one frame, as conf/pair/tiny.yaml has the pair shown it.
    batch = packer.pack(samples, native=False)
    logits, positions = logits_of(model, batch)
    labels = batch.labels_BL.flatten()[positions]
    logprobs = logits.float().log_softmax(-1)
    hit = (logprobs.argmax(-1) == labels).tolist()
    score = logprobs.gather(1, labels[:, None]).squeeze(1).tolist()
    rows = (positions // batch.ids_BL.shape[1]).tolist()
    blocks = batch.blocks_BL.flatten()[positions].tolist()
    assert IGNORED not in labels
    exact = [[True] * len(s.asks) for s in samples]
    scores: list[list[list[float]]] = [[[] for _ in s.asks] for s in samples]
    for row, block, good, value in zip(rows, blocks, hit, score, strict=True):
        exact[row][block - 1] &= good
        scores[row][block - 1].append(value)
    # Scored as `scoring=cloze` scores: the mean over the option's tokens, its end not among them.
    return exact, [[float(np.mean(values[:-1])) for values in asks] for asks in scores]


def render(table: Mapping[str, Mapping[str, float]]) -> str:
    """Return the table as text, one line per measure, one column per member."""
    members = [m for m in ("image", "video", "control") if m in table]
    measures: Iterable[str] = dict.fromkeys(k for m in members for k in table[m])
    lines = [f"{'held-out stories (tuning split), %':44}" + "".join(f"{m:>10}" for m in members)]
    for measure_ in measures:
        cells = "".join(f"{100 * table[m].get(measure_, float('nan')):10.1f}" for m in members)
        lines.append(f"{measure_:44}{cells}")
    return "\n".join(lines)
