"""Infills as the report reads them."""

from __future__ import annotations

from pathlib import Path

import report_pages as made
from made_records import study

from probes import analysis
from probes.report import leaks


def test_infills_of_shards_are_counted_once(tmp_path: Path) -> None:
    rows = [made.infill(0), made.infill(1)]
    whole = study(4, frames=(5,))
    for shard in (0, 1):
        part = [r for r in whole if int(r.item_id[1:]) % 2 == shard]
        made.write(tmp_path / "runs" / str(shard), part, made.manifest(), rows)
    assert len(leaks.read(analysis.load(tmp_path / "runs"))) == 2
