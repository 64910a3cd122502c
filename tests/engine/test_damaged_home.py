"""Whatever is damaged in $PROBES_HOME: the same command gives the records of an undisturbed run."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from damaging import copied, damage
from PIL import Image
from processes import SCRIPTED, table

from probes.config.compose import compose
from probes.config.settings import RunConfig
from probes.core.hashing import array_sha256
from probes.engine import run

KINDS = {
    "rows": "store/*.sqlite*",
    "frame index": "frames/index/*/*.json",
    "pictures": "frames/[0-9a-f][0-9a-f]/*.png",
    "hashes": "hashes.jsonl",
    "made data": "data/**/*",
}
SETTINGS = [*SCRIPTED, "task.videos=6", "frames=3", "suite=study"]


class Undisturbed:
    """A run that nothing happened to, and its home."""

    def __init__(self, folder: Path, settings: list[str]) -> None:
        self.folder, self.settings = folder, settings
        self.home = folder / "home"
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PROBES_HOME", str(self.home))
            self.cfg: RunConfig = compose(settings)
            self.out = run.execute(replace(self.cfg, out=folder / "out"), folder / "out").out

    def again(self, out: Path) -> run.RunResult:
        return run.execute(replace(self.cfg, out=out), out)

    def check(self, out: Path, what: str) -> None:
        for name in ("records", "items", "donors", "infills"):
            assert table(out, name).equals(table(self.out, name)), f"{what}: other {name}"
        frames = sorted((out / "frames").iterdir())
        assert [p.name for p in frames] == sorted(p.name for p in (self.out / "frames").iterdir())
        for path in frames:
            assert array_sha256(np.asarray(Image.open(path))) == path.stem, f"{what}: {path}"


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Undisturbed]:
    yield Undisturbed(tmp_path_factory.mktemp("undisturbed"), SETTINGS)


def heal(one: Undisturbed, seeds: range, tmp_path: Path, patch: pytest.MonkeyPatch) -> None:
    """Damage a copy of a home per seed; run over it twice."""
    home = tmp_path / "home"
    patch.setenv("PROBES_HOME", str(home))
    for seed in seeds:
        copied(one.home, home)
        what = damage(home, seed, KINDS)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it says what it heals
            result = one.again(tmp_path / f"out-{seed}-0")
            assert not result.errors, f"{what}: {result.first_error}"
            one.check(result.out, what)
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # what is healed is not damaged any more
            # A folder is no damaged file of the store: it is left alone, and named each time.
            warnings.filterwarnings("ignore", message=r".*not used: .*\(a folder\)")
            result = one.again(tmp_path / f"out-{seed}-1")
        prompts = result.counts["prompts"].values()
        assert not sum(counts["computed"] for counts in prompts), f"{what}: it was not healed"
        one.check(result.out, what)


def test_every_run_heals_what_it_uses(
    undisturbed: Undisturbed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heal(undisturbed, range(24), tmp_path, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(10))
def test_a_thousand_damages(
    undisturbed: Undisturbed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: int
) -> None:
    heal(undisturbed, range(1_000 + part * 100, 1_100 + part * 100), tmp_path, monkeypatch)
