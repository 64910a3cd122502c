"""A command `probes` that starts at once: a process that has imported the package forks for each.

A shell that finds it first in PATH runs real processes with the caller's arguments, folder,
environment and files; only the seconds in which Python imports pandas and the like are saved.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

LATE = ("hydra", "pandas", "pyarrow.parquet", "scipy.stats", "matplotlib.pyplot", "jinja2", "av")
"""What commands import when they need it."""
LIMIT_S = 120
"""A process that takes longer is killed, e.g. because its caller is gone."""
ROOT = Path(__file__).resolve().parent.parent
CLIENT = """#!{python} -IS
import json, os, socket, sys
server = socket.socket(socket.AF_UNIX)
server.connect({address!r})
place = json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ)]).encode()
socket.send_fds(server, [len(place).to_bytes(4, "big")], [0, 1, 2])
server.sendall(place)
code = server.recv(1)
sys.exit(code[0] if code else "the process of this command ended without an exit code")
"""


@contextlib.contextmanager
def command(folder: Path) -> Iterator[Path]:
    """Serve the command while the context is open.

    Args:
        folder: an empty one, for the command and the socket.

    Yields:
        The folder for PATH.
    """
    address = str(folder / "socket")
    client = folder / "bin" / "probes"
    client.parent.mkdir()
    client.write_text(CLIENT.format(python=sys.executable, address=address))
    client.chmod(0o755)
    server = subprocess.Popen(
        [sys.executable, __file__, address],
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        stdout=subprocess.PIPE,
    )
    try:
        assert server.stdout is not None
        assert server.stdout.readline() == b"ready\n"
        yield client.parent
    finally:
        server.terminate()
        server.wait()


def serve(address: str) -> None:
    """Fork for every connection; the fork runs `probes`, sends its exit code and ends."""
    from probes.cli import main

    for name in {entry.entry.partition(":")[0] for entry in main.COMMANDS}:
        importlib.import_module(f"probes.cli.{name}")
    for name in LATE:
        importlib.import_module(name)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen()
    print("ready", flush=True)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the system reaps forks
    while True:
        connection, _ = listener.accept()
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.alarm(LIMIT_S)
            listener.close()
            _answer(connection)
        connection.close()


def _answer(connection: socket.socket) -> None:
    from probes.cli import main

    length, descriptors, *_ = socket.recv_fds(connection, 4, 3)
    for standard, given in enumerate(descriptors):
        os.dup2(given, standard)
    with connection.makefile("rb") as file:
        words, folder, environment = json.loads(file.read(int.from_bytes(length, "big")))
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["probes", *words]
    code = 70
    try:
        code = main.main(words)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        connection.sendall(bytes([code]))
        os._exit(0)


if __name__ == "__main__":
    serve(sys.argv[1])
