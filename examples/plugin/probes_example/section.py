"""A section of the report: how much noise each member got."""

from probes.analysis.measures import extra
from probes.core.tables import Table
from probes.report.parts import Section
from probes.report.sections import ReportSection


def noise(study):
    """Return a table by member and arm; None where no answer was noisy."""
    frame = study.frame.assign(noise=extra(study.frame, "noise_rms"))
    found = frame.dropna(subset="noise").groupby(["member", "arm"], sort=False)["noise"]
    if not len(found):
        return None
    rows = tuple((*names, f"{values.mean():.3f}", str(len(values))) for names, values in found)
    header = ("member", "arm", "mean noise", "answers")
    return Section("noise", "Noise on frames", (Table("Noise", header, rows, name="noise"),))


NOISE = ReportSection(noise, after="contrasts")
