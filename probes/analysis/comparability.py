"""Whether two members can be compared: what of them differs but the weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from probes.core.examination import Examination, MemberCheck
from probes.core.text import flat, listed

Verdict = Literal[
    "comparable", "comparable with these differences", "not comparable", "not checked"
]
PROMPTS = ("frames alone", "frames with text between", "text alone")
"""What the made prompts show, in order."""
IDENTITY = ("fingerprint", "repo", "commit", "device", "weights_sha256")
"""Facts that name a checkpoint, and where it happened to run: these differ by nature."""
_RUN_AS = (
    "backend class family frame_as dtype attention quantize device_map peft_adapter "
    "chat_template_kwargs interleaving wrapper own_code"
).split()
"""Facts about how a member is run."""
# Ids and names of special tokens are the tokenizer's matter; the rest concerns training, or what
# a call returns.
_IDLE = (
    "_name_or_path architectures model_type transformers_version dtype torch_dtype use_cache "
    "output_attentions output_hidden_states return_dict initializer_range initializer_factor "
    "problem_type tie_word_embeddings ignore_index pretraining_tp use_image_newline_parameter "
    "chunk_size_feed_forward is_encoder_decoder gradient_checkpointing attention_dropout "
    "hidden_dropout dropout max_window_layers use_sliding_window projection_dim type"
).split()
_IDLE_ENDS = ("_token_id", "_token_index", "_token_ids", "_dropout", "_drop")
_BOUNDS = {"min_pixels": "size.shortest_edge", "max_pixels": "size.longest_edge"}
"""Facts about a picture's size, and what processors call them."""
_MOST = 4  # of added tokens that a line names


@dataclass(frozen=True, slots=True)
class Comparability:
    """The verdict on a pair, and what it rests on."""

    verdict: Verdict
    differences: tuple[str, ...]
    """In how members are run, in their prompts, tokenizers, configurations and processors."""
    faults: tuple[str, ...]
    """Where a member's answers are worthless, or are not those of its own class."""
    unseen: tuple[str, ...]
    """What could not be looked at."""
    members: tuple[MemberCheck, ...]

    def plain(self) -> dict[str, Any]:
        """Return the content for manifest and `--json`: plain values, without ids of prompts."""
        return {
            "verdict": self.verdict,
            "differences": list(self.differences),
            "faults": list(self.faults),
            "unseen": list(self.unseen),
            "members": {one.name: _member(one) for one in self.members},
        }


def _member(check: MemberCheck) -> dict[str, Any]:
    found: dict[str, Any] = {"errors": list(check.errors)}
    if (seen := check.seen) is not None:
        found |= {
            "context": seen.context,
            "ending": seen.ending,
            "letters": {k: [list(form) for form in forms] for k, forms in seen.letters.items()},
            "one_text": seen.moves_pictures,
            "tokens": dict(zip(PROMPTS, (len(p.ids) for p in seen.prompts), strict=False)),
            "own_ids": [one.own_ids.state for one in seen.prompts],
            "own_pixels": [one.own_pixels.state for one in seen.prompts],
        }
    found |= {"longest": check.longest} if check.longest else {}
    return found | ({"passes": asdict(check.passes)} if check.passes else {})


def judged(members: Sequence[MemberCheck]) -> Comparability:
    """Return the verdict on the members of a pair."""
    faults = tuple(line for one in members for line in _faults(one))
    differences = tuple(_differences(members))
    unseen = tuple(line for one in members for line in _unseen(one))
    verdict: Verdict = "comparable"
    if faults:
        verdict = "not comparable"
    elif not any(one.seen for one in members):
        verdict = "not checked"
    elif differences:
        verdict = "comparable with these differences"
    return Comparability(verdict, differences, faults, unseen, tuple(members))


def _faults(check: MemberCheck) -> Iterator[str]:
    yield from (f"{check.name}: {one}" for one in check.errors)
    for name, prompt in zip(PROMPTS, check.seen.prompts if check.seen else (), strict=False):
        for what, own in (("ids", prompt.own_ids), ("pixel values", prompt.own_pixels)):
            if own.state == "differs":
                text = f"{what} are not those of its own class's processor ({name}): {own.detail}"
                yield f"{check.name}: {text}"
    if (passes := check.passes) and not passes.holds:
        yield f"{check.name}: {passes_line(check)}"


