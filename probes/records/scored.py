"""What is to be known of scored answers beside any number: ties, mass on letters, bounds."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_EMBEDDED = "embedded:"  # as in `probes.models.repositories`, of the same floor
LEAST_MASS = 0.5
"""Mean probability on the options' letters below which it is told."""
KINDS = ("ties", "bounds", "mass on letters")
"""How the lines begin that `lines` yields."""
Member = tuple[str, str]
"""Role and name."""


@dataclass
class ScoredAnswers:
    """Counts of one member's answers whose options were scored."""

    answers: int = 0
    tied: int = 0
    """Of them, those in which several options had exactly the best score."""
    bounded: int = 0
    """Those with a letter that a server did not list."""
    by_letter: int = 0
    """Those with a mass on letters."""
    mass: float = 0.0
    """The sum of these."""

    def add(self, tokens: Sequence[int], tied: bool, mass: float | None) -> None:
        """Count one answer.

        Args:
            tokens: of every option.
            tied: whether it was drawn.
            mass: on the options' letters; None where they were not scored.
        """
        self.answers += 1
        self.tied += tied
        self.bounded += 0 in tokens
        if mass is not None:
            self.by_letter += 1
            self.mass += mass

    def as_dict(self) -> dict[str, float]:
        """Return the counts, as the manifest has them."""
        found: dict[str, float] = {n: getattr(self, n) for n in ("answers", "tied", "bounded")}
        return found | ({"letter_mass": round(self.mean, 4)} if self.by_letter else {})

    @property
    def mean(self) -> float:
        """Mean mass on letters; NaN where none were scored."""
        return self.mass / self.by_letter if self.by_letter else float("nan")


def exempt(config: Mapping[str, Any]) -> set[str]:
    """Return the names of members whose mass on letters is of no matter.

    Embedded checkpoints are trained for the instrument's own tests, and scripted members are no
    models.

    Args:
        config: of a run, as its manifest has it.
    """
    pair, backend = (config.get(name) for name in ("pair", "backend"))
    members = pair.get("members") if isinstance(pair, Mapping) else None
    scripted = isinstance(backend, Mapping) and backend.get("name") == "scripted"
    return {
        str(one.get("name"))
        for one in (members if isinstance(members, list | tuple) else ())
        if isinstance(one, Mapping) and (scripted or str(one.get("repo")).startswith(_EMBEDDED))
    }


def lines(found: Mapping[Member, ScoredAnswers], without: Collection[str] = ()) -> Iterator[str]:
    """Yield what must be known of members' answers; nothing where all is well.

    Args:
        found: by role and name.
        without: names of those whose mass on letters is of no matter.
    """
    for (role, name), one in found.items():
        if one.tied:
            yield (
                f"ties: {one.tied} of {one.answers} answers of {role}: options with exactly the "
                "best score, among which a draw by seed, item and stimulus decided"
            )
        if one.bounded:
            yield (
                f"bounds: {one.bounded} of {one.answers} answers of {role} have letters that the "
                "server did not list: less likely than those it listed, by an unknown amount"
            )
        if one.mean < LEAST_MASS and name not in without:
            yield (
                f"mass on letters: {one.mean:.2f} on average, {name} ({role}): it mostly says "
                "something else where its letter is read; see its prompt (`probes plan --dry-run`)"
                " and compare with scoring=generate"
            )
