"""What a user can put right, and what stops the whole run."""

from __future__ import annotations


class ProbesError(Exception):
    """A problem that the user can mend.

    Args:
        what: what is wrong, in one sentence.
        where: the file, key or item it was found in.
        fix: what to do about it.
    """

    def __init__(self, what: str, where: str = "", fix: str = "") -> None:
        self.what, self.where, self.fix = what, where, fix
        lines = [what]
        if where:
            lines.append(f"  where: {where}")
        if fix:
            lines.append(f"  fix:   {fix}")
        super().__init__("\n".join(lines))


class MachineError(ProbesError):
    """A problem that no item is to blame for, such as a full disk: it ends a run."""
