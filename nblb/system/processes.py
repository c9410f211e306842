"""Names of hubs that tell where their process was, so that a core on the same machine can see that one is dead.

A name is a mark of the machine (of its boot, and of its container, since pids mean something only there), the pid,
and chance. Whoever carries another mark may live or not: nothing is known of it from here.
"""

from __future__ import annotations

import hashlib
import os
import socket
import uuid
from functools import cache
from pathlib import Path


def new_name() -> str:
    """For this process; each call makes another."""
    return f"{_mark()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"


def has_ended(name: str) -> bool:
    """Whether the process that made this name is known to have ended."""
    mark, _, rest = name.partition("-")
    pid = rest.partition("-")[0]
    return mark == _mark() and pid.isdecimal() and not is_process_alive(int(pid))


def is_process_alive(pid: int) -> bool:
    """A process of this number runs here; one that has ended and was not yet waited for does not."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    try:  # only where there is /proc
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] not in (b"Z", b"X")
    except (OSError, IndexError):
        return True


@cache
def _mark() -> str:
    words = [socket.gethostname()]
    try:
        words += [Path("/proc/sys/kernel/random/boot_id").read_text(), str(Path("/proc/self/ns/pid").readlink())]
    except OSError:
        pass  # not Linux: the name of the machine must do
    return hashlib.blake2b("\n".join(words).encode(), digest_size=4).hexdigest()
