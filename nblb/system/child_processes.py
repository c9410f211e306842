"""The processes that a task has started and not waited for; when it is stopped they end with it."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import time
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36
_adopts: list[int] = []  # the process that does
SLACK_S = 0.02  # the kernel counts starts in hundredths of a second


def end_since(seconds: float) -> None:
    """Kill this process's descendants that were started at most so many seconds ago, whatever session they are in.

    A worker keeps all that its tasks leave below it (fork_server.py), so none escapes; what an earlier task has left
    running on purpose is older, and stays.
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
                os.waitpid(pid, 0)  # then its own children are ours, and the next round's
        if not young:
            return


def adopt() -> None:
    """From now on this process is the parent of all that its descendants leave behind, and `end_adopted` ends it."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        _adopts.append(os.getpid())


def end_adopted() -> None:
    """Kill all children of a process that adopts, and what they leave in their turn; nothing in any other process."""
    while _adopts == [os.getpid()] and (left := _children()):
        for pid in left:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        for pid in left:
            with contextlib.suppress(OSError):
                os.waitpid(pid, 0)


def _children() -> list[int]:
    found: list[int] = []
    with contextlib.suppress(OSError, ValueError):  # only Linux can say
        for thread in Path("/proc/self/task").iterdir():
            found += map(int, (thread / "children").read_text().split())
    return found


def _begun_at(pid: int) -> float:
    """On the clock that counts from the machine's start; minus infinity when it is gone."""
    try:
        ticks = int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[19])
    except (OSError, IndexError, ValueError):
        return float("-inf")
    return ticks / os.sysconf("SC_CLK_TCK")
