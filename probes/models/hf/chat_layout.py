"""A checkpoint's chat template, and what it does with the texts and pictures of a message.

Most templates write parts where they are. Others drop the white space around a text, number
pictures, or write all pictures before all text, as the LLaVA family does. A prompt is one message;
how it has to be handed over so that texts and pictures come out as they are, depends on that.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from probes.core.errors import ProbesError
from probes.core.text import nearest
from probes.core.types import Params

PartLayout = Literal["kept", "trimmed", "numbered", "moved", "one text", "none"]
"""What becomes of a message's parts: `kept` as they are and where they are; `trimmed`, where the
white space around texts is dropped; `numbered`, where every picture is written differently;
`moved`, where pictures come before texts; `one text`, where there can be no pictures of the kind;
`none`, where there is no template."""
_DATES = re.compile(r"strftime_now\(\s*['\"]([^'\"]+)['\"]")
"""In a template: the day on which it is rendered, in some form."""
MARK = "MARK"
"""A text that a template has no other place for."""


@dataclass(frozen=True, slots=True)
class ChatLayout:
    """How prompts are put into a chat template."""

    owner: Any = None
    """Processor or tokenizer with the template; None where there is none."""
    as_parts: bool = True
    """Whether a message is a list of parts, and not a string."""
    kind: str = "image"
    """What a frame is to the template: `image` or `video`."""
    token: str = ""
    """What the template writes for a picture."""
    variables: Mapping[str, Any] = field(default_factory=dict)
    """Further variables of the template (`chat_template_kwargs`)."""
    layout: PartLayout = "none"
    around: tuple[str, str] = ("", "")
    """What the template writes before and behind a picture's token, where parts are `kept`, or
    several are refused."""

    @property
    def by_parts(self) -> bool:
        """Whether a prompt's parts are handed over one by one, and not as one text.

        Where parts are kept, both come to the same. Where pictures are moved, one text with
        pictures in it, the same way under every arm, is what keeps them between texts.
        """
        return self.layout in ("trimmed", "numbered")

    @property
    def writes_date(self) -> bool:
        """Whether a prompt holds the day on which it is asked."""
        if self.owner is None or self.layout == "none":
            return False
        forms = _DATES.findall(str(self.owner.chat_template))
        # Variables may give it another date: what counts is what it writes.
        shown = self.text([{"type": "text", "text": MARK}]) if forms else ""
        return any(datetime.now().strftime(form) in shown for form in forms)

    def render(self, parts: Iterable[str | None]) -> str:
        """Return the rendered message of texts and pictures (None), with the generation prompt."""
        content = [
            {"type": self.kind} if part is None else {"type": "text", "text": part}
            for part in parts
        ]
        return self.text(content)

    def text(self, content: Any, *, prompted: bool = True) -> str:
        """Return a message's content as the template renders it."""
        if not self.as_parts:
            content = "".join(part["text"] for part in content)
        message = [{"role": "user", "content": content}]
        more = {"add_generation_prompt": True} if prompted else {}
        return str(
            self.owner.apply_chat_template(message, tokenize=False, **more, **self.variables)
        )


def chat_layout(
    processor: Any, tokenizer: Any, kind: str, token: str, variables: Params = ()
) -> ChatLayout:
    """Return how prompts are put into the template of a processor or else of its tokenizer.

    Multimodal templates take a message's content as a list of parts, text-only ones as a string;
    a trial message shows which of the two this one takes, and another one what becomes of parts.

    Args:
        processor: its template is used before the tokenizer's; None where there is none.
        tokenizer: a Hugging Face tokenizer.
        kind: `image` or `video`.
        token: what the template writes for such a picture.
        variables: further variables of the template, as frozen pairs.

    Raises:
        ProbesError: the template takes neither form, or does not read a variable.
    """
    where = getattr(tokenizer, "name_or_path", "")
    owner = next(
        (one for one in (processor, tokenizer) if getattr(one, "chat_template", None)), None
    )
    given = {name: _thawed(value) for name, value in variables}
    _check_variables(owner, given, where)
    if owner is None:
        return ChatLayout()
    problem = ""
    for as_parts in (True, False):
        found = ChatLayout(owner, as_parts, kind, token, given)
        try:
            text = found.render([MARK])
        except Exception as error:
            # Templates are programs of others: any error means "not this form".
            problem = f"{type(error).__name__}: {error}"
            continue
        # A template for strings prints the list of parts itself, with its keys.
        if text.count(MARK) == 1 and "'type'" not in text and '"type"' not in text:
            layout, around = _of_parts(found) if as_parts else ("one text", ("", ""))
            return ChatLayout(owner, as_parts, kind, token, given, layout, around)
        problem = f"a message renders as {text!r}"
    raise ProbesError(
        "the chat template takes neither a text nor a list of parts as a message",
        where,
        f"correct or remove the checkpoint's chat template ({problem})",
    )


