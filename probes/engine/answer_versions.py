"""Stored answers that other versions of libraries computed: which one counts, and what is said."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from probes.config.settings import Answers
from probes.core import origins
from probes.core.errors import ProbesError
from probes.core.types import Origin, Output

_log = logging.getLogger(__name__)


def chosen(stored: Mapping[str, Output]) -> str:
    """Return the key of the answer that counts of those to one request: of the newest versions.

    Args:
        stored: by key; one at least.
    """
    # By key where versions are equal: the choice must not depend on the order of files.
    return max(sorted(stored), key=lambda key: origins.newest(stored[key].origin or Origin()))


def line(policy: Answers, counts: Mapping[str, int]) -> str:
    """Return what became of answers of other versions; empty where there are none.

    Args:
        policy: the setting `answers`.
        counts: requests that have such answers, by name of the model.
    """
    if not (total := sum(counts.values())):
        return ""
    where = f"{total:,} stored answers of other library versions ({_by_model(counts)})"
    if policy == "any":
        return f"{where} are taken as they are: the manifest's origins name the versions"
    if policy == "refuse":
        return f"{where} will stop the run: answers=any takes them, answers=same-versions asks anew"
    return f"{where} are not used, and are asked anew; answers=any takes them"


def say(policy: Answers, counts: Mapping[str, int]) -> None:
    """Log that line, if there is one."""
    if text := line(policy, counts):
        _log.warning("%s", text)


def refusal(counts: Mapping[str, int]) -> ProbesError:
    """Return the error of a run that would ask anew what other versions have answered."""
    return ProbesError(
        f"at least {sum(counts.values()):,} requests have stored answers, but of other library "
        f"versions than the installed ones ({_by_model(counts)})",
        "answers=refuse",
        "install the versions that computed them, or take them with answers=any, or ask anew with "
        "answers=same-versions",
    )


def _by_model(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name}: {count:,}" for name, count in counts.items() if count)
