"""What the item browser shows, as one compact JSON text.

Texts, frames and stimuli are in tables of their own and are referred to by index, so that what is
shown a hundred times is written once. The shape, with -1 for none:

- `texts`: strings. `frames`: [sha256, name of a run folder that holds it (text)].
- `stimuli`: `{"p": parts}`, where a part >= 0 is a frame and -1 - t is text t; with `s`, each
  picture's index in the clip, or `composite`, where the first picture is composed of the clip's;
  and `b`, the bare gaps as [parts before or -1, gap, reason (text)];
  or `{"x": why it is not known (text)}`.
- `views`: one per pair, task, scoring, setting and seed: label, members, arms, frame counts.
- `items`: `id task q o a s c m media`, `op`: the options' pictures (frames), and `v`: view ->
  frame count -> arm -> member -> answers, each `[stimulus, donor (text), status, choice, correct,
  probabilities, margin, reply (text), error (text), rotation]`, and where the answer has extras, a
  list of them as [name (text), number as it is shown].
"""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from probes.analysis.tables import TableRow
from probes.core.types import ROLES, Arm, ClipKey, FrameRef, Item, ItemKey
from probes.records.run_folder import RunFiles
from probes.report.frame_images import FrameFile
from probes.report.shortening import without_folders
from probes.report.stimuli import Rebuilder, ShownStimulus, ShownTrial

if TYPE_CHECKING:
    import pandas as pd

_VIEW = ("pair", "task", "scoring", "setting", "seed")
_STATUSES = ("ok", "unparsed", "error")
_COLUMNS = (
    "pair task scoring setting seed run item_id cluster stratum role member arm frames donor_id "
    "status choice answer correct option_logprobs option_tokens text error stimulus_sha rotation "
    "extras donor_task infill_draw fillers"
).split()
_TRIAL = tuple(field.name for field in fields(ShownTrial))
_LEAST_ANSWER = 30  # characters that an answer takes at least

View = tuple[Any, ...]
Runs = Mapping[str, RunFiles]
"""Files of each run by its folder, as the column `run` of a frame names it."""


@dataclass(frozen=True, slots=True)
class BrowserData:
    """The browser's content without its pictures."""

    json: str
    """ASCII; safe inside a script element."""
    frames: tuple[FrameFile, ...]
    """Frames that occur in stimuli, in the order of the items."""
    items: int
    """Items in it."""
    left_out: int
    """Items that would have made the page too large."""
    checked: int
    """Different stimuli that were made again and have the hash in the records."""
    unknown: Mapping[str, int]
    """Number of answers whose stimulus is not known, by reason."""


