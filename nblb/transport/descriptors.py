"""The core's last free file descriptors, which new connections must not take.

ZeroMQ ends a process that has no descriptor left for a connection to one of its Unix sockets, and the journal needs
some to write files. So the core accepts no connection that would take one of the last; it waits until others leave.
"""

from __future__ import annotations

import os
import resource

MOST_SPARE = 64
SHARE = 4  # at most one descriptor in so many is spare


def is_spare(fd: int, left_to_zeromq: bool = False) -> bool:
    """Return True if this descriptor is one of the last: the system always gives the lowest free number.

    With `left_to_zeromq`, return True only for the last half of these: the rest is for ZeroMQ's connections.
    """
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    spare = min(MOST_SPARE, most // SHARE)
    return most != resource.RLIM_INFINITY and fd >= most - (spare // 2 if left_to_zeromq else spare)


def are_few(left_to_zeromq: bool = False) -> bool:
    """Return True if the next descriptor would be one of the last, or if none is left."""
    try:
        fd = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return True
    os.close(fd)
    return is_spare(fd, left_to_zeromq)
