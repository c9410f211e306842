"""Sums by task name and by user: ended calls, their run times and wait times. They outlive tasks and restarts.

The journal contains the ends of tasks until the tasks are dropped, so while they are there nothing is written for a
sum: a restart adds the ends up again. What the ends do not cover is journaled as the *past*, one row per name and one
per user: dropped tasks, and the time of lost attempts.

A call is counted once, when it ends DONE, FAILED or LOST; a call that is then retried, or cancelled after its end, is
subtracted again. Times are those of calls that ran: a result from the cache has none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nblb.protocol.journal_entries import StatisticsKept, UserKept
from nblb.protocol.messages import TaskState

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nblb.scheduling.fair_share import FairShare
    from nblb.scheduling.slice import Slice
    from nblb.scheduling.submission import Submission

DONE, CANCELLED = TaskState.DONE, TaskState.CANCELLED
MOST_NAMES = 10_000  # names whose past is kept; statistics of generated names have no use


class Statistics:
    """Statistics of one task name, in the seed's terms."""

    __slots__ = (
        "calc_max", "calc_min", "calc_sum", "failed", "peak_bytes", "ran", "total", "wait_max", "wait_min", "wait_sum",
    )  # fmt: skip

    def __init__(self) -> None:
        self.total = self.failed = 0
        self.ran = 0  # calls with known times
        self.calc_sum = self.wait_sum = 0.0
        self.calc_min = self.wait_min = float("inf")
        self.calc_max = self.wait_max = 0.0
        self.peak_bytes = 0  # most memory of a worker while it ran calls of the name; 0: unknown

    def add(self, items: int, failed: int, ran_s: float, waited_s: float) -> None:
        """Add calls that ran for `ran_s` in total and waited for `waited_s` each."""
        self.total += items
        self.failed += failed
        if ran_s <= 0.0:
            return
        one = ran_s / items
        self.ran += items
        self.calc_sum += ran_s
        if one < self.calc_min:
            self.calc_min = one
        if one > self.calc_max:
            self.calc_max = one
        self.wait_sum += waited_s * items
        if waited_s < self.wait_min:
            self.wait_min = waited_s
        if waited_s > self.wait_max:
            self.wait_max = waited_s

    def take(self, items: int, failed: int, ran_s: float, waited_s: float) -> None:
        """Subtract calls; the shortest and the longest times stay."""
        self.total -= items
        self.failed -= failed
        if ran_s > 0.0:
            self.ran -= items
            self.calc_sum = max(0.0, self.calc_sum - ran_s)
            self.wait_sum = max(0.0, self.wait_sum - waited_s * items)

    def merge(self, other: Statistics) -> None:
        self.total += other.total
        self.failed += other.failed
        self.ran += other.ran
        self.calc_sum += other.calc_sum
        self.wait_sum += other.wait_sum
        self.calc_min, self.calc_max = min(self.calc_min, other.calc_min), max(self.calc_max, other.calc_max)
        self.wait_min, self.wait_max = min(self.wait_min, other.wait_min), max(self.wait_max, other.wait_max)
        self.peak_bytes = max(self.peak_bytes, other.peak_bytes)

    def kept(self, name: str) -> StatisticsKept:
        return StatisticsKept(
            name, self.total, self.failed, self.ran, self.calc_sum, self.calc_min, self.calc_max,
            self.wait_sum, self.wait_min, self.wait_max, self.peak_bytes,
        )  # fmt: skip

    @classmethod
    def of(cls, entry: StatisticsKept) -> Statistics:
        found = cls()
        for field in cls.__slots__:
            setattr(found, field, getattr(entry, field))
        return found


class UserTotals:
    """A user's past use of workers that is in no known task."""

    __slots__ = ("at", "done", "failed", "recent_s", "used_s")

    def __init__(self) -> None:
        self.done = self.failed = 0
        self.used_s = 0.0
        self.recent_s, self.at = 0.0, 0.0  # the use that counts against the fair share, and as of when

    def spend(self, seconds: float, at: float, halflife_s: float) -> None:
        """Add worker time that ended at time `at`."""
        self.used_s += seconds
        if at >= self.at:
            self.recent_s *= 2.0 ** max(-1000.0, (self.at - at) / halflife_s)
            self.at = at
        else:
            seconds *= 2.0 ** max(-1000.0, (at - self.at) / halflife_s)
        self.recent_s += seconds


