"""What a chat template does with texts and pictures, and prompts that come out as they are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hub_layouts.published import npm_files

from probes.core.errors import ProbesError
from probes.core.params import frozen
from probes.core.types import FrameRef, Request, ScoringSpec, TextSpan
from probes.models.hf.prompt_encoder import PromptTokens
from probes.models.hf.token_layout import tokenize

EACH = (
    "{% for m in messages %}{{ 'U: ' }}{% for p in m['content'] %}"
    "{% if p['type'] == 'text' %}TEXT{% else %}PICTURE{% endif %}"
    "{% endfor %}{% endfor %}{% if add_generation_prompt %}{{ ' GO:' }}{% endif %}"
)
FIRST = (
    "{% for m in messages %}{% for p in m['content'] if p['type'] != 'text' %}<image>{% endfor %}"
    "{% for p in m['content'] if p['type'] == 'text' %}{{ p['text'] }}{% endfor %}{% endfor %}GO:"
)
STRING = "{% for m in messages %}{{ 'U: ' + m['content'] }}{% endfor %} GO:"


def each(text: str = "{{ p['text'] }}", picture: str = "<image>") -> str:
    return EACH.replace("TEXT", text).replace("PICTURE", picture)


TRIMMED = each("{{ p['text'] | trim }}", "{{ '\n\n<image>\n\n' }}")
NUMBERED = "{% set ns = namespace(n=0) %}" + each(
    picture="{% set ns.n = ns.n + 1 %}{{ 'Picture ' ~ ns.n ~ ': <image>' }}"
)


def tokens(
    new_tokenizer: Callable[..., Any], template: str | None, **more: Any
) -> tuple[Any, PromptTokens]:
    tokenizer = new_tokenizer(chat_template=template)
    return tokenizer, PromptTokens(tokenizer, "<image>", **more)


PROMPT = Request(
    (
        FrameRef("x"),
        " the red box\n",
        FrameRef("y"),
        FrameRef("x"),
        "a hand ",
    )
)


@pytest.mark.parametrize(
    ("template", "layout", "shown"),
    [
        (None, "none", "<image> the red box\n<image><image>a hand "),
        (each(), "kept", "U: <image> the red box\n<image><image>a hand  GO:"),
        (
            each(picture="{{ '<image>\n' }}"),
            "kept",
            "U: <image>\n the red box\n<image>\n<image>\na hand  GO:",
        ),
        (
            TRIMMED,
            "trimmed",
            "U: \n\n<image>\n\nthe red box\n\n<image>\n\n\n\n<image>\n\na hand GO:",
        ),
        (
            NUMBERED,
            "numbered",
            "U: Picture 1: <image> the red box\nPicture 2: <image>Picture 3: <image>a hand  GO:",
        ),
        # One text, with the pictures in their places.
        (FIRST, "moved", "<image> the red box\n<image><image>a hand GO:"),
        # A template that refuses several pictures still says what stands around one.
        (
            "{% if messages[0]['content'] | selectattr('type', 'equalto', 'image') | list | length"
            " > 1 %}{{ raise_exception('one') }}{% endif %}" + each(picture="{{ '[<image>]' }}"),
            "one text",
            "U: [<image>] the red box\n[<image>][<image>]a hand  GO:",
        ),
        (STRING, "one text", "U: <image> the red box\n<image><image>a hand  GO:"),
        (each(picture=""), "one text", "U: <image> the red box\n<image><image>a hand  GO:"),
    ],
)
def test_texts_and_pictures_come_out_as_they_are(
    template: str | None, layout: str, shown: str, new_tokenizer: Callable[..., Any]
) -> None:
    _, made = tokens(new_tokenizer, template)
    assert made.layout == layout
    assert made.render(PROMPT) == shown
    assert made.render(PROMPT, "It is") == shown + (" It is" if shown[-1] != " " else "It is")
    assert made.problem(made.encode([shown])[0], 3) is None


def test_a_family_writes_what_the_template_does_not(new_tokenizer: Callable[..., Any]) -> None:
    around = {"before": "[", "after": "]"}
    for picture in ("<image>", "[<image>]"):
        _, kept = tokens(new_tokenizer, each(picture=picture), **around)
        assert kept.render(PROMPT).count("[<image>]") == 3
        assert kept.render(PROMPT).count("[") == 3
        numbered = NUMBERED.replace("<image>", picture)
        _, parted = tokens(new_tokenizer, numbered, **around)
        assert parted.layout == "numbered"
        assert parted.render(PROMPT).startswith("U: Picture 1: [<image>] the red box\nPicture 2:")
        assert parted.render(PROMPT).count("[") == 3


def test_a_template_of_another_token_for_a_picture(new_tokenizer: Callable[..., Any]) -> None:
    """The family's placeholder stands where the template wrote its own; a text has neither."""
    tokenizer = new_tokenizer(chat_template=each("{{ p['text'] | trim }}", "{{ ' @pic ' }}"))
    made = PromptTokens(tokenizer, "<video>", picture=("video", "@pic"))
    assert made.layout == "trimmed"
    assert made.render(Request((FrameRef("x"), " an @pic here "))) == (
        "U:  <video> an @\u200bpic here GO:"
    )


