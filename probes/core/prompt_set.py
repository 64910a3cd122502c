"""The wording of every prompt."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PromptSet:
    """The texts, with `{placeholders}`, from which every prompt is made."""

    name: str
    between: str
    """Text of a gap that has an infill, white space included: {infill}."""
    common: str
    """Step 1 of an infill: {frame_a} {frame_b}."""
    event: str
    """Step 2 of an infill: {frame_a} {frame_b} {common}."""
    condense: str
    """The condenser's prompt: {text}."""
    letter: str
    """The question under `letter`: {context} {question} {options}."""
    cloze: str
    """The question under `cloze`, without options: {context} {question}."""
    generate: str
    """The question under `generate`: {context} {question} {options}."""
