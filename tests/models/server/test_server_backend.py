"""The server backend against a scripted HTTP server on loopback."""

from __future__ import annotations

import base64
import io
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from loopback import LETTER, TEXT, LoopbackServer, ask, chat
from PIL import Image

from probes.core.errors import ProbesError
from probes.core.hashing import array_sha256
from probes.core.types import FrameRef, ModelSpec, Request, ScoringSpec
from probes.models.server.options import ServerOptions

ROOT = Path(__file__).resolve().parents[3]
TOKEN = "sk-loopback-7f3a9c"
FIRST = (
    "{% for m in messages %}{% for p in m['content'] | selectattr('type', 'equalto', 'image') %}"
    "<image>{% endfor %}{% for p in m['content'] | selectattr('type', 'equalto', 'text') %}"
    "{{ p['text'] }}{% endfor %}{% endfor %}"
)


# What is sent


def test_pictures_and_texts_are_sent_in_their_order_and_without_loss(
    loopback: LoopbackServer, opened: Any, frames: dict[str, np.ndarray]
) -> None:
    one, two = list(frames)[:2]
    parts = ("before ", FrameRef(one), " between ", "<image> ", FrameRef(two), FrameRef(one), " ?")
    backend = opened(extra={"seed": 3})
    ((_, output),) = backend.score([Request(parts)], frames, TEXT)
    assert (output.text, output.input_tokens, output.output_tokens) == ("B", 7, 1)
    body = loopback.bodies[-1]
    content = body["messages"][0]["content"]
    kinds = [part["type"] for part in content]
    assert kinds == ["text", "image_url", "text", "image_url", "image_url", "text"]
    # A data set's "<image>" must not become a picture.
    assert content[2]["text"] == " between <\u200bimage> "
    for part, sha in zip((content[1], content[3], content[4]), (one, two, one), strict=True):
        data = base64.b64decode(part["image_url"]["url"].removeprefix("data:image/png;base64,"))
        assert array_sha256(np.asarray(Image.open(io.BytesIO(data)))) == sha
    assert (body["model"], body["temperature"], body["max_tokens"]) == ("m", 0, 4)
    assert body["seed"] == 3
    assert "logprobs" not in body
    assert backend.counters()["encoded"] == 2
    backend.close()


def test_letters_ask_for_one_token_and_the_likeliest_others(
    loopback: LoopbackServer, opened: Any
) -> None:
    loopback.answer = lambda text, n: chat("B", {" B": -0.5, "C": -1.0, "x": -3.0})
    (output,) = ask(opened(top_logprobs=3), "q", scoring=LETTER)
    assert loopback.bodies[-1]["max_tokens"] == 1
    assert (loopback.bodies[-1]["logprobs"], loopback.bodies[-1]["top_logprobs"]) == (True, 3)
    assert output.option_logprobs[1:] == (-0.5, -1.0)
    assert output.text == "B"


def test_no_more_requests_at_a_time_than_allowed(loopback: LoopbackServer, opened: Any) -> None:
    meeting = threading.Barrier(3)

    def answer(text: str, number: int) -> dict[str, Any]:
        meeting.wait(30)  # three at a time, or none is answered
        return chat()

    loopback.answer = answer
    outputs = ask(opened(concurrency=3), *(f"q{i}" for i in range(12)))
    assert [output.status for output in outputs] == ["ok"] * 12
    assert loopback.most == 3


def test_a_frame_that_cannot_be_read_costs_its_own_prompt(
    opened: Any, frames: dict[str, np.ndarray]
) -> None:
    asked = [Request((FrameRef("0" * 64), "?")), Request((FrameRef(next(iter(frames))), "?"))]
    found = dict(opened().score(asked, frames, TEXT))
    assert found[0].status == "error"
    assert "frame" in found[0].error
    assert found[1].status == "ok"


# What is refused


@pytest.mark.parametrize(
    ("scoring", "fix"),
    [
        (ScoringSpec("cloze"), "scoring=letter"),
        (ScoringSpec("letter", answer_prefix="Answer:"), "answer_prefix"),
    ],
)
def test_what_chat_endpoints_cannot_do_is_refused(
    scoring: ScoringSpec, fix: str, loopback: LoopbackServer, opened: Any
) -> None:
    with pytest.raises(ProbesError) as caught:
        ask(opened(), "q", scoring=scoring)
    assert fix in caught.value.fix
    assert not loopback.bodies


def test_variables_of_the_template_are_sent_and_are_another_model(
    loopback: LoopbackServer, opened: Any
) -> None:
    bare, thinking = opened(), opened({"chat_template_kwargs": (("a", (1, 2)), ("think", False))})
    assert bare.fingerprint != thinking.fingerprint
    ask(thinking, "q")
    assert loopback.bodies[-1]["chat_template_kwargs"] == {"a": [1, 2], "think": False}
    assert thinking.describe()["extra"]["chat_template_kwargs"]["think"] is False
    with pytest.raises(ProbesError, match="given twice"):
        opened(
            {"chat_template_kwargs": (("think", False),)},
            extra={"chat_template_kwargs": {"think": True}},
        )


