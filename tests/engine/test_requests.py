"""What a model is asked under an arm, and what is refused before any item is loaded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from running import ITEMS, Spy

from probes import analysis, load
from probes.cache import output_cache
from probes.config.settings import RunConfig
from probes.core.errors import ProbesError
from probes.core.types import Arm, Decoding, FrameRef, Intervention, ScoringSpec, Stimulus, TextSpan
from probes.engine import phases, plan
from probes.engine.dry_run import dry_run
from probes.engine.placeholder_text import shortened
from probes.engine.run import execute
from probes.engine.stimulus_builder import request_of
from probes.models import controllers, interventions
from probes.models.base import NEEDS, Capabilities
from probes.tasks import registry

CUT = Intervention("cut", (("layers", "0-1"),))
NOTHING = Intervention("nothing")
SAMPLED, GREEDY = Decoding("sampled", (("seed", 1),)), Decoding("greedy")
SHOWN = Stimulus(
    "i", "a", (FrameRef("f"), "what?"), ("A", "B"), "sha", None, (TextSpan("frame 0", 0),)
)


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Registries that know the names of this module; `nothing` and `greedy` change nothing."""
    asked: list[str] = []

    def resolve(given: Any, where: str) -> Any:
        asked.append(where)
        return None if given in (NOTHING, GREEDY) else replace(given, version="3")

    monkeypatch.setattr(interventions, "resolve", resolve)
    monkeypatch.setattr(controllers, "resolve", resolve)
    return asked


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROBES_HOME", str(tmp_path / "home"))


def suite(cfg: RunConfig, *arms: Arm, **changes: Any) -> RunConfig:
    return replace(cfg, suite=(Arm("baseline"), *arms), **changes)


def test_arms_are_resolved_and_what_changes_nothing_asks_the_plain_request(
    settle: Any, registered: list[str]
) -> None:
    arms = plan.resolved(
        suite(
            settle(),
            Arm("cut", intervention=CUT),
            Arm("same", intervention=NOTHING, decoding=GREEDY),
            Arm("both", intervention=CUT, decoding=SAMPLED),
            scoring="generate",
        )
    )
    assert registered == [
        "suite.arms.cut.intervention",
        "suite.arms.same.intervention",
        "suite.arms.same.decoding",
        "suite.arms.both.intervention",
        "suite.arms.both.decoding",
    ]
    requests = {arm.name: request_of(SHOWN, arm) for arm in arms}
    assert requests["cut"].intervention == replace(CUT, version="3")
    assert requests["both"].decoding == replace(SAMPLED, version="3")
    assert all(request.spans == SHOWN.spans for request in requests.values())
    keys = {
        name: output_cache.key(request, "model", ScoringSpec("generate", 8), "1")
        for name, request in requests.items()
    }
    assert keys["same"] == keys["baseline"]
    assert len(set(keys.values())) == 3


def test_what_is_shortened_for_people_has_no_places_any_more(registered: list[str]) -> None:
    shown = shortened(request_of(SHOWN, Arm("cut", intervention=CUT)))
    assert (shown.spans, shown.intervention, shown.options) == ((), CUT, ("A", "B"))


@pytest.mark.parametrize("scoring", ["letter", "cloze"])
def test_a_decoding_needs_replies(scoring: str, settle: Any, registered: list[str]) -> None:
    with pytest.raises(ProbesError) as caught:
        plan.resolved(suite(settle(), Arm("warm", decoding=SAMPLED), scoring=scoring))
    assert caught.value.where == "suite.arms.warm.decoding"
    assert f"arm warm has the decoding 'sampled', but scoring={scoring}" in caught.value.what


def _run(cfg: RunConfig) -> None:
    execute(cfg, cfg.out)


def _plan(cfg: RunConfig) -> None:
    with dry_run(cfg):
        pass


@pytest.mark.parametrize("command", [_run, _plan])
@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"backend": "server", "scoring": "cloze"},
            "backend server cannot score by cloze: it has no log-probabilities of given text",
        ),
        ({"suite": (Arm("a", frames="donr"),)}, "did you mean donor?"),
        ({"suite": (Arm("a", intervention=replace(CUT, name="no_such")),)}, "no_such"),
        ({"suite": (Arm("a", decoding=SAMPLED),)}, "arm a has the decoding 'sampled'"),
    ],
    ids=["scoring", "frames", "intervention", "decoding"],
)
def test_what_cannot_be_asked_is_refused_before_items_are_loaded(
    command: Callable[[RunConfig], None],
    changes: dict[str, Any],
    said: str,
    settle: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def loaded(*_: Any) -> None:
        raise AssertionError("items were loaded")

    monkeypatch.setattr(registry, "load", loaded)
    cfg = settle("pair.frame_as=image")
    if "backend" in changes:
        options = {"base_url": "http://localhost:9/v1"}
        changes = changes | {"backend": replace(cfg.backend, name="server", options=options)}
    with pytest.raises(ProbesError) as caught:
        command(replace(cfg, **changes))
    assert said in str(caught.value)


def test_a_member_that_cannot_be_changed_inside_is_refused(
    settle: Any, spy: type[Spy], registered: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[Any, ...]] = []
    monkeypatch.setattr(phases, "check_capabilities", lambda *given: asked.append(given))
    arms = Arm("cut", intervention=CUT), Arm("same", intervention=NOTHING)
    _plan(suite(settle(), *arms))
    can = Capabilities(needs=NEEDS, interventions=True, decoding=True)
    both = (can, "scripted", "cloze", [replace(CUT, version="3")], [])
    assert asked == [both, both]


def test_arms_that_differ_in_their_intervention_alone_show_the_same_and_are_compared(
    settle: Any, spy: type[Spy], registered: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(phases, "check_capabilities", lambda *_: None)
    arms = (
        Arm("cut", reference="baseline", intervention=CUT),
        Arm("same", reference="baseline", intervention=NOTHING),
    )
    result = execute(cfg := suite(settle(), *arms), cfg.out)
    by_arm = {
        name: [r for r in result.records if r.arm == name] for name in ("baseline", "cut", "same")
    }
    shown = [[r.stimulus_sha for r in records] for records in by_arm.values()]
    assert shown[0] == shown[1] == shown[2] and len(shown[0]) == 2 * 2 * ITEMS
    keys = {name: [r.key for r in records] for name, records in by_arm.items()}
    assert keys["same"] == keys["baseline"]
    assert not set(keys["cut"]) & set(keys["baseline"])
    assert spy.asked["cloze"] == len({r.key for r in result.records})
    gains = analysis.contrasts(load(cfg.out), names=["gain"]).set_index("arm")
    assert set(gains.index) == {"cut", "same"}
    assert (gains.loc[["same"], "estimate"] == 0).all()
