"""Any content of a file, a setting or a reply gives an answer or a `ProbesError`, no traceback.

Structured inputs, nearly right; fuzz/readers.py adds unstructured ones, guided by coverage.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import json
import os
import shutil
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_records import record, write_run
from processes import ROOT

from probes import analysis, regression
from probes.cache.output_cache import Store
from probes.cli import main
from probes.config import schema
from probes.config.compose import explain, setting_names
from probes.config.paths import conf_dir
from probes.config.settings import freeze
from probes.core.errors import ProbesError
from probes.core.types import Clip, ClipKey, ItemKey, ModelSpec, Output
from probes.models.checkpoint import find
from probes.models.hf.families import family_of
from probes.stimuli.answers import parse
from probes.stimuli.infill_file import load_file
from probes.tasks.egoschema import reader as egoschema
from probes.tasks.iraven import files, generate
from probes.tasks.iraven import reader as iraven

sys.path.insert(0, str(ROOT / "fuzz"))
import readers

often = settings(
    max_examples=int(os.environ.get("PROBES_EXAMPLES", "60")),
    deadline=None,
    database=None,
    derandomize="PROBES_EXAMPLES" not in os.environ,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

odd_text = st.one_of(
    st.text(max_size=12),
    st.sampled_from(
        ["", " ", "\0", "..", "../a", "/", "a" * 300, "\ud800", "é", "{}", "nan", "-1"]
    ),
)
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 12),
    st.integers(),
    odd_text,
    st.floats(allow_nan=True, allow_infinity=True),
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(odd_text, inner, max_size=3),
    max_leaves=5,
)


@contextlib.contextmanager
def refused() -> Iterator[None]:
    """A block that may be refused with a message, and may warn."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        except ProbesError as error:
            assert error.what and str(error)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Paths of everything within a JSON-like value."""
    yield path
    if isinstance(value, dict | list):
        for name, one in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places(one, (*path, name))


@st.composite
def nearly(draw: st.DrawFn, good: Any) -> Any:
    """A good JSON-like value with one to three things replaced, removed, doubled or renamed."""
    changed = copy.deepcopy(good)
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from(list(places(changed))))
        if not path:
            if draw(st.integers(0, 9)) == 0:
                return draw(values)
            continue
        *above, name = path
        holder = changed
        for step in above:
            holder = holder[step]
        how = draw(st.sampled_from(["replace", "alike", "alike", "remove", "double", "rename"]))
        if how == "remove":
            del holder[name]
        elif how == "double" and isinstance(holder, list):
            holder.append(copy.deepcopy(holder[name]))
        elif how == "rename" and isinstance(holder, dict):
            holder[draw(odd_text)] = holder.pop(name)
        elif how == "alike" and isinstance(holder[name], str | int):
            holder[name] = draw(odd_text if isinstance(holder[name], str) else st.integers(-3, 12))
        else:
            holder[name] = draw(values)
    return changed


def spelled(value: Any) -> bytes:
    return json.dumps(value).encode()


# --- task files -----------------------------------------------------------------------------------

UIDS = ("a", "b", "c0ffee-1")
QUESTIONS = [
    {"q_uid": uid, "google_drive_id": uid, "question": "what?", "type": "x"}
    | {f"option {i}": f"thing {i}" for i in range(5)}
    for uid in UIDS
]
ANSWERS = {"a": 3, "b": 0}
RECORDINGS = {"a": {"video_uid": "r", "start_sec": 0}, "b": ["r"], "c0ffee-1": "s"}


@often
@given(
    nearly({"questions": QUESTIONS, "subset_answers": ANSWERS, "uid_to_ego4d": RECORDINGS}),
    st.booleans(),
)
def test_question_files(tmp_path_factory: Any, data: Any, unanswered: bool) -> None:
    root = tmp_path_factory.getbasetemp() / "questions"
    (root / "videos").mkdir(parents=True, exist_ok=True)
    for uid in UIDS:
        (root / "videos" / f"{uid}.mp4").write_bytes(readers.FILM)
    for name in ("questions", "subset_answers", "uid_to_ego4d"):
        path = root / f"{name}.json"
        path.unlink(missing_ok=True)
        if isinstance(data, dict) and name in data:
            path.write_bytes(spelled(data[name]))
    with refused():
        for item in egoschema.load(root, unanswered=unanswered):
            assert item.media.path.parent == root.resolve() / "videos"
            assert item.answer is None or 0 <= item.answer < 5
            ("".join(item.options) + item.question + item.cluster + item.stratum).encode()
            assert all(isinstance(text, str) for pair in item.meta for text in pair)


PROBLEM = generate.problem(0, "center_single", 0)
IMAGES = generate.images(PROBLEM)


arrays = st.one_of(
    st.integers(-2, 9).map(np.int64),
    st.floats().map(np.float64),
    odd_text.filter(lambda text: "\ud800" not in text).map(np.array),
    st.sampled_from(
        [
            np.zeros((16, 160, 160), np.uint8),
            np.zeros(3, object),
            IMAGES[:8],
            IMAGES.astype(np.int32),
            np.zeros((8, 9), np.uint8),
            np.array([b"Scene"]),
            np.array([], "U1"),
            np.array([b"\xff\xfe"]),
            np.zeros(1, "M8[s]"),
            np.zeros(2, [("a", "i4")]),
            np.asfortranarray(IMAGES),
        ]
    ),
)


@often
@given(st.dictionaries(st.sampled_from((*readers.ARRAYS, "other")), arrays, max_size=4))
def test_problem_npz(tmp_path_factory: Any, changes: dict[str, Any]) -> None:
    folder = tmp_path_factory.getbasetemp() / "problems" / "center_single"
    folder.mkdir(parents=True, exist_ok=True)
    matrix = files.meta_matrix(PROBLEM)
    content = {"image": IMAGES, "target": np.int64(3), "meta_matrix": matrix} | changes
    np.savez(folder / "RAVEN_0_train.npz", **content)
    with refused():
        (item,) = iraven.load(folder.parent)
        assert item.answer in range(8)
        assert iraven.images(item.media.path).shape == files.SHAPE


# --- infills, checkpoints, baselines --------------------------------------------------------------

CLIPS = {
    ClipKey("t", uid, count): Clip(tuple(range(count)), (0.0,) * count, tuple("fghij"[:count]))
    for uid in UIDS[:2]
    for count in (1, 2, 3)
}
ROWS = [
    {"item_id": uid, "frames": count, "gap": gap, "text": "then", "frame_a": "fgh"[gap]}
    for uid in UIDS[:2]
    for count in (2, 3)
    for gap in range(count - 1)
]


@often
@given(nearly(ROWS))
def test_infill_files(tmp_path_factory: Any, rows: Any) -> None:
    path = tmp_path_factory.getbasetemp() / "infills.jsonl"
    lines = rows if isinstance(rows, list) else [rows]
    path.write_text("\n".join(json.dumps(row) for row in lines))
    with refused():
        (found,) = load_file(path, CLIPS, [ItemKey("t", uid) for uid in UIDS])
        for key, gaps in found.items():
            assert len(gaps) == key.frames - 1
            "".join(gap.text for gap in gaps).encode()


CONFIG = {
    "model_type": "llava_next",
    "architectures": ["LlavaNextForConditionalGeneration"],
    "vision_config": {"image_size": 336, "patch_size": 14},
    "text_config": {"max_position_embeddings": 4096},
    "spatial_pool_stride": 2,
}
INDEX = {"weight_map": {"a": "model.safetensors", "b": "model.safetensors"}}


@often
@given(nearly({"config": CONFIG, "model.safetensors.index": INDEX}))
def test_checkpoint_files(tmp_path_factory: Any, data: Any) -> None:
    folder = tmp_path_factory.getbasetemp() / "checkpoint"
    folder.mkdir(exist_ok=True)
    (folder / "model.safetensors").write_bytes(b"weights")
    for name in ("config", "model.safetensors.index"):
        path = folder / f"{name}.json"
        path.unlink(missing_ok=True)
        if isinstance(data, dict) and name in data:
            path.write_bytes(spelled(data[name]))
    spec = ModelSpec("one", "image", str(folder))
    with refused():
        found = find(spec)
        family = family_of(found, spec)
        found.fingerprint(spec, family.name)


@pytest.fixture(scope="module")
def good_baseline(tmp_path_factory: pytest.TempPathFactory) -> Any:
    (path, *_) = (ROOT / "results" / "baselines").glob("*.json")
    return shortened(json.loads(path.read_bytes()))


def shortened(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: shortened(one) for name, one in value.items()}
    return [shortened(one) for one in value[:3]] if isinstance(value, list) else value


@often
@given(st.data())
def test_baselines(tmp_path_factory: Any, good_baseline: Any, data: st.DataObject) -> None:
    path = tmp_path_factory.getbasetemp() / "baseline.json"
    path.write_bytes(spelled(data.draw(nearly(good_baseline))))
    with refused():
        regression.read(path)


# --- configurations -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def names() -> list[str]:
    """The dotted name of every setting, and the groups."""
    schema.register()
    return sorted(setting_names([], None))


given_values = st.sampled_from(
    "|0|-1|1|5|1e9|99999999999999999999|nan|inf|-inf|true|null|a|'a b'|letter|image|[1,2]|[]|{}"
    "|{a:1}|[[1]]|???|${nothing}|${oc.env:HOME}|${oc.env:NO_SUCH_THING}|${frames}|'\\'|a,b|/|..|~|é"
    f"|~nobody_at_all/x|'{'x' * 300}'|tiny|0.5|[a,1,null]|{{image:{{name:x}}}}".split("|")
) | st.text(max_size=8)


@st.composite
def overrides(draw: st.DrawFn, names: list[str]) -> list[str]:
    found = []
    for _ in range(draw(st.integers(1, 3))):
        odd = st.sampled_from(["", "x", "suite.arms.new", "a.b", "@"])
        name = draw(st.sampled_from(names) | odd)
        sign = draw(st.sampled_from(["", "", "", "+", "++", "~"]))
        value = "" if sign == "~" and draw(st.booleans()) else f"={draw(given_values)}"
        found.append(f"{sign}{name}{value}")
    return found


def settle(given: list[str]) -> None:
    """What `probes run` does before it runs."""
    try:
        with initialize_config_dir(str(conf_dir()), version_base="1.3"):
            cfg = compose("config", ["backend=scripted", *given])
    except Exception as error:
        assert isinstance(explain(error, given), ProbesError)
        return
    with refused():
        freeze(schema.plain(cfg), Path("out"))


@settings(often, max_examples=max(20, often.max_examples // 3))
@given(st.data())
def test_overrides(names: list[str], data: st.DataObject) -> None:
    settle(data.draw(overrides(names)))


@pytest.mark.parametrize(
    "given",
    [
        ["task.root=" + "x" * 300],
        ["prompt_set=" + "x/" * 3000],
        ["infill=file", "infill.file=" + "x" * 300],
        ["task.root=~nobody_at_all/x"],
        ["pair=tiny", "pair.image.repo=~nobody_at_all/x"],
        ["backend.options.errors=a"],
        ["pair=tiny", "pair.image.repo=" + "x" * 300],
        ['task.root="a\\0b"'],
        ["frames=[2,2]"],
        ["frames=1e9"],
    ],
    ids=lambda given: given[-1][:40],
)
def test_settings_that_name_nothing_usable(
    given: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setenv("PROBES_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    if "pair.image.repo" not in given[-1]:
        given = ["backend=scripted", *given]
    small = ["task.videos=2", "task.height=32", "task.fps=1", "limit=1"]
    assert main.main(["run", *small, *given]) == 2
    assert "fix:" in capsys.readouterr().err
    assert not list(tmp_path.rglob("*.parquet"))


# --- replies, stores, tables ----------------------------------------------------------------------


@often
@given(odd_text | st.text(), st.lists(odd_text, max_size=10))
def test_replies(reply: str, options: list[str]) -> None:
    choice = parse(reply, options)
    assert choice is None or choice in range(len(options))


STORED = {
    hashlib.sha256(str(n).encode()).hexdigest(): Output(
        option_logprobs=(-0.5, -n / 7), option_tokens=(1, 2), text="x", input_tokens=n
    )
    for n in range(150)
}


@pytest.fixture(scope="module")
def good_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("good")
    with Store(folder) as store:
        store.put(STORED.items())
        store.put([("f" * 64, Output(status="error", error="no"))])
    (path,) = folder.glob("*.sqlite")
    return path


damages = st.lists(
    st.tuples(st.floats(0, 1), st.binary(min_size=1, max_size=40), st.booleans()),
    min_size=1,
    max_size=4,
)


def damage(data: bytes, where: list[tuple[float, bytes, bool]]) -> bytes:
    """Overwrite a few places, or cut the end off."""
    changed = bytearray(data)
    for share, put, cut in where:
        at = int(share * len(changed))
        if cut and share > 0.5:
            del changed[at:]
        else:
            changed[at : at + len(put)] = put
    return bytes(changed)


@settings(often, max_examples=max(20, often.max_examples // 3))
@given(damages)
def test_stores(good_store: Path, tmp_path_factory: Any, where: Any) -> None:
    """Only what was written is served; the store can be used, or an error says why it cannot."""
    folder = tmp_path_factory.getbasetemp() / "store"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    (folder / good_store.name).write_bytes(damage(good_store.read_bytes(), where))
    for _ in range(2):
        with refused(), Store(folder) as store:
            found = store.get(STORED)
            assert all(STORED[key] == output for key, output in found.items())
            store.put(STORED.items())


@pytest.fixture(scope="module")
def good_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    rows = [
        record(item, arm, role)
        for item in range(6)
        for arm in ("baseline", "vcot")
        for role in ("image", "video")
    ]
    write_run(folder, rows)
    return folder


@often
@given(damages)
def test_tables(good_run: Path, tmp_path_factory: Any, where: Any) -> None:
    folder = tmp_path_factory.getbasetemp() / "damaged"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(good_run, folder)
    path = folder / "records.parquet"
    path.write_bytes(damage(path.read_bytes(), where))
    with refused():
        analysis.load(folder)
