"""Sums by task name and by user: calls that have ended, how long they ran and waited. They outlive tasks and restarts.

The journal holds the ends of tasks until they are forgotten, so nothing is written for a sum while its tasks are
there: a restart adds them up again. What would be lost is kept as the *past*, one row a name and one a user: tasks
that were forgotten, and the time of attempts that came to nothing, which no end tells of.

A call is counted once, when it ends DONE, FAILED or LOST; one that is tried again after that, or cancelled after its
end, is taken out again. Times are those of calls that ran: a result from the cache took none.
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
MOST_NAMES = 10_000  # whose past is kept; who makes names up has no use for their statistics


class Statistics:
    """Of one task name, in the seed's terms."""

    __slots__ = ("calc_max", "calc_min", "calc_sum", "failed", "ran", "total", "wait_max", "wait_min", "wait_sum")

    def __init__(self) -> None:
        self.total = self.failed = 0
        self.ran = 0  # calls that times are known of
        self.calc_sum = self.wait_sum = 0.0
        self.calc_min = self.wait_min = float("inf")
        self.calc_max = self.wait_max = 0.0

    def add(self, items: int, failed: int, ran_s: float, waited_s: float) -> None:
        """These calls ran for so long together, and each waited so long."""
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
        """These calls do not count any more (but as the shortest or the longest)."""
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

    def kept(self, name: str) -> StatisticsKept:
        return StatisticsKept(
            name, self.total, self.failed, self.ran, self.calc_sum, self.calc_min, self.calc_max,
            self.wait_sum, self.wait_min, self.wait_max,
        )  # fmt: skip

    @classmethod
    def of(cls, entry: StatisticsKept) -> Statistics:
        found = cls()
        for field in cls.__slots__:
            setattr(found, field, getattr(entry, field))
        return found


class UserTotals:
    """What a user has had of the workers, as far as no task that is known tells of it."""

    __slots__ = ("at", "done", "failed", "recent_s", "used_s")

    def __init__(self) -> None:
        self.done = self.failed = 0
        self.used_s = 0.0
        self.recent_s, self.at = 0.0, 0.0  # the use that still counts against its fair share, and when it was that

    def spend(self, seconds: float, at: float, halflife_s: float) -> None:
        """A worker was in use for so long, until then."""
        self.used_s += seconds
        if at >= self.at:
            self.recent_s *= 2.0 ** max(-1000.0, (self.at - at) / halflife_s)
            self.at = at
        else:
            seconds *= 2.0 ** max(-1000.0, (at - self.at) / halflife_s)
        self.recent_s += seconds


class Tallies:
    """All sums of a core."""

    def __init__(self, share: FairShare) -> None:
        self.by_name: dict[str, Statistics] = {}
        self._share = share
        self._past: dict[str, Statistics] = {}
        self._past_users: dict[str, UserTotals] = {}
        self._changed_names: dict[str, None] = {}  # whose past the journal does not have as it is
        self._changed_users: dict[str, None] = {}

    # ── what happens ──

    def count(self, task: Slice, wall_offset: float) -> None:
        """The slice has just ended (or is known to have ended, after a restart)."""
        ended, items = task.ended, task.items
        assert ended is not None
        if ended.state is CANCELLED:
            return
        record = task.record
        user, name, failed = self._share.user(record.user), record.spec.name, 0
        if ended.state is DONE:
            user.done += items
        else:
            user.failed += items
            failed = items
        statistics = self.by_name.get(name)
        if statistics is None:
            statistics = self.by_name[name] = Statistics()
        statistics.add(items, failed, ran_s(task), _waited_s(task, wall_offset))

    def uncount(self, task: Slice, wall_offset: float, keep_use: bool = True) -> None:
        """The slice, which has ended, runs again or is cancelled after all; the use of its worker is not undone."""
        ended, items, record = task.ended, task.items, task.record
        assert ended is not None
        user, is_bad = self._share.user(record.user), ended.state is not DONE
        if is_bad:
            user.failed -= items
        else:
            user.done -= items
        ran = ran_s(task)
        self.by_name[record.spec.name].take(items, items * is_bad, ran, _waited_s(task, wall_offset))
        if keep_use:
            self.spend(record.user, ran, ended.ended_at)

    def undo(self, record: Submission, wall_offset: float) -> None:
        """The record was never accepted; a result that the cache had for it, or its failure, does not count."""
        for task in record.slices:
            if task.ended is not None and task.ended.state is not CANCELLED:
                self.uncount(task, wall_offset, keep_use=False)

    def spend(self, user: str, seconds: float, at: float) -> None:
        """Worker time that has been charged, and that no end will tell of; `at` by the wall clock."""
        if seconds > 0.0:
            self._past_of(user).spend(seconds, at, self._share.halflife_s)

    def retire(self, record: Submission, wall_offset: float) -> None:
        """The record is about to be forgotten: what it has added to the sums is kept without it."""
        for task in record.slices:
            ended = task.ended
            if ended is None or ended.state is CANCELLED:
                continue
            past, ran, items = self._past_of(record.user), ran_s(task), task.items
            failed = 0 if ended.state is DONE else items
            past.done += items - failed
            past.failed += failed
            past.spend(ran, ended.ended_at, self._share.halflife_s)
            self._past_name(record.spec.name).add(items, failed, ran, _waited_s(task, wall_offset))

    def _past_of(self, user: str) -> UserTotals:
        self._changed_users[user] = None
        past = self._past_users.get(user)
        if past is None:
            past = self._past_users[user] = UserTotals()
        return past

    def _past_name(self, name: str) -> Statistics:
        self._changed_names[name] = None
        past = self._past.get(name)
        if past is None:
            past = self._past[name] = Statistics()
            if len(self._past) > MOST_NAMES:
                oldest = next(iter(self._past))
                del self._past[oldest]
                self.by_name.pop(oldest, None)
                self._changed_names[oldest] = None
        return past

    # ── the journal ──

    @property
    def is_changed(self) -> bool:
        return bool(self._changed_names or self._changed_users)

    def changed(self) -> Iterator[StatisticsKept | UserKept]:
        """The rows that the journal has to have anew."""
        names, self._changed_names = self._changed_names, {}
        for name in names:
            past = self._past.get(name)
            yield past.kept(name) if past is not None else StatisticsKept(name)
        users, self._changed_users = self._changed_users, {}
        for user in users:
            p = self._past_users[user]
            yield UserKept(user, p.done, p.failed, p.used_s, p.recent_s, p.at)

    def recall_name(self, entry: StatisticsKept) -> None:
        """A row of an earlier core; the last one of a name counts."""
        if entry.total or entry.ran:
            self._past[entry.name] = Statistics.of(entry)
        else:
            self._past.pop(entry.name, None)

    def recall_user(self, entry: UserKept) -> None:
        past = self._past_users[entry.user] = UserTotals()
        past.done, past.failed, past.used_s = entry.done, entry.failed, entry.used_s
        past.recent_s, past.at = entry.recent_s, entry.at

    def recalled(self, wall_offset: float, now: float) -> None:
        """All rows are read, and all tasks that are known have been counted: add the past."""
        for name, statistics in self._past.items():
            self.by_name.setdefault(name, Statistics()).merge(statistics)
        for name, past in self._past_users.items():
            user = self._share.user(name)
            user.done += past.done
            user.failed += past.failed
            self._share.recall(user, past.used_s, past.recent_s, min(now, past.at - wall_offset))


def ran_s(task: Slice) -> float:
    """How long the calls of a slice that has ended ran; one end may tell of several slices."""
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
