"""Coverage-guided fuzzing of everything that reads what others wrote: `make fuzz`.

An input's first byte chooses a reader, the rest is what it reads. A reader may accept it or refuse
it with a `ProbesError`; anything else is a crash, which atheris saves. Crashes that were mended lie
under tests/data/crashers and are read again by tests/test_fuzz.py, which needs no atheris.
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
        for module in (
            "probes.models.checkpoint", "probes.config.settings", "probes.media.frame_store",
            "probes.stimuli.infill_file",
            "probes.regression", "probes.stimuli.answers", "probes.cache.output_cache",
            "probes.tasks.egoschema.reader",
            "probes.tasks.iraven.generate", "probes.tasks.iraven.reader",
        ):  # fmt: skip
            importlib.import_module(module)

SEPARATOR = b"\0\xff\0"
"""Parts the files of an input that is read as several; no text format holds it."""
ARRAYS = ("image", "target", "predict", "meta_matrix", "structure")
UIDS = ("a", "b", "c0ffee-1")
"""Ids that have a video in the folder."""
FILM = b"\0\0\0\x10ftypisom\0\0\0\0\0\0\0\x08moov"
WORDS = """
    q_uid question option type item_id frames gap text frame_a frame_b common event error video_uid
    start_sec Panels Panel Layout Entity Rule_Group Rule Candidate Attribute bbox Type Size Color
    Number Uniformity weight_map safetensors model_type version count decoder option_logprobs
    option_tokens status Infinity NaN null true 1e999 descr fortran_order shape False u1 i8 S1 O
    answer option (A) {infill} {frame_a} {question} {options} ../ \\xff\\xfe \\\\ud800
"""
"""What mutations may put in: words of the formats."""
OPTIONS = ("A man opens the red door", "C closes it", "He pays 3.5 dollars", "B", "no")


class Room:
    """A folder that the readers find their files in; on a disk in memory where there is one."""

    def __init__(self, folder: Path | None = None) -> None:
        memory = Path("/dev/shm")
        where = memory if folder is None and memory.is_dir() else folder
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


def egoschema(room: Room, data: bytes) -> None:
    """Read three JSON files and a video's boxes as a data set."""
    from probes.tasks.egoschema.reader import load

    root = room.folder / "ego"
    names = ("questions.json", "subset_answers.json", "uid_to_ego4d.json", "videos/a.mp4")
    for name, content in zip(names, _parts(data, len(names)), strict=True):
        (root / name).write_bytes(content or (FILM if name.endswith("mp4") else b"{}"))
    for item in load(root, unanswered=bool(data[:1] == b"[")):
        inside = item.media.path.resolve().is_relative_to(root.resolve())
        assert inside, f"{item.media.path} is outside"


def npz(room: Room, data: bytes) -> None:
    """Read a whole npz."""
    from probes.tasks.iraven import reader

    path = room.folder / "raven" / "center_single" / "RAVEN_0_train.npz"
    path.write_bytes(data)
    reader.load(room.folder / "raven")
    reader.images(path)


def arrays(room: Room, data: bytes) -> None:
    """Read an npz that is sound as an archive, of arrays that may not be."""
    npz(room, _packed(_parts(data, len(ARRAYS))))


