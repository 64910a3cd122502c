"""Infills: what may have happened between two frames, written in the study's two steps.

A generator sees two neighbouring frames and nothing else: question and options are not among the
arguments of anything here, so they cannot leak into the text. Two identical frames are asked about
like any others: "nothing changed" is the model's to say, and a fixed sentence of ours would be a
text that no model wrote.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from probes.provenance import atomic_write, sha256_json, whole_text
from probes.types import (
    Clip,
    FrameRef,
    Infill,
    Item,
    Output,
    Panels,
    Part,
    ProbesError,
    Prompt,
)

if TYPE_CHECKING:
    from probes.config import PromptSet

Generate = Callable[[Sequence[Prompt], int], list[Output]]
"""(prompts, max_new_tokens) -> one Output per prompt, greedy, in the order of the prompts."""
Pair = tuple[str, str]
"""(sha256 of frame t, sha256 of frame t+1)."""
Place = tuple[str, int]
"""(item id, number of frames): which clip."""

_PLACEHOLDER = re.compile(r"\{(frame_a|frame_b|common|text|infill|context|question|options)\}")

WORD = re.compile(r"\d+(?:[.,:]\d+)*|\w+|[^\w\s.,;:!?\"'`*()\[\]“”‘’…]")
"""One word of a text: numbers keep their inner point, signs and symbols count, punctuation not."""

# Says nothing of any scene; no colour, object, person, action, order or answer.
_FILLER = (
    "this passage is only here to take up some room and it says nothing about what is shown "
    "it has no bearing on anything else and can be passed over without any loss at all"
)

_FIELDS = {
    "item_id": str, "frames": int, "gap": int, "text": str, "frame_a": str, "frame_b": str,
    "common": str, "event": str, "generator": str, "error": str,
}  # fmt: skip
_NEEDED = ("item_id", "frames", "gap", "text")
NOTHING = Infill(text="", common="", event="", generator="")
"""What stands in a break between two rows of panels: no text, and no failure."""
EMPTY = "the reply is empty"
"""How the error of an infill ends whose writer had nothing to say: an answer, no failure."""


def fill(template: str, values: Mapping[str, Sequence[Part]]) -> tuple[Part, ...]:
    """Put parts in the place of a template's placeholders, in one pass.

    Inserted text is never looked at again, so braces in a question are harmless.

    Args:
        template: text with `{name}` for every key of `values`; other braces are plain text.
        values: the parts that stand where each placeholder is.

    Returns:
        Parts in order; neighbouring texts are one, empty ones are gone.

    Raises:
        ProbesError: if the template lacks a placeholder or holds one that has no value here.
    """
    pieces = _PLACEHOLDER.split(template)  # text, name, text, name, ..., text
    names = pieces[1::2]
    if lacking := sorted(set(values) - set(names)):
        what = f"a prompt lacks {{{lacking[0]}}}"
        raise ProbesError(what, repr(template), f"put {{{lacking[0]}}} where it belongs")
    if foreign := sorted(set(names) - set(values)):
        offered = ", ".join(f"{{{name}}}" for name in sorted(values))
        what = f"a prompt holds {{{foreign[0]}}}, which has no value here"
        raise ProbesError(what, repr(template), f"take it out; this prompt offers {offered}")
    parts: list[Part] = []
    for place, piece in enumerate(pieces):
        parts.extend(values[piece] if place % 2 else (piece,))
    return merged(parts)


def merged(parts: Iterable[Part]) -> tuple[Part, ...]:
    """Join neighbouring texts and drop empty ones: one prompt has one form, hence one hash."""
    out: list[Part] = []
    for part in parts:
        if isinstance(part, str) and out and isinstance(out[-1], str):
            out[-1] += part
        elif part != "":
            out.append(part)
    return tuple(out)


def tidy(text: str) -> str:
    """Strip a reply and make every run of white space one space; nothing else is mended."""
    return " ".join(text.split())


def pairs(clips: Iterable[Clip]) -> list[Pair]:
    """Return every pair of neighbouring frames once, in the order of first appearance.

    Frames on either side of a break are no neighbours.
    """
    found: dict[Pair, None] = {}
    for clip in clips:
        for gap, pair in enumerate(pairwise(clip.hashes)):
            if gap not in clip.breaks:
                found[pair] = None
    return list(found)


def empty(infill: Infill) -> bool:
    """Tell whether a writer had nothing to say where a text belongs."""
    return not infill.text and infill != NOTHING and not failed(infill)


def failed(infill: Infill) -> bool:
    """Tell whether a step failed, so that a later run may write it; an empty reply is none."""
    return not infill.ok and bool(infill.error) and not infill.error.endswith(f": {EMPTY}")


def of(clip: Clip, written: Mapping[Pair, Infill]) -> tuple[Infill, ...]:
    """Return a clip's infills, one per gap (frames - 1); KeyError where one was not written."""
    return tuple(
        NOTHING if gap in clip.breaks else written[pair]
        for gap, pair in enumerate(pairwise(clip.hashes))
    )


