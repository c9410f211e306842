"""The check of rule I9: a replay of the journal gives the live state.

It compares what must not differ: the submissions, and for each item its end, its attempt, its failures and its
crashes. The journal does not record, by design, if an open item waits or is at a hub.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from nblb.protocol.journal_entries import AnyEntry
from nblb.protocol.messages import TaskState
from nblb.scheduling.backlog import UserQueue
from nblb.scheduling.reporting.tallies import Statistics
from nblb.scheduling.scheduler import Scheduler
from nblb.scheduling.slice import Slice
from nblb.scheduling.state import Policy, State
from nblb.scheduling.submission import Submission

CANCELLED = (TaskState.CANCELLED, TaskState.CANCELLING)
GIVEN = (TaskState.ASSIGNED, TaskState.RUNNING)


def differences(
    live: Scheduler,
    entries: Sequence[AnyEntry],
    now: float,
    make: Callable[[Policy], Scheduler] = Scheduler,
    steady: bool = True,
) -> str:
    """Describes how a replay differs from the live state; "" if it does not.

    `steady`: the wall clock was never set, so that the times of earlier cores can be compared, too.
    """
    twin = make(live.policy)
    twin.wall_offset = live.wall_offset
    twin.limit(live.state.share.limits)
    twin.restore(entries, now)
    ours, theirs = live.state, twin.state
    for kind in ("records", "jobs", "blobs", "published"):
        mine, its = set(getattr(ours, kind)), set(getattr(theirs, kind))
        if mine != its:
            return f"{kind}: live only {sorted(mine - its)}, replay only {sorted(its - mine)}"
    # A replay counts a cancel as done before the hub confirms it, so the tasks that wait for it have failed there.
    unsure = any(task.state is TaskState.CANCELLING for record in ours.records.values() for task in record.slices)
    for name, record in ours.records.items():
        mine_, its_ = picture(record), picture(theirs.records[name])
        waits = any(task.state is TaskState.BLOCKED for task in record.slices)
        if mine_ != its_ and not (unsure and waits):
            return f"record {name}: live {mine_}, replay {its_}"
        if steady and (moved := _moved(record, theirs.records[name])):
            return moved
    return "" if unsure or _shares(ours) else _sums(ours, theirs, now if steady else None)


def _moved(live: Submission, replayed: Submission) -> str:
    """Describes a running attempt whose start time differs; "" if there is none."""
    for task in live.slices:
        other = replayed.at(task.first)
        if task.state in GIVEN and other.orphan is not None:
            mine, its = _given_at(task), _given_at(other)
            if mine is not None and (its is None or not _alike(mine, its)):
                return f"{task} was given at {mine}, and a replay says at {its}"
    return ""


def _given_at(task: Slice) -> float | None:
    return next((at for at, cause, _, _ in reversed(task.story) if cause == "RunTask"), None)


def _shares(state: State) -> bool:
    """True if a submission waits for a shared computation: a replay may serve it at once."""
    return any(record.follows is not None for record in state.records.values())


def _sums(live: State, replayed: State, now: float | None) -> str:
    """Describes a difference in the statistics by task name or in the use of each user."""
    for name in live.tallies.by_name | replayed.tallies.by_name:
        mine, its = (state.tallies.by_name.get(name, Statistics()) for state in (live, replayed))
        for field in ("total", "failed", "ran", "calc_sum", *(["wait_sum"] if now is not None else [])):
            if not _alike(getattr(mine, field), getattr(its, field)):
                return f"statistics of {name}: {field} is {getattr(mine, field)}, of a replay {getattr(its, field)}"
    for name in live.share.users | replayed.share.users:
        user, other = (state.share.users.get(name) or UserQueue(name) for state in (live, replayed))
        pairs = {field: (getattr(user, field), getattr(other, field)) for field in ("done", "failed", "used_s")}
        if now is not None:
            pairs["recent use"] = live.share.recent_s(user, now), replayed.share.recent_s(other, now)
        for field, (one, two) in pairs.items():
            if not _alike(one, two):
                return f"user {name}: {field} is {one}, of a replay {two}"
    return ""


def _alike(one: float, other: float) -> bool:
    return abs(one - other) <= 1e-3 + 1e-4 * abs(one)  # a wall clock is exact to parts of a microsecond


def picture(record: Submission) -> list[tuple[Any, ...]]:
    """The parts of each item's state that must survive a restart."""
    items: list[tuple[Any, ...]] = []
    for task in record.slices:
        end = task.ended
        if task.state in CANCELLED:
            one: tuple[Any, ...] = ("CANCELLED",)  # journalled with the answer, reported when the hub has confirmed
        elif task.state.ended and end is not None:
            how = end.attempt, end.first, end.items, end.worker, end.ended_at
            one = (task.state.value, *how, *filter(None, (end.function, end.kept)))
        else:
            one = ("open", task.attempt, task.tries, task.crashes, *filter(None, (task.code, record.spec.needs)))
        items += [one] * task.items
    for item, state in (record.checkpoints or {}).items():
        if items[item][0] == "open":
            items[item] = *items[item], b"".join(map(bytes, state.buffers))
    return items
