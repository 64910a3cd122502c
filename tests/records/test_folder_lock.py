"""The lock of a run folder."""

from __future__ import annotations

import errno
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from probes.core.errors import MachineError, ProbesError
from probes.records import folder_lock

HOLD = "import sys; from pathlib import Path; from probes.records import folder_lock\n"
HOLD += "with folder_lock.held(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"


def hold(folder: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_folder_is_held_once_and_freed_at_the_end(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "run"
    with folder_lock.held(folder):
        assert folder_lock.holder(folder).startswith(f"process {os.getpid()} on ")
        with pytest.raises(ProbesError, match="another run is writing"), folder_lock.held(folder):
            pass
    assert folder_lock.holder(folder) == ""
    assert list(folder.iterdir()) == []
    with folder_lock.held(folder):
        pass


@pytest.mark.parametrize("kill", [True, False])
def test_another_process_is_named_and_frees_it_however_it_ends(kill: bool, tmp_path: Path) -> None:
    process = hold(tmp_path)
    name = f"process {process.pid} on {socket.gethostname()}, since 2"
    with pytest.raises(ProbesError) as caught, folder_lock.held(tmp_path):
        pass
    assert name in caught.value.what and name in folder_lock.holder(tmp_path)
    assert caught.value.where == str(tmp_path)
    if kill:
        process.kill()
    else:
        process.communicate("")
    process.wait(10)
    assert (tmp_path / folder_lock.FILE).exists() == kill
    assert folder_lock.holder(tmp_path) == ""
    with folder_lock.held(tmp_path):
        pass


def test_without_locks_only_a_process_that_is_seen_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(folder_lock.fcntl, "flock", no_locks)
    process = hold(tmp_path)
    with pytest.raises(ProbesError, match=f"process {process.pid} "), folder_lock.held(tmp_path):
        pass
    process.kill()
    process.wait(10)
    facts = json.loads((tmp_path / folder_lock.FILE).read_text())
    # Ended; the number was given to a process that is not the same; on another machine.
    for other in ({}, {"pid": os.getpid(), "started": "1"}, {"host": "elsewhere"}):
        (tmp_path / folder_lock.FILE).write_text(json.dumps(facts | other))
        with pytest.warns(UserWarning, match="has no locks"), folder_lock.held(tmp_path):
            pass
        assert not (tmp_path / folder_lock.FILE).exists()


def test_a_folder_that_cannot_be_made_is_the_machines(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(MachineError, match="cannot be written to"):  # noqa: SIM117
        with folder_lock.held(tmp_path / "file" / "run"):
            pass
