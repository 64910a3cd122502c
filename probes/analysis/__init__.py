"""Records -> frame -> contrasts -> tables."""

from probes.analysis.accuracies import accuracies
from probes.analysis.contrasts import REFERENCES, Method, contrasts, references
from probes.analysis.load import from_records, load, merge
from probes.analysis.margins import margins
from probes.analysis.planning import planning
from probes.analysis.render import render, to_markdown
from probes.analysis.tables import Block, Table, Tables, study_tables

__all__ = [
    "REFERENCES", "Block", "Method", "Table", "Tables", "accuracies", "contrasts", "from_records",
    "load", "margins", "merge", "planning", "references", "render", "study_tables", "to_markdown",
]  # fmt: skip
