"""The benchmark against lmms-eval: the same ids and pixels on both sides, replies compared."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from benchmarks import versus_lmms_eval as versus
from probes.config.compose import compose
from probes.core.hashing import array_sha256
from probes.core.types import FrameRef, ModelSpec, Request, ScoringSpec
from probes.media import video_decoders
from probes.models import open_backend
from probes.models.hf import decoding
from probes.models.hf.families import qwen_vl
from probes.models.hf.prompt_encoder import FRAME

_versus = versus._versus
NAMES = {"vcot-5": "bench_vcot_5", "blind-5": "bench_blind_5"}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of one item by both members under two arms."""
    rows = [
        {
            "role": role,
            "arm": arm,
            "frames": 5,
            "item_id": "clip0",
            "stimulus_sha": arm,
            "text": "P",
        }
        for role in versus.ROLES
        for arm in ("vcot", "blind")
    ]
    folder = tmp_path / "run"
    folder.mkdir()
    pd.DataFrame(rows).to_parquet(folder / "records.parquet")
    return folder


def log(folder: Path, task: str, reply: str) -> None:
    """Write a reply as lmms-eval does with `--log_samples`."""
    folder.mkdir(parents=True, exist_ok=True)
    row = {"doc_id": 0, "filtered_resps": [[reply]]}
    (folder / f"20260101_samples_{task}.jsonl").write_text(json.dumps(row) + "\n")


def test_replies_that_differ_are_listed(run: Path, tmp_path: Path) -> None:
    for role in versus.ROLES:
        for task in NAMES.values():
            other = role == "video" and task == "bench_vcot_5"
            log(tmp_path / "out" / role / task, task, "Q" if other else "P ")
    found = versus.compare(run, tmp_path / "out", NAMES)
    assert (found["replies"], found["equal"]) == (4, 3)
    assert found["differing"] == [["video", "vcot-5", "clip0", "P", "Q"]]
    assert (found["stimuli"], found["different_replies"]) == (4, 2)


def test_a_reply_that_lmms_eval_never_gave_ends_the_benchmark(run: Path, tmp_path: Path) -> None:
    log(tmp_path / "out" / "image", "bench_vcot_5", "P")
    with pytest.raises(SystemExit, match=r"image, blind-5, clip0: no reply"):
        versus.compare(run, tmp_path / "out", NAMES)


def test_a_run_that_found_answers_in_a_cache_is_refused(tmp_path: Path) -> None:
    bench = versus.Bench(tmp_path, 2, "float32", 784, 4)
    manifest: dict[str, Any] = {
        "decode_passes": 2,
        "counts": {"error": 0, "prompts": {"image": {"cached": 0}}},
    }
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps(manifest))
    versus.checked(bench, tmp_path)
    for change in ({"decode_passes": 1}, {"counts": {"error": 0, "prompts": {"a": {"cached": 1}}}}):
        path.write_text(json.dumps(manifest | change))
        with pytest.raises(SystemExit, match="came out of a cache"):
            versus.checked(bench, tmp_path)
    path.write_text(json.dumps(manifest | {"counts": {"error": 3, "prompts": {}}}))
    with pytest.raises(SystemExit, match="3 records are errors"):
        versus.checked(bench, tmp_path)


def test_clips_are_what_decoders_read_exactly(tmp_path: Path) -> None:
    _versus.film(tmp_path / "clip.mp4", 0)
    scan = video_decoders._scan(str(tmp_path / "clip.mp4"))
    assert (scan.count, scan.doubt) == (_versus.STRETCH * _versus.TIMES, None)
    assert scan.times_s[-1] == pytest.approx(183.3, abs=0.1)
    steps = {round(b - a, 4) for a, b in pairwise(scan.times_s)}
    assert steps == {round(1 / _versus.FPS, 4)}
    numbers = {i for k in versus.FRAMES for i in video_decoders.indices(scan.count, k)}
    # The film repeats itself; what is shown of it does not.
    assert len({n % _versus.STRETCH for n in numbers}) == len(numbers)


