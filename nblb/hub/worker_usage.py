"""What each worker of a hub uses of the machine: CPU time since the last measurement, and memory, with its children."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from nblb.hub.pool.memory_watch import used_memory_mb
from nblb.protocol.messages import WorkerUse

TICKS = os.sysconf("SC_CLK_TCK")
MOST_WORKERS = 256  # measured for one heartbeat; more take turns


class WorkerUsage:
    """Measures the workers once for each heartbeat; idle workers cost one small file each."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._before: dict[str, tuple[float, float]] = {}  # worker -> (when, CPU seconds until then)
        self._latest: dict[str, WorkerUse] = {}
        self._turn = 0

    def measure(self, pids: Mapping[str, int]) -> tuple[WorkerUse, ...]:
        """Return the use of each of these workers, by their processes; what cannot be measured counts as 0."""
        now, names = self._clock(), list(pids)
        self._latest = {name: self._latest[name] for name in names if name in self._latest}
        self._before = {name: self._before[name] for name in names if name in self._before}
        begin = self._turn if self._turn < len(names) else 0
        for name in names[begin : begin + MOST_WORKERS]:
            self._latest[name] = self._measured(name, pids[name], now)
        self._turn = begin + MOST_WORKERS
        return tuple(self._latest[name] for name in names if name in self._latest)

    def _measured(self, name: str, pid: int, now: float) -> WorkerUse:
        spent_s = cpu_s(pid)
        at, before_s = self._before.get(name, (now, spent_s))
        self._before[name] = now, spent_s
        percent = 100.0 * max(0.0, spent_s - before_s) / (now - at) if now > at else 0.0
        return WorkerUse(worker=name, cpu=round(percent, 1), memory_mb=used_memory_mb(pid))


def cpu_s(pid: int) -> float:
    """Return the CPU time of a process and its living and ended children, in seconds; 0 if it cannot be read."""
    ticks, open_ones, root = 0, [pid], True
    while open_ones:
        one = open_ones.pop()
        try:
            fields = Path(f"/proc/{one}/stat").read_bytes().rpartition(b")")[2].split()
            ticks += int(fields[11]) + int(fields[12]) + (int(fields[13]) + int(fields[14]) if root else 0)
            open_ones += map(int, Path(f"/proc/{one}/task/{one}/children").read_bytes().split())
        except (OSError, ValueError, IndexError):
            pass  # it has just ended, or this is not Linux
        root = False
    return ticks / TICKS
