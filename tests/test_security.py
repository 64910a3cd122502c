"""Files of others run no code, name no file outside their folder, and get no secret."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from processes import ROOT, SCRIPTED
from running import Spy, make_world, open_spy, settings

from probes.config import schema
from probes.config.paths import conf_dir
from probes.config.settings import BackendConfig, freeze
from probes.core.errors import ProbesError
from probes.core.redaction import redact, redacted
from probes.core.types import ItemKey, ModelSpec, Output
from probes.engine import context
from probes.engine.run import execute
from probes.media.frame_folder import FrameFolder
from probes.models.checkpoint import find
from probes.models.lmms_eval import wrappers
from probes.models.text_llm import TextBackend
from probes.stimuli.infill_file import load_file
from probes.tasks.egoschema import reader as egoschema
from probes.tasks.iraven import generate
from probes.tasks.iraven import reader as iraven

SECRETS = {
    "HF_TOKEN": "hf_PlantedTokenOfTheHub123456",
    "OPENAI_API_KEY": "sk-planted-key-of-a-server-987",
    "AWS_SECRET_ACCESS_KEY": "planted/secret+of/AWS==abcdef",
    "DATABASE_PASSWORD": "planted-pass-word-0000",
}


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_world(tmp_path_factory.mktemp("world"))


# --- code -----------------------------------------------------------------------------------------

FILES = [path for name in ("probes", "tasks") for path in (ROOT / name).rglob("*.py")]
UNSAFE = re.compile(
    r"(?<![\w.])(eval|exec|__import__)$|pickle|joblib\.load|torch\.load$"
    r"|yaml\.(unsafe_)?load$|os\.(system|popen)$|marshal|shelve"
)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_unpickles_evaluates_or_asks_a_shell(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
            assert not {"pickle", "cloudpickle", "dill", "shelve", "marshal"} & set(names)
        elif isinstance(node, ast.Call):
            assert not UNSAFE.search(ast.unparse(node.func)), ast.unparse(node)
            for keyword in node.keywords:
                value = getattr(keyword.value, "value", None)
                assert (keyword.arg, value) not in {
                    ("allow_pickle", True),
                    ("shell", True),
                    ("use_safetensors", False),
                    ("trust_remote_code", True),
                    ("weights_only", False),
                }, ast.unparse(node)


def checkpoint(folder: Path, *weights: str, index: object = None) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "llava_next"}')
    for name in weights:
        (folder / name).write_bytes(b"weights")
    if index is not None:
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "weights.pth"])
def test_a_pickled_checkpoint_is_refused_by_name(name: str, tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "one", name)
    for repo in (folder, folder / name):
        if repo.suffix not in ("", ".bin", ".pt", ".pth"):
            continue
        with pytest.raises(ProbesError, match=re.escape(name)) as caught:
            find(ModelSpec("m", "image", str(repo)))
        assert "safetensors" in caught.value.what
        assert "save_pretrained" in caught.value.fix
        with pytest.raises(ProbesError, match="safetensors"):
            TextBackend(BackendConfig("hf", 1, 0, "cpu"), str(repo))


@pytest.mark.parametrize(
    "name", ["pytorch_model.bin", "../model.safetensors", "/etc/passwd", "a/b.safetensors", 7, None]
)
def test_an_index_of_weights_names_safetensors_in_its_folder(name: object, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").touch()
    folder = checkpoint(tmp_path / "one", "pytorch_model.bin", index={"weight_map": {"a": name}})
    with pytest.raises(ProbesError, match=r"names .*not a safetensors file next to it"):
        find(ModelSpec("m", "image", str(folder)))


def test_code_of_a_checkpoint_is_not_trusted_by_default() -> None:
    members = [
        (path.name, role)
        for path in (conf_dir() / "pair").glob("*.yaml")
        for role, member in OmegaConf.to_container(OmegaConf.load(path)).items()  # type: ignore[union-attr]
        for one in [member]
        if role in ("image", "video", "control", "members")
        if (one or {}).get("trust_remote_code")  # type: ignore[union-attr]
    ]
    assert members == []
    assert ModelSpec("m", "image", "r").trust_remote_code is False


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_loader_of_transformers_is_told_whom_to_trust(path: Path) -> None:
    """Its default asks at a terminal. Classes of our own, and peft's, have no such argument."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        owner = ast.unparse(node.func.value)
        loads = node.func.attr in ("from_pretrained", "from_config", "get_processor_dict")
        if not loads or owner.rpartition(".")[2] in ("PairModel", "PeftConfig"):
            continue
        if ast.unparse(node.args[0]) == "None":  # a class at hand, its configuration and weights
            continue
        told = {one.arg for one in node.keywords} & {"trust_remote_code", None}
        assert told, ast.unparse(node)