class Tallies:
    """The sums of a core, by task name and by user."""

    def __init__(self, share: FairShare) -> None:
        self.by_name: dict[str, Statistics] = {}
        self._share = share
        self._retired: dict[str, Statistics] = {}
        self._retired_users: dict[str, UserTotals] = {}
        self._changed_names: dict[str, None] = {}  # names whose current past is not in the journal
        self._changed_users: dict[str, None] = {}
        self.is_changed = False  # True if there are any of the two

    # ── events ──

    def count(self, task: Slice, wall_offset: float) -> None:
        """Count a slice that has just ended (or, after a restart, is known to have ended)."""
        ended, items = task.ended, task.items
        assert ended is not None
        if ended.state is CANCELLED:
            return
        record = task.record
        user, name, failed = record.owner, record.spec.name, 0
        if ended.state is DONE:
            user.done += items
        else:
            user.failed += items
            failed = items
        statistics = self.by_name.get(name)
        if statistics is None:
            statistics = self.by_name[name] = Statistics()
        ran = ended.duration_s if ended.items == items else ran_s(task)
        statistics.add(items, failed, ran, _waited_s(task, wall_offset))
        if ended.peak_bytes > statistics.peak_bytes:
            statistics.peak_bytes = ended.peak_bytes

    def uncount(self, task: Slice, wall_offset: float, keep_use: bool = True) -> None:
        """Subtract an ended slice that runs again; the use of its worker stays counted."""
        ended, items, record = task.ended, task.items, task.record
        assert ended is not None
        if ended.state is CANCELLED:
            return
        user, is_bad = record.owner, ended.state is not DONE
        if is_bad:
            user.failed -= items
        else:
            user.done -= items
        ran = ran_s(task)
        self.by_name[record.spec.name].take(items, items * is_bad, ran, _waited_s(task, wall_offset))
        if keep_use:
            self.spend(record.user, ran, ended.ended_at)

    def undo(self, record: Submission, wall_offset: float) -> None:
        """Subtract a submission whose acceptance is undone: its cached result or failure does not count."""
        for task in record.slices:
            if task.ended is not None and task.ended.state is not CANCELLED:
                self.uncount(task, wall_offset, keep_use=False)

    def spend(self, user: str, seconds: float, at: float) -> None:
        """Add charged worker time that will be in no TaskEnded; `at` is by the wall clock.

        It is below zero where the ends carry more than was charged.
        """
        if seconds:
            self._retired_of(user).spend(seconds, at, self._share.halflife_s)

    def retire(self, record: Submission, wall_offset: float) -> None:
        """Move the sums of a submission that is about to be dropped into the past."""
        for task in record.slices:
            if task.ended is not None and task.ended.state is not CANCELLED:
                self.retire_slice(task, wall_offset)

    def retire_slice(self, task: Slice, wall_offset: float) -> None:
        """Move the sums of an ended slice, whose end is about to be dropped, into the past: its calls have run."""
        ended, record, items = task.ended, task.record, task.items
        assert ended is not None
        past, ran = self._retired_of(record.user), ran_s(task)
        failed = 0 if ended.state is DONE else items
        past.done += items - failed
        past.failed += failed
        past.spend(ran, ended.ended_at, self._share.halflife_s)
        statistics = self._retired_name(record.spec.name)
        statistics.add(items, failed, ran, _waited_s(task, wall_offset))
        statistics.peak_bytes = max(statistics.peak_bytes, ended.peak_bytes)

    def _retired_of(self, user: str) -> UserTotals:
        self._changed_users[user], self.is_changed = None, True
        past = self._retired_users.get(user)
        if past is None:
            past = self._retired_users[user] = UserTotals()
        return past

    def _retired_name(self, name: str) -> Statistics:
        self._changed_names[name], self.is_changed = None, True
        past = self._retired.get(name)
        if past is None:
            past = self._retired[name] = Statistics()
            if len(self._retired) > MOST_NAMES:
                oldest = next(iter(self._retired))
                del self._retired[oldest]
                self.by_name.pop(oldest, None)
                self._changed_names[oldest] = None
        return past

    # ── the journal ──

    def changed(self) -> Iterator[StatisticsKept | UserKept]:
        """Yield the rows that must be written to the journal again."""
        self.is_changed = False
        names, self._changed_names = self._changed_names, {}
        for name in names:
            past = self._retired.get(name)
            yield past.kept(name) if past is not None else StatisticsKept(name)
        users, self._changed_users = self._changed_users, {}
        for user in users:
            p = self._retired_users[user]
            yield UserKept(user, p.done, p.failed, p.used_s, p.recent_s, p.at)

    def recall_name(self, entry: StatisticsKept) -> None:
        """Take a row of an earlier core; the last one of a name counts."""
        if entry.total or entry.ran:
            self._retired[entry.name] = Statistics.of(entry)
        else:
            self._retired.pop(entry.name, None)

    def recall_user(self, entry: UserKept) -> None:
        past = self._retired_users[entry.user] = UserTotals()
        past.done, past.failed, past.used_s = entry.done, entry.failed, entry.used_s
        past.recent_s, past.at = entry.recent_s, entry.at

    def recalled(self, wall_offset: float, now: float) -> None:
        """Add the past, after all rows are read and all known tasks are counted."""
        for name, statistics in self._retired.items():
            self.by_name.setdefault(name, Statistics()).merge(statistics)
        for name, past in self._retired_users.items():
            user = self._share.user(name)
            user.done += past.done
            user.failed += past.failed
            self._share.recall(user, past.used_s, past.recent_s, min(now, past.at - wall_offset))


def ran_s(task: Slice) -> float:
    """Return the run time of an ended slice's calls; one TaskEnded may cover several slices."""
    ended = task.ended
    if ended is None or ended.state is CANCELLED:
        return 0.0
    if ended.items == task.items:
        return ended.duration_s
    return ended.duration_s * task.items / max(1, ended.items - len(ended.holes))


def _waited_s(task: Slice, wall_offset: float) -> float:
    ended = task.ended
    assert ended is not None
    return max(0.0, ended.ended_at - ended.duration_s - (task.queued_at + wall_offset))
