"""What was fetched is what was published, and layouts that say so hold just that."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hub_layouts import published
from hub_layouts.build import LAYOUTS, PUBLISHED, build

pytestmark = pytest.mark.slow


def template_of(folder: Path) -> str:
    """Return the chat template that a processor of transformers reads in a folder."""
    if (file := folder / "chat_template.jinja").exists():
        return file.read_text("utf-8")
    if (file := folder / "chat_template.json").exists():
        return str(json.loads(file.read_text("utf-8"))["chat_template"])
    config = json.loads((folder / "tokenizer_config.json").read_text("utf-8"))
    return str(config["chat_template"])


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_layouts_template_is_the_published_one(name: str, tmp_path: Path) -> None:
    assert name in LAYOUTS
    found = template_of(build(name, tmp_path))
    assert found == published.template(*PUBLISHED[name])


def test_two_packages_publish_the_same_templates() -> None:
    for trl, xinference in (
        ("qwen2_5_vl", "qwen2.5-vl-instruct"),
        ("qwen3_vl", "Qwen3-VL-Instruct"),
        ("gemma3", "gemma-3-it"),
    ):
        assert published.template("trl", trl) == published.template("xinference", xinference)


def test_a_file_that_is_not_the_pinned_one_is_fetched_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(published.VOCABULARIES, str(tmp_path))
    path = published.path_of("trl", "trl/chat_templates/gemma3.jinja")
    right = path.read_text()
    path.write_text("changed")
    assert published.template("trl", "gemma3") == right
