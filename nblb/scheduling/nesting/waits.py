"""Workers that wait for tasks that their own task submitted.

Such a worker uses no slot: its hub runs a stand-in (hub/slots/waits.py), and neither its group nor its user counts it
here. When the wait is over, its hub asks for a slot (WaitEnded). The core grants it in the user's turn, before new
tasks of the same user and of users with as many slots.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nblb.protocol.messages import ResumeTask, Running, TaskState
from nblb.scheduling.fair_share import standing

if TYPE_CHECKING:
    from nblb.scheduling.backlog import Entry
    from nblb.scheduling.fair_share import Band
    from nblb.scheduling.hubs import Assignment
    from nblb.scheduling.slice import Slice
    from nblb.scheduling.state import State
    from nblb.scheduling.submission import Submission


def enter_wait(state: State, held: Assignment, wait: int, now: float, lent: bool = False) -> None:
    """Stop counting the slot of this attempt, whose worker waits."""
    if wait <= held.waits:  # a repeated message
        return
    held.waits, held.lent = wait, lent
    if held.wait:
        held.wait = wait
        return
    held.wait, held.wait_since = wait, now
    held.group.work_changed(-1, -held.estimate_s)
    held.user.occupy(-1, held.group.band.worker_class)
    if held.user.is_special:
        state.share.count_all(held.user)
    state.share.standing_changed(held.user)
    state.dispatch_due = True
    if lent and held.record.children is None:  # they ended while the hub was asked for the slot
        use_again(state, held, now)


def ask_for_slot(state: State, held: Assignment, wait: int, now: float) -> None:
    """Queue an attempt whose wait is over; it resumes when it is its user's turn."""
    enter_wait(state, held, wait, now)
    if held.wait == wait:
        state.resumable[held] = None
        state.dispatch_due = True


def leave_wait(state: State, held: Assignment, now: float) -> None:
    """End the wait; the caller counts the slot if the attempt uses one again."""
    held.waited_s += max(0.0, now - held.wait_since)
    held.wait, held.lent = 0, False
    state.resumable.pop(held, None)


def use_again(state: State, held: Assignment, now: float) -> None:
    """Count the slot again at once, and resume the attempt, since the tasks that it submitted are over."""
    order = ResumeTask(task=held.record.id, attempt=held.attempt, first=held.first, wait=held.wait)
    use_slot(state, held, now)
    held.unasked = True
    state.send(held.group.hub.address, order)


def use_slot(state: State, held: Assignment, now: float) -> None:
    """End the wait and count the slot again."""
    leave_wait(state, held, now)
    held.group.work_changed(1, held.estimate_s)
    held.user.occupy(1, held.group.band.worker_class)
    if held.user.is_special:
        state.share.assigned(held.user)


def resume_next(state: State, band: Band, entry: Entry | None, now: float) -> bool:
    """Resume one worker of the band if that is fair to `entry`, the next user with a new slice."""
    best: Assignment | None = None
    for held in state.resumable:
        group = held.group
        if group.band is not band or group.given >= group.alive or group.hub.suspect or held.user.is_held:
            continue
        if best is None or standing(held.user, band) < standing(best.user, band):
            best = held
    if best is None or (entry is not None and standing(entry[3], band) < standing(best.user, band)):
        return False
    order = ResumeTask(task=best.record.id, attempt=best.attempt, first=best.first, wait=best.wait)
    use_slot(state, best, now)
    best.unasked = False
    state.send(best.group.hub.address, order)
    return True


def claimed(state: State, held: Assignment, running: Running, now: float) -> None:
    """Take from a repeated hello whether the worker of this attempt waits."""
    if running.wait:
        held.waits = running.wait - 1  # wait numbers from an earlier connection are void
        enter_wait(state, held, running.wait, now, running.lent)
        if running.wait_ended:
            ask_for_slot(state, held, running.wait, now)
        else:
            state.resumable.pop(held, None)
    elif held.wait:
        use_slot(state, held, now)


def why(state: State, task: Slice) -> str:
    """Return a sentence about why a started task makes no progress; "" if that has no cause known here."""
    held = task.held
    if task.follows:
        followed = state.records.get(task.follows)
        what = (
            f"{followed.spec.name} ({followed.id}, {followed.slices[0].state})"
            if followed is not None
            else task.follows
        )
        return f"waits for {what}, the task that it returned; it ends as that does and needs no worker"
    if held is None or not held.wait or task.state is not TaskState.RUNNING:
        return ""
    if held in state.resumable:
        return "the tasks that it waited for are over; its worker goes on as soon as a slot is free"
    children = sum(1 for child in task.record.children or () if _is_child(child, task))
    return f"its worker waits for {children} task{'s' * (children != 1)} of its own; a stand-in runs meanwhile"


def _is_child(child: Submission, task: Slice) -> bool:
    spec = child.spec
    return spec.parent_attempt == task.attempt and task.first <= spec.parent_item < task.first + task.items
