"""Problems that a user can fix, and failures of the machine that end the whole run."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from contextlib import contextmanager


class ProbesError(Exception):
    """A problem that the user can fix.

    Args:
        what: what is wrong, in one sentence.
        where: the file, setting or item it was found in.
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


class CombinedError(ProbesError):
    """Several problems, each with its place and remedy."""

    def __init__(self, errors: Sequence[ProbesError]) -> None:
        super().__init__("\n".join(map(str, errors)))
        self.errors = tuple(errors)


class ErrorCollector:
    """Goes on past problems, and raises all of them at the end."""

    def __init__(self) -> None:
        self._errors: list[ProbesError] = []

    @contextmanager
    def go_on(self) -> Iterator[None]:
        """Keep the problem that the `with` block ends in; a failure of the machine is raised."""
        try:
            yield
        except MachineError:
            raise
        except ProbesError as error:
            # Two members may have one problem, such as a file of the pair.
            if str(error) not in map(str, self._errors):
                self._errors.append(error)

    def done(self) -> None:
        """Raise ProbesError if there were problems: the only one as it is."""
        if len(self._errors) == 1:
            raise self._errors[0]
        if self._errors:
            raise CombinedError(self._errors)


UNSOUND = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
"""What reading values out of damaged JSON can raise."""
# ENOENT is not among them: a file that is missing may well be a mistake of a program.
_NAMES = "ENOSPC EDQUOT EROFS EFBIG EIO EACCES EPERM EMFILE ENFILE ENOMEM ESTALE"
_MACHINE = {getattr(errno, name) for name in _NAMES.split()}


def machine_error(error: BaseException) -> MachineError | None:
    """Return an error of disk or system as a MachineError; None where a program may be to blame.

    For the entry points of the program, where errors of libraries arrive: Hydra and matplotlib
    write files too.
    """
    if not isinstance(error, OSError) or error.errno not in _MACHINE:
        return None
    where = " ".join(str(name) for name in (error.filename, error.filename2) if name)
    return MachineError(
        f"the machine failed: {error.strerror}",
        where,
        "make room or correct the access rights there; the same command continues from what is "
        "stored",
    )
