"""Videos that every test of this folder may read, filmed once, and processes that decode them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from filming import film_all

from probes.media.decoder_pool import DecoderPool


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return film_all(tmp_path_factory.mktemp("clips"))


@pytest.fixture(scope="session")
def pool() -> Iterator[DecoderPool]:
    """One decoding process for all: a child of its own would take each test a third of a second."""
    pool = DecoderPool(timeout_s=30)
    yield pool
    pool.end()