def _packed(arrays: Sequence[bytes]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in zip(ARRAYS, arrays, strict=True):
            if content:
                archive.writestr(f"{name}.npy", content)
    return packed.getvalue()


def xml(room: Room, data: bytes) -> None:
    """Read a problem's XML."""
    from probes.tasks.iraven import xmlio

    xmlio.parse(data, "problem.xml")


def infill_file(room: Room, data: bytes) -> None:
    """Read a file of infills that were written elsewhere."""
    from probes.core.types import Clip
    from probes.stimuli.infill_file import load_file

    path = room.folder / "infills.jsonl"
    path.write_bytes(data)
    clips = {
        (uid, count): Clip(tuple(range(count)), (0.0,) * count, tuple("fghij"[:count]))
        for uid in UIDS[:2]
        for count in (1, 2)
    }
    load_file(path, clips, UIDS)


def prompts(room: Room, data: bytes) -> None:
    """Read a prompt set."""
    from probes.config.prompts import prompt_set

    names = ("between", "common", "event", "condense", "letter", "cloze", "generate")
    for name, content in zip(names, _parts(data, len(names)), strict=True):
        (room.folder / "prompts" / f"{name}.txt").write_bytes(content)
    prompt_set(str(room.folder / "prompts"))


def reply(room: Room, data: bytes) -> None:
    """Read a free reply."""
    from probes.stimuli.answers import parse

    choice = parse(data.decode("utf-8", "replace"), OPTIONS)
    assert choice is None or choice in range(len(OPTIONS))


def checkpoint(room: Room, data: bytes) -> None:
    """Find a checkpoint and its weights."""
    from probes.core.types import ModelSpec
    from probes.models.checkpoint import find

    folder = room.folder / "checkpoint"
    for name, content in zip(
        ("config.json", "model.safetensors.index.json"), _parts(data, 2), strict=True
    ):
        (folder / name).write_bytes(content)
    found = find(ModelSpec("one", "image", str(folder)))
    found.fingerprint(ModelSpec("one", "image", str(folder)), "auto")


def baseline(room: Room, data: bytes) -> None:
    """Read a regression baseline."""
    from probes.regression import read

    path = room.folder / "baseline.json"
    path.write_bytes(data)
    read(path)


def frame_index(room: Room, data: bytes) -> None:
    """Read what is known of a video's frames: damage makes it unknown, never an error."""
    from probes.media.frame_store import FrameStore

    pool = FrameStore(room.folder)
    path = pool._index_path("0" * 64)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    index = pool._load("0" * 64)
    assert all(len(sha) == 64 and sha.isalnum() for _, sha in index.frames.values())


def stored(room: Room, data: bytes) -> None:
    """Read a row of the store: one that is damaged is told by these errors, and set aside."""
    from probes.cache.sqlite_file import UNSOUND, output_of

    with contextlib.suppress(*UNSOUND):
        output_of(data.decode("utf-8", "replace"))


TARGETS: tuple[Callable[[Room, bytes], None], ...] = (
    egoschema, npz, arrays, xml, infill_file, prompts, reply, checkpoint, baseline, frame_index,
    stored,
)  # fmt: skip


def read(room: Room, data: bytes) -> str:
    """Let a reader read an input.

    Returns:
        The reader's name, with `refused` behind it where it did.

    Raises:
        Exception: the reader raised something else than a `ProbesError`.
    """
    from probes.core.errors import ProbesError

    target = TARGETS[data[0] % len(TARGETS)] if data else reply
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            target(room, data[1:])
    except ProbesError:
        return f"{target.__name__} refused"
    return target.__name__


def seeds() -> list[bytes]:
    """Return a good input or two for every reader, to begin with."""
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
    both = [json.dumps(row | {"item_id": uid}) for uid in UIDS[:2]]
    texts = [
        "{infill}", "{frame_a}{frame_b}", "{frame_a} {frame_b} {common}", "{text}",
        "{context} {question} {options}", "{context}{question}", "{context}{question}{options}",
    ]  # fmt: skip
    weights = b'{"weight_map": {"a": "model.safetensors"}}'
    index = {"version": 1, "count": 9, "decoder": "pyav", "frames": {"0": [0.0, "a" * 64]}}
    good: dict[Callable[[Room, bytes], None], list[bytes]] = {
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
        good |= {npz: problem[:1], arrays: problem[1:2], xml: problem[2:]}
    return [bytes([TARGETS.index(one)]) + data for one, many in good.items() for data in many]


def _problem() -> list[bytes] | None:
    """Return the npz, its arrays and the XML of a problem; None where OpenCV is not installed."""
    try:
        from probes.tasks.iraven import files, generate, xmlio

        made = generate.problem(0, "center_single", 0)
        whole = files.pack(made, generate.images(made), generate.predict(made))
    except ImportError:
        return None
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        arrays = [archive.read(f"{name}.npy") for name in ARRAYS]
    # Of the pictures the header is what is read first; whole, they would fill every input.
    some = SEPARATOR.join(array[:400] for array in arrays)
    return [_packed(arrays), some, xmlio.write(made).encode()]


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
    given = parser.parse_args()
    given.crashes.mkdir(parents=True, exist_ok=True)
    room, began = Room(), time.monotonic()
    counts: Counter[str] = Counter()
    corpus, words = room.folder / "corpus", room.folder / "words"
    corpus.mkdir()
    for number, data in enumerate(seeds()):
        (corpus / str(number)).write_bytes(data)
    words.write_text("".join(f'"{word}"\n' for word in WORDS.split()))

    def tell() -> None:
        for name, count in sorted(counts.items()):
            print(f"{name:<24}{count:>10}")
        print(f"{counts.total()} inputs in {time.monotonic() - began:.0f} s", flush=True)
        room.close()

    def one(data: bytes) -> None:
        counts[read(room, data)] += 1
        if counts.total() == given.runs or time.monotonic() - began > given.seconds:
            tell()
            os._exit(0)  # libFuzzer would not come back either

    atheris.Setup(
        [sys.argv[0], f"-seed={given.seed}", "-max_len=16384", "-verbosity=0", "-timeout=20",
         "-rss_limit_mb=4096", f"-dict={words}", f"-artifact_prefix={given.crashes}/", str(corpus)],
        one,
    )  # fmt: skip
    atexit.register(tell)  # after a crash
    atheris.Fuzz()


if __name__ == "__main__":
    main()