def by_pair(clip: Clip, gaps: Sequence[Infill]) -> dict[Pair, Infill]:
    """Return a clip's infills by the frames on either side: what `of` was made of."""
    between = enumerate(pairwise(clip.hashes))
    return {pair: gaps[gap] for gap, pair in between if gap not in clip.breaks}


def generator_fingerprint(
    model: str, prompts: PromptSet, *, condenser: str = "", max_new_tokens: int
) -> str:
    """Return the identity of whoever writes infills.

    Args:
        model: fingerprint of the model that sees the frames.
        prompts: texts of the steps; only those that are used count.
        condenser: fingerprint of the condensing model; empty where there is none.
        max_new_tokens: length limit of every step.
    """
    steps = {"common": prompts.common, "event": prompts.event}
    if condenser:
        steps["condense"] = prompts.condense
    return sha256_json(
        {"model": model, "prompts": steps, "condenser": condenser, "max_new_tokens": max_new_tokens}
    )


def write(
    pairs: Sequence[Pair],
    generate: Generate,
    prompts: PromptSet,
    *,
    generator: str,
    max_new_tokens: int,
) -> dict[Pair, Infill]:
    """Write the infill of every pair: common attributes, then the event.

    Each step is one pass over all pairs, so that a backend can batch as it likes. A pair whose
    step fails or comes back empty drops out: it is never asked the next step, and never gets a
    longer or shorter text than its neighbours in the place of the one that failed.

    Args:
        pairs: neighbouring frames; repeats are written once.
        generate: the model that sees the frames.
        prompts: wording of the steps.
        generator: what `generator_fingerprint` says; kept with every infill.
        max_new_tokens: length limit of every step.

    Returns:
        One infill per distinct pair, in the order of first appearance.
    """
    unique = list(dict.fromkeys(pairs))

    def shown(template: str, pair: Pair, **texts: str) -> Prompt:
        a, b = pair
        values: dict[str, Sequence[Part]] = {"frame_a": (FrameRef(a),), "frame_b": (FrameRef(b),)}
        return Prompt(fill(template, values | {name: (text,) for name, text in texts.items()}))

    asked = {pair: shown(prompts.common, pair) for pair in unique}
    commons, errors = _said("common", asked, generate, max_new_tokens)
    asked = {p: shown(prompts.event, p, common=common) for p, common in commons.items()}
    events, failures = _said("event", asked, generate, max_new_tokens)
    errors |= failures
    return {
        pair: Infill(
            text=events.get(pair, ""),
            common=commons.get(pair, ""),
            event=events.get(pair, ""),
            generator=generator,
            ok=pair in events,
            error=errors.get(pair, ""),
        )
        for pair in unique
    }


def condensed(
    written: Mapping[Pair, Infill], condense: Generate, prompts: PromptSet, *, max_new_tokens: int
) -> dict[Pair, Infill]:
    """Have a text model shorten the events of infills; those that have none stay as they are.

    Args:
        written: by pair of frames.
        condense: the model that shortens.
        prompts: wording of the step.
        max_new_tokens: its length limit.

    Returns:
        The infills with their final texts, in the same order.
    """
    asked = {
        pair: Prompt(fill(prompts.condense, {"text": (infill.event,)}))
        for pair, infill in written.items()
        if infill.ok
    }
    texts, errors = _said("condense", asked, condense, max_new_tokens)
    return {
        pair: replace(
            infill, text=texts.get(pair, ""), ok=pair in texts, error=errors.get(pair, infill.error)
        )
        for pair, infill in written.items()
    }


