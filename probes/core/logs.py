"""The log of a command: what it tells people besides its output, on standard error.

Modules write to loggers of their own names, below `probes`; a program that imports the package
decides itself what becomes of that.
"""

from __future__ import annotations

import logging
import sys
import warnings

from probes.core.redaction import redact

_log = logging.getLogger("probes")


class _Screen(logging.Handler):
    """Prints messages as they are, warnings marked as such, all without secrets."""

    def emit(self, record: logging.LogRecord) -> None:
        text = redact(record.getMessage())
        text = f"warning: {text}" if record.levelno == logging.WARNING else text
        sys.stderr.write(f"{text}\n")  # looked up now: bars and tests put another in its place
        sys.stderr.flush()


def to_screen() -> None:
    """Show the log of this process on standard error."""
    if not any(isinstance(handler, _Screen) for handler in _log.handlers):
        _log.addHandler(_Screen())
        _log.setLevel(logging.INFO)
        # Hydra has a handler for everything: it would print each line again, on standard output.
        _log.propagate = False


def warnings_too() -> None:
    """Make Python's warnings lines of the log; outside of commands they stay what they are."""
    # The documented hook. `logging.captureWarnings` also logs the place and its source line.
    warnings.showwarning = lambda message, *_, **__: _log.warning("%s", message)
