"""Where a member's checkpoint is, whether it is usable, and what its fingerprint is."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from probes.core.errors import ProbesError
from probes.core.hashing import sha256_json
from probes.core.types import ModelSpec
from probes.models import adapters
from probes.models.adapters import Adapter
from probes.models.checkpoint_files import WatchedFiles, listed, listed_beside, remembered_hashes
from probes.models.repositories import Place, cached_commit, is_hub_name
from probes.models.weight_files import headers, loaded_weights, named_weights, read_json

_COMMIT = re.compile(r"[0-9a-f]{40}")
_WEIGHTS = (".safetensors", ".gguf", ".bin", ".pt", ".pth")
_NAMES_CODE = ("config.json", "generation_config.json", "tokenizer_config.json")
_NAMES_ONLY = {"name_or_path", "_name_or_path", "special_tokens_map_file", "tokenizer_file"}
"""Settings with a path from where the files were saved; no loader goes there."""
PROCESSOR_FILES = (
    "processor_config.json",
    "preprocessor_config.json",
    "video_preprocessor_config.json",
)


def part_of(name: str) -> str:
    """Return what a file of a checkpoint is part of, for a comparison of two members."""
    base = name.rsplit("/", 1)[-1]
    if name.endswith(_WEIGHTS):
        return "weights"
    if name.endswith(".jinja") or name == "chat_template.json":
        return "chat_template"
    if name in PROCESSOR_FILES:
        return "processor"
    if name in ("config.json", "generation_config.json") or name.endswith(".index.json"):
        return "config"
    words = ("token", "vocab", "merges", "tekken", "spiece", "sentencepiece", "spm")
    return "tokenizer" if any(word in base for word in words) else "other"


@dataclass(frozen=True)
class Checkpoint:
    """A folder in the layout of the hub, with safetensors weights."""

    folder: Path
    repo: str
    """As the spec names it."""
    commit: str = ""
    """Resolved commit of a hub snapshot; empty for a local folder."""
    adapter: Adapter | None = None
    """What is loaded onto its weights."""
    everything: bool = False
    """Whether a program of others loads it, which may read any file of the folder."""
    gguf: str = ""
    """Name of the one file that holds the weights, where they are in this format."""

    @cached_property
    def config(self) -> dict[str, Any]:
        """Content of `config.json`."""
        return self.read_json("config.json")

    @property
    def architectures(self) -> tuple[str, ...]:
        """Names of classes in `config.json`; empty where it has none."""
        named = self.config.get("architectures")
        given = named if isinstance(named, list) else []
        return tuple(one for one in given if isinstance(one, str))

    @property
    def has_sliding_window(self) -> bool:
        """Whether layers of the language model attend to a window, as far as `config.json` says."""
        text = self.config.get("text_config") or self.config  # older files have one level only
        # Qwen's files give a window and say next to it that it is not used.
        window = text.get("sliding_window") if text.get("use_sliding_window", True) else None
        return window is not None or "sliding_attention" in str(text.get("layer_types"))

    def read_json(self, name: str) -> dict[str, Any]:
        """Return a JSON object of the folder; {} where there is no such file.

        Raises:
            ProbesError: the file is not a JSON object.
        """
        return read_json(self.folder / name)

    def processor_settings(self, part: str) -> dict[str, Any]:
        """Return the settings of one part of the processor.

        Args:
            part: `image_processor` or `video_processor`; both are in one file, or in one each.
        """
        whole = self.read_json("processor_config.json").get(part)
        if isinstance(whole, dict):
            return whole
        own = self.read_json("video_preprocessor_config.json") if part[:5] == "video" else {}
        return own or self.read_json("preprocessor_config.json")

    @cached_property
    def files(self) -> dict[str, str]:
        """sha256 of every file that a loader could read, by name, as planning knows them."""
        return remembered_hashes(self.folder, self._listed())

    def _listed(self) -> tuple[str, ...]:
        if self.gguf:
            return listed_beside(self.folder, self.gguf)
        return listed(self.folder, everything=self.everything)

    def hashes(self, part: str) -> dict[str, str]:
        """Return the sha256 of the files of one part, by name; see `part_of`."""
        return {name: sha256 for name, sha256 in self.files.items() if part_of(name) == part}

    def code(self) -> dict[str, str]:
        """Return the sha256 of the files of its own code, by name."""
        return {name: sha256 for name, sha256 in self.files.items() if name.endswith(".py")}

    def weights(self) -> tuple[str, ...]:
        """Return the names of the files whose weights are loaded; see `loaded_weights`."""
        return (self.gguf,) if self.gguf else loaded_weights(self.folder, self.config)

    @property
    def named_weights(self) -> str | None:
        """What `config.json` names as the weights; None by default."""
        return named_weights(self.folder, self.config)

    def headers(self) -> dict[str, tuple[tuple[int, ...], str]]:
        """Return shape and type of every weight by name, an adapter's aside.

        Raises:
            ProbesError: a file is cut off or of another format.
        """
        return headers(self.folder, self.weights())

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of every tensor by name, those of an adapter included.

        Raises:
            ProbesError: a file is cut off or of another format.
        """
        found = self.headers()
        if self.adapter is not None:
            found |= headers(self.adapter.folder, (adapters.WEIGHTS,))
        return {name: shape for name, (shape, _) in found.items()}

    def small_files(self) -> dict[str, str]:
        """Return the sha256 of its files but for weights, by name: what is quick to read."""
        small = [name for name in self._listed() if part_of(name) != "weights"]
        return remembered_hashes(self.folder, small)

    def watched(self) -> list[WatchedFiles]:
        """Read all files in full, and return what watches over them while a model is loaded.

        Raises:
            ProbesError: they are not those that the fingerprint was made of.
        """
        found = [WatchedFiles(self.folder, self.files, self._listed())]
        if self.adapter is not None and not self.adapter.within:
            adapter = self.adapter
            found.append(WatchedFiles(adapter.folder, adapter.files, adapter.listed()))
        return found

    def fingerprint(self, spec: ModelSpec, family: str, quantize: str = "") -> str:
        """Return the sha256 of everything that the member's answers depend on.

        Files count by their content, those of a hub snapshot too: what is in a cache may have been
        changed, and a loader takes what is there.
        """
        content: dict[str, Any] = {
            "files": self.files,
            "dtype": spec.dtype,
            "attention": spec.attention,
            "frame_as": spec.frame_as,
            "family": family,
        }
        if self.adapter is not None:
            content["adapter"] = {"files": self.adapter.files}
        if spec.trust_remote_code:  # the same files run other code
            content["code"] = True
        if spec.chat_template_kwargs:
            content["chat_template_kwargs"] = dict(spec.chat_template_kwargs)
        if quantize:
            content["quantize"] = quantize
        content |= spec.pixel_bounds
        return sha256_json(content)


