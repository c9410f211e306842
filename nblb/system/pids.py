"""Processes by pid: tests whether they run, waits for their end, and ends them."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterable

from nblb import host

children: dict[int, subprocess.Popen[bytes]] = {}  # started by this process, which must reap them


def is_alive(pid: int) -> bool:
    """Return True if a process with this pid runs on this machine; a zombie does not."""
    child = children.get(pid)
    if child is not None:
        return child.poll() is None
    return host.is_alive(pid)


def wait_gone(pids: Iterable[int], deadline_s: float) -> list[int]:
    """Wait until these processes have ended, at most `deadline_s`; return those that have not."""
    until = time.monotonic() + deadline_s
    left = list(pids)
    while True:
        left = [pid for pid in left if is_alive(pid)]
        if not left or time.monotonic() >= until:
            return left
        time.sleep(0.01)


def end(pids: Iterable[int], grace_s: float) -> None:
    """Send SIGTERM to each process, and SIGKILL to those that still run after `grace_s`; return when all have ended.

    A process that has reused a pid meanwhile gets no SIGKILL.
    """
    since = {pid: host.began(pid) for pid in pids if pid > 0}
    left = [pid for pid in since if is_alive(pid)]
    for number, patience_s in ((signal.SIGTERM, grace_s), (signal.SIGKILL, 5.0)):
        for pid in left:
            with contextlib.suppress(OSError):
                os.kill(pid, number)
        left = [pid for pid in wait_gone(left, patience_s) if host.began(pid) == since[pid]]
        if not left:
            return
