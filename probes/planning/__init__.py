"""`probes plan`: what a configuration means before a GPU is spent on it."""

from probes.planning.rehearsal import Forecast, forecast

__all__ = ["Forecast", "forecast"]
