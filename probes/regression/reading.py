"""Reading a baseline: every part of the file is checked before any of it is used."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from pathlib import Path
from typing import Any, TypeVar, get_args

from probes.core.errors import ProbesError
from probes.core.types import Status
from probes.regression import baseline
from probes.regression.baseline import Baseline, Metric, MetricFamily, usual_families
from probes.regression.snapshot import BaselineAnswer, CellAnswers, CellName, ItemFacts, Snapshot

T = TypeVar("T")


def read(path: Path) -> Baseline:
    """Read a baseline and check every part of it.

    Raises:
        ProbesError: it is missing, not JSON, of another version, or damaged.
    """
    try:
        content = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ProbesError(
            f"the baseline cannot be read: {error.strerror}",
            str(path),
            "name another, or write it: probes check RUN --against FILE --update",
        ) from error
    except (ValueError, RecursionError) as error:
        # RecursionError: brackets nested deeper than json can follow.
        raise _refusal(path, f"it is not JSON ({error})") from error
    if not isinstance(content, dict) or content.get("format") != baseline.FORMAT:
        raise _refusal(path, f"its format is not {baseline.FORMAT!r}")
    if content.get("version") != baseline.VERSION:
        raise ProbesError(
            f"the baseline has version {content.get('version')!r}, not {baseline.VERSION}",
            str(path),
            "remove the file and write it anew: probes check RUN --against FILE --update",
        )
    try:
        return _parse(content)
    except _DamageError as damage:
        raise _refusal(path, str(damage)) from damage


def _refusal(path: Path, why: str) -> ProbesError:
    return ProbesError(
        f"the baseline is damaged: {why}",
        str(path),
        "restore the file from version control, or remove it and write it anew with --update",
    )


class _DamageError(Exception):
    """What is wrong with a baseline, and where in it."""


def _parse(content: Mapping[str, Any]) -> Baseline:
    items = tuple(_each(content, "items", _item))
    cells = tuple(_each(content, "cells", _cell))
    _require_consistent(items, cells)
    bands, families = _bands(content, {cell.name for cell in cells})
    tolerance = _number(content, "tie_tolerance")
    snapshot = Snapshot(
        created=_get(content, "created", str),
        git=_get(content, "git", str),
        platform=_texts(content, "platform"),
        settings=_get(content, "asked", dict),
        origins=_origins(content),
        members=_texts(content, "members"),
        references=_texts(content, "references"),
        infill_sources=tuple(str(source) for source in _get(content, "infill_sources", list)),
        items=items,
        cells=cells,
    )
    # Files of older versions, and those in which nobody marked any, have the usual ones.
    families = families or usual_families(bands, snapshot.references)
    return Baseline(snapshot, bands, families, tolerance)


def _require_consistent(items: Sequence[ItemFacts], cells: Sequence[CellAnswers]) -> None:
    _require_distinct("items", [(item.task, item.id) for item in items])
    known = {(item.task, item.id) for item in items}
    _require_distinct("cells", [cell.name for cell in cells])
    for cell in cells:
        _require_distinct(
            f"answers of {cell.name.label}", [answer.answer_key for answer in cell.answers]
        )
        for answer in cell.answers:
            if (cell.name.task, answer.item_id) not in known:
                raise _DamageError(f"{cell.name.label} answers an unknown item {answer.item_id!r}")


def _bands(
    content: Mapping[str, Any], cells: Set[CellName]
) -> tuple[dict[Metric, float], dict[Metric, MetricFamily]]:
    """Return bands and families by metric; what has no family in the file has none here."""
    declared = list(_each(content, "metrics", _metric))
    _require_distinct("metrics", [metric for metric, _, _ in declared])
    bands = {metric: band for metric, band, _ in declared}
    if not bands:
        raise _DamageError("it declares no metric")
    for metric in bands:
        if metric.cell not in cells:
            raise _DamageError(f"it declares {metric.label}, but has no such cell")
    return bands, {metric: family for metric, _, family in declared if family is not None}


def _each(content: Mapping[str, Any], name: str, parse: Callable[[Any], T]) -> Iterator[T]:
    for at, value in enumerate(_get(content, name, list)):
        try:
            yield parse(value)
        except _DamageError as damage:
            raise _DamageError(f"{name}[{at}]: {damage}") from damage
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise _DamageError(f"{name}[{at}]: {type(error).__name__} {error}") from error


def _item(row: Any) -> ItemFacts:
    item = ItemFacts(**dict(zip(baseline.ITEM, row, strict=True)))
    texts = (item.task, item.id, item.cluster, item.stratum, item.content)
    _require_type(str, *texts, *item.frames.values())
    if item.answer is not None:
        _require_type(int, item.answer)
    return item


def _name(row: Mapping[str, Any]) -> CellName:
    name = CellName(*(row[field] for field in CellName._fields))
    _require_type(str, name.task, name.pair, name.scoring, name.role, name.arm)
    _require_type(int, name.frames, name.seed)
    return name


def _cell(row: Any) -> CellAnswers:
    _require_type(str, row["member"])
    return CellAnswers(_name(row), row["member"], tuple(_each(row, "answers", _answer)))


def _answer(row: Any) -> BaselineAnswer:
    names = (*baseline.ANSWER, *(["donor_task"] if len(row) > len(baseline.ANSWER) else ()))
    kept: dict[str, Any] = dict(zip(names, row, strict=True))
    status, choice, tokens = kept["status"], kept["choice"], tuple(kept["tokens"])
    _require_type(str, kept["item_id"], status, kept["key"], kept["stimulus"])
    _require_type((str, type(None)), kept["donor_id"], kept.get("donor_task"))
    _require_type(int, kept["rotation"], *tokens)
    if status not in get_args(Status):
        raise _DamageError(f"the status is {status!r}")
    if (choice is None) == (status == "ok"):
        raise _DamageError(f"status {status} with choice {choice}")
    if choice is not None:
        _require_type(int, choice)
    values = tuple(math.nan if value is None else value for value in kept["logprobs"])
    _require_type((int, float), *values)
    if len(values) != len(tokens) or min(tokens, default=1) < 0:
        raise _DamageError(f"{len(values)} log-probabilities, tokens {list(tokens)}")
    if values and choice is not None and not 0 <= choice < len(values):
        raise _DamageError(f"choice {choice} of {len(values)} options")
    return BaselineAnswer(**{**kept, "logprobs": values, "tokens": tokens})


def _metric(row: Any) -> tuple[Metric, float, MetricFamily | None]:
    measure = row.get("measure", "accuracy")
    _require_type(str, measure)
    names = baseline.NAMES if measure == "accuracy" else baseline.OTHER_NAMES
    if row["name"] not in names:
        raise _DamageError(f"there is no metric {row['name']!r}; there are {', '.join(names)}")
    family = row.get("family")
    if family is not None and family not in baseline.FAMILIES:
        raise _DamageError(f"the family is {family!r}, not {', '.join(baseline.FAMILIES)}")
    return Metric(row["name"], _name(row), measure), _number(row, "band"), family


def _require_type(kind: type | tuple[type, ...], *values: Any) -> None:
    for value in values:
        # JSON's true and false are numbers to Python.
        if not isinstance(value, kind) or isinstance(value, bool):
            raise _DamageError(f"{value!r} has the wrong type")


def _require_distinct(what: str, names: list[Any]) -> None:
    if len(set(names)) < len(names):
        twice = next(name for at, name in enumerate(names) if name in names[:at])
        raise _DamageError(f"{what}: {twice} appears twice")


def _get(content: Mapping[str, Any], name: str, kind: type | tuple[type, ...]) -> Any:
    if name not in content:
        raise _DamageError(f"{name} is missing")
    if not isinstance(content[name], kind) or isinstance(content[name], bool):
        raise _DamageError(f"{name} has the wrong type")
    return content[name]


def _texts(content: Mapping[str, Any], name: str) -> dict[str, str]:
    found: dict[str, str] = _get(content, name, dict)
    _require_type(str, *found.values())
    return found


def _origins(content: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    found = _get(content, "origins", dict) if "origins" in content else {}
    for texts in found.values():
        if not isinstance(texts, list):
            raise _DamageError(f"origins: {texts!r} has the wrong type")
        _require_type(str, *texts)
    return {name: tuple(texts) for name, texts in found.items()}


def _number(content: Mapping[str, Any], name: str) -> float:
    value = float(_get(content, name, (int, float)))
    if not math.isfinite(value) or value < 0:
        raise _DamageError(f"{name} is {value}, not a number from 0 up")
    return value