def find(spec: ModelSpec, *, everything: bool = False) -> Checkpoint:
    """Find the checkpoint that a spec names; a hub repository is fetched if it can be.

    Args:
        spec: of the member.
        everything: whether a program of others loads it.

    Raises:
        ProbesError: it does not exist, is incomplete, is not in safetensors, or leads a loader to
            files that lie elsewhere.
    """
    place = Place(f"member {spec.name}", "repo", _complete)
    if spec.trust_remote_code:
        _check_trusted_revision(spec)
    folder, commit = place.find(spec.repo, spec.revision)
    found = Checkpoint(folder, spec.repo, commit)
    if not found.config:
        if (folder / adapters.CONFIG).is_file():
            raise adapters.without_base(folder, spec.role)
        raise ProbesError(
            "a checkpoint folder needs a config.json",
            str(folder),
            "name a folder that was written by `save_pretrained` or fetched from the hub",
        )
    for part in ("text_config", "vision_config"):
        if not isinstance(found.config.get(part) or {}, dict):
            raise ProbesError(
                f"{part} is not a JSON object", str(folder / "config.json"), "fetch it again"
            )
    found.weights()
    _refuse_elsewhere(found, trusted=spec.trust_remote_code)
    return Checkpoint(
        folder,
        spec.repo,
        commit,
        _adapter(spec, folder),
        everything=everything or spec.trust_remote_code,
    )


def trust_of(spec: ModelSpec, commit: str) -> str:
    """Return the settings that let a member's own code run, for messages.

    Args:
        spec: the member.
        commit: of its repository; empty for a folder, whose files are its version.
    """
    at = f" pair.{spec.role}.revision={commit}" if commit else ""
    return f"pair.{spec.role}.trust_remote_code=true{at}"


def _check_trusted_revision(spec: ModelSpec) -> None:
    """Refuse trust in a repository whose code may be another one tomorrow.

    Of a folder the content counts: its code is part of the fingerprint.
    """
    if not is_hub_name(spec.repo) or _COMMIT.fullmatch(spec.revision or ""):
        return
    known = cached_commit(spec.repo, spec.revision)
    fix = f"read the code of {spec.repo}, and set {trust_of(spec, known or 'COMMIT')}"
    raise ProbesError(
        "code is trusted at one commit, and the member's revision is"
        f" {spec.revision or 'not set'}: a branch or tag may move",
        f"pair.{spec.role}.revision",
        fix + ("" if known else " (40 digits, as its page of commits on the hub shows them)"),
    )


