"""I9: the state that a replay of the journal gives, against the live one.

Compared is what must not differ: which records there are, and of each item whether it has ended and how, its
attempt, what it has failed at and crashed with. Whether an open item waits or is at a hub is not kept, by design.
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
    """What a replay has otherwise, in words; "" when nothing.

    `steady`: the wall clock has never been set, so that the times of earlier cores can be compared, too.
    """
    twin = make(live.policy)
    twin.wall_offset = live.wall_offset
    twin.restore(entries, now)
    ours, theirs = live.state, twin.state
    for kind in ("records", "jobs", "blobs", "published"):
        mine, its = set(getattr(ours, kind)), set(getattr(theirs, kind))
        if mine != its:
            return f"{kind}: live only {sorted(mine - its)}, replay only {sorted(its - mine)}"
    # A replay takes a cancel that its hub has still to confirm for done, so what waits for that task has failed there.
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
    """Whether an attempt that is under way was given at another time, as the stories of its task have it."""
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
    """Somebody waits for a computation of others: a replay may serve him at once."""
    return any(record.follows is not None for record in state.records.values())


def _sums(live: State, replayed: State, now: float | None) -> str:
    """The statistics by task name, and what each user has had."""
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
    return abs(one - other) <= 1e-3 + 1e-4 * abs(one)  # a wall clock of today knows parts of a microsecond


def picture(record: Submission) -> list[tuple[Any, ...]]:
    """Each item in what must survive."""
    items: list[tuple[Any, ...]] = []
    for task in record.slices:
        end = task.ended
        if task.state in CANCELLED:
            one: tuple[Any, ...] = ("CANCELLED",)  # kept when it is answered, told when the hub has confirmed
        elif task.state.ended and end is not None:
            how = end.attempt, end.first, end.items, end.worker, end.ended_at
            one = (task.state.value, *how, *filter(None, (end.function, end.kept)))
        else:
            one = ("open", task.attempt, task.tries, task.crashes, *filter(None, (task.code,)))
        items += [one] * task.items
    return items
