"""How many calls run and how many wait, counted alike for status, users, jobs, queue and Monitor.

A worker makes one call at a time; one that waits for tasks of its own call runs it still, and uses no slot. What hubs
have in hand beyond that waits: the calls of a slice behind the one at hand, and slices that were sent ahead. A hub
does not announce calls that are over at once, so which slices are at work is taken from the number of workers: those
that have begun first, then in the order in which they were given.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from nblb.protocol.messages import TaskState
from nblb.scheduling.hubs import Assignment, GroupOfWorkers
from nblb.scheduling.state import State
from nblb.scheduling.submission import SubmittedJob

AT_HUB = (TaskState.ASSIGNED, TaskState.RUNNING)


class InHand(NamedTuple):
    """A slice that a hub has, and how many of its calls run (1 or 0) and wait there."""

    held: Assignment
    running: int
    waiting: int


def in_hand(state: State) -> Iterator[InHand]:
    """All slices that hubs have, without the calls that are being cancelled."""
    for hub in state.hubs.values():
        begun: Counter[GroupOfWorkers] = Counter(
            held.group for held in hub.in_hand.values() if held.started_at and not held.wait
        )
        room = {group: group.alive - begun[group] for group in hub.groups}
        for held in hub.in_hand.values():
            at_work = bool(held.started_at)
            if not at_work and room[held.group] > 0:
                room[held.group] -= 1
                at_work = True
            calls = sum(task.items for task in held.tasks if task.state in AT_HUB)
            if calls:
                yield InHand(held, int(at_work), calls - at_work)


def running_by_job(state: State) -> dict[SubmittedJob, int]:
    """The jobs of which something runs, and how many calls."""
    running: dict[SubmittedJob, int] = {}
    for held, calls, _ in in_hand(state):
        job = held.record.job
        if job is not None and calls:
            running[job] = running.get(job, 0) + calls
    return running
