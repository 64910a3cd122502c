"""Every setting is explained and checked, and a mistake names its setting and the way out."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import pytest
import yaml
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from probes.config import fields, schema, settings
from probes.config.compose import compose as compose_run
from probes.config.paths import conf_dir
from probes.config.prompts import prompt_set
from probes.config.settings import RunConfig, freeze
from probes.core.errors import ProbesError
from probes.core.types import Arm, Decoding, Intervention, ModelSpec
from probes.tasks.builtin import IravenSettings, WorldSettings


def values(*overrides: str) -> dict[str, Any]:
    schema.register()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return schema.plain(compose("config", list(overrides)))


def frozen(*overrides: str) -> RunConfig:
    return freeze(values(*overrides), Path("out"))


def refused(*overrides: str) -> ProbesError:
    with pytest.raises(ProbesError) as caught:
        frozen(*overrides)
    return caught.value


@pytest.mark.parametrize("path", sorted(conf_dir().rglob("*.yaml")), ids=lambda p: p.stem)
def test_every_yaml_explains_its_settings(path: Path) -> None:
    text = path.read_text("utf-8")
    assert yaml.safe_load(text), path
    explained = set()
    for line in text.splitlines():
        name = line.strip().lstrip("- ").split(":")[0]
        if "#" in line:
            explained.add(name)
    names = {n for group in schema.GROUPS for n in _leaves(yaml.safe_load(text), group, path)}
    assert names <= explained, names - explained


def _leaves(content: Any, group: str, path: Path) -> set[str]:
    """Settings of a group's file that hold a value; other folders of conf/ have other forms."""
    if path.parent.name != group or group == "experiment":
        return set()
    found = set()

    def walk(node: dict[str, Any]) -> None:
        for name, value in node.items():
            if isinstance(value, dict) and value:
                walk(value)
            else:
                found.add(name)

    walk(content)
    return found


def test_a_files_settings_have_the_defaults_of_the_frozen_classes(tmp_path: Path) -> None:
    """Of groups that name nothing but what has no default."""
    least = {
        "pair": "name: p\nimage: {repo: a}\n",
        "task": "name: t\nreader: egoschema\n",
        "suite": "name: s\narms: {one: {}}\n",
        "infill": "source: self\n",
        "backend": "name: scripted\n",
    }
    for group, text in least.items():
        (tmp_path / group).mkdir()
        (tmp_path / group / "least.yaml").write_text(text)
    chosen = [f"{group}=least" for group in least]
    cfg = compose_run([*chosen, "--config-dir", str(tmp_path)])
    member = ModelSpec("a", "image", "a")
    assert cfg.pair == settings.PairConfig("p", members=(member,))
    assert cfg.task == settings.TaskConfig("t", "egoschema")
    assert cfg.suite == (Arm("one"),)
    assert cfg.infill == settings.InfillConfig(source="self")
    assert cfg.backend == settings.BackendConfig("scripted")
    own = {one.name: one.default for one in dataclasses.fields(RunConfig)}
    for name in ("limit", "seed", "max_new_tokens", "shard", "shards", "donor_draws"):
        assert getattr(cfg, name) == own[name]


@dataclasses.dataclass(frozen=True)
class Kinds:
    one: Literal["a", "b"] = "a"
    maybe: Literal["a"] | None = None
    several: int | list[int] = 1
    row: tuple[int, ...] = (1, 2)
    named: Mapping[str, float] = dataclasses.field(default_factory=dict)
    number: float | None = None
    text: str = dataclasses.field(default="x", metadata={"path": True})
    needed: int = dataclasses.field(kw_only=True, metadata={"at_least": 2})
    open: float = dataclasses.field(default=0.5, metadata={"above": 0.25})


