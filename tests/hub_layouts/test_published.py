"""What was fetched is what was published, and layouts that say so hold just that."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
from tokenizers import Tokenizer
from transformers.convert_slow_tokenizer import bytes_to_unicode

from hub_layouts import packed, published
from hub_layouts.build import LAYOUTS, PUBLISHED, build
from hub_layouts.vocabularies import llama_tokenizer

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


def test_a_sentencepiece_model_becomes_the_same_tokens() -> None:
    sentencepiece = pytest.importorskip("sentencepiece")
    path = published.path_of("mistral-common", "mistral_common/data/tokenizer.model.v1")
    own = sentencepiece.SentencePieceProcessor(model_file=str(path))
    made = Tokenizer.from_str(json.dumps(llama_tokenizer([], packed.sentencepiece(path))))
    for text in (
        __doc__,
        "What happens?\nA. it rains\n\n  B. café 東京 🙂 <0x0A>",
        " a" * 3 + "  b",
    ):
        assert made.encode(text, add_special_tokens=False).ids == own.encode(text)


def test_nemos_vocabulary_is_that_of_mistral_small() -> None:
    """Tokens that are no text have other names; `mistral.py` renames them."""
    path = published.path_of("mistral-common", "mistral_common/data/tekken_240911.json")
    letters = bytes_to_unicode()
    pieces = [
        "".join(letters[byte] for byte in base64.b64decode(one["token_bytes"]))
        for one in json.loads(path.read_text("utf-8"))["vocab"]
    ]
    content = json.loads((published.npm_files("mistral_nemo") / "tokenizer.json").read_text())
    by_id = {at: text for text, at in content["model"]["vocab"].items()}
    assert [by_id[at] for at in range(1000, 131072)] == pieces[: 131072 - 1000]
