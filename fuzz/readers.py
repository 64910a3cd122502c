"""Coverage-guided fuzzing of all readers of files that others wrote: `make fuzz`.

An input's first byte chooses a reader, which reads the rest. It may accept the input or refuse it
with a `ProbesError`; any other error is a crash, which atheris saves. The inputs of crashes that
were fixed are under tests/data/crashers; tests/test_fuzz.py, which needs no atheris, reads them
again.
"""

from __future__ import annotations

import argparse
import atexit
import contextlib
import importlib
import io
import json
import os
import shutil
import sys
import tempfile
import time
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    import atheris

    with atheris.instrument_imports(include=["probes", "json"]):
        for module in """
            cache.output_cache config.settings media.media_index models.checkpoint regression
            stimuli.answers stimuli.infill_file tasks.egoschema.reader tasks.iraven.generate
            tasks.iraven.reader
        """.split():
            importlib.import_module(f"probes.{module}")

SEPARATOR = b"\0\xff\0"
"""Separates the files of an input that is read as several; no text format contains it."""
ARRAYS = ("image", "target", "predict", "meta_matrix", "structure")
UIDS = ("a", "b", "c0ffee-1")
"""Ids that have a video in the folder."""
FILM = b"\0\0\0\x10ftypisom\0\0\0\0\0\0\0\x08moov"
WORDS = """
    q_uid question option type item_id task frames gap text frame_a frame_b common event error
    video_uid start_sec weight_map safetensors model_type version count decoder option_logprobs
    option_tokens status Infinity NaN null true 1e999 descr fortran_order shape False u1 i8 S1 O
    answer option (A) {infill} {frame_a} {question} {options} ../ \\xff\\xfe \\\\ud800
"""
"""Words of the formats, which mutations may insert."""
OPTIONS = ("A man opens the red door", "C closes it", "He pays 3.5 dollars", "B", "no")


class Workspace:
    """The folder of the readers' files; on a disk in memory where there is one."""

    def __init__(self) -> None:
        memory = Path("/dev/shm")
        where = memory if memory.is_dir() else None
        self.folder = Path(tempfile.mkdtemp(prefix="probes-fuzz-", dir=where))
        (self.folder / "ego" / "videos").mkdir(parents=True)
        (self.folder / "raven" / "center_single").mkdir(parents=True)
        (self.folder / "prompts").mkdir()
        (self.folder / "checkpoint").mkdir()
        (self.folder / "checkpoint" / "model.safetensors").write_bytes(b"weights")
        for uid in UIDS:
            (self.folder / "ego" / "videos" / f"{uid}.mp4").write_bytes(FILM)

    def close(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)


def egoschema(workspace: Workspace, data: bytes) -> None:
    """Read three JSON files and a video's boxes as a data set."""
    from probes.tasks.egoschema.reader import load

    root = workspace.folder / "ego"
    names = ("questions.json", "subset_answers.json", "uid_to_ego4d.json", "videos/a.mp4")
    for name, content in zip(names, _parts(data, len(names)), strict=True):
        (root / name).write_bytes(content or (FILM if name.endswith("mp4") else b"{}"))
    for item in load(root, unanswered=bool(data[:1] == b"[")):
        inside = item.media.path.resolve().is_relative_to(root.resolve())
        assert inside, f"{item.media.path} is outside"


def npz(workspace: Workspace, data: bytes) -> None:
    """Read a whole npz."""
    from probes.tasks.iraven import reader

    path = workspace.folder / "raven" / "center_single" / "RAVEN_0_train.npz"
    path.write_bytes(data)
    reader.load(workspace.folder / "raven")
    reader.images(path)


def arrays(workspace: Workspace, data: bytes) -> None:
    """Read an npz that is a valid archive of possibly invalid arrays."""
    npz(workspace, _packed(_parts(data, len(ARRAYS))))