def _said(
    step: str, asked: Mapping[Pair, Prompt], model: Generate, max_new_tokens: int
) -> tuple[dict[Pair, str], dict[Pair, str]]:
    """Ask equal prompts once; return (what was said, why nothing was said), by pair."""
    distinct = list(dict.fromkeys(asked.values()))
    if not distinct:  # nobody is left to ask: a model need not even be loaded
        return {}, {}
    replies = dict(zip(distinct, model(distinct, max_new_tokens), strict=True))
    said: dict[Pair, str] = {}
    errors: dict[Pair, str] = {}
    for pair, prompt in asked.items():
        reply = replies[prompt]
        if reply.status != "ok":
            errors[pair] = f"{step}: {reply.error or reply.status}"
        elif text := tidy(reply.text):
            said[pair] = text
        else:
            errors[pair] = f"{step}: {EMPTY}"
    return said, errors


def leaks(infill_texts: Iterable[str], item: Item) -> list[int]:
    """Return the options whose whole text stands in one of the infills.

    Whole words are compared, without case, white space and punctuation; an option that has no
    words is never found, nor is one that is a picture.

    Args:
        infill_texts: texts of the item's infills; each is searched by itself.
        item: whose options are looked for.

    Returns:
        Indices of options, ascending.
    """
    if isinstance(item.media, Panels) and item.media.options:
        return []  # options are pictures, and their texts mere letters
    texts = [f" {' '.join(words(text))} " for text in infill_texts]
    options = [f" {' '.join(words(option))} " for option in item.options]
    return [
        index
        for index, option in enumerate(options)
        if option.strip() and any(option in text for text in texts)
    ]


def words(text: str) -> list[str]:
    """Return the words of a text without case, for comparing what is said, not how it is set."""
    return [word.casefold() for word in WORD.findall(text)]


def filler(count: int, seed: int, *salt: str | int) -> str:
    """Return neutral text of exactly `count` words (split at white space).

    Args:
        count: number of words; none for 0.
        seed: with `salt`, decides where in the neutral passage the text begins.
        salt: whatever the choice is keyed by.
    """
    if count <= 0:
        return ""
    start = int(hashlib.sha256(sha256_json([seed, *salt]).encode()).hexdigest(), 16)
    passage = _FILLER.split()
    chosen = [passage[(start + step) % len(passage)] for step in range(count)]
    return f"{' '.join(chosen).capitalize()}."


def save_file(
    path: Path, clips: Mapping[Place, Clip], infills: Mapping[Place, Sequence[Infill]]
) -> None:
    """Write infills as JSON lines, one per gap, in the form that `load_file` reads.

    Args:
        path: file to write; replaced as a whole.
        clips: clip of every (item id, number of frames).
        infills: infills of those clips, frames - 1 each.
    """
    lines = []
    for (item_id, frames), written in infills.items():
        clip = clips[item_id, frames]
        for gap, ((a, b), infill) in enumerate(zip(pairwise(clip.hashes), written, strict=True)):
            if gap in clip.breaks:
                continue
            row = {
                "item_id": item_id, "frames": frames, "gap": gap, "text": infill.text,
                "frame_a": a, "frame_b": b, "common": infill.common, "event": infill.event,
                "generator": infill.generator, "error": infill.error,
            }  # fmt: skip
            lines.append(json.dumps(row, ensure_ascii=False) + "\n")
    atomic_write(path, "".join(lines).encode("utf-8", "surrogatepass"))


