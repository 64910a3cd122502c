"""Starts real inference servers on loopback: `transformers serve`, and tests/chat_server.py."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx

CHAT_SERVER = Path(__file__).with_name("chat_server.py")
START_S = 180.0
"""How long a server may take to start; a loaded machine imports torch slowly."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def running(command: Sequence[str], port: int, ready: str, **env: str) -> Iterator[str]:
    """Run a server until the block ends; yields its base URL.

    Args:
        command: what is run.
        port: where it will listen.
        ready: path that answers (with any status below 500) once it is up.
        env: more environment.
    """
    url = f"http://127.0.0.1:{port}"
    offline = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=subprocess.STDOUT, env=os.environ | offline | env
        )
        try:
            until = time.monotonic() + START_S
            while True:
                with contextlib.suppress(httpx.TransportError):
                    if httpx.get(url + ready, timeout=5, trust_env=False).status_code < 500:
                        break
                if process.poll() is not None or time.monotonic() > until:
                    log.seek(0)
                    output = log.read().decode(errors="replace")[-2000:]
                    raise RuntimeError(f"the server did not start:\n{output}")
                time.sleep(0.2)
            yield f"{url}/v1"
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def transformers_serve() -> contextlib.AbstractContextManager[str]:
    """Run `transformers serve`, which loads the checkpoint folder that a request names."""
    port = free_port()
    words = f"--device cpu --dtype float32 --host 127.0.0.1 --port {port} --log-level error"
    program = str(Path(sys.executable).with_name("transformers"))
    return running([program, "serve", *words.split()], port, "/health")


def chat_server(*folders: str, token: str = "") -> contextlib.AbstractContextManager[str]:
    """Run tests/chat_server.py, which gives log-probabilities, on some checkpoint folders."""
    port = free_port()
    command = [sys.executable, str(CHAT_SERVER), str(port), *folders]
    return running(command, port, "/v1/models", CHAT_SERVER_TOKEN=token)
