"""What is known of prompts before any weight is loaded: their ids, their size, their text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from probes.core.types import FramesByHash, Params, Request, ScoringSpec
from probes.models.base import PromptSize, Unaskable, frames_of
from probes.models.hf.families.base import ProcessorBundle
from probes.models.hf.token_layout import TokenGrid, TokenizedPrompt, marked, tokenize
from probes.models.hf.vision_cache import TokenGrids


class Preprocessor:
    """Tokenizes prompts by a checkpoint's processor.

    Args:
        bundle: from a family.
        context: most positions that the model has.
        variables: further variables of the chat template (`chat_template_kwargs`).
    """

    def __init__(self, bundle: ProcessorBundle, context: int, variables: Params = ()) -> None:
        self.bundle = bundle
        self.tokens = bundle.tokens(variables)
        self.grids = TokenGrids(bundle.grid)
        self.context = context

    def tokenize(
        self, prompts: Sequence[Request], frames: FramesByHash, scoring: ScoringSpec
    ) -> Iterator[tuple[int, TokenizedPrompt | Unaskable]]:
        """Yield (index, tokenized prompt); one that is too long is found before any encoding.

        Raises:
            ProbesError: the tokenizer cannot write letters as single tokens.
        """
        readable = []
        grids: dict[str, TokenGrid] = {}
        for at, prompt in enumerate(prompts):
            results = self.grids.of(frames_of(prompt), frames)
            grids |= results.found
            if results.errors:
                yield at, Unaskable(next(iter(results.errors.values())))
            else:
                readable.append(at)
        some = [prompts[at] for at in readable]
        tokenized = tokenize(self.tokens, some, grids, scoring, self.context)
        yield from zip(readable, tokenized, strict=True)

    def sizes(
        self, prompts: Sequence[Request], frames: FramesByHash, scoring: ScoringSpec
    ) -> Iterator[tuple[int, PromptSize | Unaskable]]:
        """Yield (index, size) of every prompt."""
        for at, prompt in self.tokenize(prompts, frames, scoring):
            if isinstance(prompt, Unaskable):
                yield at, prompt
            else:
                yield at, PromptSize(len(prompt.ids), tuple(map(len, prompt.answers)))

    def shown(self, prompt: Request, answer_prefix: str = "") -> str:
        """Return the text that is tokenized, with `<frame SHA8>` for a frame's own tokens."""
        text = self.tokens.render(prompt, answer_prefix)
        return marked(text, self.tokens.placeholder, prompt)
