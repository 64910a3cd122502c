"""The comparison of two runs: equal answers, and every difference with its margin."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from benchmarks.backends_agree import compare


def write(folder: Path, scoring: str, rows: list[dict[str, Any]], infill: str = "a.") -> Path:
    """Write a run folder of these records, one item each, and one infill."""
    folder.mkdir()
    plain = {
        "task": "t",
        "role": "image",
        "arm": "baseline",
        "frames": 5,
        "stimulus_sha": "s",
        "status": "ok",
        "choice": 0,
        "text": "",
        "option_logprobs": [],
        "option_tokens": [],
    }
    records = [plain | {"item_id": str(n), "scoring": scoring} | row for n, row in enumerate(rows)]
    pd.DataFrame(records).to_parquet(folder / "records.parquet")
    gaps = [{"frames": 5, "task": "t", "item_id": "0", "gap": 0, "text": infill}]
    pd.DataFrame(gaps).to_parquet(folder / "infills.parquet")
    return folder


def test_differences_are_listed_with_their_margins(tmp_path: Path) -> None:
    scores = [
        {"option_logprobs": [-1.0, -1.25], "option_tokens": [1, 1]},
        {"option_logprobs": [-1.0, -3.0], "option_tokens": [1, 1]},
    ]
    other = [
        {"option_logprobs": [-1.5, -1.25], "option_tokens": [1, 1], "choice": 1},
        {"option_logprobs": [-1.0, -9.0], "option_tokens": [1, 0]},  # the second is a bound
    ]
    a, b = write(tmp_path / "a", "letter", scores), write(tmp_path / "b", "letter", other, "b.")
    found = compare(a, b)
    assert (found["compared"], found["equal"], found["equal_texts"]) == (2, 1, None)
    assert (found["infills"], found["equal_infills"]) == (1, 0)
    assert found["largest_logprob_difference"] == pytest.approx(0.5)
    (difference,) = found["differences"]
    assert (difference["item_id"], difference["choice"]) == ("0", [0, 1])
    assert difference["margin_nats"] == 0.25


def test_texts_are_compared_where_texts_were_written(tmp_path: Path) -> None:
    a = write(tmp_path / "a", "generate", [{"text": "A"}, {"text": "zzz", "choice": None}])
    b = write(tmp_path / "b", "generate", [{"text": "A"}, {"text": "zz", "choice": None}])
    found = compare(a, b)
    assert (found["equal"], found["equal_texts"], found["different_texts"]) == (2, 1, 2)
    assert [one["text"] for one in found["differences"]] == [["zzz", "zz"]]


def test_other_stimuli_and_missing_trials_are_counted_separately(tmp_path: Path) -> None:
    a = write(tmp_path / "a", "generate", [{}, {"stimulus_sha": "t"}, {}])
    b = write(tmp_path / "b", "generate", [{}, {}])
    found = compare(a, b)
    assert (found["cells"], found["compared"], found["equal"]) == (2, 1, 1)
    assert (found["other_stimulus"], found["missing"]) == (1, 1)
