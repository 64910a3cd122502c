"""The exact gate: is this the baseline's platform, and are the records the same?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, isnan

from probes.regression.compare import matched_answers, tied
from probes.regression.snapshot import UNKNOWN, BaselineAnswer, CellName, Snapshot

SAME = 1e-4
"""Nats: "the same" log-probability on one platform, whatever batch, shard or order."""
# Six decimal places are kept on both sides: two roundings, and some for the last bit.
_ROUNDING = 1.1e-6


@dataclass(frozen=True, slots=True)
class Difference:
    """A record that is not the same."""

    cell: CellName
    before: BaselineAnswer
    now: BaselineAnswer
    fields: tuple[str, ...]
    """Which of key, status, choice, tokens and log-probabilities differ."""
    largest: float
    """Largest change of a log-probability (nats); 0 where there are none to compare."""


def platform_differences(base: Snapshot, run: Snapshot) -> list[str]:
    """Return why the exact gate does not apply; empty where it does."""
    differing, unknown = [], []
    for name in sorted({*base.platform, *run.platform}):
        before, now = base.platform.get(name, UNKNOWN), run.platform.get(name, UNKNOWN)
        # Not knowing counts against the exact gate: a difference in arithmetic could be a failure.
        if UNKNOWN in (before, now):
            unknown.append(name)
        elif before != now:
            differing.append(f"{name} is {now or 'none'}, in the baseline {before or 'none'}")
    differing += _origin_differences(base, run)
    return differing + ([f"a manifest does not state {', '.join(unknown)}"] if unknown else [])


def _origin_differences(base: Snapshot, run: Snapshot) -> list[str]:
    """Return how what computed the answers differs, where both state it."""
    found = []
    for name, now in run.origins.items():
        # Which answer is of which origin is not kept: a mixture is equal to nothing.
        if len(now) > 1:
            found.append(f"answers of {name} come from {len(now)} origins")
        elif (before := base.origins.get(name)) is not None and not _alike(before, now):
            was = " + ".join(before)
            found.append(f"answers of {name} were computed by {now[0]}, in the baseline by {was}")
    return found


def _alike(before: Sequence[str], now: Sequence[str]) -> bool:
    """Return whether answers were computed alike, by the libraries that both name.

    One that a single side has (peft, of an adapter) makes another member, not another platform.
    """
    split = [text.partition("; ") for text in (*before, *now)]
    named = [{one.rpartition(" ")[0] for one in libraries.split(", ")} for libraries, _, _ in split]
    shared = set.intersection(*named)
    kept = {
        (frozenset(one for one in libraries.split(", ") if one.rpartition(" ")[0] in shared), rest)
        for libraries, _, rest in split
    }
    return len(kept) == 1


def exact(base: Snapshot, run: Snapshot) -> list[Difference]:
    """Return the records that are not the same as in the baseline; ties are excused."""
    out = []
    for name, before, now in matched_answers(base, run):
        largest = _largest_change(before, now)
        excused = tied(before, now, name.scoring, SAME)
        checks = {
            "key": before.key != now.key,
            "status": before.status != now.status,
            "choice": before.choice != now.choice and not excused,
            "tokens": before.tokens != now.tokens,
            "log-probabilities": largest > SAME + _ROUNDING,
        }
        if fields := tuple(field for field, differs in checks.items() if differs):
            out.append(Difference(name, before, now, fields, largest))
    return out


def _largest_change(before: BaselineAnswer, now: BaselineAnswer) -> float:
    # Another number of options shows as other tokens.
    if len(before.logprobs) != len(now.logprobs):
        return 0.0
    pairs = zip(before.logprobs, now.logprobs, strict=True)
    gaps = [0.0 if isnan(a) and isnan(b) else abs(a - b) for a, b in pairs]
    # NaN on one side only is a change; max() alone could pass over it.
    return max((inf if isnan(gap) else gap for gap in gaps), default=0.0)
