"""Ties, mass on letters and bounds of a frame's answers."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import pandas as pd

from probes.analysis.artefacts import one_letter_lines
from probes.analysis.columns import groups
from probes.analysis.margins import flat
from probes.records.scored import Member, ScoredAnswers, lines


def of_frame(frame: pd.DataFrame) -> dict[Member, ScoredAnswers]:
    """Return the counts of every member of a frame, as returned by `load`."""
    _, _, lengths = flat(frame["option_logprobs"])
    scored = frame[(frame["status"] == "ok").to_numpy(bool) & (lengths > 0)]
    found: dict[Member, ScoredAnswers] = {}
    for head, rows in groups(scored, ("role", "member")):
        tokens, starts, counts = flat(rows["option_tokens"])
        zeros = np.add.reduceat(np.append(tokens == 0, 0), starts) * (counts > 0)
        mass = rows["letter_mass"].to_numpy(np.float64)
        found[str(head["role"]), str(head["member"])] = ScoredAnswers(
            len(rows),
            int(rows["tied"].sum()),
            int((zeros > 0).sum()),
            int(np.isfinite(mass).sum()),
            float(np.nansum(mass)),
        )
    return found


def frame_lines(frame: pd.DataFrame, without: Collection[str] = ()) -> list[str]:
    """Return the lines of a frame's members; see `one_letter_lines` and `scored_lines`."""
    return [*one_letter_lines(frame), *scored_lines(frame, without)]


def scored_lines(frame: pd.DataFrame, without: Collection[str] = ()) -> list[str]:
    """Return the lines on ties, bounds and mass on letters of a frame's members; see `lines`."""
    return list(lines(of_frame(frame), without))
