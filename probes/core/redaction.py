"""Secrets stay out of everything that is stored or shown.

API tokens are in the environment, which is never written anywhere. But a library's message may
quote a request's header or an address, and a configuration may interpolate a variable, so
manifests, stored errors and messages on the screen pass through `redact`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

_SECRET = re.compile(r"(TOKEN|KEY|SECRET|PASSWORD|PASSWD|PASS|PAT|AUTH)S?$", re.IGNORECASE)
# Not every name that ends in `token`: `pad_token` and the like are no secrets.
_SETTING = re.compile(
    r"(api_?key|secret|password|passwd|(api|auth|access|hf)_token)$", re.IGNORECASE
)
_BEARER = re.compile(r"(?i)\b(bearer|basic)\s+[\w.~+/=-]{8,}")
_LOGIN = re.compile(r"(?<=://)[^\s/@:]*:[^\s/@]+(?=@)")
_SHORTEST = 8  # a shorter value would be found everywhere


def redact(text: str) -> str:
    """Return the text without secrets: logins in addresses, and values of variables named like one.

    Such a value is replaced by the name of its variable, e.g. `[$HF_TOKEN]`.
    """
    # The longest first: a secret may hold another one, whose name would break it up.
    for name, value in sorted(os.environ.items(), key=lambda one: -len(one[1])):
        if len(value) >= _SHORTEST and value in text and _SECRET.search(name):
            text = text.replace(value, f"[${name}]")
    return _LOGIN.sub("***", _BEARER.sub(r"\1 ***", text))


def redacted(value: Any) -> Any:
    """Return a JSON-like value without secrets, in texts and under names such as `api_key`."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, Mapping):
        return {
            # A secret in a configuration is in no variable: its name gives it away.
            redact(name) if isinstance(name, str) else name: "***"
            if isinstance(name, str) and isinstance(inner, str) and inner and _SETTING.search(name)
            else redacted(inner)
            for name, inner in value.items()
        }
    if isinstance(value, list | tuple):
        return [redacted(inner) for inner in value]
    return value
