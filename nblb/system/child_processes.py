"""Ends the processes that a stopped task has started and not waited for."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import time
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36
_adopts: list[int] = []  # the pid of the process that adopts
SLACK_S = 0.02  # the kernel records start times in hundredths of a second


def end_since(seconds: float) -> None:
    """Kill this process's descendants that were started in the last `seconds`, in any session.

    A worker adopts all processes that its tasks leave behind (fork_server.py), so none escapes. A process that an
    earlier task has left running on purpose is older, and stays.
    """
    if not hasattr(time, "CLOCK_BOOTTIME"):
        return
    since = time.clock_gettime(time.CLOCK_BOOTTIME) - seconds - SLACK_S
    while True:
        young = [pid for pid in _children() if _begun_at(pid) >= since]
        for pid in young:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        for pid in young:
            with contextlib.suppress(OSError):
                os.waitpid(pid, 0)  # its children are now this process's, and are killed in the next round
        if not young:
            return


def adopt() -> None:
    """Make this process adopt all orphans among its descendants, for `end_adopted` to kill."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        _adopts.append(os.getpid())


def end_adopted() -> None:
    """Kill all children of an adopting process, and the orphans that they leave; do nothing in any other process."""
    while _adopts == [os.getpid()] and (left := _children()):
        for pid in left:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        for pid in left:
            with contextlib.suppress(OSError):
                os.waitpid(pid, 0)


def _children() -> list[int]:
    found: list[int] = []
    with contextlib.suppress(OSError, ValueError):  # Linux only
        for thread in Path("/proc/self/task").iterdir():
            found += map(int, (thread / "children").read_text().split())
    return found


def _begun_at(pid: int) -> float:
    """Return a process's start time in seconds since the machine's boot; minus infinity if it is gone."""
    try:
        ticks = int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[19])
    except (OSError, IndexError, ValueError):
        return float("-inf")
    return ticks / os.sysconf("SC_CLK_TCK")
