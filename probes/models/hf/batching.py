"""How many prompts go through a model together, and what happens when they are too many."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from probes.core.errors import MachineError, ProbesError

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Failed:
    """Why an input failed on its own."""

    error: str
    """Type and message; not the exception, whose traceback would keep tensors alive."""
    memory: bool = False
    """Whether it did not fit in memory."""


class EntryError(Exception):
    """A hook or controller failed; its message says which, how and where."""


def batches(lengths: Sequence[int], size: int, tokens: int) -> list[list[int]]:
    """Group indices into batches of similar length.

    The longest come first, so that a batch which is too large for the memory shows at once.

    Args:
        lengths: tokens of every input.
        size: most inputs in one batch, at least 1.
        tokens: most tokens in one batch, padding included; a longer input goes alone.

    Returns:
        Batches of indices into `lengths`; every index once.
    """
    order = sorted(range(len(lengths)), key=lambda at: -lengths[at])
    out: list[list[int]] = []
    for at in order:
        # The first of a batch is its longest: the others are padded to it.
        if out and len(out[-1]) < size and lengths[out[-1][0]] * (len(out[-1]) + 1) <= tokens:
            out[-1].append(at)
        else:
            out.append([at])
    return out


class Batcher:
    """Runs batches within two bounds, and lowers the bound on tokens where memory runs out.

    Args:
        size: most inputs in one batch.
        tokens: most tokens in one batch; remembers across calls what turned out to fit.
    """

    def __init__(self, size: int, tokens: int) -> None:
        self.size = max(1, size)
        self.tokens = tokens

    def run(
        self, lengths: Sequence[int], function: Callable[[list[int]], Sequence[R]]
    ) -> Iterator[tuple[list[int], Sequence[R] | Failed]]:
        """Run `function` over batches of indices.

        A batch that does not fit in memory is halved, and so are those to come; one that fails
        otherwise is halved until the input that causes it is alone.

        Yields:
            (indices, what `function` returned for them; `Failed` for one that fails alone).

        Raises:
            MachineError: the device is lost, so that all other inputs would fail too.
        ProbesError: `function` raised it.
        """
        pending = deque(batches(lengths, self.size, self.tokens))
        while pending:
            batch = pending.popleft()
            result = _attempt(function, batch)
            if not isinstance(result, Failed) or len(batch) == 1:
                yield batch, result
            elif result.memory:
                # By what the batch was padded to, which is what did not fit.
                self.tokens = max(1, max(lengths[at] for at in batch) * len(batch) // 2)
                rest = batch + [at for group in pending for at in group]
                # All that is left is grouped anew: other batches of that size would fail alike.
                again = batches([lengths[at] for at in rest], self.size, self.tokens)
                pending = deque([rest[at] for at in group] for group in again)
            else:
                # Next, before other batches: the culprit is alone after a few passes.
                middle = len(batch) // 2
                # extendleft reverses, so the first half comes first.
                pending.extendleft([batch[middle:], batch[:middle]])


def _attempt(function: Callable[[list[int]], R], batch: list[int]) -> R | Failed:
    try:
        return function(batch)
    except ProbesError:  # no input is to blame
        raise
    except Exception as error:
        if is_device_lost(error):
            raise MachineError(
                f"the accelerator failed: {str(error).partition(chr(10))[0]}",
                "",
                "the same command goes on from what is stored, in a new process; where it ends at "
                "the same prompt again, run with backend.device=cpu to see which one",
            ) from error
        kind = "" if isinstance(error, EntryError) else f"{type(error).__name__}: "
        failed = Failed(f"{kind}{error}", is_out_of_memory(error))
    # Outside the handler: until here the traceback holds the failed batch's tensors.
    if failed.memory:
        free_memory()
    return failed


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error means that a smaller batch may succeed.

    CUDA raises `torch.OutOfMemoryError`, its libraries and the CPU allocator a plain RuntimeError,
    NumPy a MemoryError.
    """
    text = str(error)
    # By name, as torch need not be loaded to ask.
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    signs = ("out of memory", "defaultcpuallocator", "alloc_failed")
    return isinstance(error, RuntimeError) and any(sign in text.lower() for sign in signs)


def is_device_lost(error: BaseException) -> bool:
    """Return whether an error means that every further call to the device will fail too."""
    # Before it had AcceleratorError, torch raised a plain RuntimeError with this text.
    named = type(error).__name__ == "AcceleratorError" or str(error).startswith("CUDA error")
    return isinstance(error, RuntimeError) and named and not is_out_of_memory(error)


def free_memory() -> None:
    """Empty the cache of CUDA's allocator; torch is not imported for it."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
