"""Measures: the number that is taken of every answer and compared between cells.

A measure is one function and one row of `MEASURES`; other packages add theirs by entry points.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from probes import stats
from probes.analysis.formats import PROPORTION
from probes.analysis.margins import flat, in_arrow, margins
from probes.analysis.temperatures import calibrated_margins
from probes.core.errors import ProbesError
from probes.core.plugins import Registry
from probes.core.text import nearest
from probes.core.types import ALL_CONTRASTS, ContrastName

Policy = Literal["strict", "complete"]
_LARGEST = 1e100  # of larger values the squares, which errors are made of, are not numbers
POLICIES: tuple[Policy, ...] = ("strict", "complete")
RowValues = Callable[[pd.DataFrame], NDArray[np.float64]]
"""Frame of records -> a value per row [rows]; NaN where a row has none."""
CellEstimator = Callable[..., stats.Estimate]
"""Values of the cells [n, 2 or 4], clusters [n] and `level=` -> estimate of a contrast."""


@dataclass(frozen=True, slots=True)
class Measure:
    """What is taken of every answer."""

    name: str
    meaning: str
    """In one line."""
    values: RowValues
    unit: str = ""
    """`proportion` (printed in percent and points), or e.g. `nats`."""
    bounds: tuple[float, float] | None = None
    """The least and greatest value of an answer, at which intervals end; None: there are none."""
    of_failed: bool = False
    """Failed and unparsed answers have a value too. Then `strict` takes all answers and `complete`
    parsed ones only; any other measure has answers with a value only and is always `complete`."""
    contrasts: tuple[ContrastName, ...] = ALL_CONTRASTS
    """Those that it is defined for."""
    estimator: CellEstimator | None = None
    """Compares whole cells; None: contrasts are means of per-item differences."""
    across: RowValues | None = None
    """Taken instead of `values` where members are compared (transfer, DiD), whose scales differ."""

    @property
    def between_members(self) -> Measure:
        """The measure that members are compared by."""
        return self if self.across is None else replace(self, values=self.across, across=None)

    @property
    def policies(self) -> tuple[Policy, ...]:
        """The policies that it has."""
        return POLICIES if self.of_failed else ("complete",)

    @property
    def is_share(self) -> bool:
        """Whether an answer is simply right or wrong, so that its mean is a share of items."""
        return self.of_failed and self.bounds == (0, 1)

    @property
    def step(self) -> float | None:
        """By how much one changed answer changes an item's value; see `stats.clustered_mean`."""
        return 1.0 if self.is_share else None

    def difference_bounds(self, cells: int) -> stats.Bounds | None:
        """Return the least and greatest difference of an item, of two cells or of four (DiD)."""
        if self.bounds is None:
            return None
        # Each pair of cells can differ by the whole range, in either direction.
        reach = (self.bounds[1] - self.bounds[0]) * cells / 2
        return -reach, reach

    def of(self, frame: pd.DataFrame) -> NDArray[np.float64]:
        """Return a value per row.

        Raises:
            ProbesError: the measure fails on this frame, or breaks its own promises.
        """
        # A copy for a program of others: what it writes into the records, all others would read.
        given = (
            frame
            if self.values in (_right, margins, calibrated_margins, _option_probability)
            else frame.copy()
        )
        try:
            values = np.asarray(self.values(given), dtype=np.float64)
            problem = self._problem(values, len(frame))
        except ProbesError:
            raise
        except (Exception, SystemExit) as error:  # it may raise anything
            problem = f"{type(error).__name__}: {error}"
        if problem:
            raise ProbesError(
                f"the measure {self.name} cannot be taken: {problem}",
                "measure",
                "correct the package that it comes from, or leave it out",
            )
        return values

    def _problem(self, values: NDArray[np.float64], rows: int) -> str:
        if values.shape != (rows,):
            return f"its values have the shape {values.shape} instead of ({rows},)"
        low, high = self.bounds or (-np.inf, np.inf)
        # Intervals that end at the bounds would be too narrow for values beyond them, without a
        # sign of it; beyond the last digits of a sum of probabilities, that is.
        beyond = np.isinf(values) | (values < low - 1e-9) | (values > high + 1e-9)
        if beyond.any():
            return f"the value {values[beyond][0]} is beyond its bounds"
        large = np.abs(values) > _LARGEST
        return f"the value {values[large][0]} is too large to compute with" if large.any() else ""


