"""Recalls work sent ahead that turns out to wait behind a long slice, or to delay another user.

A slice is sent ahead because its function has been short so far. When the slices in front of it run much longer, the
estimate of their function is raised, so that no more slices are sent behind them. Slices that have waited for PATIENCE
times LB_PREFETCH_MS are recalled with StopTask(why="recall") if all workers of their group run long slices, if a worker
elsewhere is free for them, if they are no longer known to be short, or if a user with fewer workers waits for one of
the workers.

A running slice of several calls may take long as well, because few calls were measured when it was cut. Once it has
run for LONG times LB_PREFETCH_MS it is recalled if a user with fewer workers waits, if slices of another user wait
behind it in its hub's queue, if such slices are sent from queue to queue, or if a worker is free. The current call
continues; those behind it come back.

A user who begins to wait for the next free slot (dispatch.py) gets it: slices that users with more workers have sent
ahead there are recalled at once, unless there are so many that they finish sooner than they return.

A hub hands back only what it has not begun: whole slices, or the calls of a running slice behind the current one.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, islice

from nblb.protocol.messages import TaskState
from nblb.scheduling.backlog import UserQueue
from nblb.scheduling.fair_share import Band, lead
from nblb.scheduling.hubs import Assignment, GroupOfWorkers
from nblb.scheduling.placement import MOST_COMPARED
from nblb.scheduling.slice import Slice
from nblb.scheduling.state import State
from nblb.scheduling.submission import Submission

PATIENCE = 5.0
LONG = 2.0
INFINITY = float("inf")
MOST_AT_ONCE = 64  # slices ahead in a group: if there are more, each is so short that it ends soon


class Recall:
    """Checks the attempts of hubs while some of them are work ahead."""

    def __init__(self, state: State) -> None:
        self.state = state
        self._wait_s = PATIENCE * state.policy.prefetch_s
        self._long_s = LONG * state.policy.prefetch_s
        self._at: float | None = None
        self._long_at: float | None = None  # when running slices are checked next
        self._made_way: dict[UserQueue, tuple[Band, int, int, float]] = {}  # by user: the slice, and until when
        self._way_at: float | None = None  # when work ahead is checked next for those who wait

    def make_way(self, waiting: Sequence[tuple[UserQueue, Slice, Band]], now: float) -> None:
        """Recall work sent ahead that would take the next free slot from these waiting users.

        For each slice at once, and again after a while: users' numbers of workers change, and so does what is ahead
        where workers end or start.
        """
        placement = self.state.placement
        is_ahead = waiting and any(room.behind for room in placement.rooms.values())
        self._way_at = now + self._long_s if is_ahead else None
        for user, task, band in waiting:
            done = self._made_way.get(user)
            if done is not None and done[:3] == (band, task.record.number, task.first) and now < done[3]:
                continue
            self._made_way[user] = band, task.record.number, task.first, now + self._long_s
            if not self.state.is_in_line(task):
                continue
            for group in islice(chain(placement.rooms[band].full, placement.rooms[band].ahead), MOST_COMPARED):
                ahead = group.given - group.alive
                runs = 0 < ahead <= MOST_AT_ONCE and group.runs(task.record.kind)
                if runs and not placement.is_short(task, group) and placement.is_in_time(task.record, group.hub):
                    self._call_back(group, ahead, user)

    def look_again(self) -> None:
        """Recall again for users who wait already, since shares have changed."""
        self._made_way.clear()

    def _call_back(self, group: GroupOfWorkers, ahead: int, user: UserQueue) -> None:
        """Recall the latest slices of a group that have not begun, except of users with as few workers as `user`."""
        latest = (held for held in reversed(group.hub.in_flight.values()) if held.group is group)
        for held in islice(latest, ahead):
            if lead(held.user, user, group.band) > 1 and not held.recalled and not held.started_at:
                held.recalled = True
                self.state.stop(held, "recall")

    def next_deadline(self) -> float | None:
        times = [at for at in (self._at, self._long_at, self._way_at) if at is not None]
        return min(times) if times else None

    def tick(self, now: float, held: bool = False) -> None:
        """Recall what waits in vain; `held`: nothing new is started, so free workers take nothing."""
        if not held and (self.state.divisible or self._long_at is not None):
            self._recall_from_long_ones(now)
        if self._at is not None and now < self._at:
            return
        ahead = [group for room in self.state.placement.rooms.values() for group in room.behind]
        self._at = now + self._wait_s if ahead and self._wait_s > 0.0 else None
        if self._at is not None:
            for group in ahead:
                self._recall_behind_long_ones(group, now)

    def _recall_behind_long_ones(self, group: GroupOfWorkers, now: float) -> None:
        estimates = self.state.placement.estimates
        waiting: list[Assignment] = []
        long, wait_s = 0, self._wait_s + 2.0 * group.far_s
        for held in group.hub.in_flight.values():  # in the order of assignment
            if now - held.given_at < wait_s:
                break
            if held.group is not group:
                continue
            if held.started_at:
                estimates.at_least(held.record, now - held.started_at, held.items)
                if held.started_at + wait_s <= now and not held.wait:
                    long += 1
                    self._raise_estimate(held, now)
            elif not held.recalled:
                waiting.append(held)
        for held in waiting:  # behind long slices only, they would wait as long, whoever else gets workers meanwhile
            if long >= group.alive or self._better_elsewhere(held):
                held.recalled = True
                self.state.stop(held, "recall")

    def _recall_from_long_ones(self, now: float) -> None:
        """Recall what running slices of several calls have not begun, where somebody or a free worker waits for it."""
        if self._long_at is not None and now < self._long_at:
            return
        self._long_at, at = None, INFINITY
        if self._long_s <= 0.0:
            return
        sent_again: list[Assignment] | None = None
        for held in self.state.divisible:  # in the order of their start
            if held.recalled:
                continue
            if now < held.started_at + self._long_s:
                at = min(at, held.started_at + self._long_s)
                break
            at = now + self._long_s
            if held.told:
                self.state.placement.estimates.at_least(held.record, held.reported_s, held.told)
            if sent_again is None:
                sent_again = self._sent_again()
            if self._is_in_the_way(held, now, sent_again):
                held.recalled = True
                self.state.stop(held, "recall")
        if at < INFINITY:
            self._long_at = at

    def _sent_again(self) -> list[Assignment]:
        """Return the slices that wait in a hub's queue after they were recalled from one."""
        behind = dict.fromkeys(group.hub for room in self.state.placement.rooms.values() for group in room.behind)
        waiting = chain.from_iterable(hub.in_flight.values() for hub in behind)
        return [held for held in waiting if not held.started_at and _came_back(held)]

    def _is_in_the_way(self, held: Assignment, now: float, sent_again: Sequence[Assignment]) -> bool:
        """Return whether the calls that a running slice has not begun keep others waiting, or could run elsewhere."""
        group, user = held.group, held.user
        if group.hub.suspect or held.wait:
            return False
        if any(group.runs(task.record.kind) for task in group.band.of_fewer(user, MOST_COMPARED)):
            return True
        if group.given > group.alive and any(
            other.group is group
            and other.user is not user
            and not other.started_at
            and now > other.given_at + self._long_s
            for other in group.hub.in_flight.values()
        ):
            return True
        if any(other.user is not user and _can_take(group, other.record) for other in sent_again):
            return True
        return self.state.placement.choose_free(held.record) is not None

    @staticmethod
    def _raise_estimate(held: Assignment, now: float) -> None:
        """Expect a running slice to take as long again, so that no more is sent to wait behind it."""
        more_s = 2.0 * (now - held.started_at) - held.estimate_s
        if more_s > 0.0:
            held.estimate_s += more_s
            held.group.work_changed(0, more_s)

    def _better_elsewhere(self, held: Assignment) -> bool:
        placement = self.state.placement
        estimate = placement.estimates.slice_s(held.record, held.items)
        if estimate is None or not held.group.is_short(estimate, placement.prefetch_s):
            return True
        band = held.group.band
        entry = band.first()
        if entry is not None and lead(held.user, entry[3], band) > 1 and held.group.runs(entry[4].record.kind):
            return True
        return any(
            group.given < group.alive
            and not group.hub.suspect
            and group is not held.group
            and placement.is_in_time(held.record, group.hub)
            for group in placement.takers(held.record)
        )


def _can_take(group: GroupOfWorkers, record: Submission) -> bool:
    """Return whether workers of this group can run the submission."""
    band = group.band
    return band.takes(record.spec.priority) and band.admits(record.user) and group.runs(record.kind)


def _came_back(held: Assignment) -> bool:
    """Return whether the slice was sent ahead and recalled just before: it has waited elsewhere already."""
    story = held.tasks[0].story[-2:-1] if held.tasks else ()
    return any(cause == "TaskReturned" and old is TaskState.ASSIGNED for _, cause, old, _ in story)