def float32_wrapper(bench: versus.Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Load lmms-eval's wrapper as the benchmark configures it."""
    # The module alone: as a plugin it would replace ours for all later tests.
    (tmp_path / "versus_wrapper.py").write_text(_versus.WRAPPER)
    monkeypatch.syspath_prepend(str(tmp_path))
    import versus_wrapper

    arguments = versus.settings(bench, "image", [], tmp_path, 1)["model_args"]
    bounds = {"min_pixels", "max_pixels"}
    wrapper = versus_wrapper.Float32(
        **{
            name: int(value) if name in bounds else value
            for name, value in (part.split("=") for part in arguments.split(","))
        }
    )
    assert str(wrapper.model.dtype) == "torch.float32"
    return wrapper


def reply_of_wrapper(wrapper: Any, parts: Any, frames: Any) -> str:
    """Ask lmms-eval's wrapper one request of these parts."""
    from lmms_eval.api.instance import Instance
    from PIL import Image

    content = [
        {"type": "image", "url": Image.fromarray(frames[part.sha256])}
        if isinstance(part, FrameRef)
        else {"type": "text", "text": part}
        for part in parts
    ]
    wrapper.task_dict = {"t": {"s": [[{"role": "user", "content": content}]]}}
    decoding = {"max_new_tokens": _versus.TOKENS, "temperature": 0, "do_sample": False}
    request = Instance(
        "generate_until",
        ("", lambda doc: doc, decoding, 0, "t", "s"),
        0,
        metadata={"task": "t", "doc_id": 0, "repeats": 1},
    )
    return str(wrapper.generate_until([request])[0].text)


def test_both_models_get_the_same_ids_and_pixels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = 64 * 784
    bench = versus.Bench(tmp_path, 2, "float32", pixels, 1)
    folder = _versus.checkpoint(bench.models["image"], 0, pixels)
    wrapper = float32_wrapper(bench, tmp_path, monkeypatch)
    size = (_versus.HEIGHT, _versus.WIDTH, 3)
    drawn = np.random.default_rng(0).integers(0, 256, (2, *size), np.uint8)
    frames = {array_sha256(one): one for one in drawn}
    first, second = map(FrameRef, frames)
    parts = (first, "\nIn between: a cup moves.\n", second, "\nQuestion: what?\nA. cup B. box\n")

    theirs: dict[str, Any] = {}
    generate = wrapper.model.generate
    monkeypatch.setattr(
        wrapper.model, "generate", lambda **more: theirs.update(more) or generate(**more)
    )
    reply = reply_of_wrapper(wrapper, parts, frames)

    ours: dict[str, Any] = {}
    inputs, write = qwen_vl._inputs, decoding.write

    def seen_inputs(*args: Any) -> Any:
        ours["pixels"] = inputs(*args)["pixel_values"]
        return inputs(*args)

    def seen_rows(model: Any, rows: Any, *args: Any, **more: Any) -> Any:
        ours["ids"] = [int(i) for i in rows[0].ids]
        return write(model, rows, *args, **more)

    monkeypatch.setattr(qwen_vl, "_inputs", seen_inputs)
    monkeypatch.setattr(decoding, "write", seen_rows)
    spec = ModelSpec("tiny", "image", str(folder), dtype="float32", frame_as="image")
    backend = open_backend(compose([]).backend, spec)
    scoring = ScoringSpec("generate", _versus.TOKENS)
    ((_, output),) = backend.score([Request(parts, ())], frames, scoring)

    image = wrapper.model.config.image_token_id
    assert [image if i == FRAME else i for i in ours["ids"]] == theirs["input_ids"][0].tolist()
    assert ours["pixels"].equal(theirs["pixel_values"])
    assert len(ours["pixels"]) > 2 * 4 * 40  # near the upper bound, not a thumbnail
    assert output.text == reply.strip()
    assert reply.isascii() and reply.strip()
