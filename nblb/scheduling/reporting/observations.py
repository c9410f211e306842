"""What a core has observed of ended calls: a bounded list for the timeline, and histograms of times by task name.

Both are for people: nothing is decided by them. They are bounded, and where slices end faster than people can look,
only one in THINNED of them is taken, which then counts for all of these.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from math import frexp
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from nblb.protocol.messages import TaskEnded
    from nblb.scheduling.slice import Slice

MOST_SPANS = 20_000
MOST_NAMES = 1_000  # task names with histograms
STEPS = 4  # buckets between a time and its double: a percentile is right within 19 %
LEAST = -20 * STEPS  # the bucket of one microsecond; shorter times count as that
SHORTEST_S = 0.5 * 2.0**-20
MOST_PER_S = 500  # slices of which each is taken
THINNED = 16  # beyond that one of so many is taken


class Span(msgspec.Struct, frozen=True, gc=False):  # a Struct: one is created for each end, and that is fast
    """A slice that has run: who ran what, where, and when (`end` is by the wall clock)."""

    end: float
    seconds: float
    host: str
    worker: str
    name: str
    user: str
    state: str
    task: str
    first: int
    items: int
    attempt: int
    job: str


class Histogram:
    """Counts of times in buckets whose bounds grow by the same factor, so that it is small and percentiles are near."""

    __slots__ = ("buckets",)

    def __init__(self, buckets: Mapping[int, int] | None = None) -> None:
        self.buckets: dict[int, int] = dict(buckets or {})

    def add(self, seconds: float, items: int) -> None:
        """Add `items` calls that took `seconds` each."""
        mantissa, exponent = frexp(seconds)  # seconds = mantissa * 2**exponent, mantissa from 0.5 to 1
        bucket = STEPS * (exponent - 1) + int(mantissa * 2 * STEPS) if seconds > SHORTEST_S else LEAST
        self.buckets[bucket] = self.buckets.get(bucket, 0) + items

    def percentile(self, share: float) -> float:
        """Return the time that this share of the calls (0 to 1) did not exceed, by the middle of its bucket."""
        wanted, seen = share * sum(self.buckets.values()), 0
        for bucket in sorted(self.buckets):
            seen += self.buckets[bucket]
            if seen >= wanted and seen:
                exponent, step = divmod(bucket, STEPS)
                return float((0.5 + (step + 0.5) / (2 * STEPS)) * 2.0**exponent)
        return 0.0


class Observations:
    """The timeline and the histograms of a core."""

    def __init__(self) -> None:
        self.spans: deque[Span] = deque(maxlen=MOST_SPANS)
        self.run: dict[str, Histogram] = {}  # run times by task name
        self.wait: dict[str, Histogram] = {}  # and times in the queue
        self._second = 0.0  # the wall clock's at the first end of the present second
        self._ends = 0  # slices that have ended in it

    def ended(self, task: Slice, ended: TaskEnded, wall_offset: float) -> None:
        """Add a slice that has just ended."""
        seconds = ended.duration_s
        if seconds <= 0.0:
            return  # it has not run: cancelled in the queue, or a result from the cache
        weight = 1
        if not 0.0 <= ended.ended_at - self._second < 1.0:  # a clock may have been set back, too
            self._second, self._ends = ended.ended_at, 0
        self._ends += 1
        if self._ends > MOST_PER_S:
            if self._ends % THINNED:
                return
            weight = THINNED
        record, items = task.record, task.items
        if ended.items != items:
            seconds *= items / max(1, ended.items - len(ended.holes))
        name = record.spec.name
        self.spans.append(
            Span(
                ended.ended_at,
                seconds,
                ended.host,
                ended.worker,
                name,
                record.user,
                ended.state._value_,  # as `value`, which takes ten times as long
                record.id,
                task.first,
                items,
                ended.attempt,
                record.spec.job,
            )
        )
        run = self.run.get(name)
        if run is None:
            if len(self.run) >= MOST_NAMES:
                oldest = next(iter(self.run))
                del self.run[oldest]
                self.wait.pop(oldest, None)
            run = self.run[name] = Histogram()
            self.wait[name] = Histogram()
        run.add(seconds / items, items * weight)
        self.wait[name].add(max(0.0, ended.ended_at - ended.duration_s - task.queued_at - wall_offset), items * weight)
