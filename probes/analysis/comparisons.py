"""What stands beside gains: transfer, arms against arms, the study's predictions, who wrote."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from math import isfinite
from typing import Any

import pandas as pd

from probes.analysis.columns import role_order, rows_of, where
from probes.analysis.formats import compared, interval, number, p_value, percent, points
from probes.core.tables import Table

PREDICTED: Mapping[tuple[str, str], tuple[int, str]] = {
    ("transfer", "baseline"): (1, "the video member is better"),
    ("did", "vcot"): (1, "the image member gains more"),
    ("did", "visual_perturbation"): (1, "the image member loses less"),
    ("did", "text_perturbation"): (-1, "the image member loses more"),
}
"""By contrast and arm, the sign that the study's account predicts, and in words."""
_SHOWN_ARMS = ("baseline", "vcot")


def adjusted_p(row: Mapping[str, Any]) -> str:
    """Return the p-value adjusted in its family; a star marks the declared primary one."""
    if not row["verdict"]:
        return "no verdict"
    return p_value(row["p_adjusted"]) + "*" * str(row["family"]).startswith("primary")


def tokens(row: Mapping[str, Any]) -> str:
    """Return the median input tokens of a contrast's arms, reference first, e.g. `120/310`."""
    if not (isfinite(row["tokens_a"]) and isfinite(row["tokens_b"])):
        return "-"
    return f"{number(row['tokens_b'], 0)}/{number(row['tokens_a'], 0)}"


def transfer_table(found: pd.DataFrame) -> Table | None:
    """Return the differences of members in one arm, of the strict contrasts of one block."""
    rows = found[found["name"].isin(["transfer", "control"]) & found["arm"].isin(_SHOWN_ARMS)]
    lines = [
        (
            str(row["arm"]),
            compared(row["name"], row["role"]),
            str(row["frames"]),
            percent(row["mean_a"]),
            percent(row["mean_b"]),
            interval(row),
            adjusted_p(row),
        )
        for row in sorted(rows_of(rows), key=_place)
    ]
    if not lines:
        return None
    header = ("arm", "members", "frames", "first", "second", "difference [95 % interval]", "p adj.")
    title = "Transfer (video - image in one arm), and what more training without video does"
    return Table(title, header, tuple(lines))


def against_table(found: pd.DataFrame) -> Table | None:
    """Return arms against others than their references, of the strict contrasts of one block."""
    lines = [
        (
            f"{row['arm']} - {row['reference']}",
            str(row["role"]),
            str(row["frames"]),
            tokens(row),
            interval(row),
            adjusted_p(row),
        )
        for row in sorted(rows_of(where(found, name="against")), key=_place)
    ]
    if not lines:
        return None
    header = ("arms", "role", "frames", "tokens", "difference [95 % interval]", "p adj.")
    title = "vCoT against its text alone, as much other text, and captions (tokens: other/vCoT)"
    return Table(title, header, tuple(lines))


def _place(row: Mapping[str, Any]) -> tuple[Any, ...]:
    arms = _SHOWN_ARMS.index(row["arm"]) if row["arm"] in _SHOWN_ARMS else len(_SHOWN_ARMS)
    return arms, row["reference"], row["name"], role_order(str(row["role"])), row["frames"]


def drops(found: Iterable[Mapping[str, Any]]) -> set[str]:
    """Return the arms whose reference has a reference of its own: less is what is expected."""
    rows = [(str(row["arm"]), str(row["reference"])) for row in found]
    compared_arms = {arm for arm, reference in rows if reference}
    return {arm for arm, reference in rows if reference in compared_arms}


def reading(row: Mapping[str, Any], of_drop: bool) -> str:
    """Return what a positive DiD, transfer or gain means in a row, e.g. `image lost less`."""
    if row["name"] == "did":
        return "image lost less" if of_drop else "image gained more"
    if row["name"] in ("transfer", "control"):
        return f"{row['role']} better"
    return "gained"


def predictions(found: pd.DataFrame) -> pd.DataFrame:
    """Return the strict contrasts that the study's account predicts a sign of.

    Args:
        found: of `contrasts`.

    Returns:
        Their rows with `predicted` (in words) and `agrees`: yes or no where the interval excludes
        zero, else `cannot be told`.
    """
    rows = []
    for row in rows_of(where(found, policy="strict", stratum="")):
        known = PREDICTED.get((str(row["name"]), str(row["arm"])))
        if known is None or row["role"] == "control":
            continue
        sign, words = known
        decided = row["verdict"] and isfinite(row["low"]) and not row["low"] <= 0 <= row["high"]
        undecided = "cannot be told" if row["verdict"] else "no verdict"
        agrees = ("yes" if row["estimate"] * sign > 0 else "no") if decided else undecided
        rows.append({**row, "predicted": words, "agrees": agrees})
    return pd.DataFrame(rows, columns=[*found.columns, "predicted", "agrees"])


def of_text_alone(row: Mapping[str, Any]) -> str:
    """Return what a DiD of vcot would be if the text decided everything, as a plain paragraph.

    Args:
        row: a DiD against a reference arm, of accuracies.
    """
    # Over the items of the DiD itself, so that the identity holds to the last digit.
    before = row["headroom_image"] - row["headroom_other"]
    if not (isfinite(before) and isfinite(row["estimate"])):
        return ""
    after, other = before - row["estimate"], row["role"]
    return (
        f"What would this number be if the text decided everything ({row['frames']} frames)? The "
        f"DiD is the {other} member's lead over the image member under {row['reference']}, less "
        f"its lead under {row['arm']}: {points(row['estimate'])} = {points(before)} - "
        f"({points(after)}). If both members gave the answer that the text gives, the second lead "
        f"would be 0 and the DiD {points(before)}, which is the {other} member's head start, "
        "whatever either sees between frames."
    )


def shares_of_room(row: Mapping[str, Any]) -> str:
    """Return which share of its room each member gained, and the difference; empty if unknown."""
    rooms = row["headroom_image"], row["headroom_other"]
    if not all(isfinite(room) and room > 0 for room in rooms):
        return ""
    image, other = row["mean_a"] / rooms[0], row["mean_b"] / rooms[1]
    return f"{100 * image:+.0f} % - {100 * other:+.0f} % = {100 * (image - other):+.0f} %"


def writers(frame: pd.DataFrame) -> Iterator[str]:
    """Yield who wrote the text of a frame's infills, once each."""
    known = frame.attrs.get("writers", {})
    if "run" in frame:
        yield from dict.fromkeys(known[run] for run in frame["run"].unique() if run in known)
