"""What a pair says of its members, checked and frozen."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from probes.config.fields import check
from probes.core.errors import ProbesError
from probes.core.files import named_path
from probes.core.params import frozen
from probes.core.types import ModelSpec, Params, Role

_ESCAPES = {"n": "\n", "t": "\t", "\\": "\\"}
_OURS = frozenset(
    "add_generation_prompt chat_template continue_final_message conversation messages return_dict "
    "return_tensors tokenize".split()
)
"""What `apply_chat_template` is given by the program itself."""


def member(role: Role, given: Mapping[str, Any], shared: Mapping[str, Any]) -> ModelSpec:
    """Return a member as it is loaded.

    Args:
        role: of the pair.
        given: the member's own settings.
        shared: what all members of the pair have in common, and the device.

    Raises:
        ProbesError: a value that makes no sense, with the name of its setting.
    """
    where = f"pair.{role}"
    check(ModelSpec, given, where)
    for name in ("repo", "adapter"):
        named_path(given[name], f"{where}.{name}")
    least, most = given["min_pixels"], given["max_pixels"]
    if least is not None and most is not None and least > most:
        raise ProbesError(
            f"min_pixels={least} is above max_pixels={most}",
            f"{where}.min_pixels",
            "give a smaller one, or leave either out",
        )
    prefix = given["answer_prefix"]
    own = {
        "name": given["name"] or label(str(given["repo"]), str(given["adapter"] or "")),
        "chat_template_kwargs": _variables(given["chat_template_kwargs"], where),
        "answer_prefix": prefix if prefix is None else unescaped(prefix, f"{where}.answer_prefix"),
    }
    return ModelSpec(role=role, **shared, **{**given, **own})


def label(repo: str, adapter: str = "") -> str:
    """Return the name of weights that were given none: what is last in repository and adapter.

    >>> label("embedded:control"), label("org/Name-7B"), label("/models/base/", "me/lora")
    ('control', 'Name-7B', 'base+lora')
    """
    # At the colon too, for `embedded:control`.
    last = (re.split(r"[/:]", one.rstrip("/"))[-1] for one in (repo, adapter) if one)
    return "+".join(last)


def _variables(given: Any, where: str) -> Params:
    """Return further variables of a chat template; their values are those of JSON."""
    where = f"{where}.chat_template_kwargs"
    if not isinstance(given, Mapping) and given is not None:
        fix = "give name: value pairs, e.g. {enable_thinking: false}"
        raise ProbesError(f"{given!r} is not a group of values", where, fix)
    values = {str(name): value for name, value in (given or {}).items()}
    found: Params = ()
    for name in sorted(values):
        setting = f"{where}.{name}"
        if name in _OURS:
            fix = "leave it out: every prompt is one message with the generation prompt"
            raise ProbesError(f"{name} is not yours to set", setting, fix)
        try:
            found += frozen({name: values[name]})
            json.dumps(found[-1][1], allow_nan=False)
        except (TypeError, ValueError) as error:
            fix = "give a text, a finite number, true, false, null or a list of those"
            raise ProbesError(f"{values[name]!r} is no value", setting, fix) from error
    return found


def unescaped(text: str, setting: str) -> str:
    r"""Return a text in which \n is a line break, \t a tab, and \\ a backslash.

    A command line has no other way to write these.

    Raises:
        ProbesError: a backslash before anything else.
    """

    def one(found: re.Match[str]) -> str:
        if (meant := _ESCAPES.get(found[1])) is None:
            raise ProbesError(
                f"{found[0]!r} is no escape, in {text!r}",
                setting,
                r"write \n for a line break, \t for a tab, \\ for a backslash",
            )
        return meant

    return re.sub(r"\\(.?)", one, text, flags=re.DOTALL)
