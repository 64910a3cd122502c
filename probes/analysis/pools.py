"""How far a contrast holds: pooled over frame counts, seeds and pairs, and without single clusters.

Both start from per-item differences, as `differences` returns them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from probes import stats
from probes.analysis.columns import MATCH, SETTING, groups

# A member's name differs between pairs: what is pooled over them is of its role.
_SAME = tuple(name for name in MATCH if name != "member")
LEVELS = (("frames",), ("frames", "seed"), ("frames", "seed", "pair"))
"""Over what contrasts are pooled, from least to most."""
POOLED = (
    *SETTING,
    *_SAME,
    *("over", "parts", "estimate", "low", "high", "p", "se", "n", "clusters", "reason"),
)
LEFT_OUT = (
    *SETTING,
    *MATCH,
    *("n", "clusters", "estimate", "lowest", "without_lowest", "highest", "without_highest"),
)


def pools(differences: pd.DataFrame) -> pd.DataFrame:
    """Pool contrasts of accuracies over frame counts, seeds and pairs by inverse variance.

    Clusters hold the parts together: the same items at another frame count, or under another seed,
    are no new ones.

    Args:
        differences: as returned by `differences`, in one call: its clusters have the same numbers
            in all parts then.

    Returns:
        One row per contrast and level of `LEVELS` that has several parts there, by the columns of
        `POOLED`: values of what was pooled are joined (`5, 10`); `over` names it; `parts` is how
        many there were, and the rest is of `stats.pooled` (n: values in all parts).
    """
    rows: list[dict[str, Any]] = []
    for level in LEVELS:
        kept = [name for name in (*SETTING, *_SAME) if name not in level]
        for head, part in groups(differences, kept):
            # What its last column does not split is the level below.
            if part[level[-1]].nunique() > 1:
                rows.append({**head, **_pooled(part, level)})
    return pd.DataFrame(rows, columns=list(POOLED))


def _pooled(part: pd.DataFrame, level: Sequence[str]) -> dict[str, Any]:
    parts = [one for _, one in groups(part, level)]
    found = stats.pooled([(one["difference"], one["cluster"]) for one in parts], step=1.0)
    own = ("estimate", "low", "high", "p", "se", "n", "clusters", "reason")
    varying = [name for name in level if part[name].nunique() > 1]
    return {
        **{name: ", ".join(map(str, sorted(part[name].unique()))) for name in level},
        "over": ", ".join(varying),
        "parts": len(parts),
        **{name: getattr(found, name) for name in own},
    }


def left_out(differences: pd.DataFrame, names: Mapping[str, str]) -> pd.DataFrame:
    """Return between which values every contrast moves when a single cluster is left out.

    Args:
        differences: as returned by `differences`.
        names: the cluster's name of every item by its id.

    Returns:
        One row per contrast, by the columns of `LEFT_OUT`: the estimate, the lowest and highest one
        that leaving out one cluster gives (NaN of a single cluster), and the clusters without which
        it is so.
    """
    rows: list[dict[str, Any]] = []
    for head, part in groups(differences, (*SETTING, *MATCH)):
        found = stats.leave_one_out(part["difference"], part["cluster"])
        first = part.drop_duplicates("cluster")
        known = {
            code: names.get(item, item)
            for code, item in zip(first["cluster"], first["item_id"], strict=True)
        }
        own = (
            len(part),
            len(first),
            float(part["difference"].mean()),
            *(found.low, known.get(found.low_cluster, "")),
            *(found.high, known.get(found.high_cluster, "")),
        )
        fields = LEFT_OUT[len(SETTING) + len(MATCH) :]
        rows.append({**head, **dict(zip(fields, own, strict=True))})
    return pd.DataFrame(rows, columns=list(LEFT_OUT))