def test_the_form_that_hydra_composes() -> None:
    kinds = {name: kind for name, kind, _ in fields.composed(Kinds)}
    assert kinds == {
        "one": str,
        "maybe": str | None,
        "several": Any,
        "row": Any,
        "named": dict[str, Any],
        "number": float | None,
        "text": str,
        "needed": int,
        "open": float,
    }
    form = OmegaConf.structured(dataclasses.make_dataclass("Form", fields.composed(Kinds)))
    assert OmegaConf.is_missing(form, "needed")
    form.several, form.maybe, form.needed = [1, 2], "c", 2
    assert [name for name, _, _ in fields.composed(Kinds, "row", "one")] == ["one", "row"]
    values = OmegaConf.to_container(form)
    with pytest.raises(ProbesError, match="'c' is not among a") as caught:
        fields.build(Kinds, values, "task")
    assert caught.value.where == "task.maybe"
    built = fields.build(Kinds, values | {"maybe": None, "row": [3]}, "task", text="y")
    assert built == Kinds(several=(1, 2), row=(3,), text="y", needed=2)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("value", "fix"),
    [
        ({"one": "c"}, "use one of a, b"),
        ({"needed": 1}, "give at least 2"),
        ({"open": 0.25}, "give a number above 0.25"),
        ({"open": float("nan")}, "give a number above 0.25"),
        ({"open": float("inf")}, "give a number above 0.25"),
        ({"text": "~nobody_at_all/x"}, "correct it"),
    ],
    ids=str,
)
def test_bounds_in_a_fields_metadata(value: dict[str, Any], fix: str) -> None:
    with pytest.raises(ProbesError) as caught:
        fields.check(Kinds, value, "task")
    assert caught.value.where == f"task.{next(iter(value))}"
    assert caught.value.fix == fix


def test_the_demo_is_the_study() -> None:
    cfg = frozen("experiment=demo")
    assert (cfg.frames, cfg.limit, cfg.scoring) == ((5, 10), 300, "cloze")
    assert [arm.name for arm in cfg.suite] == [
        "baseline",
        "vcot",
        "visual_perturbation",
        "text_perturbation",
        "blind",
        "infills_only",
        "filler",
    ]
    assert cfg.primary == ("did vcot",)
    assert {arm.name: arm.reference for arm in cfg.suite} == {
        "baseline": "",
        "vcot": "baseline",
        "visual_perturbation": "vcot",
        "text_perturbation": "vcot",
        "blind": "baseline",
        "infills_only": "baseline",
        "filler": "baseline",
    }
    assert [member.role for member in cfg.pair.members] == ["image", "video"]


def test_members_of_a_pair_share_everything_but_weights() -> None:
    a, b = frozen("pair=llava_next_7b", "pair.frame_as=image", "backend.device=cuda").pair.members
    own = {"name", "role", "repo", "revision"}
    for field in dataclasses.fields(a):
        assert (getattr(a, field.name) == getattr(b, field.name)) == (
            field.name not in own or field.name == "revision"
        )
    assert (a.frame_as, a.device, a.dtype) == ("image", "cuda", "bfloat16")


def test_a_members_name_is_the_last_part_of_its_repo() -> None:
    cfg = frozen(
        "pair=own",
        "pair.image.repo=embedded:image",
        "pair.video.repo=some/one-7b",
        "pair.control.repo=/home/me/three/",
        "pair.video.revision=v2",
    )
    assert [(m.role, m.name, m.repo, m.revision) for m in cfg.pair.members] == [
        ("image", "image", "embedded:image", None),
        ("video", "one-7b", "some/one-7b", "v2"),
        ("control", "three", "/home/me/three/", None),
    ]


def test_a_member_with_an_adapter_shows_it_in_its_name() -> None:
    base = "pair.image.repo=some/base", "pair.video.repo=some/base"
    cfg = frozen(*base, "pair=own", "pair.video.adapter=/home/me/video-lora")
    assert [(m.name, m.repo, m.adapter) for m in cfg.pair.members] == [
        ("base", "some/base", ""),
        ("base+video-lora", "some/base", "/home/me/video-lora"),
    ]
    error = refused("+pair.video.adaptor=x")
    assert "pair.video.adapter" in error.fix
    assert refused("pair.video.adapter=" + "x" * 5000).where == "pair.video.adapter"


