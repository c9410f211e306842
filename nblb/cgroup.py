"""The limits of the control group in which this process runs: cores and memory of a container or a batch job.

A limit of any group above counts, too. In a container, the path of the group may be the computer's own, and its files
are at the root of the hierarchy. A file that is missing, empty or unreadable sets no limit.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
OWN = Path("/proc/self/cgroup")
NO_LIMIT = math.inf
ABSURD = 2**60  # version 1 writes a number of this size for "no limit"


def files(controller: str, unified: str, legacy: str) -> Iterator[Path]:
    """Yield the existing files of this name, in the process's group and those above, in version 2 and 1."""
    for root, path, name in _groups(controller, unified, legacy):
        parts = [part for part in path.split("/") if part not in ("", "..")]
        for length in range(len(parts), -1, -1):
            file = root.joinpath(*parts[:length], name)
            if file.is_file():
                yield file


def _groups(controller: str, unified: str, legacy: str) -> Iterator[tuple[Path, str, str]]:
    try:
        lines = OWN.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return  # not Linux, or no /proc
    for line in lines:
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0":
            yield ROOT, path, unified
        elif controller in controllers.split(","):
            yield ROOT / controllers, path, legacy
            if controllers != controller:
                yield ROOT / controller, path, legacy


def cores() -> float:
    """Return the number of cores that the quota allows, such as 1.5; infinity without a quota."""
    shares = [NO_LIMIT]
    for file in files("cpu", "cpu.max", "cpu.cfs_quota_us"):
        try:
            if file.name == "cpu.max":
                quota, period = file.read_text().split()
            else:
                quota, period = file.read_text(), file.with_name("cpu.cfs_period_us").read_text()
            share = float(quota) / float(period)
        except (OSError, ValueError, ZeroDivisionError):  # "max 100000", or an empty file: no quota
            continue
        if share > 0.0:
            shares.append(share)
    return min(shares)


def memory_bytes() -> float:
    """Return how much memory the group may use; infinity without a limit."""
    limits = [NO_LIMIT]
    for file in files("memory", "memory.max", "memory.limit_in_bytes"):
        try:
            limit = float(file.read_text())
        except (OSError, ValueError):  # "max", or an empty file: no limit
            continue
        if 0.0 < limit < ABSURD:
            limits.append(limit)
    return min(limits)