def load_file(
    path: Path, clips: Mapping[Place, Clip], known: Collection[str]
) -> dict[Place, tuple[Infill, ...]]:
    """Read infills that were written elsewhere and check them against the planned clips.

    One JSON object a line: `item_id`, `frames` (number of frames), `gap` (0 lies between the
    first two frames) and `text` (empty: nothing stands there); optional are `common`, `event`,
    `generator`, `error`, and `frame_a`, `frame_b` (sha256), which must then be the clip's.

    Args:
        path: the file.
        clips: clip of every (item id, number of frames) that needs infills, donors included.
        known: ids of all items of the task; rows of items that are not planned are left aside.

    Returns:
        The infills of every clip, frames - 1 each.

    Raises:
        ProbesError: for a malformed line, an unknown item, a gap that is out of range, given
            twice or missing, or frames other than the clip's.
    """
    found: dict[tuple[str, int, int], tuple[int, Infill]] = {}
    for number, line in _lines(path):
        where = f"{path}, line {number}"
        row = _row(line, where)
        item_id, frames, gap = row["item_id"], row["frames"], row["gap"]
        if item_id not in known:
            near = difflib.get_close_matches(item_id, known, 1)
            fix = f"did you mean {near[0]!r}?" if near else "use ids of the task's items"
            raise ProbesError(f"unknown item {item_id!r}", where, fix)
        clip = clips.get((item_id, frames))
        if not 0 <= gap < frames - 1 or (clip and gap in clip.breaks):
            what = f"gap {gap} is not among the gaps of {frames} frames"
            fix = "count gaps from 0 to frames - 2"
            if clip and clip.breaks:
                fix += f"; nothing stands between two rows (gaps {_numbers(clip.breaks)})"
            raise ProbesError(what, where, fix)
        if (item_id, frames, gap) in found:
            what = f"gap {gap} of item {item_id!r} at {frames} frames is given twice"
            first = found[item_id, frames, gap][0]
            raise ProbesError(what, where, f"keep this line or line {first}")
        if clip:
            for name, sha in (("frame_a", clip.hashes[gap]), ("frame_b", clip.hashes[gap + 1])):
                if row.get(name, sha) != sha:
                    what = f"{name} is not the frame that is shown at gap {gap} of {item_id!r}"
                    fix = "write the infills anew for these frames, or leave the hashes out"
                    raise ProbesError(what, where, fix)
        text = tidy(row["text"])
        found[item_id, frames, gap] = (
            number,
            Infill(
                text=text,
                common=tidy(row.get("common", "")),
                event=tidy(row.get("event", "")),
                generator=row.get("generator", "file"),
                ok=bool(text),
                error=row.get("error", ""),
            ),
        )
    lacking = [
        f"{item_id} ({frames} frames, gap {gap})"
        for (item_id, frames), clip in clips.items()
        for gap in range(len(clip.hashes) - 1)
        if gap not in clip.breaks and (item_id, frames, gap) not in found
    ]
    if lacking:
        what = f"{len(lacking)} infills are missing: {', '.join(lacking[:3])}"
        what += " ..." if len(lacking) > 3 else ""
        raise ProbesError(what, str(path), "add a line for each; an empty text leaves a gap bare")
    return {
        place: tuple(
            NOTHING if gap in clip.breaks else found[*place, gap][1]
            for gap in range(len(clip.hashes) - 1)
        )
        for place, clip in clips.items()
    }


def _numbers(values: Iterable[int]) -> str:
    return ", ".join(map(str, values))


def _lines(path: Path) -> list[tuple[int, str]]:
    try:
        text = path.read_bytes().decode("utf-8", "surrogatepass")
    except OSError as error:
        what = f"the infill file cannot be read: {error.strerror}"
        raise ProbesError(what, str(path), "set infill.file to a JSON lines file") from error
    except UnicodeDecodeError as error:
        raise ProbesError("the infill file is not UTF-8", str(path), "save it as UTF-8") from error
    # Not splitlines(): JSON strings may hold other line separators.
    return [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]


def _row(line: str, where: str) -> dict[str, Any]:
    fix = "write one JSON object a line, with item_id, frames, gap and text"
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ProbesError(f"not JSON: {error}", where, fix) from error
    if not isinstance(row, dict):
        raise ProbesError("not a JSON object", where, fix)
    if lacking := [name for name in _NEEDED if name not in row]:
        raise ProbesError(f"{lacking[0]!r} is missing", where, fix)
    for name, value in row.items():
        kind = _FIELDS.get(name)
        if kind is None:
            allowed = ", ".join(_FIELDS)
            raise ProbesError(f"unknown field {name!r}", where, f"fields are {allowed}")
        if isinstance(value, str) and whole_text(value) != value:
            raise ProbesError(f"{name!r} holds half a character", where, "write whole ones")
        if type(value) is not kind:  # not isinstance: true is no number of frames
            raise ProbesError(f"{name!r} is not of type {kind.__name__}", where, fix)
    return row
