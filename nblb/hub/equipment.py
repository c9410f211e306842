"""What the workers of a hub have that the settings leave to this computer: its memory, shared evenly."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import psutil

from nblb import cgroup
from nblb.protocol.messages import Group


def total_memory_mb() -> int:
    """Return the memory that the processes of this account may use here, in MB; 0 if it cannot be read."""
    try:
        return int(min(float(psutil.virtual_memory().total), cgroup.memory_bytes())) >> 20
    except (OSError, ValueError):
        return 0


def with_shares(groups: Sequence[Group], total_mb: int) -> tuple[Group, ...]:
    """Return the groups; workers without a limit share the memory that the limits of others leave, evenly."""
    limited_mb = sum(group.workers * group.has.memory_mb for group in groups)
    sharing = sum(group.workers for group in groups if not group.has.memory_mb)
    share_mb = max(1, total_mb - limited_mb) // max(1, sharing) if total_mb else 0
    return tuple(
        group if group.has.memory_mb or not total_mb else msgspec.structs.replace(group, share_mb=max(1, share_mb))
        for group in groups
    )