def _packed(arrays: Sequence[bytes]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in zip(ARRAYS, arrays, strict=True):
            if content:
                archive.writestr(f"{name}.npy", content)
    return packed.getvalue()


def infill_file(workspace: Workspace, data: bytes) -> None:
    """Read a file of infills that were written elsewhere."""
    from probes.core.types import Clip, ItemKey
    from probes.stimuli.infill_file import load_file

    path = workspace.folder / "infills.jsonl"
    path.write_bytes(data)
    clips = {
        key.clip(count): Clip(tuple(range(count)), (0.0,) * count, tuple("fghij"[:count]))
        for key in (ItemKey("t", uid) for uid in UIDS[:2])
        for count in (1, 2)
    }
    # Of one id there is an item of another task too: such lines have to say whose they are.
    known = {ItemKey("t", uid) for uid in UIDS} | {ItemKey("u", UIDS[1])}
    load_file(path, clips, known)


def prompts(workspace: Workspace, data: bytes) -> None:
    """Read a prompt set."""
    from probes.config.prompts import prompt_set

    names = ("between", "common", "event", "condense", "letter", "cloze", "generate")
    for name, content in zip(names, _parts(data, len(names)), strict=True):
        (workspace.folder / "prompts" / f"{name}.txt").write_bytes(content)
    prompt_set(str(workspace.folder / "prompts"))


def reply(workspace: Workspace, data: bytes) -> None:
    """Read a free reply."""
    from probes.stimuli.answers import parse

    choice = parse(data.decode("utf-8", "replace"), OPTIONS)
    assert choice is None or choice in range(len(OPTIONS))


def checkpoint(workspace: Workspace, data: bytes) -> None:
    """Find a checkpoint and its weights."""
    from probes.core.types import ModelSpec
    from probes.models.checkpoint import find

    folder = workspace.folder / "checkpoint"
    for name, content in zip(
        ("config.json", "model.safetensors.index.json"), _parts(data, 2), strict=True
    ):
        (folder / name).write_bytes(content)
    found = find(ModelSpec("one", "image", str(folder)))
    found.fingerprint(ModelSpec("one", "image", str(folder)), "auto")


def baseline(workspace: Workspace, data: bytes) -> None:
    """Read a regression baseline."""
    from probes.regression import read

    path = workspace.folder / "baseline.json"
    path.write_bytes(data)
    read(path)


def frame_index(workspace: Workspace, data: bytes) -> None:
    """Read the index of a video whose checksum is right: a damaged one is never an error."""
    from probes.core.errors import UNSOUND
    from probes.core.hashing import sha256_json
    from probes.media.media_index import VERSION, MediaIndex

    with contextlib.suppress(*UNSOUND):
        content = json.loads(data) | {"version": VERSION, "key": "k"}
        data = json.dumps(content | {"sha256": sha256_json(content)}).encode()
    index = MediaIndex.from_json(data, "k") or MediaIndex()
    assert all(len(sha) == 64 and sha.isalnum() for _, sha in index.frames.values())


def stored(workspace: Workspace, data: bytes) -> None:
    """Read a row of the store whose checksum is right: only these errors mark it as damaged."""
    from probes.cache.rows import output_of, with_checksum
    from probes.core.errors import UNSOUND

    with contextlib.suppress(*UNSOUND):
        output_of(with_checksum("0" * 64, "", data))


TARGETS: tuple[Callable[[Workspace, bytes], None], ...] = (
    egoschema,
    npz,
    arrays,
    infill_file,
    prompts,
    reply,
    checkpoint,
    baseline,
    frame_index,
    stored,
)


def read(workspace: Workspace, data: bytes) -> str:
    """Let a reader read an input.

    Returns:
        The reader's name, followed by `refused` where it refused the input.

    Raises:
        Exception: the reader raised something other than a `ProbesError`.
    """
    from probes.core.errors import ProbesError

    target = TARGETS[data[0] % len(TARGETS)] if data else reply
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            target(workspace, data[1:])
    except ProbesError:
        return f"{target.__name__} refused"
    return target.__name__


def seeds() -> list[bytes]:
    """Return one or two valid inputs for every reader, to begin with."""
    question = {"q_uid": "a", "question": "what?", "type": "x"} | {
        f"option {i}": f"thing {i}" for i in range(5)
    }
    files = [
        json.dumps([question, question | {"q_uid": "b"}]).encode(),
        b'{"a": 3}',
        b'{"a": {"video_uid": "r", "start_sec": 0}, "b": ["r"]}',
        FILM + b"\0\0\0\x09mdat!",
    ]
    row = {"item_id": "a", "frames": 2, "gap": 0, "text": "then", "frame_a": "f", "error": ""}
    both = [json.dumps(row | {"item_id": uid, "task": "t"}) for uid in UIDS[:2]]
    texts = (
        "{infill}|{frame_a}{frame_b}|{frame_a} {frame_b} {common}|{text}"
        "|{context} {question} {options}|{context}{question}|{context}{question}{options}"
    ).split("|")
    weights = b'{"weight_map": {"a": "model.safetensors"}}'
    index = {"count": 9, "decoder": "pyav", "frames": [[0, 0.0, "a" * 64]]}
    good: dict[Callable[[Workspace, bytes], None], list[bytes]] = {
        egoschema: [SEPARATOR.join(files)],
        infill_file: ["\n".join(both).encode()],
        prompts: [SEPARATOR.join(text.encode() for text in texts)],
        reply: [b"The answer is (B).", b"A. A man opens the red door", b"He pays 3.5 dollars"],
        checkpoint: [SEPARATOR.join([b'{"model_type": "llava_next"}', weights])],
        baseline: [b'{"format": "interframe-probes baseline", "version": 1}'],
        frame_index: [json.dumps(index).encode()],
        stored: [b'{"option_logprobs": [-1.0, -2.5], "option_tokens": [1, 2], "text": "x"}'],
    }
    if problem := _problem():
        good |= {npz: problem[:1], arrays: problem[1:]}
    return [bytes([TARGETS.index(one)]) + data for one, many in good.items() for data in many]


def _problem() -> list[bytes] | None:
    """Return the npz and the arrays of a problem; None where OpenCV is not installed."""
    try:
        from probes.tasks.iraven import files, generate

        made = generate.problem(0, "center_single", 0)
        whole = files.pack(made, generate.images(made), generate.predict(made))
    except ImportError:
        return None
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        arrays = [archive.read(f"{name}.npy") for name in ARRAYS]
    # Pictures are cut after their header, which is read first: whole, they would fill every input.
    some = SEPARATOR.join(array[:400] for array in arrays)
    return [_packed(arrays), some]


def _parts(data: bytes, count: int) -> list[bytes]:
    parts = data.split(SEPARATOR)[:count]
    return parts + [b""] * (count - len(parts))


def main() -> None:
    """Fuzz until the runs or the seconds are used up; a crash ends it and is saved."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=100_000)
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--crashes", type=Path, default=Path("fuzz/crashes"))
    options = parser.parse_args()
    options.crashes.mkdir(parents=True, exist_ok=True)
    workspace, began = Workspace(), time.monotonic()
    counts: Counter[str] = Counter()
    corpus, words = workspace.folder / "corpus", workspace.folder / "words"
    corpus.mkdir()
    for number, data in enumerate(seeds()):
        (corpus / str(number)).write_bytes(data)
    words.write_text("".join(f'"{word}"\n' for word in WORDS.split()))

    def report() -> None:
        for name, count in sorted(counts.items()):
            print(f"{name:<24}{count:>10}")
        print(f"{counts.total()} inputs in {time.monotonic() - began:.0f} s", flush=True)
        workspace.close()

    def one(data: bytes) -> None:
        counts[read(workspace, data)] += 1
        if counts.total() == options.runs or time.monotonic() - began > options.seconds:
            report()
            os._exit(0)  # libFuzzer does not return either

    flags = [
        f"-seed={options.seed}",
        "-max_len=16384",
        "-verbosity=0",
        "-timeout=20",
        "-rss_limit_mb=4096",
        f"-dict={words}",
        f"-artifact_prefix={options.crashes}/",
    ]
    atheris.Setup([sys.argv[0], *flags, str(corpus)], one)
    atexit.register(report)  # after a crash
    atheris.Fuzz()


if __name__ == "__main__":
    main()
