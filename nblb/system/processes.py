"""Names of hubs that tell where their process was, so that a core on the same machine can see that one is dead.

A name is a mark of the machine (of its boot, and of its container, since pids mean something only there), the pid,
and chance. Whoever carries another mark may live or not: nothing is known of it from here.
"""

from __future__ import annotations

import os
import uuid

from nblb.host import boot_mark, is_alive


def new_name() -> str:
    """For this process; each call makes another."""
    return f"{boot_mark()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"


def has_ended(name: str) -> bool:
    """Whether the process that made this name is known to have ended."""
    mark, _, rest = name.partition("-")
    pid = rest.partition("-")[0]
    return mark == boot_mark() and pid.isdecimal() and not is_alive(int(pid))
