"""Execute study.ipynb over a run and keep what it shows.

    python results/notebooks/store.py RUN

Stored outputs are those of `make demo`; tests execute the notebook over a small run of its own.
What depends on when and where it was executed (timings, versions) is not kept.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).with_name("study.ipynb")


def clean(notebook: Any) -> Any:
    """Return a notebook with nothing in it that differs between executions over the same run."""
    kept = nbformat.from_dict(notebook)
    kept.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for at, cell in enumerate(kept.cells):
        cell.id = f"cell-{at}"
        cell.metadata = {}
        for output in cell.get("outputs", ()):
            if "metadata" in output:
                output.metadata = {}
    return kept


def main(run: str) -> None:
    """Execute the notebook over a run and write it with its outputs."""
    os.environ["PROBES_NOTEBOOK_RUN"] = str(Path(run).resolve())
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(notebook, timeout=600, record_timing=False).execute(cwd=str(NOTEBOOK.parent))
    nbformat.write(clean(notebook), NOTEBOOK)


if __name__ == "__main__":
    main(*sys.argv[1:])
