"""The registries of interventions and controllers, and the parameters of their entries."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import made_hooks
import numpy as np
import pytest

from probes.core.errors import ProbesError
from probes.core.types import Decoding, Intervention, Request, ScoringSpec
from probes.models import controllers, interventions
from probes.models.base import Capabilities, check_capabilities, check_requests
from probes.models.controllers import CONTROLLERS
from probes.models.interventions import INTERVENTIONS, Collected, HookBatch, entropy
from probes.models.parameters import made, params_of

WHERE = "suite.arms.cut.intervention"


@dataclass(frozen=True)
class Many:
    layers: tuple[int, ...] | None = None
    edge: Literal["frames", "infills"] = "frames"
    share: float = 0.5
    pair: tuple[str, int] = ("a", 1)
    on: bool = False
    size: int = 3

    def __post_init__(self) -> None:
        if self.size < 0:
            raise ValueError("size is below 0")


def test_identities_are_no_intervention() -> None:
    assert interventions.resolve(Intervention("none"), WHERE) is None
    assert controllers.resolve(Decoding("greedy"), WHERE) is None
    entropy = interventions.resolve(Intervention("entropy"), WHERE)
    assert entropy == Intervention("entropy", (), "1")
    drawn = controllers.resolve(Decoding("sample", (("temperature", 2), ("top_p", 1.0))), WHERE)
    # A parameter at its default is left out, and a whole number is a number.
    assert drawn == Decoding("sample", (("temperature", 2.0),), "1")
    assert isinstance(drawn.params[0][1], float)
    assert controllers.controller_of(drawn) == controllers.Sampling(temperature=2.0)


@pytest.mark.parametrize(
    ("given", "what", "where", "fix"),
    [
        (Decoding("sampel"), "no controller named 'sampel'", "", "did you mean sample?"),
        (
            Decoding("sample", (("top_k", 3),)),
            "no parameter 'top_k'",
            ".top_k",
            "did you mean top_p?",
        ),
        (Decoding("sample", (("seed", 1.5),)), "1.5 is not of type int", ".seed", "correct"),
        (Decoding("sample", (("seed", True),)), "True is not of type int", ".seed", "correct"),
        (
            Decoding("sample", (("top_p", "all"),)),
            "'all' is not of type float",
            ".top_p",
            "correct",
        ),
        (Decoding("sample", (("top_p", 2.0),)), "top_p is 2.0, which is not in", "", "correct"),
        (Decoding("sample", (("temperature", 0),)), "which is not above 0", "", "correct"),
        (Decoding("sample", (("temperature", math.nan),)), "not above 0", "", "correct"),
        (Decoding("greedy", (("seed", 1),)), "no parameter 'seed'", ".seed", "there are none"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_wrong_parameters_name_their_setting(
    given: Decoding, what: str, where: str, fix: str
) -> None:
    with pytest.raises(ProbesError) as caught:
        controllers.resolve(given, WHERE)
    assert what in caught.value.what
    assert caught.value.where == WHERE + where
    assert fix in caught.value.fix


def test_an_unknown_intervention_names_the_nearest() -> None:
    with pytest.raises(ProbesError, match="no intervention named 'entropie'") as caught:
        interventions.resolve(Intervention("entropie"), WHERE)
    assert (caught.value.where, caught.value.fix) == (WHERE, "did you mean entropy?")


@pytest.mark.parametrize(
    ("params", "good"),
    [
        ({"layers": (0, 1)}, True),
        ({"layers": None}, True),
        ({"layers": (0, "1")}, False),
        ({"layers": 3}, False),
        ({"edge": "infills"}, True),
        ({"edge": "frame"}, False),
        ({"share": 1}, True),
        ({"share": True}, False),
        ({"pair": ("b", 2)}, True),
        ({"pair": ("b",)}, False),
        ({"on": True}, True),
        ({"on": 1}, False),
        ({"size": -1}, False),
    ],
    ids=str,
)
def test_types_of_parameters(params: dict[str, Any], good: bool) -> None:
    if not good:
        with pytest.raises(ProbesError):
            made(Many, params, WHERE)
        return
    one = made(Many, params, WHERE)
    changed = {name: value for name, value in params.items() if value != getattr(Many, name, None)}
    assert dict(params_of(one)) == changed


def test_a_missing_parameter_is_named() -> None:
    with pytest.raises(ProbesError, match="'source' is missing"):
        made(made_hooks.CutEdges, {"target": "frame 0"}, WHERE)


@dataclass
class Thawed:
    version: ClassVar[str] = "1"
    needs: ClassVar[frozenset[Any]] = frozenset()
    packable: ClassVar[bool] = True

    def is_identity(self) -> bool:
        return False

    apply = start = is_identity


@dataclass(frozen=True)
class Unversioned(made_hooks.Nothing):
    version: ClassVar[Any] = 1


@dataclass(frozen=True)
class Idle:
    version: ClassVar[str] = "1"


@pytest.mark.parametrize(
    ("name", "registry", "why"),
    [
        ("Thawed", INTERVENTIONS, "not frozen"),
        ("Unversioned", INTERVENTIONS, "version is not of type str"),
        ("Idle", CONTROLLERS, "no method is_identity"),
        ("WHERE", CONTROLLERS, "not a dataclass"),
        ("Absent", CONTROLLERS, "AttributeError"),
    ],
)
def test_entries_of_the_wrong_form_are_refused(
    name: str, registry: Any, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from probes.core.plugins import Entry

    entry = Entry("broken", f"{__name__}:{name}", "apart 1.0")
    monkeypatch.setitem(registry._builtin, "broken", entry)
    with pytest.raises(ProbesError, match=f"of apart 1.0 cannot be loaded.*{why}"):
        registry.get("broken", WHERE)


def test_the_entropy_of_weights() -> None:
    assert entropy([math.log(0.5), math.log(0.5)]) == pytest.approx(math.log(2))
    weights = np.array([0.7, 0.2, 0.1])
    expected = -(weights * np.log(weights)).sum()
    # Not normalised, and far below what a float holds.
    assert entropy(list(np.log(weights) - 2000)) == pytest.approx(expected)
    assert entropy([0.0, -math.inf]) == 0
    assert entropy([-3.0]) == 0


def test_a_hook_without_a_mask_cannot_edit_it() -> None:
    batch = HookBatch([], np.zeros((0, 0), int), np.zeros((1, 0, 0), int), [], {})
    with pytest.raises(TypeError, match="no `mask` among its needs"):
        batch.edit_masks(lambda mask, layer, first: mask)
    assert Collected() == Collected({}, {})


@pytest.mark.parametrize(
    ("can", "scoring", "what", "fix"),
    [
        (
            Capabilities(("letter", "generate"), unscored="it has no log-probabilities"),
            "cloze",
            "backend x cannot score by cloze: it has no log-probabilities",
            "set scoring=letter or scoring=generate, or use backend=hf",
        ),
        (
            Capabilities(decoding=True, reason="it is elsewhere"),
            "letter",
            "backend x cannot apply intervention 'entropy': it is elsewhere",
            "leave the arm out",
        ),
        (
            Capabilities(interventions=True),
            "letter",
            "backend x cannot write by 'sample', only greedily",
            "leave the arm out",
        ),
    ],
    ids=["scoring", "intervention", "decoding"],
)
def test_what_a_backend_cannot_do_is_refused_with_the_reason(
    can: Capabilities, scoring: Any, what: str, fix: str
) -> None:
    with pytest.raises(ProbesError) as caught:
        check_capabilities(can, "x", scoring, [Intervention("entropy")], [Decoding("sample")])
    assert caught.value.what == what
    assert fix in caught.value.fix
    request = Request(("x",), ("A",), Intervention("entropy"), Decoding("sample"))
    with pytest.raises(ProbesError, match=what.split(":")[0]):
        check_requests(can, "x", [Request(("y",)), request], ScoringSpec(scoring))
    able = Capabilities(interventions=True, decoding=True)
    check_capabilities(able, "x", scoring, [Intervention("entropy")], [Decoding("sample")])


def test_every_backend_says_what_it_can_do(settings: Any, video_checkpoint: Any) -> None:
    from probes.core.types import ModelSpec
    from probes.models import open_backend

    spec = ModelSpec("m", "image", str(video_checkpoint), frame_as="image")
    opened = {
        "hf": open_backend(settings(), spec),
        "scripted": open_backend(settings(name="scripted", options={}), spec),
        "server": open_backend(
            settings(name="server", options={"base_url": "http://localhost:1/v1"}), spec
        ),
        "lmms": open_backend(settings(name="lmms", options={"model": "llava_hf"}), spec),
    }
    can = {name: backend.capabilities() for name, backend in opened.items()}
    found = {n: (len(one.scorings), one.interventions, one.decoding) for n, one in can.items()}
    able = {"hf": (3, True, True), "scripted": (3, True, True)}
    assert found == able | {"server": (2, False, False), "lmms": (1, False, False)}
    assert can["hf"].needs == {"mask", "layers", "grad"}
    for name in ("server", "lmms"):
        assert opened[name].planning() is None
        asked = [Request(("x",), ("A",), Intervention("entropy", (), "1"))]
        with pytest.raises(ProbesError, match="cannot apply intervention 'entropy'"):
            list(opened[name].score(asked, {}, ScoringSpec("generate", 4)))


def test_torch_is_not_imported_for_names_and_parameters() -> None:
    program = """
import sys
from probes.core.types import Decoding, Intervention
from probes.models import controllers, interventions
assert interventions.resolve(Intervention("entropy"), "x")
assert controllers.resolve(Decoding("sample"), "x")
print(sorted({"torch", "transformers"} & set(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"
