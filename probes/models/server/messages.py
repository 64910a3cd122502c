"""The OpenAI chat protocol: prompts to messages, replies to texts and log-probabilities."""

from __future__ import annotations

import base64
import io
import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

from probes.core.types import FrameArray, FramesByHash, Output, Request
from probes.models.base import error_output
from probes.models.chat_template import message_parts
from probes.models.hf.vision_cache import read_frame

_FORMS = ("{}", " {}", "\u2581{}", "\u0120{}")
"""How servers show the token of a letter: bare, or behind the space that tokenizers write so."""


class NoLogprobsError(Exception):
    """The endpoint answered a request for log-probabilities without any."""


def messages(prompt: Request, picture: Callable[[str], str]) -> list[dict[str, Any]]:
    """Return one user message whose parts are the prompt's texts and frames, in their order.

    Args:
        prompt: what is shown.
        picture: sha256 -> data URL of the frame.
    """

    def part(sha256: str) -> dict[str, Any]:
        return {"type": "image_url", "image_url": {"url": picture(sha256)}}

    return [{"role": "user", "content": message_parts(prompt, part)}]


def data_url(frame: FrameArray) -> str:
    """Return a frame as a PNG (lossless) data URL."""
    from PIL import Image

    file = io.BytesIO()
    # Level 1 instead of 6: 0.6 ms and not 1.0 ms for a frame of the small world, 14 % larger.
    Image.fromarray(frame).save(file, "PNG", compress_level=1)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


class EncodedFrames:
    """Data URLs of frames, encoded once each while they are in use; the least recent go first.

    Args:
        frames: sha256 -> uint8 RGB [height, width, 3].
        capacity: bound of what is kept, in bytes.
    """

    def __init__(self, frames: FramesByHash, capacity: int) -> None:
        self.encoded = 0
        """Frames that were encoded."""
        self._frames = frames
        self._capacity = capacity
        self._kept: OrderedDict[str, str] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def __call__(self, sha256: str) -> str:
        """Return the data URL of a frame.

        Raises:
            ValueError: it is not a picture.
        """
        with self._lock:
            if sha256 in self._kept:
                self._kept.move_to_end(sha256)
                return self._kept[sha256]
        # Without the lock, so that threads encode side by side; two may encode the same frame.
        url = data_url(read_frame(self._frames, sha256))
        # Encoded outside the lock, so by two threads at worst twice: the others need not wait.
        with self._lock:
            self.encoded += 1
            if sha256 not in self._kept:
                self._kept[sha256] = url
                self._bytes += len(url)
            while self._bytes > self._capacity and self._kept:
                _, gone = self._kept.popitem(last=False)
                self._bytes -= len(gone)
        return url


def is_completion(reply: Any) -> bool:
    """Return whether a reply is a chat completion, with any text."""
    return text_output(reply).status == "ok"


def text_output(reply: Any) -> Output:
    """Return the text of a chat completion, without outer white space as in other backends."""
    choice = _choice(reply)
    if choice is None:
        return error_output("the reply is not a chat completion")
    text = choice["message"].get("content")
    if text is not None and not isinstance(text, str):
        return error_output("the reply's content is not a text")
    return Output(
        text=(text or "").strip(),
        input_tokens=_tokens(reply, "prompt_tokens"),
        output_tokens=_tokens(reply, "completion_tokens"),
    )


def letter_output(reply: Any, letters: Sequence[str]) -> Output:
    """Return the log-probability of every letter as the reply's first token.

    The probabilities of the listed tokens that show a letter, bare or behind one space ("A" and
    " A"), add up, as in the hf backend. A letter that is not listed is only known to be less likely
    than every listed token: it gets the next float below the least listed log-probability, and 0 in
    `option_tokens` marks this as a bound and not an observation.

    Args:
        reply: a chat completion with `logprobs`.
        letters: the options.

    Returns:
        The output; an error where no letter is listed, as then nothing distinguishes them.

    Raises:
        NoLogprobsError: the reply has none.
    """
    plain = text_output(reply)
    if plain.status != "ok":
        return plain
    listed = _first_token(_choice(reply))
    if not listed:
        raise NoLogprobsError
    forms = {form.format(letter): letter for letter in letters for form in _FORMS}
    found: dict[str, list[float]] = {letter: [] for letter in letters}
    for token, logprob in listed:
        if token in forms:
            found[forms[token]].append(logprob)
    floor = math.nextafter(min(logprob for _, logprob in listed), -math.inf)
    if not any(found.values()):
        return Output(
            status="error",
            error=f"no option's letter is among the {len(listed)} likeliest first tokens"
            f" (the reply began with {listed[0][0]!r})",
            text=plain.text,
            input_tokens=plain.input_tokens,
        )
    return Output(
        option_logprobs=tuple(_summed(found[letter], floor) for letter in letters),
        option_tokens=tuple(1 if found[letter] else 0 for letter in letters),
        text=plain.text,
        input_tokens=plain.input_tokens,
    )


def _summed(logprobs: Sequence[float], floor: float) -> float:
    """Return the log of the summed probability of tokens; the floor where there are none."""
    if len(logprobs) < 2 or (best := max(logprobs)) == -math.inf:  # as the server wrote it
        return logprobs[0] if logprobs else floor
    return best + math.log(math.fsum(math.exp(one - best) for one in logprobs))


def at(value: Any, *steps: str | int) -> Any:
    """Return what lies at a path of names and places in JSON; None where the path does not lead."""
    for step in steps:
        try:
            value = value[step]
        except (KeyError, IndexError, TypeError):
            return None
    return value


def _choice(reply: Any) -> dict[str, Any] | None:
    """Return the first choice, if the reply has the protocol's shape."""
    choice = at(reply, "choices", 0)
    return choice if isinstance(at(choice, "message"), dict) else None


def _tokens(reply: Any, name: str) -> int:
    count = at(reply, "usage", name)
    return count if isinstance(count, int) else 0


def _first_token(choice: Any) -> list[tuple[str, float]]:
    """Return (token, log-probability) of the listed first tokens, the likeliest first."""
    first = at(choice, "logprobs", "content", 0)
    entries = at(first, "top_logprobs")
    found = [pair for pair in map(_pair, entries if isinstance(entries, list) else []) if pair]
    own = _pair(first)
    # The chosen token alone is no list: nothing would be known of the other letters.
    # A server may leave the chosen token out of its list. By its text: with another rounding of
    # its log-probability it would be counted twice.
    if found and own and own[0] not in [token for token, _ in found]:
        found.append(own)
    return sorted(found, key=lambda pair: -pair[1])


def _pair(entry: Any) -> tuple[str, float] | None:
    token, logprob = at(entry, "token"), at(entry, "logprob")
    # NaN has no place in any order: sorted among the others it would hide the likeliest.
    if not isinstance(token, str) or not isinstance(logprob, int | float) or math.isnan(logprob):
        return None
    return token, float(logprob)
