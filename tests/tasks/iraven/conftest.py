from pathlib import Path

import pytest
from iraven_checks import problems

from probes.tasks.iraven.problem import Problem
from probes.tasks.iraven.space import CONFIGURATIONS


@pytest.fixture(scope="session")
def originals() -> Path:
    """A folder of files that the original generator made."""
    return Path(__file__).parents[2] / "data" / "iraven"


@pytest.fixture(scope="session")
def made() -> dict[str, list[Problem]]:
    """1,200 problems of each configuration."""
    return {name: problems(name, 1200) for name in CONFIGURATIONS}
