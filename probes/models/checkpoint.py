"""Where a member's checkpoint is, whether it is usable, and what its fingerprint is."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from probes.core.errors import ProbesError
from probes.core.hashing import remembered_sha256, sha256_json
from probes.core.types import ModelSpec

EMBEDDED = "embedded:"
_EMBEDDED_FOLDER = Path(__file__).resolve().parents[1] / "tasks/egoworld/pair/checkpoints"
TOKENIZER_FILES = tuple(
    """tokenizer.json tokenizer.model tokenizer_config.json special_tokens_map.json
    added_tokens.json vocab.json vocab.txt merges.txt""".split()
)
PROCESSOR_FILES = tuple(
    "processor_config.json preprocessor_config.json video_preprocessor_config.json".split()
)
CHAT_FILES = ("chat_template.jinja", "chat_template.json")
CONFIG_FILES = ("config.json", "generation_config.json", "model.safetensors.index.json")
# Not fetched: other formats of the same weights.
_NOT_FETCHED = ["*.bin", "*.pt", "*.pth", "*.msgpack", "*.h5", "*.onnx", "*.gguf"]
_PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
_CONVERT = (
    "convert them with `model.save_pretrained(folder)`, or name a repository that has safetensors "
    "(a pickled file can run code when it is read)"
)


@dataclass(frozen=True)
class Checkpoint:
    """A folder in the layout of the hub, with safetensors weights."""

    folder: Path
    repo: str
    """As the spec names it."""
    commit: str = ""
    """Resolved commit of a hub snapshot; empty for a local folder."""

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
        path = self.folder / name
        if not path.is_file():
            return {}
        try:
            content = json.loads(path.read_text("utf-8"))
        except ValueError as error:
            raise ProbesError(
                f"not valid JSON: {error}", str(path), "fetch the file again"
            ) from None
        if not isinstance(content, dict):
            raise ProbesError("not a JSON object", str(path), "fetch the file again")
        return content

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

    def hashes(self, names: tuple[str, ...]) -> dict[str, str]:
        """Return sha256 by name of those of `names` that the folder has."""
        paths = [self.folder / name for name in sorted(names)]
        return {path.name: remembered_sha256(path) for path in paths if path.is_file()}

    def files(self) -> dict[str, str]:
        """Return the sha256 of every file that answers depend on, by name."""
        names = CONFIG_FILES + TOKENIZER_FILES + PROCESSOR_FILES + CHAT_FILES
        return self.hashes(names + self.weights())

    def weights(self) -> tuple[str, ...]:
        """Return the names of the safetensors files that are loaded, sorted.

        Raises:
            ProbesError: weights of another format only, missing shards, or an index that names
                anything but safetensors files of the folder.
        """
        index = self.read_json("model.safetensors.index.json").get("weight_map", {})
        listed = list(index.values()) if isinstance(index, dict) else [index]
        for name in listed:
            # A hostile index could name a file outside of the folder, or a pickle, which runs code.
            plain = isinstance(name, str) and name == Path(name).name
            if not plain or not name.endswith(".safetensors"):
                raise ProbesError(
                    f"the index of weights names {name!r}, not a safetensors file next to it",
                    str(self.folder / "model.safetensors.index.json"),
                    _CONVERT,
                )
        names = sorted(set(listed)) or ["model.safetensors"]
        missing = [name for name in names if not (self.folder / name).is_file()]
        if not missing:
            return tuple(names)
        others = sorted(path.name for pattern in _NOT_FETCHED for path in self.folder.glob(pattern))
        if others and not any(self.folder.glob("*.safetensors")):
            raise ProbesError(
                f"weights are read from safetensors only, and this folder has {', '.join(others)}",
                str(self.folder),
                _CONVERT,
            )
        raise ProbesError(
            f"weights are missing: {', '.join(missing)}",
            str(self.folder),
            "complete the checkpoint",
        )

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of every tensor by name, from the headers of the safetensors files.

        Raises:
            ProbesError: a file is cut off or of another format.
        """
        from safetensors import SafetensorError, safe_open

        found: dict[str, tuple[int, ...]] = {}
        for name in self.weights():
            path = self.folder / name
            try:
                with safe_open(path, "np") as file:  # reads the header only
                    names = file.keys()
                    found |= {one: tuple(file.get_slice(one).get_shape()) for one in names}
            except (SafetensorError, OSError) as error:
                raise ProbesError(
                    f"not a safetensors file: {error}", str(path), "fetch the file again"
                ) from None
        return found

    def fingerprint(self, spec: ModelSpec, family: str, quantize: str = "") -> str:
        """Return the sha256 of everything that the member's answers depend on.

        A local folder counts by the content of its files. A hub snapshot counts by repository and
        commit, which identify that content: hashing 15 GB at every start would add nothing.
        """
        content: dict[str, Any] = (
            {"repo": self.repo, "commit": self.commit} if self.commit else {"files": self.files()}
        )
        settings = {
            "dtype": spec.dtype,
            "attention": spec.attention,
            "frame_as": spec.frame_as,
            "family": family,
        }
        if quantize:
            settings["quantize"] = quantize
        return sha256_json(content | settings)