def test_members_have_their_own_prefix_and_variables() -> None:
    cfg = frozen(
        "pair.answer_prefix='It is\\n'",
        r"pair.video.answer_prefix='</think>\n\n\tC:\\x'",
        "pair.video.chat_template_kwargs={enable_thinking: false, b: [1, two], a: 0.5}",
        "pair.image.chat_template_kwargs={c: null}",
    )
    assert cfg.pair.answer_prefix == "It is\n"
    image, video = cfg.pair.members
    assert (image.answer_prefix, image.chat_template_kwargs) == (None, (("c", None),))
    assert video.answer_prefix == "</think>\n\n\tC:\\x"
    assert video.chat_template_kwargs == (("a", 0.5), ("b", (1, "two")), ("enable_thinking", False))
    assert settings.as_plain(cfg)["pair"]["members"][1]["chat_template_kwargs"] == {
        "a": 0.5,
        "b": (1, "two"),
        "enable_thinking": False,
    }
    assert frozen("pair.video.answer_prefix=''").pair.members[1].answer_prefix == ""


def test_bounds_of_pixels_are_a_members_own() -> None:
    cfg = frozen(
        "pair=own", "pair.image.repo=a/b", "pair.video.repo=c/d", "pair.video.max_pixels=9"
    )
    assert [one.pixel_bounds for one in cfg.pair.members] == [{}, {"max_pixels": 9}]
    assert settings.as_plain(cfg)["pair"]["members"][1]["max_pixels"] == 9
    both = frozen("pair.image.min_pixels=7", "pair.image.max_pixels=7")
    assert both.pair.members[0].pixel_bounds == {"min_pixels": 7, "max_pixels": 7}
    crossed = refused("pair.image.min_pixels=8", "pair.image.max_pixels=7")
    assert crossed.what == "min_pixels=8 is above max_pixels=7"


@pytest.mark.parametrize(
    ("override", "where", "fix"),
    [
        ("pair.video.max_pixels=0", "pair.video.max_pixels", "at least 1"),
        ("pair.image.min_pixels=-3", "pair.image.min_pixels", "at least 1"),
        ("+pair.image.max_pixel=5", "pair.image.max_pixel", "pair.image.max_pixels"),
        (r"pair.answer_prefix='a\d'", "pair.answer_prefix", r"\n for a line break"),
        (r"pair.image.answer_prefix='a\\'", "pair.image.answer_prefix", "for a backslash"),
        ("+pair.video.answer_prefx=x", "pair.video.answer_prefx", "pair.video.answer_prefix"),
        (
            "+pair.video.chat_template_kwarg={a: 1}",
            "pair.video.chat_template_kwarg",
            "pair.video.chat_template_kwargs",
        ),
        (
            "pair.video.chat_template_kwargs={a: {b: 1}}",
            "pair.video.chat_template_kwargs.a",
            "a list of those",
        ),
        (
            "pair.video.chat_template_kwargs={a: nan}",
            "pair.video.chat_template_kwargs.a",
            "a finite number",
        ),
        (
            "pair.video.chat_template_kwargs={tokenize: true}",
            "pair.video.chat_template_kwargs.tokenize",
            "leave it out",
        ),
        ("pair.video.chat_template_kwargs=3", "pair.video.chat_template_kwargs", "name: value"),
    ],
)
def test_what_a_member_cannot_be_given(override: str, where: str, fix: str) -> None:
    error = refused(override)
    assert error.where == where
    assert fix in error.fix


@pytest.mark.parametrize(
    ("override", "where", "fix"),
    [
        ("pair.attention=some/kernels", "pair.attention", "sdpa, eager"),
        ("pair.name=a/b", "pair.name", "without a slash"),
        ("pair.name=", "pair.name", "give some letters"),
        ("task.name=../up", "task.name", "without a slash"),
        ("pair.dtype=bfloat", "pair.dtype", "did you mean bfloat16?"),
        ("prompt_set=./none", "none", "make the folder ./none "),
        ("prompt_set=none", "none", "make the folder ./none "),
    ],
)
def test_names_that_cannot_be_used_are_refused_with_what_can(
    override: str, where: str, fix: str
) -> None:
    error = refused(override)
    assert error.where.endswith(where)
    assert fix in error.fix


