"""Names of hubs that identify their processes, so that a core on the same machine can test whether one has ended.

A name is a mark of the machine's boot and container, within which pids are valid, the pid, and random digits. A
process with another mark cannot be tested from here.
"""

from __future__ import annotations

import os
import uuid

from nblb.host import boot_mark, is_alive


def new_name() -> str:
    """Return a new name for this process."""
    return f"{boot_mark()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"


def is_of_this_computer(name: str) -> bool:
    """Return True if a process of this computer (this boot, this container) has made the name."""
    return name.partition("-")[0] == boot_mark()


def has_ended(name: str) -> bool:
    """Return True if the process that made this name is known to have ended."""
    mark, _, rest = name.partition("-")
    pid = rest.partition("-")[0]
    return mark == boot_mark() and pid.isdecimal() and not is_alive(int(pid))
