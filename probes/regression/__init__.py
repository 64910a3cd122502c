"""Metrics of a run compared with a baseline: `probes check`."""

from probes.regression.baseline import Baseline, Metric, write
from probes.regression.capture import capture
from probes.regression.checking import Check, check, renew, with_bands
from probes.regression.junit_xml import junit
from probes.regression.markdown import summary
from probes.regression.reading import read
from probes.regression.reruns import OperatingCharacteristics, operating_characteristics
from probes.regression.show import lines
from probes.regression.snapshot import Snapshot
from probes.regression.statistical import MetricChange

__all__ = [
    "Baseline",
    "Check",
    "Metric",
    "MetricChange",
    "OperatingCharacteristics",
    "Snapshot",
    "capture",
    "check",
    "junit",
    "lines",
    "operating_characteristics",
    "read",
    "renew",
    "summary",
    "with_bands",
    "write",
]