def of_extra(
    name: str,
    meaning: str = "",
    unit: str = "",
    bounds: tuple[float, float] | None = None,
) -> Measure:
    """Return the measure that takes one of the answers' extras, numbers that came with an output.

    >>> of_extra("option_entropy", "how undecided a member was", "nats").name
    'option_entropy'

    Args:
        name: of the extra and the measure.
        meaning: in one line.
        unit: see `Measure`.
        bounds: see `Measure`.
    """
    meaning = meaning or f"the extra {name} of an answer"
    return Measure(name, meaning, lambda frame: extra(frame, name), unit, bounds)


def extra(frame: pd.DataFrame, name: str) -> NDArray[np.float64]:
    """Return one of the answers' extras by name [rows]; NaN where an answer has none such.

    Args:
        frame: as returned by `load`; older ones have no column `extras`.
        name: which extra.
    """
    if "extras" not in frame:
        return np.full(len(frame), np.nan)
    pairs = in_arrow(frame["extras"], pa.map_(pa.string(), pa.float64()))
    # Null where an answer lacks the name, which becomes NaN in float64.
    found = pc.map_lookup(pairs, name, "first").to_numpy(zero_copy_only=False)
    return np.asarray(found, dtype=np.float64)


def _right(frame: pd.DataFrame) -> NDArray[np.float64]:
    return frame["correct"].to_numpy(np.float64, na_value=np.nan)


def _option_probability(frame: pd.DataFrame) -> NDArray[np.float64]:
    out = np.full(len(frame), np.nan)
    lengths = [flat(frame[name])[2] for name in ("option_logprobs", "option_tokens")]
    answer = frame["answer"].to_numpy(np.float64, na_value=np.nan)
    usable = (lengths[0] == lengths[1]) & (answer >= 0) & (answer < lengths[0])
    part = frame[usable]
    scores, starts, count = flat(part["option_logprobs"])
    cloze = np.repeat((part["scoring"] == "cloze").to_numpy(bool), count)
    # By token where the choice was by token, or the likeliest could be another than the chosen.
    scores = scores / np.where(cloze, np.maximum(flat(part["option_tokens"])[0], 1), 1)
    right = scores[starts + answer[usable].astype(np.intp)]
    rows = np.repeat(np.arange(len(part)), count)
    # Taken relative to the right option, sums of exponentials neither overflow nor vanish.
    with np.errstate(over="ignore", invalid="ignore"):
        out[usable] = 1 / np.bincount(rows, np.exp(scores - right[rows]), len(part))
    return out


ACCURACY = Measure(
    "accuracy", "whether the answer is right", _right, PROPORTION, (0, 1), of_failed=True
)
MARGIN = Measure(
    "margin",
    "log-probability of the right option less that of the best other",
    margins,
    "nats",
    across=calibrated_margins,
)
LOGIT = replace(
    ACCURACY,
    name="logit",
    meaning="log-odds of being right: on this scale a ceiling does not force a small gain",
    unit="log-odds",
    contrasts=("did",),
    estimator=stats.did_logit,
)
OPTION_PROBABILITY = Measure(
    "option_probability",
    "probability of the right option among the options",
    _option_probability,
    PROPORTION,
    (0, 1),
)


def _checked(name: str, found: object) -> Measure:
    if not isinstance(found, Measure):
        raise TypeError("it is not a Measure")
    if found.name != name:
        raise ValueError(f"it is registered as {name}, and calls itself {found.name}")
    if not callable(found.values) or not isinstance(found.meaning, str) or not found.meaning:
        raise TypeError("its `values` cannot be called, or it has no `meaning`")
    if unknown := [one for one in found.contrasts if one not in ALL_CONTRASTS]:
        known = nearest(unknown[0], ALL_CONTRASTS)
        raise ValueError(f"there is no contrast {unknown[0]!r}: {known}")
    # Not `>=`, so that NaN bounds are refused as well.
    if found.bounds is not None and not found.bounds[0] < found.bounds[1]:
        raise ValueError(f"its bounds are {found.bounds}")
    return found


MEASURES: Registry[Measure] = Registry(
    "probes.measures",
    "measure",
    {
        name: f"{__name__}:{name.upper()}"
        for name in ("accuracy", "logit", "margin", "option_probability")
    }
    | {"entropy": "probes.analysis.artefacts:ENTROPY"},
    _checked,
)


def named(measure: str | Measure) -> Measure:
    """Return a registered measure by its name; one that is given as such is returned.

    Raises:
        ProbesError: there is none of that name, or it cannot be loaded.
    """
    return measure if isinstance(measure, Measure) else MEASURES.get(measure, "measure")
