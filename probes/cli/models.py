"""`probes models`: which classes can be run, how, and which were checked against transformers."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from typing import Any

COLUMNS = ("class", "family", "model types", "frame_as", "frames once", "batches", "checked")
RESULTS = "checked_classes.json"
"""Written by tests/models/hf/check_classes.py, never by hand."""
_SCORINGS = "letter, cloze, generate"


def main(arguments: Sequence[str]) -> int:
    """Run `probes models` with these arguments and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="probes models",
        description="List the classes of transformers that can be run: how they receive a frame, "
        "whether frames are encoded once and prompts run in batches, whether interventions work, "
        "and whether ids, option scores and greedy text were compared with the class run by "
        "transformers alone, on a tiny checkpoint with the class's own processor.",
        epilog="Unchecked classes are run by their own processor and forward pass, and what they "
        "allow is found out when one is loaded; docs/own_pair.md says how.",
    )
    parser.add_argument("--json", action="store_true", help="print JSON, not a table")
    parser.add_argument("--checked", action="store_true", help="only classes that were checked")
    given = parser.parse_args(arguments)
    found = [one for one in rows() if one["checked"] or not given.checked]
    if given.json:
        print(json.dumps(found, indent=2))
        return 0
    table = [
        COLUMNS,
        *(
            tuple(
                _shown(one[name.replace(" ", "_")])
                + "*" * (name == "checked" and one["checked"] and one["template"] == "rebuilt")
                for name in COLUMNS
            )
            for one in found
        ),
    ]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for line in table:
        print(
            "  ".join(f"{text:<{width}}" for text, width in zip(line, widths, strict=True)).rstrip()
        )
    checked = [one for one in found if one["checked"]]
    published = sum(one["template"] == "published" for one in checked)
    print(
        f"\nscoring: {_SCORINGS} for all; interventions: all but family fallback\n"
        f"checked: {len(checked)} classes equal transformers {results()['transformers']} (ids; "
        "option scores by letter and cloze within 1e-3 in float32; greedy text), "
        f"{sum(bool(one['frames_once']) for one in checked)} of them with frames encoded once; "
        f"{published} with the chat template and vocabulary that were published, the others (yes*) "
        "with a template rebuilt from transformers' conversion scripts and tests"
    )
    for one in checked:
        for difference in one["differs"]:
            print(f"unlike the class: {one['family']}: {difference}")
    return 0


def results() -> dict[str, Any]:
    """Return what the comparison with transformers alone wrote."""
    text = (resources.files("probes.models.hf.families") / RESULTS).read_text("utf-8")
    found: dict[str, Any] = json.loads(text)
    return found


def rows() -> Iterator[dict[str, Any]]:
    """Yield one row for every class: those with a family first, then the others by name."""
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES as CLASSES,
    )

    from probes.models.hf.families import FAMILIES, UNREADABLE
    from probes.models.hf.families.generic import READING_PARTS, GenericFamily

    checked: Mapping[str, Any] = results()["classes"]
    types: dict[str, list[str]] = {}
    for model_type, kind in CLASSES.items():
        types.setdefault(kind, []).append(model_type)
    for whole, part in READING_PARTS.items():
        types[CLASSES[part]].append(whole)
    generic, own = GenericFamily(), set[str]()
    for name in FAMILIES.names():
        family = FAMILIES.get(name, "")
        if isinstance(family, GenericFamily):
            continue
        own |= set(family.architectures)
        # A family on request names no class: of it, those that were compared are known.
        compared = [key.partition(":")[2] for key in checked if key.startswith(f"{name}:")]
        for kind in family.architectures or compared or (name,):
            known = checked.get(f"{name}:{kind}")
            yield _row(kind, name, family.model_types, family.paths, known) | {
                "frames_once": True,
                "batches": True,
                "interventions": True,
            }
    for kind, model_types in sorted(types.items()):
        if kind in own or set(model_types) & set(UNREADABLE):
            continue
        paths = generic.paths_of(model_types[0])
        known = checked.get(f"fallback:{kind}")
        yield _row(kind, "fallback", model_types, paths, known)


def _row(
    kind: str,
    family: str,
    model_types: Sequence[str],
    paths: Sequence[str],
    known: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """Return what the table says of a class.

    Args:
        kind: the class.
        family: that runs it.
        model_types: of its configs.
        paths: how it may receive a frame.
        known: what the comparison wrote, by way and repository; None where it was not compared.
    """
    ways = [way for way in paths if known is None or way in known]
    by_way = [known[way].values() for way in ways] if known else []
    found = [one for each in by_way for one in each]
    published = bool(found) and all(any(one["published"] for one in each) for each in by_way)
    return {
        "class": kind,
        "family": family,
        "model_types": list(model_types),
        "frame_as": ways,
        "scorings": _SCORINGS.split(", "),
        "interventions": False,
        # Where nothing was compared it is found out when a checkpoint is loaded.
        "frames_once": all(one["once"] for one in found) if found else None,
        "batches": all(one["batches"] for one in found) if found else None,
        "checked": bool(found) and all(one["equal"] for one in found),
        # With a template of our own making, that of the repository may still be another.
        "template": "published" if published else "rebuilt",
        "differs": sorted({one["differs"] for one in found if one.get("differs")}),
    }


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(value)
    return {True: "yes", False: "no", None: "when loaded"}.get(value, str(value))
