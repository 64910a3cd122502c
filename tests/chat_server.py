"""A small OpenAI-compatible server with log-probabilities; `transformers serve` has none.

Messages go through the checkpoint's own chat template, processor and model class, as they do in
`transformers serve`; nothing of the project's backends is used, so that agreement with them is
evidence. Run it as `python tests/chat_server.py PORT [FOLDER_OR_NAME=FOLDER ...]`; where
$CHAT_SERVER_TOKEN is set, requests without that API token get a 401.
"""

from __future__ import annotations

import base64
import io
import os
import sys
import threading
from typing import Any


def content_of(message: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a message's parts with pictures decoded, as processors take them."""
    from PIL import Image

    if isinstance(message["content"], str):
        return [{"type": "text", "text": message["content"]}]
    parts: list[dict[str, Any]] = []
    for part in message["content"]:
        if part["type"] == "text":
            parts.append({"type": "text", "text": part["text"]})
        else:
            data = base64.b64decode(part["image_url"]["url"].partition("base64,")[2])
            parts.append({"type": "image", "image": Image.open(io.BytesIO(data)).convert("RGB")})
    return parts


class Served:
    """A checkpoint in memory."""

    def __init__(self, folder: str) -> None:
        import transformers

        config = transformers.AutoConfig.from_pretrained(folder)
        self.processor = transformers.AutoProcessor.from_pretrained(folder)
        self.model = getattr(transformers, config.architectures[0]).from_pretrained(folder).eval()
        self.lock = threading.Lock()

    def answer(self, body: dict[str, Any]) -> dict[str, Any]:
        import torch

        messages = [{"role": m["role"], "content": content_of(m)} for m in body["messages"]]
        inputs = self.processor.apply_chat_template(
            messages,
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
        )
        most = body.get("max_completion_tokens") or body["max_tokens"]
        with self.lock, torch.inference_mode():
            out = self.model.generate(
                **inputs,
                max_new_tokens=most,
                do_sample=False,
                return_dict_in_generate=True,
                output_logits=True,
            )
        length = inputs["input_ids"].shape[1]
        new = out.sequences[0, length:].tolist()
        tokenizer = self.processor.tokenizer
        ended = new[-1] == self.model.generation_config.eos_token_id
        choice: dict[str, Any] = {
            "index": 0,
            "finish_reason": "stop" if ended else "length",
            "message": {
                "role": "assistant",
                "content": tokenizer.decode(new, skip_special_tokens=True),
            },
        }
        if body.get("logprobs"):
            logprobs = out.logits[0][0].float().log_softmax(-1)
            # Pieces, not decoded texts: decoding one token alone may lose the space before it.
            best = [
                {"token": tokenizer.convert_ids_to_tokens(i).replace("▁", " "), "logprob": value}
                for value, i in zip(
                    *(t.tolist() for t in logprobs.topk(body["top_logprobs"])), strict=True
                )
            ]
            choice["logprobs"] = {"content": [{**best[0], "top_logprobs": best}]}
        usage = {"prompt_tokens": length, "completion_tokens": len(new)}
        return {"object": "chat.completion", "choices": [choice], "usage": usage}


def app(folders: dict[str, str]) -> Any:
    """Return the FastAPI application that serves those folders by name."""
    from fastapi import Body, FastAPI, Header
    from fastapi.responses import JSONResponse

    served = {name: Served(folder) for name, folder in folders.items()}
    token = os.environ.get("CHAT_SERVER_TOKEN", "")
    made = FastAPI()

    def refusal(authorization: str) -> Any:
        if token and authorization != f"Bearer {token}":
            # Some servers repeat the token that they refuse.
            return JSONResponse({"error": {"message": f"wrong token: {authorization}"}}, 401)
        return None

    @made.get("/v1/models")
    def models(authorization: str = Header("")) -> Any:
        listed = [{"id": name, "object": "model", "owned_by": "tests"} for name in served]
        return refusal(authorization) or {"object": "list", "data": listed}

    @made.post("/v1/chat/completions")
    def chat(body: dict = Body(...), authorization: str = Header("")) -> Any:  # noqa: B008
        if refused := refusal(authorization):
            return refused
        if body["model"] not in served:
            return JSONResponse({"error": {"message": f"no model {body['model']}"}}, 404)
        return served[body["model"]].answer(body)

    return made


if __name__ == "__main__":
    import uvicorn

    names = dict(one.split("=", 1) if "=" in one else (one, one) for one in sys.argv[2:])
    uvicorn.run(app(names), host="127.0.0.1", port=int(sys.argv[1]), log_level="warning")
