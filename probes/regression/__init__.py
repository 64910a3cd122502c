"""Metrics of a run compared with a baseline: `probes check`."""

from probes.regression.baseline import Baseline, Metric, write
from probes.regression.capture import capture
from probes.regression.checking import Check, check, renew, with_bands
from probes.regression.gates import MetricChange
from probes.regression.reading import read
from probes.regression.show import junit, lines
from probes.regression.snapshot import Snapshot

__all__ = [
    "Baseline",
    "Check",
    "Metric",
    "MetricChange",
    "Snapshot",
    "capture",
    "check",
    "junit",
    "lines",
    "read",
    "renew",
    "with_bands",
    "write",
]