def test_scoring_is_the_runs_else_the_pairs_else_the_tasks() -> None:
    assert frozen("scoring=letter").scoring == "letter"
    assert frozen("task=egoschema").scoring == "cloze"
    assert frozen("task=egoschema", "pair.scoring=null").scoring == "letter"


def test_prompts_are_the_runs_else_the_pairs_else_the_default() -> None:
    assert frozen().prompts.name == "tiny"
    assert frozen("prompt_set=default").prompts.name == "default"
    assert frozen("pair.prompts=null").prompts.name == "default"


def test_frames_may_be_a_number_or_a_list() -> None:
    assert frozen("frames=3").frames == (3,)
    assert frozen("frames=[10,5]").frames == (10, 5)


def test_arms_can_be_added_and_taken_out_and_have_seeds_of_their_own() -> None:
    cfg = frozen(
        "~suite.arms.blind",
        "+suite.arms.new={frames: reversed, reference: baseline}",
        "suite.arms.vcot.seed=9",
        "seed=4",
    )
    arms = {arm.name: arm for arm in cfg.suite}
    assert "blind" not in arms
    assert (arms["new"].frames, arms["new"].infills) == ("reversed", "none")
    assert (arms["new"].seed, arms["vcot"].seed) == (4, 9)


def test_an_arm_may_name_an_intervention_and_a_decoding() -> None:
    cfg = frozen(
        "+suite.arms.cut={frames: own, reference: baseline, intervention: {name: knockout, "
        'edges: ["frames>frames"], layers: "0-0.5"}}',
        "suite.arms.vcot.intervention=logit_lens",
        "suite.arms.vcot.decoding={name: sampling, top_p: 0.9, seeds: [1, [2, null]], raw: true}",
    )
    arms = {arm.name: arm for arm in cfg.suite}
    params = (("edges", ("frames>frames",)), ("layers", "0-0.5"))
    assert arms["cut"].intervention == Intervention("knockout", params)
    assert arms["vcot"].intervention == Intervention("logit_lens")
    params = (("raw", True), ("seeds", (1, (2, None))), ("top_p", 0.9))
    assert arms["vcot"].decoding == Decoding("sampling", params)
    assert (arms["cut"].decoding, arms["baseline"].intervention) == (None, None)
    assert len(set(cfg.suite)) == len(cfg.suite)


def test_a_setting_that_an_arm_does_not_list_takes_a_plus_sign(tmp_path: Path) -> None:
    (tmp_path / "suite").mkdir()
    (tmp_path / "suite" / "mine.yaml").write_text("name: mine\narms: {one: {frames: own}}\n")
    chosen = ["suite=mine", "--config-dir", str(tmp_path)]
    with pytest.raises(ProbesError) as caught:
        compose_run([*chosen, "suite.arms.one.intervention=lens"])
    assert caught.value.fix == "put a plus sign before it: +suite.arms.one.intervention=lens"
    (arm,) = compose_run([*chosen, "+suite.arms.one.intervention=lens"]).suite
    assert arm == Arm("one", intervention=Intervention("lens"))


def test_the_frames_of_an_arm_are_an_open_name() -> None:
    assert frozen("suite.arms.vcot.frames=foreign").suite[1].frames == "foreign"


def test_a_task_has_its_own_settings_and_the_manifest_holds_them_among_the_others() -> None:
    cfg = frozen("task=iraven", "task.per_config=5")
    assert cfg.task.settings == IravenSettings(per_config=5)
    task = settings.as_plain(cfg)["task"]
    assert (task["per_config"], task["seed"], task["across_rows"], task["frames"]) == (
        5,
        0,
        False,
        8,
    )
    assert not {"settings", "videos", "include_path"} & set(task)
    assert frozen().task.settings == WorldSettings(300, 1, 128, 4.0, 18.0)


