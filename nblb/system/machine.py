"""What a hub tells of the machine that it runs on."""

from __future__ import annotations

import contextlib
import os
import resource

import psutil

MANY_FILES = 16_384
MORE_PROCESSES = 4096  # than the account has when the hub starts


def allow_many_files() -> None:
    """Each worker takes a handful of descriptors here; the usual soft limit of 1024 is soon reached."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MANY_FILES if hard == resource.RLIM_INFINITY else min(MANY_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def most_processes() -> int:
    """How many processes and threads this account may have in all before a task must not start more; 0: no bound.

    The system does not bind root by such a number.
    """
    if os.getuid() == 0:
        return 0
    mine = 0
    for process in psutil.process_iter(["uids", "num_threads"]):
        uids = process.info["uids"]
        if uids is not None and uids.real == os.getuid():
            mine += process.info["num_threads"] or 1
    return mine + MORE_PROCESSES


def load() -> float:
    """CPU in use since the last call, 0 to 1."""
    return psutil.cpu_percent(None) / 100.0


def memory() -> float:
    """Memory in use, 0 to 1."""
    return psutil.virtual_memory().percent / 100.0
