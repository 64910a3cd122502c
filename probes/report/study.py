"""Everything that a report is made from, gathered once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from probes import analysis
from probes.analysis.columns import BLOCK, CONTRAST, rows_of, where
from probes.analysis.comparisons import writers
from probes.analysis.measures import named
from probes.analysis.tables import TableRow
from probes.config.labels import is_control
from probes.core.errors import ProbesError
from probes.core.tables import Table
from probes.records.manifest import read_manifest
from probes.report import leaks

ShownColumn = str | Callable[[TableRow], str]
"""The name of a column, whose values are shown as they are, or what formats a row."""


def plain(names: str) -> dict[str, ShownColumn]:
    """Return columns that are shown as they are under their own names."""
    return {name: name for name in names.split()}


@dataclass(frozen=True)
class Study:
    """Records, what the analysis makes of them, and the manifests of their runs."""

    frame: pd.DataFrame
    """Of all runs, as `analysis.load` returns it."""
    manifests: Mapping[str, Mapping[str, Any]]
    """By run folder; empty where a run has none."""
    without_records: tuple[Path, ...] = ()
    """Folders of runs that were started and have not finished."""
    measures: tuple[str, ...] = ()
    """Further measures that were asked for."""
    margin: float = 0.02
    """The smallest gain that would matter, as a proportion: what equivalence is tested with."""

    @cached_property
    def folders(self) -> list[Path]:
        """Run folders in order of appearance."""
        return [Path(name) for name in self.frame["run"].unique()]

    @cached_property
    def accuracies(self) -> pd.DataFrame:
        """Accuracies of all cells, over all items and by stratum."""
        return analysis.accuracies(self.frame, by_stratum=True)

    @cached_property
    def accuracies_over_all(self) -> pd.DataFrame:
        """Accuracies of all cells over all items."""
        return self.accuracies[self.accuracies["stratum"] == ""]

    @cached_property
    def contrasts(self) -> pd.DataFrame:
        """All contrasts of accuracies over all items; each name is a family of its own."""
        return analysis.contrasts(self.frame)

    @cached_property
    def contrasts_by_stratum(self) -> pd.DataFrame:
        """Strict contrasts over all items and by stratum."""
        return analysis.contrasts(self.frame, policies=("strict",), by_stratum=True)

    @cached_property
    def did_on_other_scales(self) -> pd.DataFrame:
        """The DiD of log-odds, and of the right answer's margin."""
        logit, margin = (
            analysis.contrasts(self.frame, names=("did",), measure=name, policies=("strict",))
            for name in ("logit", "margin")
        )
        return pd.concat([logit, margin], ignore_index=True) if len(logit) else margin

    @cached_property
    def equivalences(self) -> pd.DataFrame:
        """Tests of "gains nothing from vcot"; without those that too many failures leave open."""
        found = analysis.equivalences(self.frame, self.margin, policies=("strict",))
        return self._with_verdict(found[found["arm"] == "vcot"])

    @cached_property
    def differences(self) -> pd.DataFrame:
        """Per-item differences of vcot's gains and DiD, and of transfer in baseline."""
        found = analysis.differences(self.frame, names=("gain", "did", "transfer"))
        transfer = (found["name"] == "transfer") & (found["arm"] == "baseline")
        vcot = (found["name"] != "transfer") & (found["arm"] == "vcot")
        return self._with_verdict(found[transfer | vcot])

    def _with_verdict(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Return the rows of contrasts at which machines did not fail too often."""
        known = where(self.contrasts, policy="strict")
        none = {tuple(row[n] for n in CONTRAST) for row in rows_of(known) if not row["verdict"]}
        keys = rows[list(CONTRAST)].itertuples(index=False, name=None)
        # As booleans, since an empty list would select columns.
        return rows[np.array([key not in none for key in keys], dtype=bool)]

    @cached_property
    def infills(self) -> pd.DataFrame:
        """All infills; see `leaks.read`."""
        return leaks.read(self.frame)

    @cached_property
    def blocks(self) -> list[dict[str, Any]]:
        """The settings of every block, in order of appearance."""
        return rows_of(self.frame[list(BLOCK)].drop_duplicates())

    @cached_property
    def differing(self) -> tuple[str, ...]:
        """Settings that differ between blocks: the leading columns of tables over all of them."""
        return tuple(n for n in BLOCK if len({str(block[n]) for block in self.blocks}) > 1)

    def table(
        self,
        table: Table,
        rows: pd.DataFrame | Sequence[TableRow],
        columns: Mapping[str, ShownColumn],
    ) -> Table:
        """Fill in a table over all blocks; the settings that differ are its first columns.

        Args:
            table: without header and rows; its columns of words do not count the settings.
            rows: what is shown, one row each.
            columns: how each column is made, by its heading.
        """
        every = rows_of(rows) if isinstance(rows, pd.DataFrame) else rows
        all_columns: list[ShownColumn] = [*self.differing, *columns.values()]
        shown = tuple(
            tuple(str(row[of]) if isinstance(of, str) else of(row) for of in all_columns)
            for row in every
        )
        header, words = (*self.differing, *columns), len(self.differing) + table.words
        return replace(table, header=header, rows=shown, words=words)

    def each_block(self) -> Iterator[tuple[dict[str, Any], str]]:
        """Yield every block's settings with its file names' suffix; empty for a single block."""
        several = len(self.blocks) > 1
        for number, block in enumerate(self.blocks, 1):
            yield block, f"-{number}" if several else ""

    @cached_property
    def members(self) -> dict[tuple[str, str], str]:
        """Names of the members by (pair, role)."""
        rows = rows_of(self.frame[["pair", "role", "member"]].drop_duplicates())
        return {(row["pair"], row["role"]): row["member"] for row in rows}

    @cached_property
    def caveats(self) -> list[str]:
        """The caveats that must accompany these pairs' numbers."""
        found = [pair_of(manifest).get("caveat") for manifest in self.manifests.values()]
        of_pairs = dict.fromkeys(str(caveat) for caveat in found if caveat)
        return [*self.frame.attrs.get("replaced", {}).values(), *of_pairs]

    def writers(self, block: Mapping[str, Any]) -> str:
        """Return who wrote a block's text; empty where that is not known."""
        return " or ".join(writers(where(self.frame, block)))

    def by_writer(self, block: Mapping[str, Any]) -> str:
        """Return `; text by NAME` for the title of whatever shows a gain; empty if not known."""
        known = self.writers(block)
        return f"; text by {known}" if known else ""

    def controls(self, block: Mapping[str, Any]) -> list[str]:
        """Return the names of control weights that stand in the video member's place in a block."""
        found: dict[str, None] = {}
        for run in where(self.frame, block)["run"].unique():
            members = pair_of(self.manifests[run]).get("members")
            for one in members if isinstance(members, list) else []:
                if not isinstance(one, Mapping) or one.get("role") != "video":
                    continue
                if is_control(str(one.get("repo"))):
                    found[str(one.get("name"))] = None
        return list(found)

    def frame_as(self, block: Mapping[str, Any]) -> str:
        """Return how a block's members received a frame: `video`, `image`, both, or empty."""
        found: dict[str, None] = {}
        for run in where(self.frame, block)["run"].unique():
            members = pair_of(self.manifests[run]).get("members")
            for member in members if isinstance(members, list) else []:
                if isinstance(member, Mapping) and member.get("frame_as"):
                    found[str(member["frame_as"])] = None
        return "/".join(found)


def gather(
    paths: Sequence[Path],
    measures: Sequence[str] = (),
    *,
    edited: bool = False,
    partial: bool = False,
    margin: float = Study.margin,
) -> Study:
    """Read runs; see `probes.report.write`.

    Raises:
        ProbesError: see `analysis.load`; a manifest that cannot be read, an unknown measure, or a
            margin without meaning.
    """
    if not 0 < margin < 1:
        raise ProbesError(
            f"a margin is between 0 and 100 points, got {100 * margin:g}",
            "--margin",
            "two points are --margin 2",
        )
    # A misspelt name is refused before any run is read.
    for measure in measures:
        named(measure)
    frame = analysis.load([Path(path) for path in paths], edited=edited, partial=partial)
    manifests = {str(folder): read_manifest(Path(folder)) for folder in frame["run"].unique()}
    unfinished = tuple(map(Path, frame.attrs.get("unfinished", ())))
    return Study(frame, manifests, unfinished, tuple(dict.fromkeys(measures)), margin)


def pair_of(manifest: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the pair's part of a manifest's configuration; empty where there is none."""
    config = manifest.get("config")
    pair = config.get("pair") if isinstance(config, Mapping) else None
    return pair if isinstance(pair, Mapping) else {}