def test_frames_as_videos_are_refused(opened: Any) -> None:
    with pytest.raises(ProbesError) as caught:
        opened(spec={"frame_as": "video"})
    assert "pair.frame_as=image" in caught.value.fix


@pytest.mark.parametrize(
    ("options", "where"),
    [
        ({"url": "x"}, "backend.options"),
        ({"model": "one"}, "model"),
        ({"base_url": "localhost:8000/v1"}, "base_url"),
        ({"base_url": "http://u:secret@host/v1"}, "base_url"),
        ({"base_url": "http://host/v1?key=secret"}, "base_url"),
        ({"base_url": "http://host:99999/v1"}, "base_url"),
        ({"base_url": {"video": "http://host/v1"}}, "base_url"),
        ({"concurrency": 0}, "concurrency"),
        ({"concurrency": True}, "concurrency"),
        ({"retries": -1}, "retries"),
        ({"timeout_s": float("nan")}, "timeout_s"),
        ({"timeout_s": "soon"}, "timeout_s"),
        ({"top_logprobs": 0}, "top_logprobs"),
        ({"extra": "x"}, "extra"),
        ({"order_is_checked": "yes"}, "order_is_checked"),
        ({"api_key_env": "sk-secret"}, "api_key_env"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    options: dict[str, Any], where: str, opened: Any
) -> None:
    with pytest.raises(ProbesError) as caught:
        opened(**options)
    assert caught.value.where.endswith(where)
    assert "secret" not in str(caught.value)


def test_members_may_have_servers_and_names_of_their_own() -> None:
    options = {
        "base_url": {"image": "http://a/v1", "video": "http://b/v1/"},
        "model": {"video": "served"},
    }
    of = {
        role: ServerOptions.of(options, ModelSpec("x", role, "repo")) for role in ("image", "video")
    }
    assert (of["image"].base_url, of["image"].model) == ("http://a/v1", "")
    assert (of["video"].base_url, of["video"].model) == ("http://b/v1", "served")
    # A model outside the pair has a member's role, and must not get its weights with it.
    outside = ModelSpec("org/writer", "image", "org/writer")
    with pytest.raises(ProbesError, match="no base_url for org/writer"):
        ServerOptions.of(options, outside)
    options["base_url"] |= {"org/writer": "http://c/v1"}
    assert ServerOptions.of(options, outside).base_url == "http://c/v1"


def test_a_template_that_moves_pictures_is_refused_until_checked(
    loopback: LoopbackServer, opened: Any, frames: Any, tmp_path: Path
) -> None:
    for name, content in (("config.json", '{"model_type": "x"}'), ("model.safetensors", "")):
        (tmp_path / name).write_text(content)
    (tmp_path / "chat_template.jinja").write_text(FIRST)
    shown = Request((FrameRef(next(iter(frames))), "q"))
    spec = {"repo": str(tmp_path)}
    with pytest.raises(ProbesError, match="all pictures before all text"):
        list(opened(spec=spec).score([shown], frames, TEXT))
    assert not loopback.bodies
    list(opened(spec=spec).score([Request(("q",))], frames, TEXT))  # no picture, no order
    backend = opened(spec=spec, order_is_checked=True)
    assert len(list(backend.score([shown], frames, TEXT))) == 1
    assert backend.describe()["interleaving"] == "kept, says the user"
    backend.close()


# What answers depend on


def test_the_fingerprint_is_what_is_declared(opened: Any, tmp_path: Path) -> None:
    base = opened().fingerprint
    same = {"concurrency": 7, "timeout_s": 1, "retries": 0, "api_key_env": None}
    assert opened(**same).fingerprint == base
    other = [
        opened(base_url="http://elsewhere/v1"),
        opened(deployment="own"),
        opened(top_logprobs=5),
        opened(extra={"seed": 1}),
        opened(model={"image": "n"}),
        opened(spec={"revision": "r"}),
    ]
    assert len({one.fingerprint for one in other} | {base}) == len(other) + 1
    moved = opened(base_url="http://elsewhere/v1", deployment="own")
    assert moved.fingerprint == other[1].fingerprint


def test_a_folder_counts_wherever_it_is(opened: Any, tmp_path: Path) -> None:
    checkpoint = ROOT / "probes" / "tasks" / "egoworld" / "pair" / "checkpoints" / "image"
    moved = shutil.copytree(checkpoint, tmp_path / "elsewhere")
    embedded = opened(spec={"repo": "embedded:image"})
    assert opened(spec={"repo": str(moved)}).fingerprint == embedded.fingerprint
    (moved / "generation_config.json").write_text("{}")
    assert opened(spec={"repo": str(moved)}).fingerprint != embedded.fingerprint


def test_another_model_under_the_same_name_is_refused(
    opened: Any, loopback: LoopbackServer, tmp_path: Path
) -> None:
    def serves(**facts: Any) -> None:
        loopback.models = (200, {"data": [{"id": "m", "created": 1} | facts]}, {})

    def ask(**more: Any) -> None:
        assert len(list(opened(**more).score([Request(("q",))], {}, TEXT))) == 1

    serves()
    ask()  # it says nothing: nothing is kept
    serves(root="/models/first", max_model_len=4096)
    ask()
    serves(root="/models/first", max_model_len=8192)  # a setting
    ask()
    serves()
    ask()
    serves(root="/models/second", max_model_len=4096)
    with pytest.raises(ProbesError, match="another model under this name") as caught:
        ask()
    assert "its root was '/models/first' and is '/models/second'" in caught.value.what
    assert "backend.options.deployment" in caught.value.fix
    ask(deployment="second")
    ask(spec={"revision": "second"})
    (kept,) = [one for one in (tmp_path / "home/servers").iterdir() if str(one) in caught.value.fix]
    kept.write_text("damaged")
    ask()


def test_a_folder_counts_by_its_files_and_is_the_servers_name_for_it(opened: Any) -> None:
    image, video = (opened(spec={"repo": f"embedded:{role}"}) for role in ("image", "video"))
    assert image.fingerprint != video.fingerprint
    folder = ROOT / "probes" / "tasks" / "egoworld" / "pair" / "checkpoints" / "image"
    assert image.describe()["model"] == str(folder)
    named = opened(spec={"repo": "embedded:image"}, model={"image": "served"})
    assert named.describe()["model"] == "served"
    assert named.describe()["repo"] == "embedded:image"


def test_the_manifest_has_what_the_server_lists(loopback: LoopbackServer, opened: Any) -> None:
    backend = opened()
    assert backend.describe()["served"] == {}
    list(backend.score([Request(("q",))], {}, TEXT))
    assert backend.describe()["served"] == {"id": "m", "max_model_len": 9}
    backend.close()


# The API token


def test_the_token_is_sent_and_cut_out_of_replies(
    loopback: LoopbackServer, opened: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = opened(api_key_env="MY_TOKEN", retries=0)
    monkeypatch.setenv("MY_TOKEN", f" {TOKEN}\n")
    loopback.answer = lambda text, n: (400, {"error": {"message": f"Bearer {TOKEN} is poor"}}, {})
    (output,) = ask(backend, "q")
    assert loopback.authorizations == {f"Bearer {TOKEN}"}
    assert output.error == "the server says 400: Bearer *** is poor"
    monkeypatch.delenv("MY_TOKEN")
    ask(opened(api_key_env="MY_TOKEN"), "q")
    assert None in loopback.authorizations


def test_a_token_that_a_header_cannot_hold_is_refused_and_not_shown(
    opened: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_TOKEN", "sk-two\nlines")
    with pytest.raises(ProbesError) as caught:
        opened(api_key_env="MY_TOKEN")
    assert "two" not in str(caught.value)


def test_a_run_leaves_the_token_nowhere(loopback: LoopbackServer, tmp_path: Path) -> None:
    """The whole command, with failures that repeat the token: run folder, store and output."""

    def answer(text: str, number: int) -> Any:
        if "what" in text and number % 2:
            return (400, {"error": {"message": f"wrong: {TOKEN}"}}, {})
        return chat("A")

    loopback.answer = answer
    command = [
        sys.executable,
        "-m",
        "probes",
        "run",
        "backend=server",
        "pair.frame_as=image",
        "scoring=generate",
        "task.videos=3",
        "task.seconds=4",
        "frames=2",
        "limit=3",
        "~suite.arms.visual_perturbation",
        "~suite.arms.text_perturbation",
        f"backend.options.base_url={loopback.url}",
        "backend.options.api_key_env=MY_TOKEN",
        f"hydra.run.dir={tmp_path}/out",
    ]
    env = os.environ | {"MY_TOKEN": TOKEN, "PROBES_HOME": f"{tmp_path}/home", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=env, cwd=ROOT)
    assert done.returncode == 1, done.stdout + done.stderr  # finished, and records failed
    assert loopback.authorizations == {f"Bearer {TOKEN}"}
    assert (tmp_path / "out" / "records.parquet").is_file()
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any("store" in path.parts for path in files)
    import pandas as pd

    errors = pd.read_parquet(tmp_path / "out" / "infills.parquet").error
    assert errors.str.contains("wrong: [*]{3}").any()  # Parquet may be compressed: read it too
    assert not errors.str.contains(TOKEN).any()
    for path in files:
        assert TOKEN.encode() not in path.read_bytes(), path
    assert TOKEN not in done.stdout + done.stderr
