"""Compare classes with transformers alone, and write what `probes models` prints of it.

    PYTHONPATH=.:tests:tests/models/hf python tests/models/hf/check_classes.py [--write] [NAME ...]

Every layout of `tests/hub_layouts` that loads is compared both ways: ids, scores of options by
letter and by cloze, greedy text, on prompts of no, one and several frames of two sizes. `--write`
replaces the file; layouts that are not named keep their entries.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import transformers
from hub_layouts.build import LAYOUTS, PUBLISHED, build
from hub_layouts.glm import GLM
from hub_layouts.idefics import IDEFICS
from hub_layouts.llama4 import LLAMA4
from hub_layouts.mistral import MISTRAL
from hub_layouts.newer import NEWER
from hub_layouts.omni import OMNI
from hub_layouts.others import OTHERS
from plain_classes import Plain, Prompt, pictures

import probes.models.hf.families
from probes.core.errors import ProbesError
from probes.core.hashing import array_sha256
from probes.core.types import FrameRef, ModelSpec, Output, Request, ScoringSpec
from probes.models import open_backend

A, B, C = pictures([(48, 64), (48, 64), (90, 40)])
FRAMES = {array_sha256(one): one for one in (A, B, C)}
QUESTION = "What happens?\nA. the door opens\nB. it rains\nAnswer with the letter:"
PROMPTS: list[Prompt] = [
    [A, B, QUESTION],
    ["First", A, "The light goes out.\n", C, QUESTION],
    [B, QUESTION],
    [QUESTION],
    ["And then?", QUESTION],
]
FILE = Path(probes.models.hf.families.__file__).parent / "checked_classes.json"
FAMILIES = dict.fromkeys(
    [*OTHERS, *MISTRAL, *IDEFICS, *NEWER, *OMNI, *LLAMA4, *GLM, "mllama"], ("fallback",)
)
FAMILIES |= dict.fromkeys(("next", "next_mistral"), ("llava_next", "fallback"))
FAMILIES |= {"pllava": ("pllava",)}
FAMILIES |= dict.fromkeys([name for name in LAYOUTS if name.startswith("qwen3_vl")], ("fallback",))
"""Families that a layout is run by, where it is not `auto` and `fallback`."""
DIFFERS = {
    ("llava_onevision", "image"): "a prompt's only picture is shown as one of several: not in tiles"
}
"""What a family does unlike the class, by its way to show a frame: prompts of one picture are not
compared then. The table says it, and so does the family's description."""
OPTIONS = ("the door opens", "it rains, then it stops", "A cat")
PASSED_OVER = ("internvl_chat", "qwen3_vl_thinking", "next_13b", "pllava_13b", "next_video_dpo")


@dataclass(frozen=True)
class Settings:
    """Stands for the configuration's backend section."""

    name: str = "hf"
    batch_size: int = 8
    feature_cache_mb: int = 64
    device: str = "cpu"
    options: dict[str, Any] = field(default_factory=dict)


def request_of(prompt: Prompt, options: tuple[str, ...] = ()) -> Request:
    """Return a prompt as the package takes it."""
    parts = [p if isinstance(p, str) else FrameRef(array_sha256(p)) for p in prompt]
    return Request(tuple(parts), options)


