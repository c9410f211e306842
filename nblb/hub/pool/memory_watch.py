"""Measures each worker's memory: records its course, enforces its group's limit, and decides when to replace it.

It measures periodically while a worker runs a task, so an idle hub does nothing. The figure is the resident memory
(RSS) of the worker and the processes that it has started: memory that numpy reserves and never touches is not counted.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from nblb.hub.pool.worker_handle import Key, WorkerHandle
from nblb.quantities import size
from nblb.worker.settings import WorkerSettings

LOOK_S = 1.0
LIMITED_INTERVAL_S = 0.5  # interval in groups with a limit
MOST_POINTS = 32
SHOWN_POINTS = 8
_PAGE = os.sysconf("SC_PAGE_SIZE")


class Trail:
    """A worker's memory since it began its current slice, as (seconds, MB), thinned out as it grows."""

    def __init__(self, key: Key, now: float) -> None:
        self.key = key
        self.begun_at = now
        self.points: list[tuple[float, int]] = []
        self._gap_s = 0.0

    def add(self, now: float, used_mb: int) -> None:
        after_s = now - self.begun_at
        if self.points and after_s < self.points[-1][0] + self._gap_s:
            return
        self.points.append((after_s, used_mb))
        if len(self.points) > MOST_POINTS:
            self.points = self.points[::2]
            self._gap_s = 2 * max(self._gap_s, LIMITED_INTERVAL_S)

    def after_s(self, now: float) -> float:
        return now - self.begun_at

    def __str__(self) -> str:
        """Return some of its points, always with the last: '0.1 GB at 1 s, 3.9 GB at 12 s'."""
        step = -(-len(self.points) // SHOWN_POINTS) or 1
        few = self.points[::-1][::step][::-1]
        return ", ".join(f"{size(used_mb * 2**20)} at {after_s:.0f} s" for after_s, used_mb in few)


class MemoryWatch:
    """Measures the workers of a pool; calls `kill` with a worker above its group's limit and the reason."""

    def __init__(self, settings: Sequence[WorkerSettings], kill: Callable[[str, str], None]) -> None:
        self._settings = settings
        self._kill = kill
        self._pause_s = LIMITED_INTERVAL_S if any(group.memory_mb for group in settings) else LOOK_S
        self._trails: dict[str, Trail] = {}
        self.look_at: float | None = None  # None while no worker runs anything

    def begin(self, now: float) -> None:
        """Start measuring, since a worker has received a slice."""
        if self.look_at is None:
            self.look_at = now + self._pause_s

    def check(self, handles: Iterable[WorkerHandle], now: float) -> None:
        busy = [handle for handle in handles if handle.given and handle.pid]
        self.look_at = now + self._pause_s if busy else None
        for handle in busy:
            used_mb = used_memory_mb(handle.pid)
            self._trail(handle, now).add(now, used_mb)
            limit_mb = self._of(handle).memory_mb
            if limit_mb and used_mb > limit_mb and not handle.killed_why:
                after_s = self._trail(handle, now).after_s(now)
                words = f"{size(used_mb * 2**20)} of {size(limit_mb * 2**20)}, after {after_s:.0f} s"
                self._kill(handle.worker, f"killed for memory: {words}")

    def is_spent(self, handle: WorkerHandle) -> bool:
        """Return, between two tasks, whether the worker uses so much memory that a new one must replace it."""
        most_mb = self._of(handle).max_rss_mb
        return bool(most_mb and handle.pid and used_memory_mb(handle.pid) > most_mb)

    def trail(self, handle: WorkerHandle) -> Trail | None:
        """Return the trail of the worker's current slice, if it was measured since the slice began."""
        trail = self._trails.get(handle.worker)
        return trail if trail is not None and handle.given and next(iter(handle.given.values())) == trail.key else None

    def forget(self, worker: str) -> None:
        self._trails.pop(worker, None)

    def _trail(self, handle: WorkerHandle, now: float) -> Trail:
        trail = self.trail(handle)
        if trail is None:
            begun_at = now - self._pause_s / 2  # some time after the last measurement
            trail = self._trails[handle.worker] = Trail(next(iter(handle.given.values())), begun_at)
        return trail

    def _of(self, handle: WorkerHandle) -> WorkerSettings:
        return self._settings[min(handle.group, len(self._settings) - 1)]


def used_memory_mb(pid: int) -> int:
    """Return the memory of a process and its descendants; 0 if it cannot be measured."""
    pages, open_ones = 0, [pid]
    while open_ones:
        one = open_ones.pop()
        try:
            pages += int(Path(f"/proc/{one}/statm").read_bytes().split()[1])
            open_ones += map(int, Path(f"/proc/{one}/task/{one}/children").read_bytes().split())
        except (OSError, ValueError, IndexError):
            continue  # it has just ended, or this is not Linux
    return pages * _PAGE >> 20
