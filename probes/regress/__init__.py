"""Probe metrics held against a baseline: `probes check`."""

from probes.regress.baseline import Baseline, Metric, write
from probes.regress.capture import capture
from probes.regress.checking import Check, check, renew, with_bands
from probes.regress.gates import Change
from probes.regress.reading import read
from probes.regress.show import junit, lines
from probes.regress.snapshot import Snapshot

__all__ = [
    "Baseline", "Change", "Check", "Metric", "Snapshot", "capture", "check", "junit", "lines",
    "read", "renew", "with_bands", "write",
]  # fmt: skip
