"""What is known of a member before its answers are believed: see `probes doctor`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

CheckState = Literal["equal", "differs", "unseen"]


@dataclass(frozen=True, slots=True)
class OwnCheck:
    """How something compares with what the class's own processor makes of the same prompt."""

    state: CheckState
    detail: str = ""
    """Where it differs, or why it cannot be seen."""


@dataclass(frozen=True, slots=True)
class PromptCheck:
    """One made prompt as a member takes it."""

    ids: tuple[int, ...]
    """Token ids; -1 once for every frame."""
    pieces: tuple[str, ...]
    """The vocabulary's entry of each."""
    own_ids: OwnCheck
    own_pixels: OwnCheck


@dataclass(frozen=True, slots=True)
class Examination:
    """What the files of one member show, without its weights."""

    prompts: tuple[PromptCheck, ...]
    """In the order in which they were given."""
    moves_pictures: bool
    """Whether the chat template puts pictures before text: then all goes in as one text."""
    ending: str
    """What is rendered behind the user's text, answer prefix included."""
    thought: str
    """The opening tag of a thought that the prompt leaves open; empty where there is none."""
    closing: str
    """The tag that would close it."""
    switch: str
    """A setting of the chat template that decides on thoughts; empty where it has none."""
    letters: Mapping[str, tuple[tuple[int, str], ...]]
    """Under `letter`: ids and pieces of the tokens that are scored for each letter."""
    unscorable: str
    """Why no letters can be scored; empty where they can."""
    context: int
    """Positions of the language model."""
    tokenizer: Mapping[str, Any]
    """Class, size, hash of the vocabulary, added tokens by id."""
    config: Mapping[str, Any]
    """The configuration with the class's defaults, flat: dotted names."""
    processor: Mapping[str, Any]
    """Settings of the part that prepares frames, flat."""

    def plain(self) -> dict[str, Any]:
        """Return the content as JSON can hold it."""
        return asdict(self)


def examination_of(content: Mapping[str, Any]) -> Examination:
    """Return the examination of which `plain` gave this content.

    Raises:
        Exception: one of `UNSOUND`, where it is of another form.
    """
    prompts = tuple(
        PromptCheck(
            tuple(map(int, one["ids"])),
            tuple(map(str, one["pieces"])),
            OwnCheck(**one["own_ids"]),
            OwnCheck(**one["own_pixels"]),
        )
        for one in content["prompts"]
    )
    letters = {
        str(letter): tuple((int(at), str(piece)) for at, piece in forms)
        for letter, forms in content["letters"].items()
    }
    return Examination(**{**content, "prompts": prompts, "letters": letters})


@dataclass(frozen=True, slots=True)
class PassCheck:
    """How the answers to a few prompts compare with plain forward passes of the class."""

    compared: int = 0
    """Prompts that were put to both."""
    largest: float = 0.0
    """Largest difference of an option's log-probability."""
    tolerance: float = 0.0
    """What rounding in the weights' dtype may make of it."""
    other_choices: int = 0
    """Prompts whose best option, or first written token, is another."""
    letter_mass: float | None = None
    """Under `letter`: mean probability of all letters together."""
    unseen: str = ""
    """Why a prompt could not be compared."""

    @property
    def holds(self) -> bool:
        """Whether no difference is beyond rounding."""
        return self.largest <= self.tolerance and not self.other_choices


@dataclass(frozen=True, slots=True)
class MemberCheck:
    """All that is known of one member."""

    name: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    """As its backend describes it."""
    seen: Examination | None = None
    """None where the backend shows nothing of how it treats prompts, or cannot be loaded."""
    passes: PassCheck | None = None
    """None where no weights were loaded."""
    errors: tuple[str, ...] = ()
    """What makes its answers worthless, with the way out."""
    unseen: tuple[str, ...] = ()
    """What could not be looked at."""
    remarks: tuple[str, ...] = ()
    """What a user has to know of how it is run."""
    longest: int = 0
    """Tokens of the longest planned prompt that was measured; 0 where none was."""
