"""Registries: what a name stands for, be it built in or installed by another package.

A built-in entry is written as an installed one is, `module:attribute`, and goes the same way: it is
imported when its name is asked for, and checked then. Installed entries come from entry points of
the registry's group. A name that is built in cannot be taken by an installed entry, and an entry
that fails to load harms nobody who does not ask for it.
"""

from __future__ import annotations

import functools
import importlib
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from importlib import metadata
from typing import Any, Generic, TypeVar

from probes.core.errors import ProbesError
from probes.core.text import nearest

T = TypeVar("T")
_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
PLAIN = "a name has letters, digits, _, - and ., and does not begin with - or ."
"""What a plain name is, for messages."""


@dataclass(frozen=True, slots=True)
class Entry:
    """Where a name of a registry leads."""

    name: str
    target: str
    """`module:attribute`."""
    distribution: str = ""
    """The installed package that names it, with its version; empty where it is built in."""


class Registry(Generic[T]):
    """The entries of one group.

    Args:
        group: name of the entry points, e.g. `probes.families`.
        what: what an entry is called in messages, e.g. `family`.
        builtin: name -> `module:attribute`, in the order in which they are listed.
        check: returns the entry of a loaded object; raises ValueError or TypeError with what is
            wrong with it.
    """

    def __init__(
        self, group: str, what: str, builtin: Mapping[str, str], check: Callable[[str, object], T]
    ) -> None:
        self.group, self.what = group, what
        self._builtin = {name: Entry(name, target) for name, target in builtin.items()}
        self._check = check
        self._loaded: dict[str, T] = {}

    def entries(self) -> dict[str, Entry]:
        """Return all entries by name, built-in ones first; nothing is imported.

        Of two installed entries of one name the first by package is taken; `unusable` has the rest.
        """
        found = dict(self._builtin)
        for entry in installed(self.group):
            # In the order of packages: the order of folders on a disk decides nothing.
            if is_plain(entry.name):
                found.setdefault(entry.name, entry)
        return found

    def unusable(self) -> list[tuple[Entry, str]]:
        """Return the installed entries that no name leads to, each with the reason."""
        taken, found = self.entries(), []
        for entry in installed(self.group):
            if not is_plain(entry.name):
                found.append((entry, PLAIN))
            elif (other := taken[entry.name]) != entry:
                by = f"taken by {other.distribution}" if other.distribution else "built in"
                found.append((entry, f"the name is {by}"))
        return found

    def whose(self, name: str) -> str:
        """Return ` of PACKAGE VERSION` for an installed entry, for messages; empty for others."""
        entry = self._entry(name)
        return f" of {entry.distribution}" if entry is not None and entry.distribution else ""

    def names(self) -> tuple[str, ...]:
        """Return the names of all entries; nothing is imported."""
        return tuple(self.entries())

    def get(self, name: str, where: str) -> T:
        """Return what a name stands for.

        Args:
            name: of an entry.
            where: the setting that holds the name, for messages.

        Raises:
            ProbesError: there is no such entry, or it cannot be loaded, or is not what it should.
        """
        if name in self._loaded:
            return self._loaded[name]
        entry = self._entry(name)
        if entry is None:
            raise ProbesError(
                f"there is no {self.what} named {name!r}", where, nearest(name, self.names())
            )
        try:
            self._loaded[name] = self._check(name, load(entry.target))
        # An entry is a program of others: it may raise anything, and may even try to end this one.
        except (Exception, SystemExit) as error:
            raise ProbesError(
                f"{self.what} {name!r}{self.whose(name)} cannot be loaded: "
                f"{type(error).__name__}: {error}",
                entry.target,
                "correct or remove the package; `probes plugins` shows what is installed",
            ) from error
        return self._loaded[name]

    def _entry(self, name: str) -> Entry | None:
        # Built-in ones first: no package takes their name, and none is looked for on their account.
        return self._builtin.get(name) or self.entries().get(name)


def is_plain(name: str) -> bool:
    """Return whether a name can be that of an entry or a file: see `PLAIN`."""
    return _PLAIN.fullmatch(name) is not None


def load(target: str) -> object:
    """Import what `module:attribute` names."""
    module, _, attribute = target.partition(":")
    found: object = importlib.import_module(module)
    for name in attribute.split("."):
        found = getattr(found, name)
    return found


@functools.cache  # looking through all installed packages takes tens of milliseconds
def installed(group: str) -> tuple[Entry, ...]:
    """Return what installed packages add to a group, by package and name; nothing is imported."""
    points = metadata.entry_points(group=group)
    entries = (Entry(point.name, point.value, _distribution(point.dist)) for point in points)
    return tuple(sorted(entries, key=lambda entry: (entry.distribution, entry.name)))


def misspelt(groups: Collection[str]) -> list[tuple[str, Entry]]:
    """Return the entries of groups that are named as ours are and are none, each with its group.

    Args:
        groups: those that there are.
    """
    found = sorted(metadata.entry_points().groups)
    others = [one for one in found if one.startswith("probes.") and one not in groups]
    return [(group, entry) for group in others for entry in installed(group)]


def _distribution(found: metadata.Distribution | None) -> str:
    # What a build left half done has a folder, but neither name nor version in it.
    facts: Any = found.metadata if found is not None else {}
    if "Name" not in facts:
        return "an unknown package"
    version = facts.get("Version", "without a version")
    return f"{facts['Name']} {version}"
