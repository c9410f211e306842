"""The check of what users are told about a waiting task: its place in line, and the number of workers (`why()`).

The place is counted from the submissions and the hubs, not from the lines that the scheduler keeps.
"""

from __future__ import annotations

import re

from nblb.protocol.messages import TaskState
from nblb.scheduling.invariants import right_order
from nblb.scheduling.scheduler import Scheduler
from nblb.scheduling.slice import Slice
from nblb.scheduling.state import State

_place = re.compile(r"([\d,]+)(?:st|nd|rd|th) of .* in line for ([\d,]+) worker")


def told_wrong(scheduler: Scheduler, task: Slice, item: int, now: float) -> str:
    """Describes how `why()` differs from the truth about this call of a QUEUED slice; "" if it does not."""
    state, record = scheduler.state, task.record
    text = scheduler.why(record.id, item, now)
    if not text:
        return f"{task!r} waits, and why() has nothing to say"
    there = [hub for hub in state.hubs.values() if not hub.suspect and hub.runs(record.kind)]
    admitting = [g for hub in there for g in hub.groups if g.alive and g.band.admits(record.user)]
    groups = [g for g in admitting if g.band.takes(record.spec.priority) and g.has_needs(record.kind)]
    found = _place.search(text)
    if record.owner.is_held and groups and not (_is_held_back(state, task) or scheduler.dispatch.held):
        return "" if "max-running" in text else f"why() of {task!r} is {text!r}, and a limit holds it back"
    if _is_held_back(state, task) or scheduler.dispatch.held or not groups:
        return f"why() of {task!r} is {text!r}, and no worker takes it now" if found else ""
    if found is None:
        return f"why() of {task!r} is {text!r}, and workers of {groups[0].hub.name} take it"
    front = item - task.first
    own = [other for other in state.records.values() if other.user == record.user]
    queued = [one for other in own for one in other.slices if one.state is TaskState.QUEUED]
    for one in right_order([one for one in queued if state.is_in_line(one)], state.share.ages):
        if one is task:
            break
        takes = any(g.band.takes(one.record.spec.priority) for g in groups)
        if takes and any(g.runs(one.record.kind) for g in groups):
            front += one.items
    place, workers = (int(number.replace(",", "")) for number in found.groups())
    if place != front + 1 or workers != sum(group.alive for group in groups):
        return f"why() of {task!r}[{item}] is {text!r}, and it is number {front + 1}"
    return ""


def _is_held_back(state: State, task: Slice) -> bool:
    """True if the QUEUED slice is not in line."""
    return not state.is_in_line(task)
