"""Made runs with a manifest and infills, and a parser that checks a page."""

from __future__ import annotations

import base64
import hashlib
import html.parser
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import made_records
import pyarrow as pa
import pyarrow.parquet as pq

from probes.records import schema
from probes.records.schema import InfillRow, Record

VOID = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "wbr"}
CAVEAT = "These numbers are made up."


def facts(role: str, **changes: Any) -> dict[str, Any]:
    """What a backend states about a member."""
    return {
        "backend": "hf",
        "adapter": "hf-2",
        "fingerprint": f"print of {role}",
        "repo": f"r/{role}",
        "commit": "",
        "config_sha256": f"config of {role}",
        "tokenizer_sha256": "t",
        "processor_sha256": "p",
        "chat_template_sha256": "c",
        "tokens_per_frame": 4,
        **changes,
    }


def manifest(
    frame_as: str = "video", roles: Sequence[str] = ("image", "video"), **changes: Any
) -> dict[str, Any]:
    """A manifest as `probes run` writes it, as far as a report reads it."""
    members = [
        {"name": f"tiny-{role}", "role": role, "repo": f"r/{role}", "frame_as": frame_as}
        for role in roles
    ]
    return {
        "git": "abc",
        "dirty": False,
        "packages": {"torch": "2"},
        "device": "a machine",
        "config": {
            "pair": {"name": "tiny", "caveat": CAVEAT, "members": members},
            "frames": [5],
            "infill": {"source": "shared"},
        },
        "members": {f"tiny-{role}": facts(role, frame_as=frame_as) for role in roles},
        "seeds": {"run": 0},
        **changes,
    }


def infill(item: int, text: str = "something", leaks: Sequence[int] = (), **changes: Any) -> Any:
    """A row of infills.parquet."""
    return {
        "role": "shared",
        "frames": 5,
        "item_id": f"q{item}",
        "gap": 0,
        "frame_a": "a",
        "frame_b": "b",
        "text": text,
        "common": "",
        "event": "",
        "generator": "g",
        "ok": bool(text),
        "error": "",
        "leaks": list(leaks),
        "status": "ok" if text else "failed",
        **changes,
    }


def write(
    folder: Path,
    records: Iterable[Record],
    manifest: Mapping[str, Any] | None = None,
    infills: Sequence[Mapping[str, Any]] = (),
) -> Path:
    """Write a run's folder; infills without a status as older versions wrote them."""
    made_records.write_run(folder, list(records))
    if manifest is not None:
        (folder / "manifest.json").write_text(json.dumps(manifest), "utf-8")
    if infills:
        columns = schema.arrow_schema(InfillRow)
        if "status" not in infills[0]:
            columns = columns.remove(columns.get_field_index("status"))
        table = pa.Table.from_pylist(list(infills), columns)
        pq.write_table(table, folder / "infills.parquet")
    return folder


class Page(html.parser.HTMLParser):
    """A page as a browser would parse it; what is malformed is in `wrong`."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.wrong: list[str] = []
        self.text = ""
        self.code: list[str] = []
        self._open: list[str] = []
        self._script = False
        self.feed(text)
        self.close()
        self.wrong += [f"never closed: {tag}" for tag in self._open]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        if len(set(names)) < len(names):
            self.wrong.append(f"an attribute twice: {tag} {names}")
        if "p" in self._open and tag in ("p", "ul", "ol", "table", "div", "section", "figure"):
            self.wrong.append(f"{tag} within p")
        self.tags.append((tag, dict(attrs)))
        self._script = tag == "script" and not attrs
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        self._script = False
        if not self._open or self._open.pop() != tag:
            self.wrong.append(f"closed out of order: {tag} at {self.getpos()}")

    def handle_data(self, data: str) -> None:
        if self._script:
            self.code.append(data)
        self.text += data

    def values(self, *names: str) -> list[str]:
        """All values of attributes of these names."""
        return [
            value or "" for _, attrs in self.tags for name, value in attrs.items() if name in names
        ]

    @property
    def ids(self) -> list[str]:
        return self.values("id")


def check(text: str) -> Page:
    """Parse a page and check that it is well formed, loads nothing and runs only its own code.

    Returns:
        The page.
    """
    page = Page(text)
    assert page.wrong == []
    assert len(set(page.ids)) == len(page.ids)
    outside = page.values("src", "href", "action", "poster", "data", "srcset", "formaction")
    assert all(one.startswith(("#", "data:")) for one in outside)
    assert not [one for one in page.values("href") if one[1:] not in page.ids and one != "#"]
    assert not [name for _, attrs in page.tags for name in attrs if name.startswith("on")]
    assert not {"iframe", "object", "embed", "base", "link"} & {tag for tag, _ in page.tags}
    for css in re.findall(r"<style>(.*?)</style>", text, re.DOTALL):
        assert "@import" not in css
        assert "url(" not in css
    metas = [attrs for tag, attrs in page.tags if tag == "meta"]
    # Only the encoding may precede it: a policy applies from its place on.
    assert "charset" in metas[0]
    assert metas[1]["http-equiv"] == "Content-Security-Policy"
    rules = dict(rule.split(" ", 1) for rule in (metas[1]["content"] or "").split("; "))
    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == "'none'"
    assert rules["img-src"] == "data:"
    hashes = [
        f"'sha256-{base64.b64encode(hashlib.sha256(one.encode()).digest()).decode()}'"
        for one in page.code
    ]
    assert rules["script-src"] == (" ".join(hashes) or "'none'")
    return page
