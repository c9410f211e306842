"""The process state of a worker that is restored after each slice; docs/reliability.md has the table.

A worker serves one user, so everything else that a task changes in its process (environment, sys.path, locale, warning
filters, limits, modules and their state) stays for that user's next tasks, as in a notebook's kernel. Restored is what
nblb itself depends on, and what a task changes for its own duration: the working folder, the umask, timers, the handler
and the mask of SIGINT, sys.stdout and sys.stderr, and descriptors 0, 1 and 2.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
from _signal import (  # type: ignore[import-not-found]  # the enums of signal take longer than a task
    SIG_SETMASK,
    getsignal,
    pthread_sigmask,
)
from collections.abc import Callable
from typing import Any

SPARE_FD = 100  # first number of the copies: a task's own descriptors keep the low numbers


def _copy(fd: int) -> int:
    try:
        return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, SPARE_FD)
    except OSError:  # this account may not have that many
        return os.dup(fd)


class ProcessState:
    """The saved state of this process between two slices."""

    def __init__(self, on_interrupt: Callable[..., Any]) -> None:
        self._on_interrupt = on_interrupt
        self._folder = os.getcwd()  # noqa: PTH109  # compared after each slice, where a Path costs as much as a task
        self._umask = os.umask(0o077)
        os.umask(self._umask)
        self._streams = [(_copy(fd), fd) for fd in (0, 1, 2)]
        signal.signal(signal.SIGINT, on_interrupt)

    def restore_streams(self) -> None:
        """Restore descriptors 0, 1 and 2, which a task may have closed or replaced."""
        for copy, fd in self._streams:
            os.dup2(copy, fd)

    def restore(self) -> None:
        """Restore everything else."""
        if getsignal(signal.SIGINT) != self._on_interrupt:
            signal.signal(signal.SIGINT, self._on_interrupt)
        pthread_sigmask(SIG_SETMASK, ())
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.setitimer(signal.ITIMER_VIRTUAL, 0.0)
        signal.setitimer(signal.ITIMER_PROF, 0.0)
        os.umask(self._umask)
        with contextlib.suppress(OSError):
            if _folder() != self._folder:
                os.chdir(self._folder)


def _folder() -> str:
    try:
        return os.getcwd()  # noqa: PTH109
    except OSError:  # a task has removed its working folder
        return ""