def passes_line(check: MemberCheck) -> str:
    """Return how a member's answers compare with its class's own passes; empty if unknown."""
    if (passes := check.passes) is None or not passes.compared:
        return ""
    prompts = f"{passes.compared} prompts" if passes.compared > 1 else "1 prompt"
    text = f"option scores of {prompts} are within {passes.largest:.1e} of its class's own pass"
    if passes.largest > passes.tolerance:
        text = f"option scores differ by {passes.largest:.3g} from its class's own forward pass"
        text += f" (rounding allows {passes.tolerance:g})"
    if passes.other_choices:
        text += f"; {passes.other_choices} of {prompts} get another choice"
    return text


def _unseen(check: MemberCheck) -> Iterator[str]:
    found = dict.fromkeys(check.unseen)
    for prompt in check.seen.prompts if check.seen else ():
        for what, own in (("ids", prompt.own_ids), ("pixel values", prompt.own_pixels)):
            if own.state == "unseen":
                found[f"{what} next to its own class's: {own.detail}"] = None
    if check.passes and check.passes.unseen:
        found[f"plain forward passes: {check.passes.unseen}"] = None
    yield from (f"{check.name}: {one}" for one in found)


def _differences(members: Sequence[MemberCheck]) -> Iterator[str]:
    """Yield in what the members differ from the first, a line each."""
    for other in members[1:]:
        one = members[0]
        names = (one.name, other.name)
        if not one.facts or not other.facts:
            continue  # one could not be opened: next to it all would differ
        yield from _each(_facts(one.facts), _facts(other.facts), names, "run with ")
        yield from _bounds(one, other)
        if one.seen is None or other.seen is None:
            continue
        yield from _prompts(one.seen, other.seen, names)
        yield from _tokenizers(one.seen.tokenizer, other.seen.tokenizer, names)
        if one.seen.letters != other.seen.letters and one.seen.letters and other.seen.letters:
            shown = [_letters(check.seen) for check in (one, other) if check.seen]
            yield f"scored letters: {shown[0]} in {names[0]}, {shown[1]} in {names[1]}"
        if one.seen.moves_pictures != other.seen.moves_pictures:
            mover = one if one.seen.moves_pictures else other
            yield f"only {mover.name}'s chat template moves pictures: its prompts go in as one text"
        configs = _arithmetic(one.seen.config), _arithmetic(other.seen.config)
        yield from _each(configs[0], configs[1], names, "config ", _counts_alone)
        settings = [_without_bounds(check) for check in (one, other)]
        yield from _each(settings[0], settings[1], names, "processor ", lambda _: False)


