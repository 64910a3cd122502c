"""Reading a baseline: every part of the file is checked before any of it is used."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from probes.core.errors import ProbesError
from probes.regression.baseline import FORMAT, NAMES, VERSION, Baseline, Metric
from probes.regression.snapshot import BaselineAnswer, CellAnswers, CellName, ItemFacts, Snapshot

STATUSES = ("ok", "unparsed", "error")
T = TypeVar("T")


def read(path: Path) -> Baseline:
    """Read a baseline and check every part of it.

    Raises:
        ProbesError: not there, no JSON, of another version, or damaged.
    """
    try:
        content = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ProbesError(
            f"the baseline cannot be read: {error.strerror}", str(path),
            "name another, or write it: probes check RUN --against FILE --update",
        ) from error  # fmt: skip
    except (ValueError, RecursionError) as error:
        raise _refusal(path, f"it is no JSON ({error})") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise _refusal(path, f"its format is not {FORMAT!r}")
    if content.get("version") != VERSION:
        raise ProbesError(
            f"the baseline has version {content.get('version')!r}, not {VERSION}", str(path),
            "remove the file and write it anew: probes check RUN --against FILE --update",
        )  # fmt: skip
    try:
        return _parse(content)
    except _DamageError as damage:
        raise _refusal(path, str(damage)) from damage


def _refusal(path: Path, why: str) -> ProbesError:
    return ProbesError(
        f"the baseline is damaged: {why}", str(path),
        "restore the file from version control, or remove it and write it anew with --update",
    )  # fmt: skip


class _DamageError(Exception):
    """What is wrong with a baseline, and where in it."""


def _parse(content: Mapping[str, Any]) -> Baseline:
    items = tuple(_each(content, "items", _item))
    known = {(one.task, one.id) for one in items}
    cells = tuple(_each(content, "cells", _cell))
    names = {cell.name for cell in cells}
    _distinct("items", [(one.task, one.id) for one in items])
    _distinct("cells", [cell.name for cell in cells])
    for cell in cells:
        _distinct(f"answers of {cell.name.words}", [one.place for one in cell.answers])
        for answer in cell.answers:
            if (cell.name.task, answer.item_id) not in known:
                raise _DamageError(f"{cell.name.words} answers an unknown item {answer.item_id!r}")
    declared = list(_each(content, "metrics", _metric))
    _distinct("metrics", [metric for metric, _ in declared])
    bands = dict(declared)
    if not bands:
        raise _DamageError("it declares no metric")
    for metric in bands:
        if metric.cell not in names:
            raise _DamageError(f"it declares {metric.words}, but holds no such cell")
    tolerance = _number(content, "tie_tolerance")
    snapshot = Snapshot(
        created=_text(content, "created"),
        git=_text(content, "git"),
        platform=_texts(content, "platform"),
        asked=_mapping(content, "asked"),
        members=_texts(content, "members"),
        references=_texts(content, "references"),
        infill_sources=tuple(str(one) for one in _list(content, "infill_sources")),
        items=items,
        cells=cells,
    )
    return Baseline(snapshot, bands, tolerance)


def _each(content: Mapping[str, Any], name: str, parse: Callable[[Any], T]) -> Iterator[T]:
    for at, one in enumerate(_list(content, name)):
        try:
            yield parse(one)
        except _DamageError as damage:
            raise _DamageError(f"{name}[{at}]: {damage}") from damage
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise _DamageError(f"{name}[{at}]: {type(error).__name__} {error}") from error


def _item(row: Any) -> ItemFacts:
    task, name, cluster, stratum, answer, content, frames = row
    _are(str, task, name, cluster, stratum, content, *frames.values())
    if answer is not None:
        _are(int, answer)
    return ItemFacts(task, name, cluster, stratum, answer, content, frames)


def _name(row: Mapping[str, Any]) -> CellName:
    name = CellName(*(row[field] for field in CellName._fields))
    _are(str, name.task, name.pair, name.scoring, name.role, name.arm)
    _are(int, name.frames, name.seed)
    return name


def _cell(row: Any) -> CellAnswers:
    _are(str, row["member"])
    return CellAnswers(_name(row), row["member"], tuple(_each(row, "answers", _answer)))


def _answer(row: Any) -> BaselineAnswer:
    item, donor, rotation, status, choice, logprobs, tokens, key, stimulus = row
    _are(str, item, status, key, stimulus, *([] if donor is None else [donor]))
    _are(int, rotation)
    if status not in STATUSES:
        raise _DamageError(f"the status is {status!r}")
    if (choice is None) == (status == "ok"):
        raise _DamageError(f"status {status} with choice {choice}")
    if choice is not None:
        _are(int, choice)
    values = tuple(math.nan if one is None else one for one in logprobs)
    _are((int, float), *values)
    _are(int, *tokens)
    if len(values) != len(tokens) or min(tokens, default=1) < 0:
        raise _DamageError(f"{len(values)} log-probabilities, tokens {list(tokens)}")
    if values and choice is not None and not 0 <= choice < len(values):
        raise _DamageError(f"choice {choice} of {len(values)} options")
    return BaselineAnswer(
        item, donor, status, choice, values, tuple(tokens), key, stimulus, rotation
    )


def _metric(row: Any) -> tuple[Metric, float]:
    if row["name"] not in NAMES:
        raise _DamageError(f"there is no metric {row['name']!r}; there are {', '.join(NAMES)}")
    band = _number(row, "band")
    return Metric(row["name"], _name(row)), band


def _are(kind: type | tuple[type, ...], *values: Any) -> None:
    for value in values:
        if not isinstance(value, kind) or isinstance(value, bool):
            raise _DamageError(f"{value!r} is of the wrong kind")


def _distinct(what: str, names: list[Any]) -> None:
    if len(set(names)) < len(names):
        twice = next(one for at, one in enumerate(names) if one in names[:at])
        raise _DamageError(f"{what}: {twice} comes twice")


def _get(content: Mapping[str, Any], name: str, kind: type | tuple[type, ...]) -> Any:
    if name not in content:
        raise _DamageError(f"{name} is missing")
    if not isinstance(content[name], kind) or isinstance(content[name], bool):
        raise _DamageError(f"{name} is of the wrong kind")
    return content[name]


def _list(content: Mapping[str, Any], name: str) -> list[Any]:
    return list(_get(content, name, list))


def _mapping(content: Mapping[str, Any], name: str) -> dict[str, Any]:
    return dict(_get(content, name, dict))


def _texts(content: Mapping[str, Any], name: str) -> dict[str, str]:
    found = _mapping(content, name)
    _are(str, *found.values())
    return found


def _text(content: Mapping[str, Any], name: str) -> str:
    return str(_get(content, name, str))


def _number(content: Mapping[str, Any], name: str) -> float:
    value = float(_get(content, name, (int, float)))
    if not math.isfinite(value) or value < 0:
        raise _DamageError(f"{name} is {value}, not a number from 0 up")
    return value
