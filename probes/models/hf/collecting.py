"""What hooks and controllers give and raise, checked: they are programs of others."""

from __future__ import annotations

import contextlib
import sys
import traceback
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probes.core import tensors
from probes.core.errors import ProbesError
from probes.core.text import whole_text
from probes.core.types import ArrayName, Output
from probes.models.base import error_output
from probes.models.hf.batching import EntryError, is_device_lost, is_out_of_memory
from probes.models.interventions import Collected


@contextlib.contextmanager
def named_errors(names: Sequence[str], *entries: object) -> Iterator[None]:
    """Turn an exception into an `EntryError` that names the entry and its line.

    Args:
        names: what the entries that there are are called, e.g. `intervention 'x'`.
        entries: hook and controller, or None.
    """
    try:
        yield
    except ProbesError:
        raise
    except Exception as error:
        # The batcher deals with memory, and with a lost device.
        if not names or is_out_of_memory(error) or is_device_lost(error):
            raise
        frames = traceback.extract_tb(error.__traceback__)
        who, where = " and ".join(names), frames[-1]
        given = [entry for entry in entries if entry is not None]
        for name, entry in zip(names, given, strict=True):
            file = getattr(sys.modules.get(type(entry).__module__), "__file__", None)
            own = [one for one in frames if one.filename == file]
            if own:
                who, where = name, own[-1]
        raise EntryError(
            f"{who}: {type(error).__name__}: {error} ({Path(where.filename).name}:{where.lineno})"
        ) from None


def with_collected(output: Output, collected: Collected, who: str) -> Output:
    """Return an output with what was collected, or an error that names who gave what is wrong.

    Args:
        output: of the prompt.
        collected: by a hook, a controller or both.
        who: their names.
    """
    if output.status == "error" or not (collected.extras or collected.arrays):
        return output
    try:
        extras = {_extra_name(name): _number(name, x) for name, x in collected.extras.items()}
        arrays = {name: _array(name, value) for name, value in collected.arrays.items()}
    except ProbesError as error:
        return error_output(f"{who}: {error.what} ({error.where})", output.input_tokens)
    except Exception as error:  # a tensor of no dense numbers, a list of lists of two lengths, ...
        return error_output(f"{who}: {type(error).__name__}: {error}", output.input_tokens)
    return replace(output, extras=extras, arrays=arrays)


def _extra_name(name: object) -> str:
    good = isinstance(name, str) and name.strip() and whole_text(name) == name
    if not good or any(unicodedata.category(one) == "Cc" for one in str(name)):
        raise ValueError(f"an extra is named {name!r}: use a text without control characters")
    return str(name)


def _number(name: str, value: Any) -> float:
    # A text would pass: float("1e3") is a number.
    if isinstance(value, str | bytes | bytearray):
        raise TypeError(f"extra {name!r} is the text {value!r}, not a number")
    return float(value)


def _array(name: ArrayName, value: Any) -> NDArray[np.generic]:
    """Return a tensor or numbers as an array in the CPU's memory; bfloat16 becomes float32."""
    label = tensors.label(name)
    if hasattr(value, "detach"):
        value = value.detach()
        # NumPy has no bfloat16, and float32 has all of its values.
        value = (value.float() if str(value.dtype) == "torch.bfloat16" else value).cpu().numpy()
    return tensors.plain(label, np.asarray(value))
