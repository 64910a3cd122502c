"""`probes data egoworld`: clips of the small world in EgoSchema's official layout.

`questions.json`, `subset_answers.json`, `uid_to_ego4d.json` and `videos/<q_uid>.mp4` (H.264). All
stories belong to the evaluation split, whatever the seed. Several clips are cut from one recording:
they share their things and the table, and each begins as the one before it ended.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Sequence
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
class ClipSettings:
    """Which clips to make; equal settings make equal frames and JSON."""

    videos: int
    """Number of clips, one question each."""
    seed: int
    """Any seed gives evaluation stories."""
    height: int = 128
    """Pixels, even, at least 32."""
    fps: float = 4.0
    """Frames per second."""
    seconds: float = 18.0
    """Length of a clip."""
    width: int | None = None
    """Pixels, even, at least `height`; None: as `height`."""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.height, self.height if self.width is None else self.width


@dataclass(frozen=True, slots=True)
class PlannedClip:
    """One clip to be filmed, and its question."""

    uid: str
    recording: str
    number: int
    """Place of the clip within its recording."""
    footage: Footage
    question: Question
    options: tuple[str, ...]
    answer: int


FilmJob = tuple[PlannedClip, Path, ClipSettings]
"""A clip, the path of its file, and the settings of all clips."""


def make(
    root: Path,
    settings: ClipSettings,
    progress: ReportProgress | None = None,
    *,
    workers: int = 2,
) -> None:
    """Make a data set in EgoSchema's layout.

    Args:
        root: folder; made where it does not exist.
        settings: which clips.
        progress: called with (clips done, clips).
        workers: processes that film; they change nothing but the time it takes.

    Raises:
        ProbesError: such clips cannot be made.
    """
    _check(settings)
    clips = list(_plan(load_world(), settings.videos, settings.seed))
    (root / "videos").mkdir(parents=True, exist_ok=True)
    jobs = [(clip, root / "videos" / f"{clip.uid}.mp4", settings) for clip in clips]
    for done, _ in enumerate(_filmed(jobs, workers), 1):
        if progress:
            progress(done, settings.videos)
    _write(root / "uid_to_ego4d.json", {clip.uid: _source(clip, settings) for clip in clips})
    _write(root / "subset_answers.json", {clip.uid: clip.answer for clip in clips})
    # Last: a folder with questions.json is complete.
    _write(root / "questions.json", [_question(clip) for clip in clips])


def _filmed(jobs: Sequence[FilmJob], workers: int) -> Iterator[None]:
    """Film clips, yielding after each of them; few clips are not worth starting processes."""
    if workers > 1 and len(jobs) > 8:
        with ProcessPoolExecutor(workers, initializer=serve_parent) as pool:
            yield from pool.map(_film, jobs, chunksize=4)
    else:
        yield from map(_film, jobs)


def _question(clip: PlannedClip) -> dict[str, str]:
    """Return a clip's entry of questions.json."""
    return {
        "q_uid": clip.uid,
        "google_drive_id": clip.uid,
        "question": clip.question.text,
        **{f"option {i}": text for i, text in enumerate(clip.options)},
        "type": clip.question.kind,
    }


def _source(clip: PlannedClip, settings: ClipSettings) -> dict[str, str | float]:
    """Return a clip's entry of uid_to_ego4d.json."""
    return {
        "video_uid": clip.recording,
        "start_sec": round(clip.number * settings.seconds, 3),
        "end_sec": round((clip.number + 1) * settings.seconds, 3),
    }


def _plan(world: World, videos: int, seed: int) -> Iterator[PlannedClip]:
    """Draw recordings one after another until there are enough clips.

    A recording's content depends on (seed, its number) only. The letters of the right answers and
    the types of question are spread evenly, by the number of the clip.
    """
    recording, index = 0, 0
    letter_rng = np.random.default_rng([seed, 1])
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
            letters = letters or [int(p) for p in letter_rng.permutation(OPTIONS)]
            answer = letters.pop()
            name = sha256_json([seed, recording, number, story.canonical()])
            yield PlannedClip(
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


def _film(job: FilmJob) -> None:
    """Paint and encode one clip."""
    import av

    clip, path, settings = job
    height, width = settings.size
    count = round(settings.seconds * settings.fps) + 1
    gaps = load_world().gaps
    painter = Painter(height, width)
    temporary = path.with_suffix(".part.mp4")
    with av.open(str(temporary), "w", options={"movflags": "faststart"}) as container:
        # One thread, no wall clock in the file, and no code that depends on the CPU: by default
        # x264 rounds as the CPU's vector units do, and another machine would make other pixels
        # (measured: AVX2 against none). With this the same clip is the same bytes everywhere.
        stream = container.add_stream(
            "libx264", rate=Fraction(settings.fps).limit_denominator(1001)
        )
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.thread_count = 1
        stream.options = {
            "crf": "18",
            "preset": "fast",
            "g": "250",
            "x264-params": "cpu-independent=1",
        }
        for number in range(count):
            picture = clip.footage.frame(painter, gaps * number / (count - 1))
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    temporary.replace(path)


def _check(settings: ClipSettings) -> None:
    (height, width), fps, seconds = settings.size, settings.fps, settings.seconds
    problems = []
    if settings.videos < 1:
        problems.append(f"videos is {settings.videos}: at least 1")
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