def _adapter(spec: ModelSpec, base: Path) -> Adapter | None:
    """Return the adapter that a spec names, or the one in the checkpoint's own folder."""
    within = (base / adapters.CONFIG).is_file()
    if not spec.adapter and not within:
        _refuse_stray(spec, base)
        return None
    if spec.adapter and within:
        raise ProbesError(
            f"the member's folder has an adapter of its own ({adapters.CONFIG})",
            f"pair.{spec.role}.adapter",
            f"leave the setting out, or move {adapters.CONFIG} out of {base}",
        )
    if within:
        _refuse_stray(spec, base)
        found = Adapter(base, spec.repo, within=True)
    else:
        place = Place(f"member {spec.name}", "adapter", lambda one: Adapter(one, "").check_files())
        folder, commit = place.find(spec.adapter)
        found = Adapter(folder, spec.adapter, commit)
    found.check()
    return found


def _refuse_stray(spec: ModelSpec, base: Path) -> None:
    """Refuse files of an adapter in a checkpoint's folder that nothing would load."""
    found = {*base.rglob("adapter_model*"), *base.glob(f"*/**/{adapters.CONFIG}")}
    if (base / adapters.CONFIG).is_file():
        found.discard(base / adapters.WEIGHTS)
    for path in sorted(path for path in found if path.is_file()):
        complete = (path.parent / adapters.CONFIG).is_file() and path.parent != base
        fix = f"complete it with {adapters.CONFIG}"
        if complete:
            fix = f"name it: pair.{spec.role}.adapter={path.parent}"
        raise ProbesError(
            "the checkpoint's folder has an adapter that nothing would load",
            str(path),
            f"{fix}, or move it out of the folder",
        )


def _refuse_elsewhere(found: Checkpoint, *, trusted: bool) -> None:
    """Refuse what makes a loader read files that lie outside of the folder, or a second config."""
    where = str(found.folder)
    if found.config.get("configuration_files"):
        raise ProbesError(
            "config.json names further configuration files by version of transformers",
            where,
            "leave the one of your version as config.json, without `configuration_files`",
        )
    audio = bool(found.read_json("audio_tokenizer_config.json"))
    if audio or found.read_json("processor_config.json").get("audio_tokenizer"):
        raise ProbesError(
            "the processor loads an audio tokenizer from another place",
            where,
            "remove it from the processor's configuration: no sound is shown",
        )
    for name in (*_NAMES_CODE, *PROCESSOR_FILES):
        for key, value in _texts(found.read_json(name)):
            # Tokenizers take a vocabulary by the path in their settings.
            if key not in _NAMES_ONLY and _leads_out(value, found.folder):
                raise ProbesError(
                    f"{name} names a file elsewhere as {key!r}, which a loader may read: {value}",
                    str(found.folder / name),
                    "copy that file into the folder under the name that the class expects, and "
                    f"leave {key!r} out",
                )
    if not trusted:  # then no code of a checkpoint is looked for
        return
    for name in (*_NAMES_CODE, *PROCESSOR_FILES):
        for named in _code(found.read_json(name)):
            if "--" in str(named):
                raise ProbesError(
                    f"its code lies in another repository: {named}",
                    str(found.folder / name),
                    f"copy that repository's code into {found.folder} after reading it, and leave"
                    f" `{named.split('--')[0]}--` out of auto_map",
                )


def _texts(content: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Yield every text of a JSON value with the name that it stands under."""
    if isinstance(content, str):
        yield key, content
    elif isinstance(content, Mapping):
        for name, value in content.items():
            yield from _texts(value, str(name))
    elif isinstance(content, list):
        for value in content:
            yield from _texts(value, key)


def _leads_out(value: str, folder: Path) -> bool:
    """Return whether a text is the path of something that lies outside of a folder."""
    if not 0 < len(value) < 4_096 or "\0" in value or os.sep not in value:
        return False
    try:
        path = Path(value).expanduser().resolve()
        return path.exists() and not path.is_relative_to(folder.resolve())
    except (OSError, RuntimeError):  # no path at all: a chat template, say
        return False


def _code(content: Any) -> Iterator[str]:
    """Yield every class that an `auto_map` names, at any depth."""
    parts = content.values() if isinstance(content, Mapping) else content
    for one in parts if isinstance(parts, list) or isinstance(content, Mapping) else ():
        yield from _code(one)
    auto = content.get("auto_map") if isinstance(content, Mapping) else None
    for one in auto.values() if isinstance(auto, Mapping) else auto or ():
        yield from (name for name in (one if isinstance(one, list) else [one]) if name)


def _complete(folder: Path) -> None:
    # A repository of an adapter alone is refused where it is found, with what to write instead.
    if (folder / "config.json").is_file() or not (folder / adapters.CONFIG).is_file():
        Checkpoint(folder, "").weights()
