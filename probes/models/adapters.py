"""Adapters of the package peft (LoRA and its kin): found, checked and hashed as a checkpoint is."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from probes.core.errors import ProbesError
from probes.core.hashing import sha256_json
from probes.models.checkpoint_files import listed, remembered_hashes

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
KINDS = ("ADALORA", "IA3", "LOHA", "LOKR", "LORA", "OFT")
"""Kinds that put layers into a model and leave its classes and the names of its modules alone."""
_PLAIN_INIT = (None, True, False, "gaussian", "orthogonal", "eva")
"""Beginnings of a LoRA whose base weights are the checkpoint's own."""


@dataclass(frozen=True)
class Adapter:
    """A folder that `save_pretrained` of a peft model wrote."""

    folder: Path
    repo: str
    """As the spec names it."""
    commit: str = ""
    """Resolved commit of a hub snapshot; empty for a local folder."""
    within: bool = False
    """Whether it lies in the checkpoint's own folder."""

    @cached_property
    def config(self) -> dict[str, Any]:
        """Content of `adapter_config.json`."""
        try:
            content = json.loads((self.folder / CONFIG).read_text("utf-8"))
        except ValueError as error:
            raise self._wrong(f"{CONFIG} is not valid JSON: {error}", "fetch it again") from None
        if not isinstance(content, dict):
            raise self._wrong(f"{CONFIG} is not a JSON object", "fetch it again")
        return content

    @property
    def kind(self) -> str:
        """Name of the method, e.g. `LORA`."""
        return str(self.config.get("peft_type") or "")

    def listed(self) -> tuple[str, ...]:
        """Return the names of its files."""
        return (CONFIG, WEIGHTS) if self.within else listed(self.folder)

    @cached_property
    def files(self) -> dict[str, str]:
        """sha256 of its files by name, as planning knows them."""
        return remembered_hashes(self.folder, self.listed())

    def describe(self) -> dict[str, Any]:
        """Return what the manifest says of it."""
        return {
            "repo": self.repo,
            "commit": self.commit,
            "kind": self.kind,
            "sha256": sha256_json(self.files),
        }

    def check_files(self) -> None:
        """Raise ProbesError unless configuration and weights are there, in safetensors."""
        if not (self.folder / CONFIG).is_file():
            raise self._wrong(
                f"an adapter's folder needs {CONFIG}",
                "name a folder that `save_pretrained` of a peft model wrote",
            )
        if not (self.folder / WEIGHTS).is_file():
            pickled = (self.folder / "adapter_model.bin").is_file()
            raise self._wrong(
                "an adapter is read from safetensors only, and this one is pickled"
                if pickled
                else f"the adapter's weights are missing: {WEIGHTS}",
                "save it again by peft's `save_pretrained` (a pickled file can run code when it is"
                " read)"
                if pickled
                else "complete the folder",
            )

    def check(self) -> None:
        """Refuse what cannot be loaded as it was trained, or would be left out silently.

        Raises:
            ProbesError: no such files, pickled weights, a kind that changes more than layers, or
                peft is not installed.
        """
        self.check_files()
        if self.kind not in KINDS:
            raise self._wrong(
                f"adapters of the kind {self.kind or 'nameless'} are not supported",
                f"use one of {', '.join(KINDS)}, or merge it into the weights by peft's"
                " `merge_and_unload` and name the merged folder as the member's repo",
            )
        start = self.config.get("init_lora_weights")
        if start not in _PLAIN_INIT or self.config.get("alora_invocation_tokens"):
            what = "activated by tokens" if start in _PLAIN_INIT else f"made by {start!r}"
            raise self._wrong(
                f"a LoRA that is {what} does not stand beside the checkpoint's own weights",
                "convert it to a plain LoRA as peft's documentation says, or merge it",
            )
        if importlib.util.find_spec("peft") is None:
            raise self._wrong(
                "the member has an adapter, and the package peft is not installed",
                "`pip install interframe-probes[adapters]`"
                + (f", or move {CONFIG} away to run the weights without it" * self.within),
            )

    def _wrong(self, what: str, fix: str) -> ProbesError:
        return ProbesError(what, str(self.folder), fix)


def without_base(folder: Path, role: str) -> ProbesError:
    """Return the refusal of a member's folder that holds an adapter and no checkpoint."""
    base = Adapter(folder, str(folder)).config.get("base_model_name_or_path") or "BASE"
    return ProbesError(
        "the folder holds an adapter and no checkpoint",
        str(folder),
        f"name both: pair.{role}.repo={base} pair.{role}.adapter={folder}",
    )
