"""A backend: the longest option is right. What such a rule scores is a bound worth knowing."""

from probes.core.types import Origin, Output
from probes.models.base import Capabilities, check_options


class LongestOption:
    """Log-probabilities that fall with every character that an option is shorter."""

    adapter = "longest-1"

    def __init__(self, settings, spec):
        check_options("longest", settings.options, ())
        self.fingerprint = "longest option"
        self._answered = 0

    def libraries(self):
        """Depend on no library; a model would name those whose versions may change an answer."""
        return {}

    def origin(self):
        """Say what computes the answers; a model would name its device and dtype too."""
        return Origin(kernels="longest option")

    def capabilities(self):
        """Score the texts of options only."""
        return Capabilities(scorings=("cloze",))

    def planning(self):
        """Know nothing of tokens."""

    def describe(self):
        """Return the facts for the manifest."""
        return {"backend": "longest", "adapter": self.adapter, "fingerprint": self.fingerprint}

    def counters(self):
        """Return what was done so far."""
        return {"answered": self._answered}

    def score(self, requests, frames, scoring):
        """Yield (index, output) of every request."""
        for at, request in enumerate(requests):
            self._answered += 1
            most = max(map(len, request.options))
            logprobs = tuple(float(len(option) - most) for option in request.options)
            yield at, Output(option_logprobs=logprobs, option_tokens=(1,) * len(logprobs))

    def close(self):
        """Free nothing."""
