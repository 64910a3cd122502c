"""The example package, installed into a folder of its own: one of everything, no file edited."""

from __future__ import annotations

import importlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from processes import ROOT

import probes
from probes.cli import plugins as listing
from probes.cli.main import main
from probes.core import plugins
from probes.core.types import Intervention
from probes.models import interventions
from probes.records import artifacts, run_folder

Probes = Callable[..., tuple[int, str, str]]
SUITE = (
    "+suite.arms.noisy={reference: baseline, intervention: {name: frame_noise, strength: 0.5}}",
    "+suite.arms.still={reference: baseline, intervention: {name: frame_noise, strength: 0}}",
    "+suite.arms.half={frames: first_half, reference: baseline}",
    "arms=[baseline,noisy,still,half]",
)
SMALL = ("task.videos=8", "task.height=32", "task.fps=1", "frames=4")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder into which pip installs the package."""
    folder = tmp_path_factory.mktemp("plugin")
    # A copy, as a build leaves files next to the source.
    source = shutil.copytree(ROOT / "examples" / "plugin", folder / "source")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    how = ["--no-deps", "--no-index", "--no-build-isolation", "--target", str(folder / "site")]
    subprocess.run([*pip, *how, str(source)], check=True)
    return folder / "site"


@pytest.fixture
def installed(site: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """This process as it would be where the package is installed."""
    broken = tmp_path / "broken" / "broken_example-2.0.dist-info"
    broken.mkdir(parents=True)
    (broken / "METADATA").write_text("Metadata-Version: 2.1\nName: broken-example\nVersion: 2.0\n")
    (broken / "entry_points.txt").write_text(
        "[probes.measures]\nlost = there_is_no_such_module:LOST\naccuracy = broken:MINE\n"
        "../up = broken:UP\na b = broken:B\n[probes.task]\nmisplaced = broken:TASK\n"
        "[probes.frame_sources]\nodd = probes.core.types:Item\n"
    )
    monkeypatch.syspath_prepend(str(broken.parent))
    monkeypatch.syspath_prepend(str(site))
    registries = [plugins.load(target) for target in listing.REGISTRIES]
    for registry in registries:
        monkeypatch.setattr(registry, "_loaded", {})
    plugins.installed.cache_clear()
    yield site
    plugins.installed.cache_clear()
    for name in [name for name in sys.modules if name.startswith("probes_example")]:
        del sys.modules[name]


@pytest.fixture
def run(
    installed: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path_factory: pytest.TempPathFactory,
    capsys: pytest.CaptureFixture[str],
) -> Probes:
    """Runs a `probes` command; returns its exit code, output and messages."""
    home = tmp_path_factory.getbasetemp() / "plugin-home"
    monkeypatch.setenv("PROBES_HOME", str(home))

    def command(*words: str) -> tuple[int, str, str]:
        code = main(words)
        out, err = capsys.readouterr()
        return code, out, err

    return command


def test_everything_that_it_adds_is_listed_with_what_is_broken(run: Probes) -> None:
    code, out, _ = run("plugins", "--json")
    found = {(one["group"], one["name"], one["source"]): one["problem"] for one in json.loads(out)}
    ours = "probes-example 1.0"
    assert {group: name for group, name, source in found if source == ours} == {
        "probes.tasks": "passing",
        "probes.families": "grey_llava_next_video",
        "probes.backends": "longest",
        "probes.interventions": "frame_noise",
        "probes.controllers": "no_repeat",
        "probes.frame_sources": "first_half",
        "probes.measures": "tokens_read",
        "probes.sections": "noise",
    }
    assert not any(problem for (_, _, source), problem in found.items() if source == ours)
    other = "broken-example 2.0"
    assert "ModuleNotFoundError" in found["probes.measures", "lost", other]
    assert "a name has letters" in found["probes.measures", "../up", other]
    assert "a name has letters" in found["probes.measures", "a b", other]
    misplaced = found["probes.task", "misplaced", other]
    assert misplaced == "there is no group probes.task: did you mean probes.tasks?"
    assert "the name is built in" in found["probes.measures", "accuracy", other]
    assert "FrameSource" in found["probes.frame_sources", "odd", other]
    assert code == 1
    code, out, _ = run("plugins")
    assert code == 1
    assert "cannot be used: measure 'lost' of broken-example 2.0 cannot be loaded" in out


def test_its_task_has_a_setting_of_its_own(run: Probes, tmp_path: Path) -> None:
    given = ("task=passing", "task.clips=6", "task.size=8", "backend=scripted", "arms=[baseline]")
    code, _, err = run("run", *given, f"hydra.run.dir={tmp_path / 'run'}")
    assert code == 0, err
    frame = probes.load(tmp_path / "run")
    assert sorted(set(frame["item_id"])) == [f"clip{number:03}" for number in range(6)]
    assert set(frame["frames"]) == {4}  # the reader's default
    config = json.loads((tmp_path / "run" / "manifest.json").read_text())["config"]["task"]
    assert (config["clips"], config["size"], config["reader"]) == (6, 8, "passing")
    for override, says in (
        ("task.clipz=3", "did you mean task.clips?"),
        ("task.clips=1", "give at least 4"),
        ("task.clips=many", "task.clips"),
        ("task.videos=3", "task.videos"),
    ):
        code, _, err = run("run", "task=passing", override, "backend=scripted")
        assert code == 2
        assert says in err, err
    code, _, err = run("run", "task=passinq", "backend=scripted")
    assert code == 2
    assert "did you mean passing?" in err


def test_what_changes_the_model_is_in_the_records_and_in_no_other_key(
    run: Probes, tmp_path: Path
) -> None:
    code, _, err = run("run", "pair=tiny", *SMALL, *SUITE, f"hydra.run.dir={tmp_path / 'run'}")
    assert code == 0, err
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert manifest["packages"]["probes-example"] == "1.0"
    arms = {arm["name"]: arm["intervention"] for arm in manifest["config"]["suite"]}
    assert (arms["noisy"]["version"], arms["baseline"]) == ("1", None)
    assert ["strength", 0] in arms["still"]["params"]  # as configured: nothing was changed
    # Read back, it is the very value that requests had: hashable, and equal to itself.
    given = run_folder.read(tmp_path / "run").arms["noisy"].intervention
    assert isinstance(given, Intervention)
    hook = interventions.hook_of(given)
    assert (hook.strength, given) == (0.5, interventions.resolve(given, "arm"))
    frame = probes.load(tmp_path / "run")
    by_arm = {arm: rows.set_index(["item_id", "role"]) for arm, rows in frame.groupby("arm")}
    plain, noisy, still = (by_arm[name] for name in ("baseline", "noisy", "still"))
    # No noise is no intervention: the very answers, from the very cache entries.
    assert plain["key"].equals(still["key"])
    assert plain["option_logprobs"].equals(still["option_logprobs"])
    assert not set(plain["key"]) & set(noisy["key"])
    assert (plain["stimulus_sha"] == noisy["stimulus_sha"]).all()
    values = {
        name: np.array([list(one) for one in rows["option_logprobs"]])
        for name, rows in by_arm.items()
    }
    assert (np.abs(values["noisy"] - values["baseline"]) > 1e-3).any(axis=1).all()
    # Its numbers are in the records, its arrays in the run, and its measure takes them.
    found = artifacts.read(tmp_path / "run")
    for row in noisy.itertuples():
        (one,) = probes.artifacts(tmp_path / "run").index.query("key == @row.key").itertuples()
        array = found.array(row.key, "rms", layer=0, span="frames")
        assert array.shape == (4,) == tuple(one.shape)
        assert dict(row.extras)["noise_rms"] == pytest.approx(0.5 * array.mean(), rel=1e-5)
    read = probes.contrasts(frame, measure="tokens_read", names=("gain",))
    gains = read.set_index(["role", "arm"])["estimate"]
    assert gains["video", "noisy"] == 0
    assert gains["video", "half"] < -1  # two frames of four are hidden
    code, _, err = run("report", str(tmp_path / "run"))
    assert code == 0, err
    page = (tmp_path / "run" / "report" / "report.md").read_text()
    assert "## Noise on frames" in page
    assert (tmp_path / "run" / "report" / "plots" / "noise.svg").stat().st_size > 1_000
    rms = [dict(extras)["noise_rms"] for extras in noisy.xs("video", level="role")["extras"]]
    assert f"{np.mean(rms):.3f}" in page
    code, out, err = run("plan", "pair=tiny", *SMALL, *SUITE, "--dry-run", "1")
    assert code == 0, err
    (heading,) = {line for line in out.splitlines() if ", arm noisy, 4 frames" in line}
    assert "intervention frame_noise(" in heading
    assert "strength=0.5" in heading
    assert not any("intervention" in line for line in out.splitlines() if ", arm still," in line)
    assert "prompts of tiny-video: done" in err
    assert "answers of" not in err
    code, _, err = run("run", "pair=tiny", *SMALL, *SUITE, f"hydra.run.dir={tmp_path / 'again'}")
    again = json.loads((tmp_path / "again" / "manifest.json").read_text())["counts"]["prompts"]
    assert [one["computed"] for one in again.values()] == [0, 0]


def test_its_family_backend_and_controller_answer(run: Probes, tmp_path: Path) -> None:
    arms = ("arms=[baseline]", *SMALL)
    code, _, err = run(
        "run",
        "pair=tiny",
        "pair.family=grey_llava_next_video",
        *arms,
        f"hydra.run.dir={tmp_path / 'grey'}",
    )
    assert code == 0, err
    members = json.loads((tmp_path / "grey" / "manifest.json").read_text())["members"]
    assert {one["family"] for one in members.values()} == {"grey_llava_next_video"}
    assert _packages(tmp_path / "grey")["probes-example"] == "1.0"
    code, _, err = run(
        "run", "pair=tiny", "backend=longest", *arms, f"hydra.run.dir={tmp_path / 'longest'}"
    )
    assert code == 0, err
    assert _packages(tmp_path / "longest")["probes-example"] == "1.0"
    rows = probes.load(tmp_path / "longest").merge(_options(tmp_path / "longest"), on="item_id")
    assert all(
        # Of equally long ones either may be drawn.
        len(row.options[row.choice]) == max(map(len, row.options))
        for row in rows.itertuples()
    )
    code, _, err = run("run", "pair=tiny", "backend=longest", "scoring=letter", *arms)
    assert code == 2
    assert "backend longest cannot score by letter" in err
    writing = ("scoring=generate", "max_new_tokens=6", "suite.arms.baseline.decoding=no_repeat")
    code, _, err = run("run", "pair=tiny", *arms, *writing, f"hydra.run.dir={tmp_path / 'text'}")
    assert code == 0, err
    assert all(
        dict(extras)["repeats_avoided"] >= 0 for extras in probes.load(tmp_path / "text")["extras"]
    )


def _packages(folder: Path) -> dict[str, str]:
    found: dict[str, str] = json.loads((folder / "manifest.json").read_text())["packages"]
    return found


def _options(folder: Path) -> object:
    pandas = importlib.import_module("pandas")
    return pandas.read_parquet(folder / "items.parquet")[["id", "options"]].rename(
        columns={"id": "item_id"}
    )
