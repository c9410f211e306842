"""The load, the limits and the sleep of the computer on which a core or hub runs."""

from __future__ import annotations

import contextlib
import os
import resource
import tempfile
import time

import psutil

MANY_FILES = 16_384
MORE_PROCESSES = 4096  # above the account's number when the hub starts


def allow_many_files() -> None:
    """Raise the soft limit of open files, because each worker takes several and 1024 are soon reached."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MANY_FILES if hard == resource.RLIM_INFINITY else min(MANY_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def most_processes() -> int:
    """Return the limit of this account's processes and threads, above which tasks must not start more; 0: no limit.

    The system does not apply such a limit to root.
    """
    if os.getuid() == 0:
        return 0
    mine = 0
    try:
        for process in psutil.process_iter(["uids", "num_threads"]):
            uids = process.info["uids"]
            if uids is not None and uids.real == os.getuid():
                mine += process.info["num_threads"] or 1
    except (psutil.Error, OSError):
        return 0  # without /proc
    return mine + MORE_PROCESSES


def slept_s(now: float) -> float:
    """Return how long this computer has slept since its start, which its monotonic clock `now` does not count."""
    return max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - now) if hasattr(time, "CLOCK_BOOTTIME") else 0.0


def load() -> float:
    """Return the CPU use since the last call, 0 to 1; 0 if it cannot be read, as without /proc."""
    try:
        return psutil.cpu_percent(None) / 100.0
    except (psutil.Error, OSError):
        return 0.0


def memory() -> float:
    """Return the share of memory in use, 0 to 1; 0 if it cannot be read."""
    try:
        return psutil.virtual_memory().percent / 100.0
    except (psutil.Error, OSError, ValueError):
        return 0.0


def disk() -> float:
    """Return the share in use of the disk of temporary files, 0 to 1; 0 if it cannot be read."""
    try:
        return psutil.disk_usage(tempfile.gettempdir()).percent / 100.0
    except OSError:
        return 0.0
