"""The registries of interventions and controllers, and the parameters of their entries."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import InitVar, dataclass, field, fields, replace
from typing import Any, ClassVar, Literal

import made_hooks
import numpy as np
import pytest

from probes.core.errors import ProbesError
from probes.core.params import frozen
from probes.core.types import Decoding, Intervention, Request, ScoringSpec
from probes.models import controllers, interventions
from probes.models.base import Capabilities, check_capabilities, check_requests
from probes.models.controllers import CONTROLLERS
from probes.models.interventions import INTERVENTIONS, Collected, HookBatch, entropy
from probes.models.parameters import content_of, made, params_of

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
    # A changed default must not find old answers; and a whole number is a number.
    assert drawn == Decoding("sample", (("seed", 0), ("temperature", 2.0), ("top_p", 1.0)), "1")
    assert [type(value) for _, value in drawn.params] == [int, float, float]
    assert controllers.controller_of(drawn) == controllers.Sampling(temperature=2.0)


@pytest.mark.parametrize(
    ("given", "what", "where", "fix"),
    [
        (Decoding("samplle"), "no controller named 'samplle'", "", "did you mean sample?"),
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
    defaults = {f.name: f.default for f in fields(Many)}
    assert dict(params_of(one)) == defaults | params


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


INSTANCE = made_hooks.Nothing()


@dataclass(frozen=True)
class Bare:
    version: ClassVar[str] = "1"
    needs: ClassVar[frozenset[Any]] = frozenset()

    def is_identity(self) -> bool:
        return False

    apply = is_identity


@dataclass(frozen=True)
class Needy(made_hooks.Nothing):
    needs: ClassVar[frozenset[Any]] = frozenset({"masks"})


@dataclass(frozen=True)
class Unread(made_hooks.Nothing):
    size: nowhere = 1  # type: ignore[name-defined]  # noqa: F821


@dataclass(frozen=True)
class Apart(made_hooks.Nothing):
    size: int = field(default=1, compare=False)


@dataclass(frozen=True)
class Silent(made_hooks.Nothing):
    size: int = field(default=1, init=False)


@dataclass(frozen=True)
class Early(made_hooks.Nothing):
    size: InitVar[int] = 1


@dataclass(frozen=True)
class Mapped(made_hooks.Nothing):
    sizes: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Wrong(made_hooks.Nothing):
    size: int = "x"  # type: ignore[assignment]


@dataclass(frozen=True)
class Mixed(made_hooks.Nothing):
    one: float | None = None
    several: tuple[float, ...] = ()
    either: int | float = 0
    level: Literal[0, 1] = 0
    on: bool = True

    def __post_init__(self) -> None:
        if self.one == 7:
            raise KeyError("seven")

    def is_identity(self) -> bool:
        if self.one == 8:
            raise ZeroDivisionError("eight")
        return False


def test_equal_parameters_are_one_key_and_others_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(made_hooks, "Mixed", Mixed, raising=False)
    made_hooks.register(monkeypatch, INTERVENTIONS, mixed="Mixed")

    def of(**params: Any) -> Intervention:
        found = interventions.resolve(Intervention("mixed", frozen(params)), WHERE)
        assert found is not None
        return found

    assert content_of(of()) == content_of(of(on=True, level=0, either=0))
    assert content_of(of(one=1, several=(1, 2))) == content_of(of(one=1.0, several=(1.0, 2.0)))
    expected = {"one": 1.0, "several": (), "either": 0, "level": 0, "on": True}
    assert dict(of(one=1).params) == expected
    # Equal in Python, and yet another parameter each.
    others = [of(either=1), of(either=1.0), of(either=0, level=1), of(on=False), of(either=0.0)]
    assert len({content_of(one) for one in others}) == 5
    whole, part = interventions.hook_of(others[0]), interventions.hook_of(others[1])
    assert (type(whole.either), type(part.either)) == (int, float)  # type: ignore[attr-defined]
    for params, what in (
        ({"level": True}, "True is not of type"),
        ({"one": True}, "True is not of type"),
        ({"one": 7}, "KeyError: 'seven'"),
        ({"one": 8}, "ZeroDivisionError: eight"),
    ):
        with pytest.raises(ProbesError, match=what):
            of(**params)
    for given, what in (
        (replace(of(), version="0"), "version '0' of 'mixed', which is '1'"),
        (replace(of(), params=(("several", [1.0]),)), "is no plain value"),  # type: ignore[arg-type]
    ):
        asked = [Request(("x",), ("A",), given)]
        with pytest.raises(ProbesError, match=what):
            check_requests(Capabilities(interventions=True), "x", asked, ScoringSpec("letter"))


@pytest.mark.parametrize(
    ("name", "registry", "why"),
    [
        ("Thawed", INTERVENTIONS, "not frozen"),
        ("Unversioned", INTERVENTIONS, "version is not of type str"),
        ("Idle", CONTROLLERS, "no method is_identity"),
        ("WHERE", CONTROLLERS, "not a dataclass"),
        ("INSTANCE", INTERVENTIONS, "name the class Nothing"),
        ("Bare", INTERVENTIONS, "Bare has no attribute packable"),
        ("Needy", INTERVENTIONS, "no need 'masks': did you mean mask"),
        ("Unread", INTERVENTIONS, "annotation of Unread cannot be read.*nowhere"),
        ("Apart", INTERVENTIONS, "Apart.size is not a plain field"),
        ("Silent", INTERVENTIONS, "Silent.size is not a plain field"),
        ("Early", INTERVENTIONS, "Early.size is not a plain field"),
        ("Mapped", INTERVENTIONS, "Mapped.sizes is of type .*: use str"),
        ("Wrong", INTERVENTIONS, "the default of Wrong.size: 'x' is not of type int"),
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
    able = {"hf": (3, True, True), "scripted": (3, False, False)}
    assert found == able | {"server": (2, False, False), "lmms": (1, False, False)}
    assert can["hf"].needs == {"mask", "layers", "grad"}
    for name in ("server", "lmms", "scripted"):
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
