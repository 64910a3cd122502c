"""The log of a command is on standard error, in lines that read as before logging."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator

import pytest

from probes.core import logs


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """Give the process its log, and its warnings, back as they were."""
    logger = logging.getLogger("probes")
    kept = (logger.handlers[:], logger.level, logger.propagate)
    logger.handlers[:], logger.propagate = [], True
    with warnings.catch_warnings():
        yield
    logger.handlers[:], logger.level, logger.propagate = kept


def test_messages_come_once_as_they_are_and_without_secrets(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_PlantedTokenOfTheHub123456")
    logs.to_screen()
    logs.to_screen()
    logging.getLogger("probes.core.progress").info("%s: done", "answers")
    logging.getLogger("probes.cli.run").error("\nstopped by hf_PlantedTokenOfTheHub123456")
    logging.getLogger("probes.x").debug("nothing")
    assert capsys.readouterr().err == "answers: done\n\nstopped by [$HF_TOKEN]\n"


def test_a_handler_for_everything_does_not_print_it_again() -> None:
    """As Hydra installs one for its own messages."""
    seen: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: seen.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger().addHandler(handler)
    try:
        logging.getLogger("probes.x").error("before")
        logs.to_screen()
        logging.getLogger("probes.x").error("after")
    finally:
        logging.getLogger().removeHandler(handler)
    assert seen == ["before"]


def test_warnings_are_lines_without_their_place(capsys: pytest.CaptureFixture[str]) -> None:
    logs.to_screen()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logs.warnings_too()
        warnings.warn("3 docs\n  are left out", stacklevel=1)
    assert capsys.readouterr().err == "warning: 3 docs\n  are left out\n"
