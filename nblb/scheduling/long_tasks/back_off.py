"""The waits between the attempts of a call that raises, and the slices that wait so; pure.

With `retry_wait=w` the first retry waits w seconds, each later one twice as long as the one before, at most LONGEST_S
(or w, if that is longer). Up to a tenth is added, so that calls that failed together do not return together; it is
computed from the call and the number of the retry, so a restarted core computes the same wait.
"""

from __future__ import annotations

from collections.abc import Iterator
from heapq import heappop, heappush
from zlib import crc32

from nblb.quantities import duration, ordinal
from nblb.scheduling.slice import Slice

LONGEST_S = 600.0  # unless the first wait is longer
JITTER = 0.1  # the largest part that is added to a wait


def wait_s(first_s: float, retry: int, task: str, item: int) -> float:
    """Return how long a call waits before its retry number `retry`, counted from 1; 0 if `first_s` is 0."""
    growing = first_s * 2.0 ** min(retry - 1, 60)
    chance = crc32(f"{task}.{item}.{retry}".encode()) / 2**32
    return min(growing, max(first_s, LONGEST_S)) * (1.0 + JITTER * chance)


class DelayedSlices:
    """QUEUED slices that are not in the line yet, because they wait for the time of their next attempt."""

    def __init__(self) -> None:
        self._until: dict[Slice, float] = {}
        self._heap: list[tuple[float, int, Slice]] = []  # may have entries of slices that were removed
        self._number = 0

    def __contains__(self, task: object) -> bool:
        return task in self._until

    def __iter__(self) -> Iterator[Slice]:
        return iter(self._until)

    def add(self, task: Slice, until: float) -> None:
        """Keep this slice until then."""
        self._until[task] = until
        self._number += 1
        heappush(self._heap, (until, self._number, task))

    def discard(self, task: Slice) -> bool:
        """Remove a slice that was cancelled or lost; return whether it was there."""
        return self._until.pop(task, None) is not None

    def until(self, task: Slice) -> float:
        """Return when the slice may run again."""
        return self._until[task]

    def due(self, now: float) -> Iterator[Slice]:
        """Remove and yield the slices whose time has come."""
        while self._heap and (self._heap[0][0] <= now or not self._is_current()):
            is_due = self._is_current()
            _, _, task = heappop(self._heap)
            if is_due:
                del self._until[task]
                yield task

    def next_deadline(self) -> float | None:
        """Return when the first slice is due; None if none waits."""
        while self._heap and not self._is_current():
            heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def _is_current(self) -> bool:
        until, _, task = self._heap[0]
        return self._until.get(task) == until

    def why(self, task: Slice, now: float) -> str:
        """Return a sentence for the owner about how long the slice still waits, and why."""
        left_s = max(0.0, self._until[task] - now)
        failed = f" (the last one: {task.note})" if task.note else ""
        return f"waits {duration(left_s)} more before its {ordinal(task.attempt + 1)} attempt{failed}"