def assemble(runs: Runs, frame: pd.DataFrame, budget: int) -> BrowserData:
    """Return what the browser shows.

    Args:
        runs: the runs' files; records of other runs are ignored.
        frame: records, as `probes.load` returns them.
        budget: characters of JSON; items beyond it are left out, the last ones of each task first.
    """
    rows, known = _rows(frame, runs, budget // _LEAST_ANSWER)
    content = _Content(runs, rows)
    by_item: dict[tuple[str, str, Item | None], list[TableRow]] = defaultdict(list)
    for row in rows:
        item = runs[row["run"]].items.get(ItemKey(row["task"], row["item_id"]))
        by_item[row["task"], row["item_id"], item].append(row)
    items: list[str] = []
    size = 0
    for (_, _, item), answers in by_item.items():
        text = _dump(content.item(item, answers))
        size += len(text)
        # One item is shown however small the budget is.
        if items and size + content.size > budget:
            break
        items.append(text)
    tables = content.tables()
    return BrowserData(
        json=_safe(f'{tables[:-1]},"items":[{",".join(items)}]}}'),
        frames=tuple(content.frames.items()),
        items=len(items),
        left_out=max(known, len(by_item)) - len(items),
        checked=content.checked,
        unknown=content.unknown,
    )


def _rows(frame: pd.DataFrame, runs: Runs, most: int) -> tuple[list[TableRow], int]:
    """Return the first items' records, about `most`, and how many items there are in all.

    Tasks take turns, so that of several tasks each has some of its items among the first.
    """
    import pandas as pd
    import pyarrow as pa

    from probes.analysis.margins import margins

    frame = frame[frame["run"].isin(list(runs))]
    if frame.empty:
        return [], 0
    items = frame.groupby(["task", "item_id"], sort=False)["key"].size()
    turn = items.groupby(level="task", sort=False).cumcount().to_numpy()
    chosen = items.iloc[turn.argsort(kind="stable")].cumsum()
    # Less the first, which stays even if it alone exceeds the limit.
    chosen = chosen[chosen - chosen.iloc[0] < most]
    position = pd.Series(range(len(chosen)), index=chosen.index)
    order = position.reindex(pd.MultiIndex.from_frame(frame[["task", "item_id"]])).to_numpy()
    # NaN, which is not equal to itself, marks rows of items that were not chosen.
    frame = frame[order == order].iloc[order[order == order].argsort(kind="stable")]
    # Arrow gives None for every kind of missing value, and plain Python numbers.
    columns = {name: pa.array(frame[name].array, from_pandas=True) for name in _COLUMNS}
    rows: list[TableRow] = pa.table(columns | {"margin": margins(frame)}).to_pylist()
    return rows, len(items)


class _Numbered(dict[str, int]):
    """Texts with their index, in the order in which they were first asked for."""

    size = 0
    """Characters of JSON that they take as strings."""

    def __missing__(self, text: str) -> int:
        self[text] = len(self)
        self.size += len(_dump(text)) + 1
        return self[text]


class _Content:
    """The tables, which are filled item by item."""

    def __init__(self, runs: Runs, rows: Sequence[TableRow]) -> None:
        self.frames: dict[str, Path] = {}
        self.unknown: Counter[str] = Counter()
        self.checked = 0
        self._runs = runs
        self._texts, self._frame_numbers, self._stimuli = _Numbered(), _Numbered(), _Numbered()
        self._rebuilders = {run: Rebuilder(files) for run, files in runs.items()}
        by_view: dict[View, list[TableRow]] = defaultdict(list)
        for row in rows:
            by_view[_view(row)].append(row)
        self._heads = {
            view: _head(view, by_view[view], runs, len({other[-1] for other in by_view}) > 1)
            for view in sorted(by_view, key=lambda view: tuple(map(str, view)))
        }
        self._numbers = {view: str(number) for number, view in enumerate(self._heads)}

    @property
    def size(self) -> int:
        """Characters of JSON that the tables take, about."""
        return self._texts.size + self._stimuli.size + 75 * len(self.frames)

    def tables(self) -> str:
        """Return all tables except the items as a JSON object."""
        frames = [[sha, self._texts[path.parent.parent.name]] for sha, path in self.frames.items()]
        views = list(self._heads.values())
        tables = {"views": views, "frames": frames, "texts": list(self._texts)}
        return f'{_dump(tables)[:-1]},"stimuli":[{",".join(self._stimuli)}]}}'

    def item(self, item: Item | None, rows: Sequence[TableRow]) -> dict[str, Any]:
        """Return an item with all answers to it."""
        first = rows[0]
        files = self._runs[first["run"]]
        clip = files.clips.get(ClipKey(first["task"], first["item_id"], first["frames"]))
        option_pictures = clip.options if clip else ()
        answers: dict[str, dict[str, list[list[list[Any]]]]] = defaultdict(dict)
        for row in rows:
            head, number = self._heads[_view(row)], self._numbers[_view(row)]
            roles = [role for role, _ in head["members"]]
            arms = [arm["name"] for arm in head["arms"]]
            empty: list[list[list[Any]]] = [[[] for _ in roles] for _ in arms]
            by_arm = answers[number].setdefault(str(row["frames"]), empty)
            by_arm[arms.index(row["arm"])][roles.index(row["role"])].append(self._answer(row))
        return {
            "id": first["item_id"],
            "task": first["task"],
            "q": item.question if item else "",
            "o": list(item.options) if item else [],
            "a": first["answer"],
            "s": first["stratum"] or "",
            "c": first["cluster"] or "",
            "m": [list(pair) for pair in item.meta] if item else [],
            "media": without_folders(str(item.media.path)) if item else "",
            "op": [self._frame(sha, files) for sha in option_pictures],
            "v": answers,
        }

    def _answer(self, row: TableRow) -> list[Any]:
        def text(value: str | None) -> int:
            return self._texts[value] if value else -1

        trial = ShownTrial(**{name: row[name] for name in _TRIAL})
        shown = self._rebuilders[row["run"]].rebuild(trial)
        if shown.problem is not None:
            self.unknown[without_folders(shown.problem)] += 1
        margin = row["margin"]
        extras = [[text(name), f"{value:.6g}"] for name, value in row["extras"] or ()]
        return [
            self._stimulus(shown, self._runs[row["run"]]),
            text(_donor(row)),
            _STATUSES.index(row["status"]),
            -1 if row["choice"] is None else row["choice"],
            -1 if row["correct"] is None else int(row["correct"]),
            probabilities(row["option_logprobs"], row["option_tokens"], row["scoring"]),
            # JSON has no NaN, and `_dump` refuses it.
            round(margin, 4) if math.isfinite(margin) else None,
            text(row["text"]),
            text(without_folders(row["error"] or "")),
            row["rotation"],
            *([extras] if extras or row["infill_draw"] else []),
            *([row["infill_draw"]] if row["infill_draw"] else []),
        ]

    def _stimulus(self, shown: ShownStimulus, files: RunFiles) -> int:
        content: dict[str, Any] = {}
        if shown.problem is not None:
            content["x"] = self._texts[without_folders(shown.problem)]
        else:
            content["p"] = [
                self._frame(part.sha256, files)
                if isinstance(part, FrameRef)
                else -1 - self._texts[part]
                for part in shown.parts
            ]
            content |= {"composite": 1} if shown.composite else {"s": list(shown.slots)}
            if shown.bare_gaps:
                gaps = shown.bare_gaps
                content["b"] = [[gap.after, gap.gap, self._texts[gap.reason]] for gap in gaps]
        text = _dump(content)
        # Counted when first seen, as the page states different stimuli.
        self.checked += shown.problem is None and text not in self._stimuli
        return self._stimuli[text]

    def _frame(self, sha: str, files: RunFiles) -> int:
        self.frames.setdefault(sha, files.frame(sha))
        return self._frame_numbers[sha]


def probabilities(
    logprobs: Sequence[float] | None, tokens: Sequence[int] | None, scoring: str
) -> list[float] | None:
    """Return the probabilities of the options among themselves.

    Args:
        logprobs: sums of token log-probabilities, one per option.
        tokens: number of tokens of each option.
        scoring: under `cloze`, means per token are compared, else sums.

    Returns:
        Softmax, to four places; None where options were not scored.
    """
    scores = list(logprobs or ())
    if scoring == "cloze":
        if tokens is None or len(tokens) != len(scores) or min(tokens, default=0) < 1:
            return None
        scores = [total / count for total, count in zip(scores, tokens, strict=True)]
    # One -inf is a probability of 0; if all are, there is nothing to divide by.
    if not scores or any(math.isnan(score) for score in scores) or math.isinf(max(scores)):
        return None
    # Less the greatest, or exponentials of long options would all vanish.
    weights = [math.exp(score - max(scores)) for score in scores]
    return [round(weight / sum(weights), 4) for weight in weights]


def _donor(row: TableRow) -> str | None:
    # The page finds a donor by its id among the items of a view, which are of one task.
    other = row["donor_task"]
    return f"{row['donor_id']} of task {other}" if other else row["donor_id"]


def _view(row: TableRow) -> View:
    return tuple(row[name] for name in _VIEW)


def _head(view: View, rows: Sequence[TableRow], runs: Runs, seeds_differ: bool) -> dict[str, Any]:
    """Return a view's label, members, arms and frame counts."""
    *names, seed = view
    files = [runs[run] for run in dict.fromkeys(row["run"] for row in rows)]
    known: dict[str, Arm] = {}
    for one in files:
        known |= one.arms
    asked = dict.fromkeys(row["arm"] for row in rows)
    # In the suite's order, those not in the suite last.
    arms = sorted(asked, key=[*known, *asked].index)
    members = {row["role"]: row["member"] for row in rows}
    pair = files[0].config.get("pair")
    return {
        "label": " · ".join(filter(None, [*names, f"seed {seed}" if seeds_differ else ""])),
        "scoring": rows[0]["scoring"],
        "prefix": str(pair.get("answer_prefix") or "") if isinstance(pair, dict) else "",
        "members": [[role, members[role]] for role in sorted(members, key=ROLES.index)],
        "arms": [_arm(name, known.get(name)) for name in arms],
        "frames": sorted({row["frames"] for row in rows}),
    }


def _arm(name: str, arm: Arm | None) -> dict[str, str]:
    facts = ("frames", "infills", "presentation", "reference") if arm else ()
    return {"name": name} | {fact: getattr(arm, fact) for fact in facts}


def _dump(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), allow_nan=False)


def _safe(text: str) -> str:
    """Return JSON that no HTML parser reads as markup; to a JSON parser it is the same."""
    # `</script>` or `<!--` in a question would end the element or change how it is read.
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text
