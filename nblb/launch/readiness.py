"""Waits for a process of the cluster to be ready; one that dies at its start is an error with the end of its log."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from nblb.errors import LoadBalancerUnreachable, NblbError

if TYPE_CHECKING:
    from nblb.launch.roles import RoleProcess

T = TypeVar("T")

START_DEADLINE_S = 30.0
RUNS_ALREADY = 4  # exit code of a core that finds its state folder in use (nblb.cli)


class StateFolderInUse(NblbError):
    """Raised when the started core finds its state folder in use by another."""


class CoreGone(LoadBalancerUnreachable):
    """Raised when the core that was found has ended since."""


def wait_for(process: RoleProcess, what: str, ready: Callable[[], T | None]) -> T:
    """Waits for a process to be ready; raises with the end of its log if it dies or takes too long."""
    until = time.monotonic() + START_DEADLINE_S
    last: Exception | None = None
    pause = 0.005
    while True:
        alive = process.is_alive()  # read before asking: if ours has ended, a faster one was asked
        try:
            if answer := ready():
                return answer
        except CoreGone:
            raise
        except LoadBalancerUnreachable as error:
            last = error
        if not alive:
            kind = StateFolderInUse if process.exitcode == RUNS_ALREADY else NblbError
            raise kind(_with_log(process, f"the {what} ended while it started (exit code {process.exitcode})"))
        if time.monotonic() > until:
            said = f" ({last})" if last else ""
            raise NblbError(_with_log(process, f"the {what} was not ready within {START_DEADLINE_S:g} s{said}"))
        time.sleep(pause)
        pause = min(0.04, pause * 1.5)


def _with_log(process: RoleProcess, sentence: str) -> str:
    said = process.tail()
    return f"{sentence}; its log {process.log} ends with:\n{said}" if said else f"{sentence}; it wrote nothing"
