"""The keys of the store: a hash of all that an output depends on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, astuple
from types import MappingProxyType
from typing import Any

from probes.core.hashing import sha256_json
from probes.core.types import FrameRef, Request, ScoringSpec


def key(
    request: Request,
    fingerprint: str,
    scoring: ScoringSpec,
    adapter: str,
    libraries: Mapping[str, str] = MappingProxyType({}),
) -> str:
    """Return the hex sha256 of all that an output depends on.

    Args:
        request: what the model is asked; frames enter as the hash of their pixels.
        fingerprint: that of the member: weights, config, processor, dtype.
        scoring: how the request becomes an output.
        adapter: version of the backend's behaviour.
        libraries: major.minor of the libraries that compute it, by name. Without them the key is
            the base of those of all versions.
    """
    # A frame as an object, a text as a string: a text that looks like a hash is no frame.
    parts = [{"frame": p.sha256} if isinstance(p, FrameRef) else p for p in request.parts]
    content: dict[str, Any] = {
        "parts": parts,
        "options": request.options,
        "fingerprint": fingerprint,
        "scoring": asdict(scoring),
        "adapter": adapter,
    }
    # Only where there are some: what is not there is no part of a key.
    if request.intervention is not None:
        content["intervention"] = astuple(request.intervention)
    if request.decoding is not None:
        content["decoding"] = astuple(request.decoding)
    # A plain answer follows from what is shown. A hook may look for spans by name, and two prompt
    # sets can write the same text with other names for its pieces.
    if request.intervention is not None or request.decoding is not None:
        content["spans"] = request.spans
    return versioned(sha256_json(content), libraries)


def versioned(base: str, libraries: Mapping[str, str]) -> str:
    """Return the key of what some versions of libraries compute; the base itself without any."""
    return sha256_json({"base": base, "libraries": dict(libraries)}) if libraries else base
