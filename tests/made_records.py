"""Records with a planted truth, for tests of whatever reads records."""

import dataclasses
import json

import numpy as np
import pyarrow.parquet as pq

from probes.records import schema
from probes.records.schema import ItemRow, Record

ARMS = ("baseline", "vcot", "visual_perturbation", "text_perturbation", "blind")


def record(item, arm="baseline", role="image", correct=True, **changes):
    """One record of item number `item` (of five options, the right one at item % 5)."""
    answer = changes.pop("answer", item % 5)
    choice = answer if correct else (item + 1) % 5
    if answer is None:
        choice, correct = item % 5, None
    scores = [-3.0] * 5
    scores[choice] = -1.0
    fields = {
        "key": f"{arm}-{role}-{item}-{changes.get('frames', 5)}-{changes.get('donor_id')}",
        "task": "egoworld",
        "item_id": f"q{item}",
        "cluster": f"r{item // 2}",
        "stratum": f"s{item % 3}",
        "pair": "tiny",
        "role": role,
        "member": f"tiny-{role}",
        "arm": arm,
        "frames": 5,
        "scoring": "cloze",
        "seed": 0,
        "donor_id": None,
        "status": "ok",
        "choice": choice,
        "answer": answer,
        "correct": correct,
        "option_logprobs": tuple(scores),
        "option_tokens": (1, 1, 1, 1, 1),
        "text": "",
        "error": "",
        "input_tokens": 10,
        "output_tokens": 0,
        "seconds": 0.1,
        "stimulus_sha": f"{arm}-{item}-{changes.get('frames', 5)}-{changes.get('donor_id')}",
    }
    return Record(**{**fields, **changes})


def bad(item, status, **changes):
    """A record without a parsed answer."""
    made = record(item, correct=False, **changes)
    if status == "error":
        made = dataclasses.replace(made, option_logprobs=(), option_tokens=(), error="broken")
    return dataclasses.replace(made, status=status, choice=None)


def cell(right, arm="baseline", role="image", **changes):
    """One record per entry of `right` (1 or 0)."""
    return [record(i, arm, role, bool(one), **changes) for i, one in enumerate(right)]


def study(items=60, frames=(5, 10), seed=0, arms=ARMS, roles=("image", "video")):
    """Both members under every arm; the image member gains from vcot, the video member does not."""
    rng = np.random.default_rng(seed)
    truth = {"baseline": 0.4, "vcot": 0.7, "visual_perturbation": 0.3, "blind": 0.2}
    out = []
    for count in frames:
        for role in roles:
            for arm in arms:
                chance = truth.get(arm, 0.45) if role == "image" else 0.6
                out += cell(rng.random(items) < chance, arm, role, frames=count)
    return out


def write_run(folder, records, config=None, items=None):
    """Write a run folder as `probes run` does; the manifest only where a configuration is given."""
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(schema.to_table(records, Record), folder / "records.parquet")
    if config is not None:
        (folder / "manifest.json").write_text(json.dumps({"config": config}), "utf-8")
    if items is not None:
        pq.write_table(schema.to_table(items, ItemRow), folder / "items.parquet")
    return folder


def item(number, media="m", hashes=("a", "b"), options=5, question="what?"):
    """The row of items.parquet for item number `number`."""
    return ItemRow(
        id=f"q{number}",
        task="egoworld",
        question=question,
        options=tuple(str(i) for i in range(options)),
        answer=number % 5,
        stratum="",
        cluster="",
        media_path="",
        media_sha256=f"{media}{number}",
        frame_hashes={"5": tuple(hashes)},
        option_hashes=(),
        breaks=(),
        meta={},
    )
