"""Secrets stay out of everything that is written down or shown.

Keys and tokens live in the environment. Nothing here writes the environment anywhere, but messages
of libraries may quote a request's header or an address, and a configuration may interpolate a
variable; so what goes into a manifest, a stored error or onto the screen passes through `redact`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

_SECRET = re.compile(r"(TOKEN|KEY|SECRET|PASSWORD|PASSWD|PASS|PAT|AUTH)S?$", re.IGNORECASE)
_SETTING = re.compile(
    r"(api_?key|secret|password|passwd|(api|auth|access|hf)_token)$", re.IGNORECASE
)
_BEARER = re.compile(r"(?i)\b(bearer|basic)\s+[\w.~+/=-]{8,}")
_LOGIN = re.compile(r"(?<=://)[^\s/@:]*:[^\s/@]+(?=@)")
_SHORTEST = 8  # what is shorter would be found everywhere


def redact(text: str) -> str:
    """Return the text without secrets: values of variables named like one, and logins in addresses.

    A value is replaced by the name of its variable, e.g. `[$HF_TOKEN]`.
    """
    for name, value in sorted(os.environ.items(), key=lambda one: -len(one[1])):
        if len(value) >= _SHORTEST and value in text and _SECRET.search(name):
            text = text.replace(value, f"[${name}]")
    return _LOGIN.sub("***", _BEARER.sub(r"\1 ***", text))


def redacted(value: Any) -> Any:
    """Return a JSON-like value without secrets, in texts and under keys such as `api_key`."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, Mapping):
        return {
            redact(key) if isinstance(key, str) else key: "***"
            if isinstance(key, str) and isinstance(inner, str) and inner and _SETTING.search(key)
            else redacted(inner)
            for key, inner in value.items()
        }
    if isinstance(value, list | tuple):
        return [redacted(inner) for inner in value]
    return value
