"""Numbers of running and waiting calls, counted in one way for status, users, jobs, queue and Monitor.

A worker runs one call at a time; one that waits for nested tasks still counts as running its call, but uses no slot.
The other calls that hubs have are waiting: later calls of a running slice, and slices that were sent ahead. A hub does
not report ended calls at once, so the running slices are derived from the number of workers: slices that have begun
come first, then the others in the order of assignment.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from nblb.protocol.messages import TaskState
from nblb.scheduling.hubs import Assignment, GroupOfWorkers
from nblb.scheduling.state import State
from nblb.scheduling.submission import SubmittedJob

COUNT_S = 50e-6  # for each slice that hubs have: about 20 times what counting it takes
OF_A_HUB = 4  # slices that cost as much as the hub itself
AT_HUB = (TaskState.ASSIGNED, TaskState.RUNNING)


class InHand(NamedTuple):
    """A slice that a hub has, with the numbers of its running (1 or 0) and waiting calls."""

    held: Assignment
    running: int
    waiting: int


def in_flight(state: State) -> Iterator[InHand]:
    """Yield all slices that hubs have, without the calls that are being cancelled."""
    for hub in state.hubs.values():
        if not hub.in_flight:
            continue
        begun: Counter[GroupOfWorkers] = Counter(
            held.group for held in hub.in_flight.values() if held.started_at and not held.wait
        )
        room = {group: group.alive - begun[group] for group in hub.groups}
        for held in hub.in_flight.values():
            at_work = bool(held.started_at)
            if not at_work and room[held.group] > 0:
                room[held.group] -= 1
                at_work = True
            calls = sum(task.items for task in held.tasks if task.state in AT_HUB)
            if calls:
                yield InHand(held, int(at_work), calls - at_work)


def counting_pace_s(state: State) -> float:
    """Return how long to wait between two counts of all that hubs have, so that they stay a small part of the work."""
    return COUNT_S * sum(OF_A_HUB + len(hub.in_flight) for hub in state.hubs.values() if hub.in_flight)


class AtWork(NamedTuple):
    """The running calls of a job, and how many whole calls they amount to: two that report 60 % are 1.2."""

    running: int = 0
    progressed: float = 0.0


NONE = AtWork()


def at_work_by_job(state: State) -> dict[SubmittedJob, AtWork]:
    """Return the running calls of each job that has any."""
    found: dict[SubmittedJob, AtWork] = {}
    for held, calls, waiting in in_flight(state):
        job = held.record.job
        if job is not None and calls:
            before = found.get(job, NONE)
            part = held.tasks[0].progress / 100.0 * (calls + waiting)  # one percentage for all calls of a slice
            found[job] = AtWork(before.running + calls, before.progressed + part)
    return found
