"""Records with a planted truth, for tests of what is made from records."""

import dataclasses
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from probes.records.schema import Record

ARMS = ("baseline", "vcot", "visual_perturbation", "text_perturbation", "blind")


def record(item, arm="baseline", role="image", correct=True, **changes):
    """One record of item number `item` (of five options, key at item % 5)."""
    answer = changes.pop("answer", item % 5)
    choice = answer if correct else (item + 1) % 5
    if answer is None:
        choice, correct = item % 5, None
    scores = [-3.0] * 5
    scores[choice] = -1.0
    fields = {
        "key": f"{arm}-{role}-{item}-{changes.get('frames', 5)}-{changes.get('donor_id')}",
        "task": "egoworld", "item_id": f"q{item}", "cluster": f"r{item // 2}",
        "stratum": f"s{item % 3}", "pair": "tiny", "role": role, "member": f"tiny-{role}",
        "arm": arm, "frames": 5, "scoring": "cloze", "seed": 0, "donor_id": None, "status": "ok",
        "choice": choice, "answer": answer, "correct": correct, "option_logprobs": tuple(scores),
        "option_tokens": (1, 1, 1, 1, 1), "text": "", "error": "", "input_tokens": 10,
        "output_tokens": 0, "seconds": 0.1,
        "stimulus_sha": f"{arm}-{item}-{changes.get('frames', 5)}-{changes.get('donor_id')}",
    }  # fmt: skip
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
    names = [field.name for field in dataclasses.fields(Record)]
    kinds = {"choice": pa.int64(), "answer": pa.int64(), "correct": pa.bool_(),
             "option_logprobs": pa.list_(pa.float64()), "option_tokens": pa.list_(pa.int64()),
             "donor_id": pa.string()}  # fmt: skip
    columns = {name: [getattr(one, name) for one in records] for name in names}
    table = pa.table({name: pa.array(columns[name], kinds.get(name)) for name in names})
    pq.write_table(table, folder / "records.parquet")
    if config is not None:
        (folder / "manifest.json").write_text(json.dumps({"config": config}), "utf-8")
    if items is not None:
        text = pa.string()
        schema = pa.schema([
            ("id", text), ("task", text), ("question", text), ("options", pa.list_(text)),
            ("answer", pa.int64()),
            ("media_sha256", text), ("frame_hashes", pa.map_(text, pa.list_(text))),
        ])  # fmt: skip
        pq.write_table(pa.Table.from_pylist(items, schema), folder / "items.parquet")
    return folder


def item(number, media="m", hashes=("a", "b"), options=5, question="what?"):
    """A row of items.parquet."""
    return {
        "id": f"q{number}", "task": "egoworld", "question": question,
        "options": [str(i) for i in range(options)], "answer": number % 5,
        "media_sha256": f"{media}{number}",
        "frame_hashes": [("5", list(hashes))],
    }  # fmt: skip
