"""What the report says of draws: their spread, or that intervals do not cover it."""

from __future__ import annotations

from pathlib import Path

import report_pages as made
from made_records import record

from probes.core.tables import Table
from probes.records.schema import Record
from probes.report import results
from probes.report.parts import Paragraph
from probes.report.study import gather


def run_of(folder: Path, draws: int) -> Path:
    records: list[Record] = []
    for item in range(8):
        for role in ("image", "video"):
            records.append(record(item, "baseline", role, correct=item % 2 == 0))
            for draw in range(draws):
                right = role == "image" and (item + draw) % 3 != 0
                key = f"{role}-{item}-{draw}"
                more = {"key": key, "stimulus_sha": f"{item}-{draw}"}
                records.append(record(item, "vcot", role, correct=right, infill_draw=draw, **more))
    return made.write(folder, records, made.manifest())


def test_several_texts_have_a_table_of_their_spread(tmp_path: Path) -> None:
    found = results.forests(gather([run_of(tmp_path / "run", 3)]))
    (table,) = (one for one in found.parts if isinstance(one, Table) and one.name == "draws")
    rows = {row[:2]: dict(zip(table.header, row, strict=True)) for row in table.rows}
    gain = rows["gain", "image"]
    assert (gain["n"], gain["donors"], gain["texts"]) == ("8", "1", "3")
    assert float(gain["SD texts"]) > 40
    assert gain["SD donors"] == "-"
    assert float(gain["SE, one draw"]) > float(gain["SE"])
    # The video member is wrong whatever the text is.
    assert rows["gain", "video"]["SD texts"] == "0.0"
    assert ("DiD", "video") in rows


def test_a_run_of_one_text_says_that_intervals_do_not_cover_it(tmp_path: Path) -> None:
    found = results.forests(gather([run_of(tmp_path / "run", 1)]))
    told = [one.text for one in found.parts if isinstance(one, Paragraph)]
    assert any(text.startswith("Intervals cover the sampling of items") for text in told)
    assert not [one for one in found.parts if isinstance(one, Table) and one.name == "draws"]


def test_what_scoring_put_in_is_shown_per_cell(tmp_path: Path) -> None:
    found = results.study_tables(gather([run_of(tmp_path / "run", 1)]))
    (table,) = (one for one in found.parts if isinstance(one, Table) and one.name == "scoring")
    assert not table.folded
    rows = [dict(zip(table.header, row, strict=True)) for row in table.rows]
    cells = {(row["role"], row["arm"]): row for row in rows}
    assert set(cells) == {(who, arm) for who in ("image", "video") for arm in ("baseline", "vcot")}
    places = [int(one) for one in cells["image", "baseline"]["choices by place"].split(" / ")]
    assert sum(places) == 8
    assert float(cells["image", "baseline"]["most frequent"]) == 100 * max(places) / 8
