"""Records -> frame -> contrasts -> tables."""

from probes.analysis.accuracies import accuracies
from probes.analysis.contrasts import Method, contrasts
from probes.analysis.equivalences import equivalences
from probes.analysis.extras import extras
from probes.analysis.load import from_records, load, merge
from probes.analysis.margins import margins
from probes.analysis.measures import MEASURES, Measure
from probes.analysis.pairing import REFERENCES, differences, references
from probes.analysis.power import planning, simulated
from probes.analysis.published import resolved
from probes.analysis.render import render, to_markdown
from probes.analysis.tables import TableBlock, Tables, study_tables
from probes.analysis.temperatures import temperatures
from probes.analysis.transfer import transfer as transfer_table

__all__ = [
    "MEASURES",
    "REFERENCES",
    "Measure",
    "Method",
    "TableBlock",
    "Tables",
    "accuracies",
    "contrasts",
    "differences",
    "equivalences",
    "extras",
    "from_records",
    "load",
    "margins",
    "merge",
    "planning",
    "references",
    "render",
    "resolved",
    "simulated",
    "study_tables",
    "temperatures",
    "to_markdown",
    "transfer_table",
]
