"""No test writes into the home of whoever runs it; what cannot be fetched skips a test."""

from __future__ import annotations

from collections.abc import Generator, Iterator

import pytest
from hub_layouts.published import NotFetchedError


@pytest.fixture(scope="session", autouse=True)
def home_of_the_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PROBES_HOME", str(tmp_path_factory.mktemp("home")))
        yield


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None]:
    try:
        return (yield)
    except NotFetchedError as missing:
        pytest.skip(str(missing.args[0]))
