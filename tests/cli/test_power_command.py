"""`probes power`: the numbers are those of probes.stats, and nonsense is refused with a message."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from made_records import cell, study, write_run

from probes import analysis, stats
from probes.cli import main

WIDTH = 120


@pytest.fixture
def ask(capsys: pytest.CaptureFixture[str]) -> Any:
    def answer(*words: str) -> list[str]:
        assert main.main(["power", *words]) == 0
        return capsys.readouterr().out.splitlines()

    return answer


def rows(lines: list[str]) -> list[list[str]]:
    """The texts of the first table, header first."""
    start = next(at for at, line in enumerate(lines) if set(line) <= {"-", " "} and line)
    end = lines.index("", start)
    return [re.split(r"  +", line.strip()) for line in [lines[start - 1], *lines[start + 1 : end]]]


def test_items_needed_by_discordance_and_effect(ask: Any) -> None:
    lines = ask("--effect", "2,5", "--discordance", "10,20")
    assert lines[0] == "Items needed to find a gain with power 0.8"
    expected = [
        [
            f"{100 * q:g} %",
            *(f"{stats.items_needed(e, stats.sd_gain(q)):.0f}" for e in (0.02, 0.05)),
        ]
        for q in (0.1, 0.2)
    ]
    assert rows(lines) == [["discordance", "+2 points", "+5 points"], *expected]


def test_least_effect_and_power_of_a_number_of_items(ask: Any) -> None:
    least = 100 * stats.minimum_effect(500, stats.sd_gain(0.2), most=0.2)
    assert rows(ask("--items", "500", "--discordance", "20"))[1] == ["20 %", f"{least:.1f}"]
    chance = stats.power(0.04, stats.sd_gain(0.2), 500, alpha=0.01)
    lines = ask("--items", "500", "--discordance", "20", "--effect", "4", "--alpha", "0.01")
    assert rows(lines)[1] == ["20 %", "500", f"{chance:.2f}"]


def test_an_effect_beyond_the_discordance_is_not_promised(ask: Any) -> None:
    lines = ask("--items", "50", "--discordance", "5")
    assert rows(lines)[1] == ["5 %", "-"]
    assert lines[-1].startswith("-: not even the greatest effect")


def test_a_difference_in_differences_is_of_both_members(ask: Any) -> None:
    spread = stats.sd_did(0.2, 0.1, gain_other=0.02, correlation=0.3)
    words = "--of did --effect 6 --discordance 20 --other-discordance 10 --other-gain 2"
    lines = ask(*words.split(), "--correlation", "0.3")
    assert rows(lines)[1] == ["20 % / 10 %", f"{stats.items_needed(0.06, spread):.0f}"]
    assert "Correlation of gains 0.3" in " ".join(lines)


def test_clusters_strata_and_families_cost_items(ask: Any) -> None:
    spread = stats.sd_gain(0.2)
    inflation = stats.design_effect([1, 1, 4], 0.5)
    expected = stats.items_needed(0.05, spread, design_effect=inflation, per_cluster=2.0)
    words = ("--effect", "5", "--discordance", "20")
    clustered = ask(*words, "--cluster-sizes", "1x2,4", "--icc", "0.5")
    assert rows(clustered)[1] == ["20 %", f"{expected:.0f}"]
    one = stats.items_needed(0.05, spread, alpha=0.05 / 7)
    whole = stats.items_needed(0.05, spread, alpha=0.05 / 7, strata=7)
    found = rows(ask(*words, "--strata", "7", "--family", "7"))[1:]
    assert found == [["one", "20 %", f"{one:.0f}"], ["all 7", "20 %", f"{-(-whole // 7):.0f}"]]


@pytest.mark.parametrize(
    "words",
    [
        ("--effect", "10", "--discordance", "30"),
        ("--items", "100", "--discordance", "20"),
        ("--items", "200", "--discordance", "30", "--cluster-sizes", "egoschema", "--icc", "0.3"),
        ("--of", "did", "--effect", "10", "--discordance", "20", "--correlation", "0.2"),
    ],
)
def test_simulated_runs_have_the_power_planned(ask: Any, words: tuple[str, ...]) -> None:
    last = rows(ask(*words, "--simulate", "--draws", "1500"))[1][-1]
    (power,) = re.findall(r"\((.*)\)", last)
    assert float(power) == pytest.approx(0.8, abs=0.05)


def test_simulated_clusters_hold_the_items_asked_for() -> None:
    from probes.analysis.power_plans import _Design

    design = _Design((1, 1, 1, 5), 0.1)
    for items in (3, 8, 203):
        assert sum(design.sizes(items)) == items
    assert sorted(design.sizes(8)) == [1, 1, 1, 5]


# A finished run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("run"), study(items=60))


def test_a_run_has_its_discordance(ask: Any, run: Path) -> None:
    found = rows(ask(str(run), "--of", "gain", "--effect", "5"))
    assert found[0][:6] == ["contrast", "role", "arm", "frames", "n", "clusters"]
    # vcot and blind, of two members at two frame counts.
    assert len(found) == 1 + 8
    plans = analysis.planning(
        analysis.contrasts(analysis.load(run), names=["gain"], policies=["strict"]), effects=[0.05]
    )
    first = plans.iloc[0]
    assert found[1] == [
        "gain",
        "image",
        "vcot",
        "5",
        "60",
        "30",
        f"{100 * first['discordance']:.1f}",
        f"{first['design_effect']:.2f}",
        f"{100 * first['minimum_effect']:.1f}",
        f"{first['items_for_5']:.0f}",
    ]


def test_a_run_by_stratum_and_simulated(ask: Any, run: Path) -> None:
    lines = ask(str(run), "--of", "did", "--by-stratum", "--simulate", "--draws", "200")
    found = rows(lines)
    assert found[0][3] == "stratum" and "simul." in found[0]
    assert [row[3] for row in found[1:5]] == ["(all)", "s0", "s1", "s2"]
    assert "n for 10" in found[0]
    assert any("made of this run's clusters" in line for line in lines)


def test_a_run_can_be_asked_about_another_measure(ask: Any, run: Path) -> None:
    lines = ask(str(run), "--of", "gain", "--measure", "margin", "--effect", "0.5,1")
    found = rows(lines)
    assert found[0][-3:] == ["least", "n for 0.5", "n for 1"]
    gains = analysis.contrasts(analysis.load(run), names=["gain"], measure="margin")
    first = analysis.planning(gains, measure="margin", effects=[0.5, 1.0]).iloc[0]
    assert found[1][-3:] == [
        f"{first['minimum_effect']:.2f}",
        f"{first['items_for_0.5']:.0f}",
        f"{first['items_for_1']:.0f}",
    ]
    assert "least true effect, in nats" in " ".join(" ".join(lines).split())


def test_without_both_members_there_is_no_difference_in_differences(
    tmp_path: Path, capsys: Any
) -> None:
    write_run(tmp_path, cell([1, 0]) + cell([1, 1], arm="vcot"))
    assert main.main(["power", str(tmp_path), "--of", "did"]) == 2
    assert "holds no did" in capsys.readouterr().err


# The published figures


def test_published_differences_are_compared_with_discordances(ask: Any) -> None:
    lines = ask("--published", "egoschema")
    first = analysis.resolved("egoschema")[0]
    assert rows(lines)[1] == [
        "LLaVA-NeXT",
        "gain",
        "image, 5 frames",
        "500",
        "+7.4",
        f"{100 * first.least:.1f}",
        f"{100 * first.independent:.1f}",
        f"{100 * first.significant_below:.1f}",
        f"{100 * first.found_below:.1f}",
    ]
    assert "347 recordings with icc 0.3" in " ".join(
        ask("--published", "egoschema", "--icc", "0.3")
    )
    assert len(rows(ask("--published", "iraven"))) == 1 + 16


def test_every_line_fits_a_terminal(ask: Any, run: Path) -> None:
    for words in ([str(run), "--simulate", "--draws", "50"], ["--published", "iraven"], ["--help"]):
        assert max(map(len, ask(*words))) <= WIDTH


# Nonsense


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("", "nothing is asked"),
        ("--discordance 20", "nothing is asked"),
        ("--effect 6", "needs the discordance"),
        ("--effect 6 --discordance 0.2", "points, discordances in percent"),
        ("--effect 0 --discordance 20", "may not be 0"),
        ("--effect nan --discordance 20", "an effect of nan"),
        ("--effect six --discordance 20", "is not a number"),
        ("--effect 6 --discordance 120", "up to 100"),
        ("--effect 6 --discordance 0", "lies above 0"),
        ("--items 1 --discordance 20", "from 2 on"),
        ("--items 10.5 --discordance 20", "from 2 on"),
        ("--items inf --discordance 20", "from 2 on"),
        ("--items 50 --discordance 20 --power 0.04", "alpha below power"),
        ("--items 50 --discordance 20 --alpha 0", "alpha below power"),
        ("--items 50 --discordance 20 --family 0", "at least 1"),
        ("--items 50 --discordance 20 --strata 0", "give 1 or more"),
        ("--items 50 --discordance 20 --seed -1", "from 0 on"),
        ("--items 50 --discordance 20 --icc 0.1", "add --cluster-sizes"),
        ("--items 50 --discordance 20 --icc 3 --cluster-sizes 5", "between -1 and 1"),
        ("--items 50 --discordance 20 --cluster-sizes 5", "add --icc"),
        ("--items 50 --discordance 20 --cluster-sizes five --icc 0.1", "cannot be read"),
        ("--items 50 --discordance 20 --cluster-sizes 1x0 --icc 0.1", "cannot be read"),
        ("--items 50 --discordance 20 --cluster-sizes 9 --icc -0.9", "impossible"),
        ("--items 50 --discordance 20 --correlation 0.3", "add --of did"),
        ("--items 50 --discordance 20 --of did --of gain", "one at a time"),
        ("--items 50 --discordance 20 --of did --other-gain 101", "within 100 points"),
        ("--items 500 --discordance 20 --of did --correlation -0.3 --simulate", "cannot reach"),
        ("--items 9000000 --discordance 20 --simulate", "too long to simulate"),
        ("--items 50 --discordance 20 --by-stratum", "name a RUN"),
        ("nowhere", "is not there"),
        ("nowhere --items 50", "a RUN settles it"),
        ("nowhere --icc 0.5", "a RUN settles it"),
        ("nowhere --published iraven", "two questions"),
        ("--published iraven --effect 6", "settles it"),
        ("--published iraven --simulate", "cannot be simulated"),
        ("--items 5 --measure margin", "only a run's answers"),
        ("--published iraven --icc 0.1", "no recordings"),
        ("--published raven", "invalid choice"),
    ],
)
def test_nonsense_is_refused_with_a_message(words: str, message: str, capsys: Any) -> None:
    assert main.main(["power", *words.split()]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
