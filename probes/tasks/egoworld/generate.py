"""`probes data egoworld`: clips of the small world in EgoSchema's official layout.

`questions.json`, `subset_answers.json`, `uid_to_ego4d.json` and `videos/<q_uid>.mp4` (H.264). The
stories belong to the evaluation split whatever the seed. Several clips are cut from one recording:
they share their things and the table, and each begins as the one before it ended.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from probes.core.errors import ProbesError
from probes.core.files import atomic_write
from probes.core.hashing import sha256_json
from probes.core.progress import ReportProgress
from probes.core.signals import serve_parent
from probes.tasks.egoworld.draw import TONES, Painter
from probes.tasks.egoworld.film import Footage, shoot
from probes.tasks.egoworld.questions import OPTIONS, TYPES, Question, ask
from probes.tasks.egoworld.world import (
    World,
    draw_start,
    draw_story,
    draw_things,
    load_world,
    states,
)


@dataclass(frozen=True, slots=True)
class Shot:
    """One clip to be filmed, and its question."""

    uid: str
    recording: str
    number: int
    """Place of the clip within its recording."""
    footage: Footage
    question: Question
    options: tuple[str, ...]
    answer: int


def make(
    root: Path,
    videos: int,
    seed: int,
    height: int = 128,
    fps: float = 4.0,
    seconds: float = 18.0,
    progress: ReportProgress | None = None,
    *,
    width: int | None = None,
    workers: int = 2,
) -> None:
    """Make a data set in EgoSchema's layout; the same arguments make the same frames and JSON.

    Args:
        root: folder; made if need be.
        videos: number of clips, one question each.
        seed: any seed gives evaluation stories.
        height: pixels, even, at least 32.
        fps: frames per second.
        seconds: length of a clip.
        progress: called with (clips done, clips).
        width: pixels, even, at least `height` (default: as `height`).
        workers: processes that film; they change nothing but the time it takes.
    """
    width = height if width is None else width
    _check(videos, height, width, fps, seconds)
    shots = list(_plan(load_world(), videos, seed))
    (root / "videos").mkdir(parents=True, exist_ok=True)
    jobs = [
        (shot, root / "videos" / f"{shot.uid}.mp4", height, width, fps, seconds) for shot in shots
    ]
    if workers > 1 and videos > 8:
        with ProcessPoolExecutor(workers, initializer=serve_parent) as pool:
            for done, _ in enumerate(pool.map(_film, jobs, chunksize=4), 1):
                if progress:
                    progress(done, videos)
    else:
        for done, job in enumerate(jobs, 1):
            _film(job)
            if progress:
                progress(done, videos)
    questions = [
        {
            "q_uid": shot.uid,
            "google_drive_id": shot.uid,
            "question": shot.question.text,
            **{f"option {i}": text for i, text in enumerate(shot.options)},
            "type": shot.question.kind,
        }
        for shot in shots
    ]
    sources = {
        shot.uid: {
            "video_uid": shot.recording,
            "start_sec": round(shot.number * seconds, 3),
            "end_sec": round((shot.number + 1) * seconds, 3),
        }
        for shot in shots
    }
    _write(root / "uid_to_ego4d.json", sources)
    _write(root / "subset_answers.json", {shot.uid: shot.answer for shot in shots})
    # Last: a folder with questions.json is a whole one.
    _write(root / "questions.json", questions)


def _plan(world: World, videos: int, seed: int) -> Iterator[Shot]:
    """Draw recordings one after another until there are enough clips.

    A recording's content depends on (seed, its number) only; the keys' letters and the types of
    question are dealt out evenly, by the number of the clip.
    """
    recording, index = 0, 0
    deal = np.random.default_rng([seed, 1])
    letters: list[int] = []
    while index < videos:
        rng = np.random.default_rng([seed, 0, recording])
        things, tone = draw_things(world, rng), TONES[rng.integers(len(TONES))]
        start = draw_start(things, rng)
        for number in range(int(rng.integers(world.clips[0], world.clips[1] + 1))):
            if index == videos:
                return
            kind = TYPES[index % len(TYPES)]
            question = None
            while question is None:  # few stories have no unambiguous question of a type
                story = draw_story(world, rng, "evaluation", things, start)
                question = ask(story, kind, rng)
            letters = letters or [int(p) for p in deal.permutation(OPTIONS)]
            answer = letters.pop()
            name = sha256_json([seed, recording, number, story.canonical()])
            yield Shot(
                uid=str(uuid.UUID(name[:32])),
                recording=f"egoworld-{seed}-{recording:05d}",
                number=number,
                footage=shoot(story, world, rng, tone),
                question=question,
                options=question.options(answer),
                answer=answer,
            )
            start = states(story)[-1]
            index += 1
        recording += 1


def _film(job: tuple[Shot, Path, int, int, float, float]) -> None:
    """Paint and encode one clip."""
    import av

    shot, path, height, width, fps, seconds = job
    count = round(seconds * fps) + 1
    gaps = load_world().gaps
    painter = Painter(height, width)
    temporary = path.with_suffix(".part.mp4")
    with av.open(str(temporary), "w", options={"movflags": "faststart"}) as container:
        # One thread, no wall clock in the file, and x264's plain path: by default it rounds as the
        # CPU's vector units do, and another machine would film other pixels (measured: AVX2
        # against none). With this the same clip is the same bytes everywhere.
        stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001))
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.thread_count = 1
        stream.options = {
            "crf": "18", "preset": "fast", "g": "250", "x264-params": "cpu-independent=1",
        }  # fmt: skip
        for number in range(count):
            picture = shot.footage.frame(painter, gaps * number / (count - 1))
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    temporary.replace(path)


def _check(videos: int, height: int, width: int, fps: float, seconds: float) -> None:
    problems = []
    if videos < 1:
        problems.append(f"videos is {videos}: at least 1")
    if height < 32 or height % 2:
        problems.append(f"height is {height}: an even number from 32 on (H.264 halves the colours)")
    if width < height or width % 2:
        problems.append(f"width is {width}: an even number, at least the height ({height})")
    if not fps > 0 or not seconds > 0 or round(seconds * fps) < 1:
        problems.append(f"{seconds} seconds at {fps} frames per second are less than two frames")
    if problems:
        raise ProbesError(
            "these clips cannot be made: " + "; ".join(problems),
            where="probes data egoworld",
            fix="see `probes data egoworld --help`",
        )


def _write(path: Path, value: object) -> None:
    atomic_write(path, (json.dumps(value, indent=1) + "\n").encode())
