"""A scorer that is tried reaches no other machine, and nothing of Python stays replaced."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from probes.tasks.lmms_eval import structure
from probes.tasks.lmms_eval.judging import cut_off


@pytest.fixture
def port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def reach(port: int) -> None:
    socket.create_connection(("127.0.0.1", port), timeout=5).close()


def test_connections_and_names_are_refused_and_noted(port: int) -> None:
    with cut_off() as outer:
        with cut_off() as calls:
            with pytest.raises(ConnectionRefusedError, match=r"cut off from judge\.example"):
                socket.create_connection(("judge.example", 443), timeout=1)
            with socket.socket() as one, pytest.raises(ConnectionRefusedError, match=r"127\.0"):
                one.connect_ex(("127.0.0.1", port))  # what asyncio uses, too
        assert calls == ["judge.example", "127.0.0.1"]
        with pytest.raises(ConnectionRefusedError):
            reach(port)
        assert outer == ["127.0.0.1"]
    reach(port)


def test_other_threads_and_sockets_of_this_machine_are_left_alone(port: int) -> None:
    with cut_off() as calls:
        other = threading.Thread(target=reach, args=[port])
        other.start()
        other.join(10)
        with socket.socket(socket.AF_UNIX) as one, pytest.raises(FileNotFoundError):
            one.connect("no-such-socket")
    assert calls == []


def test_waiting_costs_no_time_and_comes_back() -> None:
    sleep, began = time.sleep, time.monotonic()
    with pytest.raises(ValueError, match="a bug"), cut_off():
        time.sleep(600)
        raise ValueError("a bug")
    assert time.monotonic() - began < 60
    assert time.sleep is sleep


def shows(doc: object) -> list[str]:
    """What a task does to show a video."""
    if not os.path.exists("/no/such/video.mp4"):  # noqa: PTH110
        raise FileNotFoundError
    return [os.path.join("/no", "such", "video.mp4")]  # noqa: PTH118


def test_only_the_tasks_own_file_finds_every_path() -> None:
    task = SimpleNamespace(config=SimpleNamespace(doc_to_visual=shows, doc_to_messages=None))
    with pytest.raises(ValueError, match="a bug"), structure._everything_exists(task):
        assert shows({}) == ["/no/such/video.mp4"]
        assert structure.os.path.exists("/no/such/video.mp4") is False
        raise ValueError("a bug")
    with pytest.raises(FileNotFoundError):
        shows({})
    assert shows.__globals__["os"] is structure.os
