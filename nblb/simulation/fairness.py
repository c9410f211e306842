"""I6, seen from the outside: at each assignment, was it that user's turn, and the most urgent of that user's tasks?
And over a time in which two users both had work waiting: have they had the workers for about the same time?

Counted anew from what hubs have in hand and from the records themselves, not from the scheduler's own sums, so a
sum that has gone wrong is found. Work that is sent ahead to busy workers (DESIGN 4.5) has its own bound and is left
out.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

from nblb.protocol.commands import Command, Send
from nblb.protocol.messages import RunTask, TaskState
from nblb.scheduling.hubs import Assignment
from nblb.scheduling.scheduler import Scheduler
from nblb.scheduling.slice import Slice
from nblb.simulation.simulator import Violation

if TYPE_CHECKING:
    from nblb.simulation.simulated_hub import SimulatedHub

LATE_S = 0.05  # what a look may come too late


def check_turns(scheduler: Scheduler, commands: Sequence[Command]) -> None:
    """Go through the assignments of a turn backwards, from the state it has led to."""
    runs = [c.message for c in commands if type(c) is Send and type(c.message) is RunTask]
    if not runs:
        return
    state = scheduler.state
    held_now: dict[tuple[str, int, int], Assignment] = {}
    occupied: Counter[str] = Counter()
    in_group: Counter[object] = Counter()
    for hub in state.hubs.values():
        held_now.update(hub.in_hand)
        for held in hub.in_hand.values():
            occupied[held.record.user] += 1
            in_group[held.group] += 1
    queued = [
        task
        for record in state.records.values()
        for task in record.slices
        if task.state is TaskState.QUEUED and task not in state.withheld
    ]
    for run in reversed(runs):
        given = held_now.get((run.task, run.first, run.attempt))
        if given is None:  # called back in the same turn
            continue
        user = given.record.user
        occupied[user] -= 1
        in_group[given.group] -= 1
        if in_group[given.group] < given.group.alive:
            _check(scheduler, given, occupied, queued)
        queued += given.tasks


def _check(scheduler: Scheduler, given: Assignment, occupied: Counter[str], queued: Sequence[Slice]) -> None:
    user, priority = given.record.user, given.record.spec.priority
    bands = [band for band in scheduler.state.placement.bands if band.takes(priority)]
    for task in queued:
        if not given.group.hub.runs(task.record.kind):
            continue
        other, wanted = task.record.user, task.record.spec.priority
        if other == user:
            if wanted > priority and all(band.takes(wanted) for band in bands):
                raise Violation("I6", f"{given.record.id} goes before {task!r} of the same user, which is more urgent")
        elif occupied[other] < occupied[user] and all(band.takes(wanted) for band in bands):
            raise Violation(
                "I6",
                f"{given.record.id} of {user} ({occupied[user]} workers) goes before {task!r} of {other} "
                f"({occupied[other]} workers)",
            )


class Shares:
    """Worker time by user, looked at after each turn of the core, where all workers take all tasks.

    While two users both have work waiting, what one of them gets more is at most what the workers were at when that
    began, one call more on each, and what the other had got more of lately (ties go to who has used least).
    """

    def __init__(self) -> None:
        self.used: defaultdict[str, float] = defaultdict(float)
        self.longest_s = 0.0  # a slice so far
        self.compared_s = 0.0  # the longest time over which two users were compared
        self._since: dict[tuple[str, str], tuple[float, float]] = {}  # of both waiting: from when, and the lead then

    def look(self, scheduler: Scheduler, hubs: Sequence[SimulatedHub], now: float) -> None:
        """Count what was worked since the last look, and compare all who wait."""
        workers = [worker for hub in hubs for worker in hub.pool.workers.values()]
        self.used = defaultdict(float)
        for hub in hubs:
            for user, seconds in hub.pool.worked.items():
                self.used[user] += seconds
            self.longest_s = max(self.longest_s, hub.pool.longest_s)
        for worker in workers:
            if worker.run is not None:
                self.used[worker.run.user] += now - worker.began_at
                self.longest_s = max(self.longest_s, now - worker.began_at)
        waiting = sorted(user.name for user in scheduler.state.share.users.values() if user.waiting)
        pairs = [(one, other) for n, one in enumerate(waiting) for other in waiting[n + 1 :]]
        self._since = {pair: self._since.get(pair) or (now, self._lead(pair)) for pair in pairs}
        for pair, (since, before) in self._since.items():
            self.compared_s = max(self.compared_s, now - since)
            more = abs(self._lead(pair) - before)
            bound = abs(before) + 2.0 * len(workers) * (self.longest_s + LATE_S)
            if more > bound:
                raise Violation("I6", f"of {pair} one has had {more:.2f} s of workers more in {now - since:.2f} s")

    def _lead(self, pair: tuple[str, str]) -> float:
        return self.used[pair[0]] - self.used[pair[1]]
