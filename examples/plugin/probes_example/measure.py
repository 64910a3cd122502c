"""Two measures: a number that the intervention collected, and one of a column of the records."""

from probes.analysis.measures import Measure, of_extra

NOISE_RMS = of_extra("noise_rms", "mean size of the noise that was added", "units")
TOKENS_READ = Measure(
    name="tokens_read",
    meaning="how many tokens a member read",
    values=lambda frame: frame["input_tokens"].to_numpy(float),
    unit="tokens",
)
