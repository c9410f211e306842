"""The last free file descriptors of a core or hub, which new connections must not take.

The journal needs some to write files, and a hub to start workers. So neither accepts a connection that would take one
of the last; new peers wait until others leave. Half of the last are for nblb's own parties: whatever crowd of other
programs there is, `nblb status` and `nblb stop` get through.
"""

from __future__ import annotations

import os
import resource

from nblb.protocol.messages import Refused

MOST_SPARE = 64
SHARE = 4  # at most one descriptor in so many is spare


def is_spare(fd: int, for_own: bool = False) -> bool:
    """Return True if this descriptor is one of the last: the system always gives the lowest free number.

    With `for_own`, for one of nblb's own parties, return True only for the last half of these.
    """
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    spare = min(MOST_SPARE, most // SHARE)
    return most != resource.RLIM_INFINITY and fd >= most - (spare // 2 if for_own else spare)


def refusal() -> Refused:
    """Return what a party is told for whose connection no descriptor is left."""
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return Refused(
        kind="LoadBalancerUnreachable",
        reason=f"the core has no file descriptor left for another connection: its limit is {most} (`ulimit -n`); close "
        "other notebooks or clients, or start it again with a higher limit",
    )


def are_few(for_own: bool = False) -> bool:
    """Return True if the next descriptor would be one of the last, or if none is left."""
    try:
        fd = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return True
    os.close(fd)
    return is_spare(fd, for_own)
