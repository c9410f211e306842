"""I6, seen from the outside: at each assignment, was it that user's turn, and the most urgent of that user's tasks?

Counted anew from what hubs have in hand and from the records themselves, not from the scheduler's own sums, so a
sum that has gone wrong is found. Work that is sent ahead to busy workers (DESIGN 4.5) has its own bound and is left
out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from nblb.commands import Command, Send
from nblb.messages import RunTask, TaskState
from nblb.scheduling.hubs import Assignment
from nblb.scheduling.scheduler import Scheduler
from nblb.scheduling.task import Task
from nblb.simulation.simulator import Violation


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
    queued = [task for record in state.records.values() for task in record.slices if task.state is TaskState.QUEUED]
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


def _check(scheduler: Scheduler, given: Assignment, occupied: Counter[str], queued: Sequence[Task]) -> None:
    user, priority = given.record.user, given.record.spec.priority
    bands = [band for band in scheduler.state.placement.bands if band.takes(priority)]
    for task in queued:
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
