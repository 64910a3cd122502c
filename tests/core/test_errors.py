"""Errors say what, where and how to fix it; those of the machine are distinguished from bugs."""

from __future__ import annotations

import errno

from probes.core.errors import ProbesError, machine_error


def test_the_message_has_what_where_and_fix() -> None:
    assert str(ProbesError("a", "b", "c")) == "a\n  where: b\n  fix:   c"
    assert str(ProbesError("a")) == "a"


def test_a_refusal_of_the_machine_is_reported_and_a_bug_is_not_hidden() -> None:
    refused = machine_error(OSError(errno.ENOSPC, "No space left on device", "/x/y"))
    assert refused is not None
    assert (refused.where, "No space left" in refused.what) == ("/x/y", True)
    assert machine_error(FileNotFoundError(errno.ENOENT, "no such file")) is None
    assert machine_error(ValueError("a bug")) is None
