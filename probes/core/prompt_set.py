"""The wording of everything a model is asked."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PromptSet:
    """The wording of everything that a model is told; texts with `{placeholders}`."""

    name: str
    between: str
    """What stands in a gap that has an infill, white space included: {infill}."""
    common: str
    """Step 1 of an infill: {frame_a} {frame_b}."""
    event: str
    """Step 2 of an infill: {frame_a} {frame_b} {common}."""
    condense: str
    """What the condenser is told: {text}."""
    letter: str
    """The question under `letter`: {context} {question} {options}."""
    cloze: str
    """The question under `cloze`, without options: {context} {question}."""
    generate: str
    """The question under `generate`: {context} {question} {options}."""