def find(spec: ModelSpec) -> Checkpoint:
    """Find the checkpoint that a spec names; a hub repository is fetched if it can be.

    Raises:
        ProbesError: it does not exist, is incomplete, or is not in safetensors.
    """
    if spec.repo.startswith(EMBEDDED):
        found = Checkpoint(_embedded(spec.repo.removeprefix(EMBEDDED)), spec.repo)
    elif (folder := Path(spec.repo).expanduser()).is_dir():
        found = Checkpoint(folder.resolve(), spec.repo)
    elif folder.suffix in _PICKLED and folder.is_file():
        raise ProbesError(
            f"weights are read from safetensors only, and {folder.name} is a pickled file",
            spec.repo,
            _CONVERT,
        )
    elif spec.repo.count("/") != 1 or spec.repo.startswith((".", "/", "~")):
        raise ProbesError(
            "there is no such checkpoint folder", spec.repo, "correct the member's `repo`"
        )
    else:
        folder = _snapshot(spec)
        found = Checkpoint(folder, spec.repo, folder.name)
    if not found.config:
        raise ProbesError(
            "a checkpoint folder needs a config.json",
            str(found.folder),
            "name a folder that was written by `save_pretrained` or fetched from the hub",
        )
    for part in ("text_config", "vision_config"):
        if not isinstance(found.config.get(part) or {}, dict):
            raise ProbesError(
                f"{part} is not a JSON object", str(found.folder / "config.json"), "fetch it again"
            )
    found.weights()
    return found


def _embedded(name: str) -> Path:
    folder = _EMBEDDED_FOLDER
    # The parent is compared, so that `embedded:../..` leads nowhere.
    if name and (folder / name).is_dir() and (folder / name).parent == folder:
        return folder / name
    names = sorted(path.parent.name for path in folder.glob("*/config.json"))
    raise ProbesError(
        f"no checkpoint named {name!r} ships with the project",
        EMBEDDED + name,
        f"use one of {', '.join(names)}" if names else "train one: probes train tiny OUT",
    )


def _snapshot(spec: ModelSpec) -> Path:
    """Return the folder of a hub snapshot, which is fetched now unless it is cached."""
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    cached: ProbesError | None = None
    try:
        # Without the network first: a cached member needs no hub, and no branch moves under it.
        folder = Path(snapshot_download(spec.repo, revision=spec.revision, local_files_only=True))
        snapshot = Checkpoint(folder, spec.repo, folder.name)
        snapshot.weights()  # a fetch that was cut off leaves a folder too
        return folder
    except LocalEntryNotFoundError:
        pass
    except ProbesError as error:
        cached = error
    revision = f" --revision {spec.revision}" if spec.revision else ""
    reason = "the hub is offline (HF_HUB_OFFLINE)"
    if not constants.HF_HUB_OFFLINE:
        try:
            return Path(
                snapshot_download(spec.repo, revision=spec.revision, ignore_patterns=_NOT_FETCHED)
            )
        except Exception as error:
            # Whatever goes wrong on the network, the fix is the same.
            reason = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    state = f"incomplete in the local cache ({cached.what})" if cached else "not in the local cache"
    raise ProbesError(
        f"{spec.repo} (revision {spec.revision or 'main'}) is {state} and cannot be fetched:"
        f" {reason}",
        f"member {spec.name}",
        f"run `hf download {spec.repo}{revision}` with a network, or set `repo` to a folder",
    )
