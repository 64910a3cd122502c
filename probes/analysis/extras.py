"""Extras: further numbers of answers, by name, as columns of numbers."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa

from probes.analysis.margins import in_arrow


def extras(frame: pd.DataFrame) -> pd.DataFrame:
    """Return every further number of every record.

    Args:
        frame: as returned by `load`; without the column `extras`, no record has any.

    Returns:
        One row per number, in the order of the records: `row` (the record's place in the frame,
        from 0), `name` and `value` (float64; NaN where that is what the record has). A record
        without extras has no row.
    """
    given = frame["extras"] if "extras" in frame else pd.Series([], dtype=object)
    column = in_arrow(given, pa.map_(pa.string(), pa.float64()))
    counts = np.diff(column.offsets.to_numpy())
    # Offsets of a slice begin where the slice does, keys and items with the whole array.
    inside = slice(column.offsets[0].as_py(), column.offsets[-1].as_py())
    return pd.DataFrame(
        {
            "row": np.repeat(np.arange(len(column)), counts),
            "name": column.keys[inside].to_pandas(),
            "value": column.items[inside].to_numpy(zero_copy_only=False),
        }
    )
