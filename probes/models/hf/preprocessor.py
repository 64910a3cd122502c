"""What is known of prompts before any weight is loaded: their ids, their size, how they look."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from probes.core.types import FramesByHash, Prompt, ScoringSpec
from probes.models.hf.families.base import ProcessorBundle
from probes.models.hf.token_layout import (
    PromptSize,
    TokenGrid,
    TokenizedPrompt,
    frames_of,
    marked,
    tokenize,
)
from probes.models.hf.vision_cache import TokenGrids


class Preprocessor:
    """A checkpoint's processor at work.

    Args:
        prepared: from a family.
        context: most positions that the model has.
    """

    def __init__(self, prepared: ProcessorBundle, context: int) -> None:
        self.tokens = prepared.tokens()
        self.grids = TokenGrids(prepared.grid)
        self.context = context
        self._placeholder = prepared.placeholder

    def rows(
        self, prompts: Sequence[Prompt], frames: FramesByHash, scoring: ScoringSpec
    ) -> Iterator[tuple[int, TokenizedPrompt | str]]:
        """Yield (index, row, or why there is none); what is too long shows before it is perceived.

        Raises:
            ProbesError: the tokenizer cannot write letters as single tokens.
        """
        asked = []
        grids: dict[str, TokenGrid] = {}
        for at, prompt in enumerate(prompts):
            found, errors = self.grids.of(frames_of(prompt), frames)
            grids |= found
            if errors:
                yield at, next(iter(errors.values()))
            else:
                asked.append(at)
        rows = tokenize(self.tokens, [prompts[at] for at in asked], grids, scoring, self.context)
        yield from zip(asked, rows, strict=True)

    def sizes(
        self, prompts: Sequence[Prompt], frames: FramesByHash, scoring: ScoringSpec
    ) -> Iterator[tuple[int, PromptSize | str]]:
        """Yield (index, size, or why the prompt cannot be asked)."""
        for at, row in self.rows(prompts, frames, scoring):
            if isinstance(row, str):
                yield at, row
            else:
                yield at, PromptSize(len(row.ids), tuple(map(len, row.answers)))

    def shown(self, prompt: Prompt, answer_prefix: str = "") -> str:
        """Return the text that is tokenised, with `<frame SHA8>` for a frame's own tokens."""
        text = self.tokens.render(prompt, answer_prefix)
        return marked(text, self._placeholder, prompt)
