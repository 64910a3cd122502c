"""The options of the server backend, checked (conf/backend/server.yaml explains them)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any
from urllib.parse import urlsplit

from probes.core.errors import ProbesError
from probes.core.types import ModelSpec
from probes.models import parameters
from probes.models.base import check_options
from probes.models.server.http import read_token

TOKEN_ENV = "OPENAI_API_KEY"
"""The variable that is read where none is named."""
_WHERE = "backend.options"
_LEAST = {"concurrency": 1, "timeout_s": 0.001, "retries": 0, "top_logprobs": 1}


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """What one member needs to know about its server."""

    base_url: str
    """Up to and with `/v1`, without a trailing slash."""
    model: str = ""
    """The server's name of the model; empty: the member's `repo`."""
    deployment: str = ""
    """What stands for the server in store keys; by default the base URL."""
    api_key_env: str | None = TOKEN_ENV
    """Name of the environment variable that holds the API token."""
    concurrency: int = 8
    """Requests at the same time."""
    timeout_s: float = 120.0
    """Of one attempt, in seconds."""
    retries: int = 5
    """Attempts after the first."""
    top_logprobs: int = 20
    """How many of the likeliest first tokens are asked for under `letter`."""
    order_is_checked: bool = False
    """The user has seen that the server keeps pictures between texts."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Further fields of every request body, e.g. `chat_template_kwargs`."""

    @classmethod
    def of(cls, options: Mapping[str, Any], spec: ModelSpec) -> ServerOptions:
        """Check `backend.options` for one member.

        `base_url`, `model` and `deployment` may be mappings from a role (or, for a model outside
        the pair, from its `repo`) to that member's value.

        Raises:
            ProbesError: an unknown option, or a value that makes no sense.
        """
        check_options("server", options, [one.name for one in fields(cls)])
        kept = ("api_key_env",)  # without a value: no token is sent
        given = {n: value for n, value in options.items() if value is not None or n in kept}
        if isinstance(given.get("model"), str):
            raise ProbesError(
                "one model name for all members would make them the same model",
                f"{_WHERE}.model",
                "name it for every member, e.g. model: {image: NAME, video: NAME}; without it the"
                " members' repos are the names",
            )
        for name in ("base_url", "model", "deployment"):
            if isinstance(given.get(name), Mapping):
                given[name] = _own(name, given[name], spec)
        given["extra"] = _with_variables(given.get("extra") or {}, spec)
        given["base_url"] = _url(given.get("base_url"))
        given["deployment"] = str(given.get("deployment") or given["base_url"])
        read_token(given.get("api_key_env", TOKEN_ENV))
        made = parameters.made(cls, given, _WHERE)
        for name, least in _LEAST.items():
            if not getattr(made, name) >= least:  # nor NaN
                raise ProbesError(
                    f"{getattr(made, name)!r} is not a {name}",
                    f"{_WHERE}.{name}",
                    f"give a number from {least}",
                )
        return made


def _own(name: str, by_member: Mapping[str, Any], spec: ModelSpec) -> str:
    """Return the member's own value of an option that is given by role or by repo."""
    outside = spec.name == spec.repo  # a model that only writes infills has no role of its own
    value = by_member.get(spec.repo) or (None if outside else by_member.get(spec.role))
    if value is None and name == "base_url":
        raise ProbesError(
            f"no {name} for {spec.name}",
            f"{_WHERE}.{name}",
            f"add `{spec.repo if outside else spec.role}: ...`",
        )
    return str(value or "")


def _with_variables(extra: Any, spec: ModelSpec) -> Any:
    """Return the fields of every body, with the member's own variables of the chat template."""
    if not spec.chat_template_kwargs:
        return extra
    if isinstance(extra, Mapping) and "chat_template_kwargs" in extra:
        raise ProbesError(
            "chat_template_kwargs are given twice",
            f"{_WHERE}.extra.chat_template_kwargs and pair.{spec.role}.chat_template_kwargs",
            "leave one of them out",
        )
    return {**extra, "chat_template_kwargs": dict(spec.chat_template_kwargs)}


def _url(value: Any) -> str:
    """Return a base URL without its trailing slash; parts that may hold a secret are refused."""
    fix = "give the address up to and with /v1, e.g. http://localhost:8000/v1"
    try:
        parts = urlsplit(value if isinstance(value, str) else "")
        # Reading `port` raises ValueError where it is no port.
        whole = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        whole = False
    if not whole:
        raise ProbesError(f"{value!r} is not an address", f"{_WHERE}.base_url", fix)
    # The address goes into manifests and cache keys, where no secret may be.
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ProbesError(
            "a base_url has no user, password, query or fragment",
            f"{_WHERE}.base_url",
            "put the API token into the environment and name the variable in api_key_env",
        )
    return str(value).rstrip("/")