def test_arms_of_a_suite_can_be_selected() -> None:
    def names(*overrides: str) -> list[str]:
        return [arm.name for arm in frozen(*overrides).suite]

    assert names("arms=[vcot,baseline]") == ["baseline", "vcot"]  # in the suite's order
    assert names("arms=baseline") == ["baseline"]
    assert names("arms=null") == names()
    assert names("suite=controls", "arms=[baseline,reversed]") == ["baseline", "reversed"]
    assert names("arms=[vcot]", 'suite.arms.vcot.reference=""') == ["vcot"]
    chosen = {arm.name: arm for arm in frozen("arms=[baseline,vcot]").suite}
    assert chosen["vcot"] == {arm.name: arm for arm in frozen().suite}["vcot"]


def test_the_same_weights_may_be_both_members():
    members = frozen("pair=own", "pair.image.repo=/a/c", "pair.video.repo=/a/c").pair.members
    assert [one.name for one in members] == ["c", "c-video"]
    assert {one.frame_as for one in members} == {"auto"}


@pytest.mark.parametrize(
    ("overrides", "where", "hint"),
    [
        (["arms=[vcto]"], "arms", "did you mean vcot?"),
        (["arms=[vcot]"], "arms", "add baseline"),
        (["arms=[]"], "arms", "arms=[baseline,vcot]"),
        (["arms=3"], "arms", "arms=[baseline,vcot]"),
        (["arms=[baseline,3]"], "arms", "arms=[baseline,vcot]"),
        (["arms=[baseline,baseline]"], "arms", "once"),
        (["frames=0"], "frames", "frames=[5,10]"),
        (["frames=[]"], "frames", "frames=[5,10]"),
        (["frames=[5,5]"], "frames", "once"),
        (["frames=true"], "frames", "frames=[5,10]"),
        (["frames=2.5"], "frames", "frames=[5,10]"),
        (["limit=0"], "limit", "1"),
        (["shards=0"], "shards", "1"),
        (["shard=2", "shards=2"], "shard", "counted from 0"),
        (["shard=-1"], "shard", "counted from 0"),
        (["donor_draws=0"], "donor_draws", "1"),
        (["scoring=lettr"], "scoring", "letter"),
        (["task.scoring=x"], "task.scoring", "cloze"),
        (["pair.scoring=cloz"], "pair.scoring", "cloze"),
        (["pair.frame_as=vide"], "pair.frame_as", "video"),
        (["suite.arms.vcot.reference=basline"], "suite.arms.vcot.reference", "baseline"),
        (["suite.arms.vcot.reference=vcot"], "suite.arms.vcot.reference", "baseline"),
        (["~suite.arms.baseline"], "suite.arms.vcot.reference", "compared with none"),
        (["suite.arms.vcot.infills=onw"], "suite.arms.vcot.infills", "own"),
        (["suite.arms.vcot.intervention=3"], "suite.arms.vcot.intervention", "{name: NAME"),
        (["suite.arms.vcot.decoding={top_p: 1}"], "suite.arms.vcot.decoding", "{name: NAME"),
        (
            ["suite.arms.vcot.intervention={name: a, b: {c: 1}}"],
            "suite.arms.vcot.intervention.b",
            "a list of those",
        ),
        (["suite.arms.vcot.presentation=x"], "suite.arms.vcot.presentation", "grid"),
        (["infill.source=slf"], "infill.source", "self"),
        (["infill.generator=control"], "infill.generator", "image or video"),
        (["infill=file"], "infill.file", "infill.file="),
        (["infill.max_new_tokens=0"], "infill.max_new_tokens", "1"),
        (["infill=file", "infill.file=nowhere.jsonl"], "infill.file", "infill.file="),
        (["backend.batch_size=0"], "backend.batch_size", "1"),
        (["backend.device=gpu"], "backend.device", "use auto, cpu, cuda or cuda:N"),
        (["backend.device=cuda:"], "backend.device", "use auto, cpu, cuda or cuda:N"),
        (["task.fps=0"], "task.fps", "positive"),
        (["prompt_set=tny"], "prompts/tny", "tiny"),
        (["pair.video.name=tiny-image"], "pair.video.name", "of its own"),
        (["pair=own", "pair.image.repo=/a/c", "pair.video.repo=/b/c/"], "pair.video.name", "own"),
        (["pair=own"], "pair.image.repo", "pair.video.repo="),
        (["+pair.vidoe={name: a, repo: b}"], "pair.vidoe", "video"),
        (["+pair.members={image: {repo: b}}"], "pair.members", "image, video, control"),
        (["+task.hight=3"], "task.hight", "did you mean task.height?"),
        (["task.hight=3"], "task.hight", "did you mean task.height?"),
        (["task.per_config=3"], "task.per_config", "videos, seed, height, fps, seconds"),
        (["task=iraven", "task.videos=3"], "task.videos", "across_rows, per_config, seed"),
        (["task=egoschema", "task.include_path=x"], "task.include_path", "name, reader, root"),
        (["task=iraven", "task.per_config=0"], "task.per_config", "1"),
        (["task.seed=-1"], "task.seed", "0"),
        (["task.reader=egoshema"], "task.reader", "did you mean egoschema?"),
        (["+sed=3"], "sed", "seed"),
        (["+suite.arms.new={frmes: own}"], "suite.arms.new.frmes", "frames"),
        (["+suite.arms.new=3"], "suite.arms.new", "setting: value"),
        (["suite.arms.vcot.seed=x"], "suite.arms.vcot.seed", "conf/"),
        (["+pair.control.rpo=a"], "pair.control.rpo", "repo"),
    ],
)
def test_a_mistake_names_its_setting_and_the_way_out(
    overrides: list[str], where: str, hint: str
) -> None:
    error = refused(*overrides)
    assert error.where.endswith(where)
    assert hint in error.fix