def _facts(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return what says how a member is run, and how its frames become tokens."""
    hashes = [name for name in facts if name.endswith("_sha256") or name in ("config", "files")]
    left_out = {*IDENTITY, *hashes, "adapter", "checkpoint_class", "context", "perceive_once"}
    left_out |= _BOUNDS.keys()
    found = {name: value for name, value in facts.items() if name not in left_out}
    adapter = found.get("peft_adapter")
    return found | ({"peft_adapter": True} if adapter else {})


def _bounds(one: MemberCheck, other: MemberCheck) -> Iterator[str]:
    """Yield that pictures are brought to other sizes: whatever is equal else, tokens are not."""
    values = [{name: _bound(check, name) for name in _BOUNDS} for check in (one, other)]
    bounded = [any(name in check.facts for name in _BOUNDS) for check in (one, other)]
    # Of a class without any such bound the fact `class` says more.
    same_class = one.facts.get("class") == other.facts.get("class")
    if values[0] == values[1] or not (all(bounded) or (any(bounded) and same_class)):
        return
    shown = [
        ", ".join(f"{name} {_shown(value)}" for name, value in each.items()) for each in values
    ]
    yield (
        f"pixel bounds differ: {shown[0]} in {one.name}, {shown[1]} in {other.name}: not the same"
        " tokens for the same frames"
    )


def _bound(check: MemberCheck, name: str) -> Any:
    """Return a bound as the processor has it, or else as files and settings state it."""
    own = check.seen.processor if check.seen else {}
    return own.get(_BOUNDS[name], own.get(name, check.facts.get(name)))


def _without_bounds(check: MemberCheck) -> dict[str, Any]:
    """Return the settings of a member's processor but for those that `_bounds` compares."""
    own = check.seen.processor if check.seen else {}
    known = {*_BOUNDS, *_BOUNDS.values()} if _BOUNDS.keys() & check.facts.keys() else set[str]()
    return {name: value for name, value in own.items() if name not in known}


def _arithmetic(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the entries of a configuration that change numbers."""
    found = {}
    for name, value in config.items():
        last = name.rsplit(".", 1)[-1]
        labels = "label2id" in name or "id2label" in name
        if last not in _IDLE and not last.endswith(_IDLE_ENDS) and not labels:
            found[name] = value
    return found


def _counts_alone(name: str) -> bool:
    """Return whether an entry that only one member has is a difference.

    Classes have entries of their own on the first level, where facts say what they come to; parts
    of one kind have the same entries.
    """
    return name.startswith(("text_config.", "vision_config.")) or "rope" in name


def _each(
    a: Mapping[str, Any],
    b: Mapping[str, Any],
    names: tuple[str, str],
    what: str,
    one_sided: Callable[[str], bool] = _RUN_AS.__contains__,
) -> Iterator[str]:
    for name in dict.fromkeys([*a, *b]):
        if (name in a) != (name in b) and not one_sided(name):
            continue
        one, other = a.get(name), b.get(name)
        # As texts: what a manifest holds has lists for tuples.
        if str(_listed(one)) != str(_listed(other)):
            yield f"{what}{name}: {_shown(one)} in {names[0]}, {_shown(other)} in {names[1]}"


def _listed(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _shown(value: Any) -> str:
    text = "unset" if value is None else str(value)
    return text if len(text) <= 80 else f"{text[:80]}..."


def _prompts(one: Examination, other: Examination, names: tuple[str, str]) -> Iterator[str]:
    """Yield the first token of a prompt in which members differ: one line for all prompts."""
    for name, a, b in zip(PROMPTS, one.prompts, other.prompts, strict=False):
        if a.ids == b.ids and a.pieces == b.pieces:
            continue
        pairs = zip([*a.pieces, "no more"], [*b.pieces, "no more"], strict=False)
        differing = (at for at, (x, y) in enumerate(pairs) if x != y)
        at = next(differing, -1)
        if at < 0:  # equal pieces with other numbers
            yield f"the same prompt ({name}) has the same pieces, numbered otherwise"
            return
        left, right = ([*x.pieces, "no more"][at] for x in (a, b))
        yield (
            f"the same prompt ({name}) becomes other tokens: token {at} is {left!r} in {names[0]},"
            f" {right!r} in {names[1]}"
        )
        return


def _tokenizers(
    a: Mapping[str, Any], b: Mapping[str, Any], names: tuple[str, str]
) -> Iterator[str]:
    if a["vocabulary"] != b["vocabulary"]:
        yield (
            f"tokenizer: other vocabularies ({a['size']:,} tokens in {names[0]},"
            f" {b['size']:,} in {names[1]})"
        )
        return
    added = (a["added"], b["added"])
    ids = sorted({*added[0], *added[1]}, key=int)
    lines = [
        f"token {at} is {_token(added[0], at)} in {names[0]}, {_token(added[1], at)} in {names[1]}"
        for at in ids
        if added[0].get(at) != added[1].get(at)
    ]
    if lines:
        yield f"tokenizer: {listed(lines, _MOST, '; ')}"
    for name in ("start", "end"):
        if a[name] != b[name]:
            yield f"tokenizer: {name} token {a[name]!r} in {names[0]}, {b[name]!r} in {names[1]}"


def _token(added: Mapping[str, str], at: str) -> str:
    return repr(added[at]) if at in added else "none"


def _letters(seen: Examination) -> str:
    return ", ".join(f"{at} {piece!r}" for forms in seen.letters.values() for at, piece in forms)


def differing_facts(facts: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the names of facts in which members differ, but for those that name a checkpoint."""
    names = dict.fromkeys(name for one in facts for name in flat(one))
    values = [flat(one) for one in facts]
    return [
        name
        for name in names
        if name not in IDENTITY and len({str(one.get(name)) for one in values}) > 1
    ]
