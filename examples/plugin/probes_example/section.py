"""A section of the report: how much noise each member got, as a table and as a figure."""

from matplotlib.figure import Figure

from probes.analysis.measures import extra
from probes.core.tables import Table
from probes.report.parts import FigurePart, Paragraph, Section
from probes.report.sections import ReportSection


def noise(study):
    """Return the noise by member and arm; None where no answer was noisy."""
    frame = study.frame.assign(noise=extra(study.frame, "noise_rms"))
    found = frame.dropna(subset="noise").groupby(["member", "arm"], sort=False)["noise"]
    if not len(found):
        return None
    rows = tuple((*names, f"{values.mean():.3f}", str(len(values))) for names, values in found)
    header = ("member", "arm", "mean noise", "answers")
    parts = (
        Paragraph("The mean size of the noise, in the units of the vectors."),
        Table("Noise", header, rows, name="noise"),
        FigurePart("noise", "Mean noise by member and arm", drawn(found.mean())),
    )
    return Section("noise", "Noise on frames", parts)


def drawn(means):
    """Return a bar for every member and arm."""
    figure = Figure(figsize=(6, 3), layout="constrained")
    axes = figure.subplots()
    axes.barh([", ".join(names) for names in means.index], means)
    axes.set_xlabel("mean noise")
    return figure


NOISE = ReportSection(noise, after="contrasts")