def test_trust_in_one_member_is_no_trust_in_another_model(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROBES_HOME", str(tmp_path / "home"))
    opened: dict[str, ModelSpec] = {}

    def open_backend(cfg: Any, spec: ModelSpec) -> Spy:
        opened[spec.name] = spec
        return open_spy(cfg, spec)

    monkeypatch.setattr(context, "open_backend", open_backend)
    Spy.begin()
    cfg = settings(
        world,
        tmp_path / "out",
        "pair.image.trust_remote_code=true",
        "infill.generator=somebody/else",
        "frames=2",
    )
    execute(cfg, cfg.out)
    assert {name: spec.trust_remote_code for name, spec in opened.items()} == {
        "tiny-image": True,
        "tiny-video": False,
        "somebody/else": False,
    }
    manifest = json.loads((cfg.out / "manifest.json").read_text())
    recorded = {m["name"]: m["trust_remote_code"] for m in manifest["config"]["pair"]["members"]}
    assert recorded == {"tiny-image": True, "tiny-video": False}


def test_a_wrapper_gets_no_trust_of_its_own(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "one", "model.safetensors")
    spec = ModelSpec("m", "image", "some/repo")
    with pytest.raises(ProbesError, match="by member") as caught:
        wrappers.open_wrapper(object, str(folder), spec, "cpu", {"trust_remote_code": True})
    assert "pair.image.trust_remote_code=true" in caught.value.fix
    (folder / "modeling_evil.py").write_text("raise SystemExit")
    with pytest.raises(ProbesError, match=r"has code of its own \(modeling_evil\.py\)"):
        wrappers.open_wrapper(object, str(folder), spec, "cpu", {})


# --- paths ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "uid", ["../a", "/etc/passwd", "..", "a/b", "a\\b", ".hidden", "a\0b", "a\nb", "", "x" * 200]
)
def test_a_question_names_no_file_outside(uid: str, tmp_path: Path) -> None:
    question = {"q_uid": uid, "question": "?"} | {f"option {i}": "x" for i in range(5)}
    (tmp_path / "videos").mkdir()
    (tmp_path / "questions.json").write_text(json.dumps([question]))
    (tmp_path / "subset_answers.json").write_text(json.dumps({uid: 0}))
    with pytest.raises(ProbesError, match="leave the folder"):
        egoschema.load(tmp_path)


def test_links_that_leave_the_folder_are_refused(world: Path, tmp_path: Path) -> None:
    question = {"q_uid": "a", "question": "?"} | {f"option {i}": "x" for i in range(5)}
    root = tmp_path / "root"
    (root / "videos").mkdir(parents=True)
    (root / "questions.json").write_text(json.dumps([question]))
    (root / "subset_answers.json").write_text('{"a": 0}')
    (root / "videos" / "a.mp4").symlink_to(world / "videos" / "clip0.mp4")
    with pytest.raises(ProbesError, match="links that leave"):
        egoschema.load(root)

    made = tmp_path / "made"
    generate.make(made, 1, 0, ["center_single"])
    (problem,) = made.rglob("*.npz")
    problem.rename(tmp_path / "secret.npz")
    problem.symlink_to(tmp_path / "secret.npz")
    with pytest.raises(ProbesError, match="leaves the folder"):
        iraven.load(made)


def test_members_of_an_archive_become_no_files(tmp_path: Path) -> None:
    folder = tmp_path / "raven" / "center_single"
    folder.mkdir(parents=True)
    with zipfile.ZipFile(folder / "RAVEN_0_train.npz", "w") as archive:
        archive.writestr("../../evil.npy", b"x")
        archive.writestr("/tmp/evil.npy", b"x")
    with pytest.raises(ProbesError, match="an array is missing"):
        iraven.load(tmp_path / "raven")
    assert [p.name for p in tmp_path.rglob("*") if p.is_file()] == ["RAVEN_0_train.npz"]


def test_an_array_that_claims_the_whole_memory_gets_none_of_it(tmp_path: Path) -> None:
    folder = tmp_path / "raven" / "center_single"
    folder.mkdir(parents=True)
    content = {"image": np.zeros((16, 160, 160), np.uint8), "target": np.int64(0)}
    np.savez(folder / "RAVEN_0_train.npz", **content)  # type: ignore[arg-type]
    header = b"\x93NUMPY\x01\x00v\x00"
    claim = b"{'descr': '<i8', 'fortran_order': False, 'shape': (10000000000,), }"
    with zipfile.ZipFile(folder / "RAVEN_0_train.npz", "a") as archive:
        archive.writestr("predict.npy", header + claim.ljust(117) + b"\n")
    with pytest.raises(ProbesError, match="claims to be"):
        iraven.load(tmp_path / "raven")


