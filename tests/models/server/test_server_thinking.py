"""Replies that are no answers: thoughts, and what was cut off; and letters behind a thought."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from loopback import LETTER, TEXT, LoopbackServer, ask, chat

from probes.core.errors import ProbesError
from probes.core.replies import CUT_OFF, THINKING, split_thought
from probes.models.server import messages
from probes.stimuli.answers import no_answer

THOUGHT = "It may be A. No: B."
# As the servers send them.
VLLM = chat(None, finish="length", reasoning_content=THOUGHT)  # with --reasoning-parser
OPENROUTER = chat("", finish="length", reasoning=THOUGHT)
HOSTED = chat("", finish="length", hidden=32)
INLINE = chat(f"<think>\n{THOUGHT}", finish="length")
FIRST_TOKEN = {"<think>": -1e-7, "A": -18.0, "B": -19.0}
TEMPLATE = (
    "{% for m in messages %}{% for p in m['content'] %}{% if p['type'] == 'text' %}{{ p['text'] }}"
    "{% else %}<image>{% endif %}{% endfor %}{% endfor %}<|im_start|>assistant\n"
    "{% if enable_thinking is not defined or enable_thinking %}<think>\n{% endif %}"
)


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (VLLM, THINKING),
        (OPENROUTER, THINKING),
        (INLINE, THINKING),
        (HOSTED, THINKING),
        (chat("B. The man", finish="length"), CUT_OFF),
    ],
)
def test_no_reply_that_is_a_thought_or_was_cut_off_is_an_answer(
    reply: dict[str, Any], said: str, loopback: LoopbackServer, opened: Any
) -> None:
    loopback.answer = lambda text, n: reply
    (output,) = ask(opened(), "q")
    assert (output.status, no_answer(output)) == ("ok", said)
    assert loopback.tries["q"] == 1  # it is the model's reply, and not tried again


def test_a_reply_that_a_filter_ended_is_an_error(loopback: LoopbackServer, opened: Any) -> None:
    loopback.answer = lambda text, n: chat("", finish="content_filter")
    (output,) = ask(opened(), "q")
    assert (output.status, output.error) == ("error", "the server's content filter ended the reply")
    assert loopback.tries["q"] == 1


@pytest.mark.parametrize(
    "reply",
    [
        chat("B", reasoning_content=THOUGHT),
        chat("\n\nB", reasoning=THOUGHT),
        chat(f"<think>{THOUGHT}</think>\n\nB"),
        chat(f"{THOUGHT}\n</think>\n\nB"),  # the template has opened it
        chat("B", reasoning_content=None, reasoning=""),
        chat("B", hidden=32),
    ],
)
def test_the_answer_follows_the_thought(reply: dict[str, Any]) -> None:
    output = messages.text_output(reply)
    assert split_thought(output.text).answer == "B"
    assert THOUGHT in output.text or output.text == "B"
    assert no_answer(output) == ""


def test_tokens_of_a_hidden_thought_are_kept() -> None:
    assert messages.text_output(HOSTED).extras == {"reasoning_tokens": 32.0}
    assert messages.text_output(chat()).extras == {}


@pytest.mark.parametrize(
    "reply",
    [
        chat("<think>", FIRST_TOKEN, finish="length"),
        chat(None, {"Okay": -0.1, "A": -9.0}, finish="length", reasoning_content="Okay"),
        chat(None, finish="length", reasoning_content="Okay"),  # no log-probabilities of it
        chat("", finish="length", hidden=1),
    ],
)
def test_letters_of_a_model_that_thinks_first_are_refused(
    reply: dict[str, Any], loopback: LoopbackServer, opened: Any
) -> None:
    loopback.preflight = False
    loopback.answer = lambda text, n: reply
    with pytest.raises(ProbesError, match="thinks before it answers") as caught:
        ask(opened(), "q", scoring=LETTER)
    assert "chat_template_kwargs: {enable_thinking: false}" in caught.value.fix
    assert "scoring=generate" in caught.value.fix
    assert "q" not in loopback.tries


def test_a_single_thought_is_an_error_of_its_letters(loopback: LoopbackServer, opened: Any) -> None:
    loopback.answer = lambda text, n: chat("x", FIRST_TOKEN if text == "q" else {"B": -0.5})
    bad, good = ask(opened(), "q", "r", scoring=LETTER)
    assert (bad.status, good.status) == ("error", "ok")
    assert "begins with a thought" in bad.error


def test_a_template_that_opens_a_thought_is_refused_for_letters(
    loopback: LoopbackServer, opened: Any, tmp_path: Path
) -> None:
    """The first token is then a word of the thought: no reply would show it."""
    (tmp_path / "config.json").write_text('{"model_type": "x"}')
    (tmp_path / "model.safetensors").write_text("")
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": TEMPLATE}))
    spec = {"repo": str(tmp_path)}
    with pytest.raises(ProbesError, match="the mark of a thought"):
        ask(opened(spec=spec), "q", scoring=LETTER)
    assert not loopback.bodies
    assert ask(opened(spec=spec), "q")[0].status == "ok"  # generate: the thought may end
    off = {"chat_template_kwargs": {"enable_thinking": False}}
    loopback.answer = lambda text, n: chat("B", {"B": -0.1})
    assert ask(opened(spec=spec, extra=off), "q", scoring=LETTER)[0].status == "ok"
    assert loopback.bodies[-1]["chat_template_kwargs"] == {"enable_thinking": False}


def test_a_first_reply_that_is_all_thinking_is_told(
    loopback: LoopbackServer, opened: Any, caplog: pytest.LogCaptureFixture
) -> None:
    loopback.preflight = False
    loopback.answer = lambda text, n: VLLM
    ask(opened(), "q", scoring=TEXT)
    assert sum(THINKING in message for message in caplog.messages) == 1
