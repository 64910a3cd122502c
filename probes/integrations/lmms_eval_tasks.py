"""What our own lmms-eval tasks share: docs made from items, and scoring that never guesses.

lmms-eval loads a task's `utils.py` by its path, once per function that the YAML names; this module
is imported once. Docs hold paths and text only: pictures are read when they are needed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from probes.config.prompts import prompt_set
from probes.core.errors import ProbesError
from probes.core.types import Arm, Clip, Item, Part, Video
from probes.stimuli import answers, arms
from probes.stimuli.arms import StimulusForm, StimulusSources
from probes.tasks.lmms_eval.adapter import Doc

if TYPE_CHECKING:
    from datasets import Dataset


def dataset(read: Callable[[], Sequence[Item]]) -> Dataset:
    """Return the docs of a task.

    lmms-eval tries five times to load a task, every two seconds, and then exits with code 0. A
    SystemExit is not caught: its message is printed at once, and the exit code is 1.

    Args:
        read: returns the items, all of them with an answer.

    Raises:
        SystemExit: `read` finds something wrong.
    """
    from datasets import Dataset

    try:
        items = read()
    except ProbesError as error:
        raise SystemExit(str(error)) from error
    return Dataset.from_list([_doc(item) for item in items])


def _doc(item: Item) -> dict[str, Any]:
    if item.answer is None:
        raise ValueError(f"item {item.id} has no answer")
    return {
        "id": item.id,
        "question": item.question,
        "options": list(item.options),
        "answer": item.answer,
        "target": answers.LETTERS[item.answer],
        # As text: tables of `datasets` hold no paths.
        "media": str(item.media.path),
        "stratum": item.stratum,
        "cluster": item.cluster,
    }


def parts(doc: Doc, frames: Sequence[str], options: Sequence[str] = ()) -> tuple[Part, ...]:
    """Return what this harness shows of a doc in its baseline arm under `scoring=generate`.

    Args:
        doc: the doc of the question.
        frames: names of the frames, or of the clip as one.
        options: names of the options' pictures, where options are pictures.
    """
    # Neither frame numbers nor times are shown: any will do.
    clip = Clip(tuple(range(len(frames))), (0.0,) * len(frames), tuple(frames), tuple(options))
    media = Video(Path(doc["media"]))
    asked = Item(doc["id"], "", doc["question"], tuple(doc["options"]), doc["answer"], media)
    form = StimulusForm(prompt_set("default"), "generate")
    return arms.build(asked, Arm("baseline"), StimulusSources(clip), form).parts


def messages(shown: Sequence[Part], media: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return parts as one message of a user.

    Args:
        shown: texts, and references to what `media` holds.
        media: `{"type": ..., "url": ...}` by name of frame or clip.
    """
    content = [
        {"type": "text", "text": part} if isinstance(part, str) else media[part.sha256]
        for part in shown
    ]
    return [{"role": "user", "content": content}]


def process_results(doc: Doc, results: Sequence[str]) -> dict[str, float]:
    """Score a reply: right only where it names the right option, else wrong; nothing is guessed.

    Returns:
        `accuracy` and `unparsed`, each 0 or 1.
    """
    choice = answers.parse(results[0], doc["options"])
    return {"accuracy": float(choice == doc["answer"]), "unparsed": float(choice is None)}