def test_infills_of_unknown_items_are_refused(tmp_path: Path) -> None:
    row = {"item_id": "../../etc/passwd", "frames": 2, "gap": 0, "text": "x"}
    (tmp_path / "infills.jsonl").write_text(json.dumps(row))
    with pytest.raises(ProbesError, match="unknown item"):
        load_file(tmp_path / "infills.jsonl", {}, [ItemKey("t", "a")])


def test_a_hash_that_is_none_becomes_no_file_name(tmp_path: Path) -> None:
    folder = FrameFolder(tmp_path)
    path = folder.index_path("0" * 64)
    path.parent.mkdir(parents=True)
    for sha in ("../../../etc/passwd", "A" * 64, "0" * 63, ""):
        index = {"version": 1, "count": 1, "decoder": "pyav", "frames": {"0": [0.0, sha]}}
        path.write_text(json.dumps(index))
        assert folder.index("0" * 64).frames == {}


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".", "a b\n", "..", "-x"])
def test_an_arms_name_is_a_name(name: str) -> None:
    schema.register()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        values = schema.plain(compose("config", ["backend=scripted"]))
    values["suite"]["arms"][name] = values["suite"]["arms"]["baseline"]
    with pytest.raises(ProbesError, match="not a name of an arm"):
        freeze(values, Path("out"))


# --- secrets --------------------------------------------------------------------------------------


def planted() -> dict[str, str]:
    return os.environ | SECRETS


def test_secrets_are_replaced_by_the_names_of_their_variables(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
        assert redact(f"refused: {value}!") == f"refused: [${name}]!"
    monkeypatch.setenv("SHORT_KEY", "abc")
    assert redact("abc") == "abc"
    assert redact("Authorization: Bearer abcdefgh12345") == "Authorization: Bearer ***"
    assert (
        redact("https://me:pass@host/x and https://host/y")
        == "https://***@host/x and https://host/y"
    )
    config = {"api_key": "x", "token": "<image>", "hf_token": "y", "list": [SECRETS["HF_TOKEN"], 1]}
    assert redacted(config) == {
        "api_key": "***",
        "token": "<image>",
        "hf_token": "***",
        "list": ["[$HF_TOKEN]", 1],
    }
    assert redacted({"max_new_tokens": 3, "password": ""}) == {"max_new_tokens": 3, "password": ""}


def test_no_secret_is_written_anywhere_by_a_run(tmp_path: Path) -> None:
    """Neither from the environment nor from a configuration that quotes it."""
    token = SECRETS["HF_TOKEN"]
    environment = planted() | {
        "PROBES_HOME": str(tmp_path / "home"),
        "PROBES_RUNS": str(tmp_path / "runs"),
        "PYTHONPATH": str(ROOT),
    }
    command = [sys.executable, "-m", "probes", "run", *SCRIPTED, "limit=4"]
    quoting = "infill.file=${oc.env:HF_TOKEN}"  # read only where infill.source says so
    for more, code in (([quoting], 0), (["task.name=${oc.env:HF_TOKEN}", "task.reader=x"], 2)):
        done = subprocess.run(
            [*command, *more], env=environment, capture_output=True, text=True, cwd=tmp_path
        )
        assert done.returncode == code, done.stderr
        for value in SECRETS.values():
            assert value not in done.stderr + done.stdout
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any(path.name == "manifest.json" for path in files)
    for path in files:
        content = path.read_bytes()
        for value in SECRETS.values():
            assert value.encode() not in content, path
    assert token  # there was something to look for


def test_no_secret_in_a_librarys_message_reaches_a_record(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROBES_HOME", str(tmp_path / "home"))
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(context, "open_backend", open_spy)
    Spy.begin()
    secrets = " ".join(SECRETS.values())

    def quoting(self: Any, prompts: Any, frames: Any, scoring: Any) -> Any:
        for at in range(len(prompts)):
            yield at, Output(status="error", error=f"401 for Bearer {secrets}")

    monkeypatch.setattr(Spy, "score", quoting)
    cfg = settings(world, tmp_path / "out", "frames=2")
    result = execute(cfg, cfg.out)
    assert result.errors == len(result.records)
    for path in tmp_path.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert not [name for name, value in SECRETS.items() if value.encode() in content], path


# --- dependencies ---------------------------------------------------------------------------------


def test_the_audit_says_clearly_that_it_could_not_look(tmp_path: Path) -> None:
    offline = {f"{name}_proxy": "http://127.0.0.1:9" for name in ("http", "https", "HTTP", "HTTPS")}
    done = subprocess.run(
        [ROOT / ".ci" / "audit", sys.executable],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | offline | {"no_proxy": "", "NO_PROXY": ""},
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "NOT AUDITED" in done.stdout