@pytest.mark.parametrize("device", ["auto", "cpu", "cuda", "cuda:1", "mps", "xpu", "xpu:0"])
def test_devices_that_are_taken(device: str) -> None:
    assert frozen(f"backend.device='{device}'").backend.device == device


def prompts(folder: Path, **changed: str) -> Path:
    source = conf_dir() / "prompts" / "default"
    for path in source.iterdir():
        (folder / path.name).write_text(changed.get(path.stem, path.read_text()))
    return folder


def test_a_prompt_set_may_be_any_folder(tmp_path: Path) -> None:
    found = prompt_set(str(prompts(tmp_path, cloze="{context}\n{question} {x}\n\n")))
    assert found.name == tmp_path.name
    assert found.cloze == "{context}\n{question} {x}\n"  # one newline at the end is the editor's
    assert frozen(f"prompt_set={tmp_path}").prompts == found


@pytest.mark.parametrize(
    ("step", "text"),
    [
        ("letter", "{context} {question}"),
        ("cloze", "{context} {question} {options}"),
        ("common", ""),
    ],
)
def test_a_prompt_without_its_placeholders_is_refused(step: str, text: str, tmp_path: Path) -> None:
    folder = prompts(tmp_path, **{step: text})
    with pytest.raises(ProbesError, match=f"{step}.txt"):
        prompt_set(str(folder))


def test_a_prompt_set_without_one_of_its_files_is_refused(tmp_path: Path) -> None:
    (prompts(tmp_path) / "event.txt").unlink()
    with pytest.raises(ProbesError, match=r"event\.txt"):
        prompt_set(str(tmp_path))


def test_a_suite_declares_what_a_run_is_made_to_compare() -> None:
    assert frozen("arms=[baseline,blind]").primary == ()
    assert frozen("suite.primary=[gain vcot,transfer baseline]").primary == (
        "gain vcot",
        "transfer baseline",
    )
    assert settings.as_plain(frozen())["primary"] == ("did vcot",)
    for given, fix in {
        "did vcto": "did you mean vcot?",
        "dod vcot": "did you mean did?",
        "vcot": "['did vcot']",
    }.items():
        error = refused(f"suite.primary=[{given}]")
        assert error.where == "suite.primary"
        assert fix in error.fix
    assert refused("most_failed=-1").where == "most_failed"
