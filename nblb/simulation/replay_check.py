"""I9: the state that a replay of the journal gives, against the live one.

Compared is what must not differ: which records there are, and of each item whether it has ended and how, its
attempt, what it has failed at and crashed with. Whether an open item waits or is at a hub is not kept, by design.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from nblb.protocol.journal_entries import AnyEntry
from nblb.protocol.messages import TaskState
from nblb.scheduling.scheduler import Scheduler
from nblb.scheduling.state import Policy
from nblb.scheduling.submission import Submission

CANCELLED = (TaskState.CANCELLED, TaskState.CANCELLING)


def differences(
    live: Scheduler, entries: Sequence[AnyEntry], now: float, make: Callable[[Policy], Scheduler] = Scheduler
) -> str:
    """What a replay has otherwise, in words; "" when nothing."""
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
    return ""


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
