"""How much memory each worker uses: a trail for the day it dies, the limit of its group, and when to replace it.

Looked at now and then while a worker is at a task, so that an idle hub does nothing. The figure is what the worker
and the processes that it has started hold in memory (RSS): what numpy reserves and never touches costs nobody.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from nblb.hub.pool.worker_handle import Key, WorkerHandle

LOOK_S = 1.0
LIMITED_LOOK_S = 0.5  # where a limit is to be kept
MOST_POINTS = 32
TOLD_POINTS = 8
_PAGE = os.sysconf("SC_PAGE_SIZE")


class Trail:
    """A worker's memory since it began the slice that it is at: (seconds, MB), thinned out as it grows."""

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
            self._gap_s = 2 * max(self._gap_s, LIMITED_LOOK_S)

    def after_s(self, now: float) -> float:
        return now - self.begun_at

    def __str__(self) -> str:
        """A few of its points, always the last: '0.1 GB at 1 s, 3.9 GB at 12 s'."""
        step = -(-len(self.points) // TOLD_POINTS) or 1
        few = self.points[::-1][::step][::-1]
        return ", ".join(f"{size_words(used_mb)} at {after_s:.0f} s" for after_s, used_mb in few)


class MemoryWatch:
    """Looks at the seats of a pool; `kill` is called with a worker that is above its group's limit, and why."""

    def __init__(self, settings: Sequence[Mapping[str, Any]], kill: Callable[[str, str], None]) -> None:
        self._settings = settings
        self._kill = kill
        self._pause_s = LIMITED_LOOK_S if any(group.get("memory_mb") for group in settings) else LOOK_S
        self._trails: dict[str, Trail] = {}
        self.look_at: float | None = None  # while a worker is at something

    def begin(self, now: float) -> None:
        """A worker has been given something."""
        if self.look_at is None:
            self.look_at = now + self._pause_s

    def look(self, handles: Iterable[WorkerHandle], now: float) -> None:
        busy = [handle for handle in handles if handle.given and handle.pid]
        self.look_at = now + self._pause_s if busy else None
        for handle in busy:
            used_mb = used_memory_mb(handle.pid)
            self._trail(handle, now).add(now, used_mb)
            limit_mb = self._of(handle, "memory_mb")
            if limit_mb and used_mb > limit_mb and not handle.killed_why:
                after_s = self._trail(handle, now).after_s(now)
                words = f"{size_words(used_mb)} of {size_words(limit_mb)}, after {after_s:.0f} s"
                self._kill(handle.worker, f"killed for memory: {words}")

    def is_spent(self, handle: WorkerHandle) -> bool:
        """Between two tasks: has the worker grown so much that a new one shall take its place?"""
        most_mb = self._of(handle, "max_rss_mb")
        return bool(most_mb and handle.pid and used_memory_mb(handle.pid) > most_mb)

    def trail(self, handle: WorkerHandle) -> Trail | None:
        """Of the slice that the worker is at, if it has been looked at since it began."""
        trail = self._trails.get(handle.worker)
        return trail if trail is not None and handle.given and next(iter(handle.given.values())) == trail.key else None

    def forget(self, worker: str) -> None:
        self._trails.pop(worker, None)

    def _trail(self, handle: WorkerHandle, now: float) -> Trail:
        trail = self.trail(handle)
        if trail is None:
            begun_at = now - self._pause_s / 2  # some time since the last look
            trail = self._trails[handle.worker] = Trail(next(iter(handle.given.values())), begun_at)
        return trail

    def _of(self, handle: WorkerHandle, name: str) -> int:
        return int(self._settings[min(handle.group, len(self._settings) - 1)].get(name, 0))


def used_memory_mb(pid: int) -> int:
    """What a process and its descendants hold in memory; 0 where that cannot be known."""
    pages, open_ones = 0, [pid]
    while open_ones:
        one = open_ones.pop()
        try:
            pages += int(Path(f"/proc/{one}/statm").read_bytes().split()[1])
            open_ones += map(int, Path(f"/proc/{one}/task/{one}/children").read_bytes().split())
        except (OSError, ValueError, IndexError):
            continue  # it has just ended, or this is not Linux
    return pages * _PAGE >> 20


def size_words(size_mb: float) -> str:
    return f"{size_mb / 1024:.1f} GB" if size_mb >= 1000 else f"{size_mb:.0f} MB"
