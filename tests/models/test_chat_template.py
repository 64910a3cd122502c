"""Whether a chat template keeps the order of pictures and texts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from probes.core.types import ModelSpec
from probes.models import chat_template

ROOT = Path(__file__).resolve().parents[2]
FIRST = (
    "{% for m in messages %}{% for p in m['content'] | selectattr('type', 'equalto', 'image') %}"
    "<image>{% endfor %}{% for p in m['content'] | selectattr('type', 'equalto', 'text') %}"
    "{{ p['text'] }}{% endfor %}{% endfor %}"
)
IN_PLACE = (
    "{{ bos_token }}{% for m in messages %}{% for p in m['content'] %}"
    "{% if p['type'] == 'text' %}{{ p['text'] }}{% else %}<image>{% endif %}"
    "{% endfor %}{% endfor %}"
)


@pytest.mark.parametrize(
    ("template", "order"),
    [
        (FIRST, "moved"),
        (IN_PLACE, "kept"),
        ("{{ messages[0]['content'].nothing() }}", "unknown"),
        ("{{ raise_exception('no') }}", "unknown"),
        ("no messages", "unknown"),
        (None, "unknown"),
    ],
)
def test_the_template_decides_the_order(template: str | None, order: str, tmp_path: Path) -> None:
    if template is not None:
        (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": template}))
    spec = ModelSpec("x", "image", str(tmp_path))
    local = chat_template.Checkpoint(tmp_path, str(tmp_path))
    assert chat_template.order_of_pictures(local, spec) == order


def test_the_template_of_the_docs_keeps_the_order(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "server.md").read_text("utf-8")
    (line,) = (line for line in page.splitlines() if line.startswith("{% for message"))
    (tmp_path / "chat_template.jinja").write_text(line)
    local = chat_template.Checkpoint(tmp_path, str(tmp_path))
    assert chat_template.order_of_pictures(local, ModelSpec("x", "image", str(tmp_path))) == "kept"


def test_a_name_that_is_not_in_the_cache_has_an_unknown_order() -> None:
    for repo in ("nobody/nothing", "a served name", "gpt"):
        spec = ModelSpec("x", "image", repo)
        assert chat_template.order_of_pictures(None, spec) == "unknown"