def _of_parts(chat: ChatLayout) -> tuple[PartLayout, tuple[str, str]]:
    """Return what a template does with parts, and what it writes around a picture it keeps."""
    texts = [f" {MARK}{letter}\n" for letter in "ABC"]
    first, second, third = ({"type": "text", "text": text} for text in texts)
    picture = {"type": chat.kind}
    try:
        rendered = chat.text([first, picture, second, picture, picture, third], prompted=False)
    except Exception:  # templates are programs of others: some refuse several pictures
        return "one text", _around_one(chat)
    counts = (1, 2)
    if whole := re.search("(.*)".join(map(re.escape, texts)), rendered, re.DOTALL):
        one, two = whole.groups()
        if (one.count(chat.token), two.count(chat.token)) == counts:
            before, _, after = one.partition(chat.token)
            return ("kept", (before, after)) if two == 2 * one else ("numbered", ("", ""))
    pattern = "(.*)".join(re.escape(text.strip()) for text in texts)
    if (found := re.search(pattern, rendered, re.DOTALL)) is None:
        return "one text", ("", "")
    if tuple(each.count(chat.token) for each in found.groups()) == counts:
        return "trimmed", ("", "")
    return ("moved" if rendered.count(chat.token) == 3 else "one text"), ("", "")


def _around_one(chat: ChatLayout) -> tuple[str, str]:
    """Return what a template writes around the only picture of a message."""
    mark = {"type": "text", "text": MARK}
    try:
        written = chat.text([mark, {"type": chat.kind}, mark]).split(MARK)
    except Exception:  # it takes no picture at all
        return "", ""
    if len(written) != 3 or written[1].count(chat.token) != 1:
        return "", ""
    before, _, after = written[1].partition(chat.token)
    return before, after


def _check_variables(owner: Any, given: Mapping[str, Any], where: str) -> None:
    """Refuse variables that a template does not read: a misspelt one would change nothing."""
    if not given:
        return
    template = getattr(owner, "chat_template", "")
    # A checkpoint may have several by name: which of them is meant is transformers' matter.
    known = _read_by(template) if isinstance(template, str) else None
    for name in given if known is not None else ():
        if name not in (known or ()):
            raise ProbesError(
                f"the chat template reads no variable {name!r}",
                f"chat_template_kwargs, {where}",
                nearest(name, known) if known else "leave it out: there are none to set",
            )


def _read_by(template: str) -> list[str] | None:
    """Return the variables that a template reads; None where that cannot be told."""
    import jinja2.meta
    from jinja2 import nodes

    try:
        parsed = jinja2.Environment(extensions=["jinja2.ext.loopcontrols"]).parse(template)
    except jinja2.TemplateError:  # tags that only transformers knows
        return None
    ours = {"messages", "add_generation_prompt", "raise_exception", "strftime_now", "namespace"}
    ours |= {"tools", "documents"}
    # What a template sets in a loop and reads outside it counts as undeclared; what it asks for
    # before setting it (`is defined`) is meant to be given.
    written = {one.name for one in parsed.find_all(nodes.Name) if one.ctx == "store"}
    asked = {
        one.node.name
        for one in parsed.find_all(nodes.Test)
        if one.name in ("defined", "undefined") and isinstance(one.node, nodes.Name)
    }
    return sorted(jinja2.meta.find_undeclared_variables(parsed) - ours - (written - asked))


def _thawed(value: Any) -> Any:
    # As templates know them from JSON: a list, not a tuple.
    return list(map(_thawed, value)) if isinstance(value, tuple) else value
