"""What does a model do between the frames?

`probes.load(path)` reads a run, a sweep or shards into a pandas frame; `probes.contrasts(frame)`
compares its cells; `probes.artifacts(run)` finds the arrays of a run's answers. What they need is
loaded when they are first used: `import probes` is cheap.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from probes.analysis import contrasts, load
    from probes.records.artifacts import read as artifacts

    __version__: str

__all__ = ["__version__", "artifacts", "contrasts", "load"]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib import metadata

        try:
            return metadata.version("interframe-probes")
        except metadata.PackageNotFoundError:  # a checkout that is not installed
            return "0+unknown"
    if name == "artifacts":
        from probes.records import artifacts

        return artifacts.read
    if name in __all__:
        from probes import analysis

        return getattr(analysis, name)
    raise AttributeError(f"module 'probes' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
