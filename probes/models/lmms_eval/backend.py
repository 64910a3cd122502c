"""lmms-eval's chat model wrappers, driven one stimulus at a time and without its evaluator.

Some wrappers build a whole batch from the first request's messages, write into the generation
settings that they are given, or turn an exception into an empty reply. So every call has one
request with settings of its own, and a reply without a single token is an error, not an answer.
The evaluator's `clean()`, which dismantles a model, is never called.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from importlib import metadata
from typing import Any

from probes.core import origins
from probes.core.errors import ProbesError
from probes.core.hashing import sha256_json
from probes.core.types import FramesByHash, ModelSpec, Origin, Output, Request, ScoringSpec
from probes.models import checked
from probes.models.base import (
    BackendSettings,
    Capabilities,
    check_images,
    check_options,
    check_requests,
    error_output,
    refuse_adapter,
    refuse_variables,
)
from probes.models.chat_template import (
    first_request,
    has_pictures,
    kept_order,
    message_parts,
)
from probes.models.checkpoint import find
from probes.models.checkpoint_files import WatchedFiles
from probes.models.hf.batching import free_memory
from probes.models.hf.families.loading import LIBRARIES, best_device, loading, origin_of
from probes.models.lmms_eval import wrappers

ADAPTER = "lmms-2"
"""Raised whenever the same prompt and wrapper would get another text."""
OPTIONS = ("model", "args", "order_is_checked")
_TASK, _SPLIT = "probes", "test"
_FAILED = "[LMMS_EVAL_REQUEST_FAILED"
"""How the replies begin that some wrappers write after an exception."""


class LmmsBackend:
    """A checkpoint behind one of lmms-eval's chat wrappers.

    Args:
        cfg: device and `OPTIONS`, as in conf/backend/lmms.yaml.
        spec: the member.

    Raises:
        ProbesError: a wrapper that cannot show interleaved pictures, frames as videos, or a
            checkpoint that does not exist.
    """

    adapter = ADAPTER

    def __init__(self, cfg: BackendSettings, spec: ModelSpec) -> None:
        check_options("lmms", cfg.options, OPTIONS)
        self._name = str(cfg.options.get("model") or "")
        if refused := wrappers.refusal(self._name):
            raise refused
        check_images(spec, "a wrapper of lmms-eval")
        args = cfg.options.get("args") or {}
        if not isinstance(args, Mapping):
            raise ProbesError(f"{args!r} is not a group of arguments", "backend.options.args")
        wrappers.check_args(args, spec)
        self._args = dict(args)
        self._checked = bool(cfg.options.get("order_is_checked"))
        self._spec = spec
        self._device = cfg.device if cfg.device != "auto" else spec.device
        if spec.adapter:
            raise refuse_adapter(spec, "lmms")
        if spec.chat_template_kwargs:
            raise refuse_variables(spec, "lmms")
        # A wrapper loads as it likes, with code of others: whatever lies there counts.
        self._checkpoint = find(spec, everything=True)
        if self._checkpoint.adapter is not None:
            raise refuse_adapter(spec, "lmms")
        self._version = metadata.version("lmms-eval")
        self.fingerprint = sha256_json(
            {
                "lmms": self._name,
                "version": self._version,
                "args": self._args,
                "checkpoint": self._checkpoint.fingerprint(spec, f"lmms:{self._name}"),
            }
        )
        self._order = "not looked up"
        self._wrapper: Any = None
        self._watched: list[WatchedFiles] = []
        self._logged: list[str] = []
        self._requests = 0

    def check_files(self, *, thorough: bool) -> None:
        """Raise unless the wrapper takes what the member sets; see `base.ChecksFiles`."""
        if not thorough or not self._spec.pixel_bounds:
            return  # lmms-eval takes seconds to import
        facts = {
            "wrapper": self._name,
            "lmms_eval": self._version,
            "pixels": self._spec.pixel_bounds,
        }
        checked.once(
            facts,
            lambda: wrappers.check_pixel_bounds(wrappers.wrapper_class(self._name), self._spec),
        )

    def libraries(self) -> dict[str, str]:
        """Return the libraries that an answer depends on."""
        return origins.versions((*LIBRARIES, "lmms-eval"))

    def origin(self) -> Origin:
        """Return what computes answers, once the wrapper is loaded."""
        # Most wrappers keep their model under this name; of another, dtype and device are unknown.
        model = getattr(self._wrapper, "_model", None)
        return origin_of(self.libraries(), model if hasattr(model, "parameters") else None)

    def capabilities(self) -> Capabilities:
        """Return what this backend can do."""
        return Capabilities(
            ("generate",),
            reason="its model runs behind a wrapper of lmms-eval",
            unscored="it has no log-probabilities of given text, nor of letters",
            answer_prefix=False,
            pixel_bounds=True,
        )

    def planning(self) -> None:
        """Return that lengths are not known without asking."""

    def count_tokens(self, text: str) -> int:
        """Return the number of tokens of a text by itself; see `base.CountsTokens`."""
        return len(self._tokenizer(text)["input_ids"])

    @cached_property
    def _tokenizer(self) -> Any:
        from transformers import AutoTokenizer

        folder = self._checkpoint.folder
        with loading(folder, "name a checkpoint with its tokenizer's files"):
            # Said, not left out: else transformers asks the terminal whether to run code.
            return AutoTokenizer.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False
            )

    def describe(self) -> dict[str, Any]:
        """Return the facts of wrapper and checkpoint."""
        spec = self._spec
        return {
            "backend": "lmms",
            "adapter": ADAPTER,
            "fingerprint": self.fingerprint,
            "repo": spec.repo,
            "commit": self._checkpoint.commit,
            "wrapper": self._name,
            "lmms_eval": self._version,
            "args": dict(self._args),
            "checkpoint_class": next(iter(self._checkpoint.architectures), ""),
            "frame_as": spec.frame_as,
            "dtype": spec.dtype,
            "attention": spec.attention,
            **spec.pixel_bounds,
            "interleaving": self._order,
        }

    def counters(self) -> dict[str, int]:
        """Return how many requests were put to the wrapper."""
        return {"requests": self._requests}

    def close(self) -> None:
        """Drop the wrapper with its model."""
        self._wrapper = None
        self._watched = []
        gc.collect()  # transformers models hold reference cycles
        free_memory()

    def score(
        self, prompts: Sequence[Request], frames: FramesByHash, scoring: ScoringSpec
    ) -> Iterator[tuple[int, Output]]:
        """Answer prompts in their order; see `Backend.score`."""
        check_requests(self.capabilities(), "lmms", prompts, scoring)
        if not prompts:
            return
        if self._wrapper is None:
            self._wrapper = self._load()
            self._preflight(has_pictures(prompts), scoring)
        for at, prompt in enumerate(prompts):
            self._requests += 1
            output = self._answer(prompt, frames, scoring)
            for one in self._watched:  # it may go on reading what it has loaded
                one.check()
            yield at, output

    def _load(self) -> Any:
        self._order = kept_order(
            self._checkpoint,
            self._spec,
            by_user=self._checked,
            who="wrapper",
            where=str(self._checkpoint.folder),
            fix="use backend=hf, or give the folder a template that keeps the order; if this"
            " wrapper has one of its own, set backend.options.order_is_checked=true",
        )
        found = wrappers.wrapper_class(self._name)
        from loguru import logger

        # lmms-eval prints to stdout, where the run's tables go; errors are kept for the records.
        logger.remove()
        logged = self._logged
        logger.add(lambda message: logged.append(str(message)), level="ERROR", format="{message}")
        device = self._device if self._device != "auto" else best_device()
        self._watched = self._checkpoint.watched()
        wrapper = wrappers.open_wrapper(
            found, str(self._checkpoint.folder), self._spec, device, self._args
        )
        for one in self._watched:
            one.check()
        return wrapper

    def _preflight(self, pictures: bool, scoring: ScoringSpec) -> None:
        """Ask one small question first: a wrapper that always fails ends the run at once."""
        output = self._answer(*first_request(pictures=pictures), scoring)
        if output.status != "ok":
            self.close()
            raise ProbesError(
                f"lmms-eval's {self._name} fails: {output.error}",
                f"member {self._spec.name}",
                "not every wrapper works with the installed transformers or with every checkpoint:"
                " try another, or backend=hf",
            )

    def _answer(self, prompt: Request, frames: FramesByHash, scoring: ScoringSpec) -> Output:
        from lmms_eval.api.instance import Instance, unwrap_generation_output

        started = time.perf_counter()
        # What an earlier request logged must not become this one's reason.
        self._logged.clear()
        wrapper = self._wrapper
        settings = {
            "max_new_tokens": scoring.max_new_tokens,
            "temperature": 0,
            "do_sample": False,
            "num_beams": 1,
        }
        try:
            shown = messages(prompt, frames)
            wrapper.task_dict = {_TASK: {_SPLIT: [shown]}}
            request = Instance(
                "generate_until",
                ("", lambda doc: doc, settings, 0, _TASK, _SPLIT),
                0,
                metadata={"task": _TASK, "doc_id": 0, "repeats": 1},
            )
            replies = wrapper.generate_until([request])
            reply, counts = unwrap_generation_output(replies[0])
        except (Exception, SystemExit) as error:  # some wrappers end the program
            free_memory()
            return error_output(f"{type(error).__name__}: {error}")
        text = reply if isinstance(reply, str) else ""
        written = int(getattr(counts, "output_tokens", None) or 0)
        # An end token alone is a reply, though an empty one; no token at all is a hidden exception.
        if text.startswith(_FAILED) or not (text.strip() or written):
            reason = text or " ".join("".join(self._logged).split())[:300] or "no reason was given"
            return error_output(f"the wrapper returned nothing: {reason}")
        return Output(
            text=text.strip(),
            input_tokens=int(getattr(counts, "input_tokens", None) or 0),
            output_tokens=written,
            seconds=time.perf_counter() - started,
        )


def messages(prompt: Request, frames: FramesByHash) -> list[dict[str, Any]]:
    """Return one user message in lmms-eval's form: texts and pictures in the prompt's order."""
    from PIL import Image

    def picture(sha256: str) -> dict[str, Any]:
        return {"type": "image", "url": Image.fromarray(frames[sha256])}

    return [{"role": "user", "content": message_parts(prompt, picture)}]