def compared(folder: Path, family: str, way: str) -> dict[str, Any] | None:
    """Return whether all answers equal those of the class alone; None where it is refused."""
    spec = ModelSpec("checked", "video", str(folder), family=family, frame_as=way)  # type: ignore[arg-type]
    try:
        backend = open_backend(Settings(), spec)
    except ProbesError as refusal:
        print(folder.name, family, way, "is refused:", refusal.what)
        return None
    plain = Plain(folder, way)
    tokens = plain.processor.tokenizer
    letters = dict(
        backend.score([request_of(p, ("A", "B")) for p in PROMPTS], FRAMES, ScoringSpec("letter"))
    )
    clozes = dict(
        backend.score([request_of(p, OPTIONS) for p in PROMPTS], FRAMES, ScoringSpec("cloze"))
    )
    texts = dict(backend.score(list(map(request_of, PROMPTS)), FRAMES, ScoringSpec("generate", 5)))
    wrong, family = [], backend.describe()["family"]
    differs = DIFFERS.get((family, way), "")
    for at, prompt in enumerate(PROMPTS):
        if differs and sum(not isinstance(part, str) for part in prompt) == 1:
            continue
        if letters[at].status != "ok":
            wrong.append(f"prompt {at}: {letters[at].error}")
            continue
        logprobs = plain.logprobs(prompt)
        expected = [float(logprobs[forms(tokens, one)].logsumexp(0)) for one in "AB"]
        apart = max(abs(x - y) for x, y in zip(expected, letters[at].option_logprobs, strict=True))
        length = plain.inputs(prompt)["input_ids"].shape[1]
        if not apart <= 1e-3:
            wrong.append(f"prompt {at}: scores differ by {apart:.2g}")
        if letters[at].input_tokens != length:
            wrong.append(f"prompt {at}: {letters[at].input_tokens} tokens, not {length}")
        wrong += [f"prompt {at}: {one}" for one in cloze_faults(clozes[at], plain, prompt)]
        if texts[at].text != (written := plain.generated(prompt, 5)):
            wrong.append(f"prompt {at}: text {texts[at].text!r}, not {written!r}")
    kind = type(plain.model).__name__
    if family == "llava_next":
        kind = "LlavaNextForConditionalGeneration"
    proven = getattr(backend._ready, "proven", None)  # type: ignore[attr-defined]
    backend.close()
    return {
        "class": kind,
        "family": family,
        "repository": folder.name,
        "equal": not wrong,
        "wrong": wrong,
        "differs": differs,
        "once": proven is None or proven.recipe is not None,
        "batches": proven is None or not proven.alone,
        "why": [] if proven is None else [one for one in (proven.whole, proven.alone) if one],
    }


def cloze_faults(found: Output, plain: Plain, prompt: Prompt) -> list[str]:
    """Return how the scores of options by cloze differ from those of the class alone."""
    if found.status != "ok":
        return [f"cloze: {found.error}"]
    sums = zip(found.option_logprobs, found.option_tokens, strict=True)
    means = zip(
        [total / count for total, count in sums], plain.continued(prompt, [*OPTIONS]), strict=True
    )
    apart = max(abs(one - other) for one, other in means)
    return [] if apart <= 1e-3 else [f"cloze scores differ by {apart:.2g}"]


def forms(tokenizer: Any, letter: str) -> list[int]:
    """Return the single tokens that a letter is written as: the study's rule, written anew."""
    ids = [tokenizer(t, add_special_tokens=False)["input_ids"] for t in (letter, f" {letter}")]
    found = {one[0] for one in ids if len(one) == 1}
    if (piece := tokenizer.get_vocab().get(f"\u2581{letter}")) is not None:
        found.add(piece)
    return sorted(found)


def write(repository: str, entries: list[tuple[str, str, dict[str, Any]]]) -> None:
    """Replace what the file holds of a repository."""
    # Read again for each layout: another run may have written meanwhile.
    classes: dict[str, Any] = json.loads(FILE.read_text())["classes"]
    for ways in classes.values():  # what no longer loads leaves no entry behind
        for found in ways.values():
            found.pop(repository, None)
    for key, way, entry in entries:
        classes.setdefault(key, {}).setdefault(way, {})[repository] = entry
    kept = {key: {way: one for way, one in ways.items() if one} for key, ways in classes.items()}
    classes = {key: ways for key, ways in kept.items() if ways}
    content = {"transformers": transformers.__version__, "classes": classes}
    FILE.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n")


def main() -> int:
    """Compare the layouts that are named, or all."""
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*", default=[n for n in LAYOUTS if n not in PASSED_OVER])
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--root", type=Path, default=Path(tempfile.gettempdir()) / "hub")
    given = parser.parse_args()
    bad = False
    for name in given.names:
        try:
            folder = build(name, given.root)
        except KeyError as missing:
            print(name, "has no vocabulary here:", missing)
            continue
        entries: list[tuple[str, str, dict[str, Any]]] = []
        for family in FAMILIES.get(name, ("auto", "fallback")):
            for way in ("video", "image"):
                if (found := compared(folder, family, way)) is None:
                    continue
                print(name, family, way, json.dumps(found), flush=True)
                bad |= not found["equal"]
                entry = {k: found[k] for k in ("equal", "once", "batches", "why", "differs")}
                entry["published"] = name in PUBLISHED
                entries.append((f"{found['family']}:{found['class']}", way, entry))
        if given.write:
            write(folder.name, entries)
    return int(bad)


if __name__ == "__main__":
    sys.exit(main())