def test_parts_have_spans_where_their_white_space_is_dropped(
    new_tokenizer: Callable[..., Any],
) -> None:
    spans = (
        TextSpan("frame 0", 0),
        TextSpan("infill 0", 1, 1, 8),
        TextSpan("blank", 1, 0, 1),
        TextSpan("frame 1", 2),
        TextSpan("frame 2", 3),
        TextSpan("question", 4, 0, 7),
    )
    for template in (TRIMMED, NUMBERED):
        tokenizer, made = tokens(new_tokenizer, template)
        request = Request((*PROMPT.parts[:4], "a hand "), spans=spans)
        grids = {"x": (2,), "y": (3,)}
        kind = ScoringSpec("generate", 2, "It is")
        (prompt,) = tokenize(made, [request], grids, kind, 1024)
        shown = {
            name: "".join(tokenizer.convert_ids_to_tokens([max(0, i) for i in prompt.ids[a:b]]))
            for name, a, b in prompt.spans
        }
        assert shown["infill 0"].strip("▁") == "the▁red"
        assert shown["question"].strip("▁") == "a▁hand"
        assert shown["answer prefix"].endswith("is")
        assert [shown[f"frame {t}"] for t in range(3)] == ["<unk>" * n for n in (2, 3, 2)]
        assert "blank" not in shown  # the template dropped it, or no token begins with it


VARIABLE = each() + "{% if think is defined and not think %}{{ '</t>' }}{% endif %}"


def test_a_template_gets_further_variables(new_tokenizer: Callable[..., Any]) -> None:
    for template in (VARIABLE, STRING + "{% if not think %}</t>{% endif %}"):
        _, made = tokens(new_tokenizer, template, variables=frozen({"think": False}))
        assert made.render(PROMPT).endswith("GO:</t>")
        _, bare = tokens(new_tokenizer, template, variables=frozen({"think": True}))
        assert bare.render(PROMPT).endswith("GO:")


@pytest.mark.parametrize(
    ("template", "name", "fix"),
    [
        (VARIABLE, "thimk", "did you mean think?"),
        (each(), "think", "leave it out"),
        (None, "think", "leave it out"),
    ],
)
def test_a_variable_that_no_template_reads_is_refused(
    template: str | None, name: str, fix: str, new_tokenizer: Callable[..., Any]
) -> None:
    with pytest.raises(ProbesError, match=f"reads no variable '{name}'") as caught:
        tokens(new_tokenizer, template, variables=frozen({name: False}))
    assert fix in caught.value.fix


@pytest.mark.slow
def test_the_template_of_gemma_trims() -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(npm_files("gemma3"))
    made = PromptTokens(tokenizer, "<start_of_image>")
    assert made.layout == "trimmed"
    assert made.render(Request((FrameRef("x"), " what?\n", FrameRef("y"), "now"))) == (
        "<bos><start_of_turn>user\n<start_of_image>what?<start_of_image>now<end_of_turn>\n"
        "<start_of_turn>model\n"
    )


def test_variables_of_the_template_are_the_members(
    open_hf: Any, tmp_path: Path, frames: Any
) -> None:
    """With a family and without one: another prompt, another fingerprint."""
    import tiny_models

    makers = {"qwen2_vl": tiny_models.FAMILIES["qwen2_vl"], "llava": tiny_models.llava}
    for name, make in makers.items():
        folder = make(tmp_path / name)
        template = folder / "chat_template.jinja"
        template.write_text(template.read_text() + "{% if think is false %}</t>{% endif %}")
        bare, plain = open_hf(folder, spec={"frame_as": "image"}), Request(("x",), ("A", "B"))
        own = {"frame_as": "image", "chat_template_kwargs": (("think", False),)}
        quiet = open_hf(folder, spec=own)
        texts = [one.preprocessor().shown(plain) for one in (bare, quiet)]
        assert texts[1] == texts[0] + "</t>"
        assert bare.fingerprint != quiet.fingerprint
        assert quiet.describe()["chat_template_kwargs"] == {"think": False}
        scores = [
            dict(one.score([plain], {}, ScoringSpec("letter")))[0].option_logprobs
            for one in (bare, quiet)
        ]
        assert scores[0] != pytest.approx(scores[1], abs=1e-4)
        with pytest.raises(ProbesError, match="reads no variable 'thimk'"):
            open_hf(folder, spec=own | {"chat_template_kwargs": (("thimk", 1),)}).preprocessor()


def test_a_template_that_writes_the_date_is_known(new_tokenizer: Callable[..., Any]) -> None:
    """As Llama's do, unless they are given one."""
    dated = (
        "{% if date_string is not defined %}{% set date_string = strftime_now('%d %b %Y') %}"
        "{% endif %}{{ date_string }}" + each()
    )
    for variables, writes in (({}, True), ({"date_string": "1 May 2026"}, False)):
        _, made = tokens(new_tokenizer, dated, variables=frozen(variables))
        assert made.chat.writes_date is writes
    assert not tokens(new_tokenizer, each())[1].chat.writes_date


def test_names_of_variables_that_a_template_sets_itself_are_not_offered(
    new_tokenizer: Callable[..., Any],
) -> None:
    template = each() + (
        "{% for m in messages %}{% set content = m %}{% endfor %}{{ content }}{{ tools }}"
        "{% if not flag is defined %}{% set flag = 1 %}{% endif %}{{ flag }}"
    )
    with pytest.raises(ProbesError, match="reads no variable") as caught:
        tokens(new_tokenizer, template, variables=frozen({"flag_on": 1}))
    assert "flag" in str(caught.value.fix)
    assert "content" not in str(caught.value.fix) and "tools" not in str(caught.value.fix)
