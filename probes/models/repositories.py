"""Where the folder of a checkpoint or adapter is: in the package, on this disk, or on the hub."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from probes.core.errors import ProbesError
from probes.models.weight_files import CONVERT, NOT_FETCHED

EMBEDDED = "embedded:"
_EMBEDDED_FOLDER = Path(__file__).resolve().parents[1] / "tasks/egoworld/pair/checkpoints"
_PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")


@dataclass(frozen=True)
class Place:
    """A setting that names a folder, a repository of the hub, or what ships with the project."""

    where: str
    """Whose setting, for messages."""
    setting: str
    """`repo` or `adapter`."""
    complete: Callable[[Path], None]
    """Raises ProbesError if a folder of the hub's cache lacks something."""

    def find(self, repo: str, revision: str | None = None) -> tuple[Path, str]:
        """Return the folder and its commit, which is empty for one that is no hub snapshot.

        Raises:
            ProbesError: there is none, or it cannot be fetched.
        """
        if repo.startswith(EMBEDDED):
            return _embedded(repo.removeprefix(EMBEDDED)), ""
        folder = Path(repo).expanduser()
        if folder.is_dir():
            return folder.resolve(), ""
        if folder.suffix in _PICKLED and folder.is_file():
            raise ProbesError(
                f"weights are read from safetensors only, and {folder.name} is a pickled file",
                repo,
                CONVERT,
            )
        if not is_hub_name(repo):
            what = "adapter" if self.setting == "adapter" else "checkpoint"
            raise ProbesError(
                f"there is no such {what} folder", repo, f"correct the member's `{self.setting}`"
            )
        snapshot = self._snapshot(repo, revision)
        return snapshot, snapshot.name

    def _snapshot(self, repo: str, revision: str | None) -> Path:
        """Return the folder of a hub snapshot, which is fetched now unless it is cached."""
        from huggingface_hub import constants, snapshot_download
        from huggingface_hub.errors import LocalEntryNotFoundError

        cached: ProbesError | None = None
        try:
            # Without the network first: a cached member needs no hub, and no branch moves under it.
            folder = Path(snapshot_download(repo, revision=revision, local_files_only=True))
            self.complete(folder)  # a fetch that was cut off leaves a folder too
            return folder
        except LocalEntryNotFoundError:
            pass
        except ProbesError as error:
            cached = error
        option = f" --revision {revision}" if revision else ""
        reason = "the hub is offline (HF_HUB_OFFLINE)"
        if not constants.HF_HUB_OFFLINE:
            try:
                return Path(snapshot_download(repo, revision=revision, ignore_patterns=NOT_FETCHED))
            except Exception as error:
                # Whatever goes wrong on the network, the fix is the same.
                reason = (
                    f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
                )
        state = (
            f"incomplete in the local cache ({cached.what})" if cached else "not in the local cache"
        )
        raise ProbesError(
            f"{repo} (revision {revision or 'main'}) is {state} and cannot be fetched: {reason}",
            self.where,
            f"run `hf download {repo}{option}` with a network, or set `{self.setting}` to a folder",
        )


def is_hub_name(repo: str) -> bool:
    """Return whether a member's repo is a name on the hub: no folder, and not `embedded:`."""
    if repo.startswith((EMBEDDED, ".", "/", "~")) or Path(repo).expanduser().is_dir():
        return False
    return repo.count("/") == 1


def cached_commit(repo: str, revision: str | None) -> str:
    """Return the commit that a revision has in the local cache of the hub; empty if in none."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(repo, "config.json", revision=revision)
    return Path(found).parent.name if isinstance(found, str) else ""


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
