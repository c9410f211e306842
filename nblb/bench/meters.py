"""Meters of processor time by part: client, core, hubs and workers, as far as they are on this machine.

On a busy machine processor time varies less than elapsed time, and it shows which part is the bottleneck.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple

import psutil

if TYPE_CHECKING:
    from nblb.client.cluster import Cluster

PARTS = ("client", "core", "hub", "workers")


class Clock(NamedTuple):
    """The processor time of a process since its start, and its time ready to run without a processor."""

    cpu_s: float = 0.0
    waited_s: float = 0.0


def clock(pid: int) -> Clock:
    """Reads the clock of a process: zero if it has ended; the waiting time is known on Linux only."""
    if sys.platform == "linux":  # in nanoseconds; times(2) counts hundredths of a second
        ran = waited = 0
        with contextlib.suppress(OSError):
            for thread in Path(f"/proc/{pid}/task").iterdir():
                with contextlib.suppress(OSError, ValueError):
                    one = (thread / "schedstat").read_text().split()
                    ran, waited = ran + int(one[0]), waited + int(one[1])
        if ran:
            return Clock(ran / 1e9, waited / 1e9)
    with contextlib.suppress(psutil.Error):
        times = psutil.Process(pid).cpu_times()
        return Clock(times.user + times.system)
    return Clock()


def memory_bytes(pids: Iterable[int]) -> int:
    """The resident memory of these processes; shared pages count for each."""
    total = 0
    for pid in pids:
        with contextlib.suppress(psutil.Error):
            total += psutil.Process(pid).memory_info().rss
    return total


def descendants(pid: int) -> list[int]:
    """All living descendants of this process."""
    with contextlib.suppress(psutil.Error):
        return [child.pid for child in psutil.Process(pid).children(recursive=True)]
    return []


def parts_of(cluster: Cluster) -> dict[str, list[int]]:
    """The processes of a cluster that are on this machine, by part."""
    here = socket.gethostname()
    status = cluster.status()
    core = [status["pid"]] if status.get("host", here) == here else []
    hubs = [hub["pid"] for hub in cluster.hubs() if hub["host"] == here]
    nurseries = [child for hub in hubs for child in _children(hub)]
    return {
        "client": [os.getpid()],
        "core": core,
        "hub": hubs + nurseries,
        "workers": [worker for fork_server in nurseries for worker in descendants(fork_server)],
    }


def _children(pid: int) -> list[int]:
    with contextlib.suppress(psutil.Error):
        return [child.pid for child in psutil.Process(pid).children()]
    return []


@dataclass
class Usage:
    """The resources used in a period."""

    wall_s: float = 0.0
    cpu_s: dict[str, float] = field(default_factory=dict)  # by part
    busiest_s: dict[str, float] = field(default_factory=dict)  # the busiest process of each part
    waited_s: dict[str, float] = field(default_factory=dict)  # time that one waited for a processor
    commits: int = 0
    commit_s: float = 0.0  # the core's time in commits


class Meter:
    """Reads the clocks of a cluster's processes before and after something."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._parts = parts_of(cluster)

    @property
    def unseen(self) -> bool:
        """True if workers are on other machines, whose processor time is not measured."""
        here = socket.gethostname()
        return any(hub["host"] != here for hub in self._cluster.hubs())

    def read(self) -> dict[int, Clock]:
        return {pid: clock(pid) for pids in self._parts.values() for pid in pids}

    @contextlib.contextmanager
    def around(self, usage: Usage) -> Any:
        """Fills `usage` with the resources that the body uses."""
        journal, before, begun = self._journal(), self.read(), perf_counter()
        try:
            yield usage
        finally:
            usage.wall_s = perf_counter() - begun
            after = self.read()
            for part, pids in self._parts.items():
                used = [after[pid].cpu_s - before[pid].cpu_s for pid in pids if after[pid].cpu_s] or [0.0]
                waited = [after[pid].waited_s - before[pid].waited_s for pid in pids if after[pid].cpu_s] or [0.0]
                usage.cpu_s[part] = sum(used)
                usage.busiest_s[part] = max(used)
                usage.waited_s[part] = max(waited)
            now = self._journal()
            usage.commits = int(now.get("commits", 0) - journal.get("commits", 0))
            usage.commit_s = now.get("commit_s", 0.0) - journal.get("commit_s", 0.0)

    def _journal(self) -> Mapping[str, float]:
        known: Mapping[str, float] = self._cluster.status().get("journal", {})  # an older core does not report it
        return known
