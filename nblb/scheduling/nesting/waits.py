"""Workers that wait for tasks that their own task has submitted.

Such a worker uses no slot: its hub runs a stand-in (hub/slots/waits.py), and here neither its group nor its user counts
it. When the wait is over its hub asks for a slot (WaitEnded); that is given in the user's turn, before new tasks of the
same user and of users with as many slots.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nblb.protocol.messages import ResumeTask, Running, TaskState

if TYPE_CHECKING:
    from nblb.scheduling.backlog import Entry
    from nblb.scheduling.fair_share import Band
    from nblb.scheduling.hubs import Assignment
    from nblb.scheduling.slice import Slice
    from nblb.scheduling.state import State
    from nblb.scheduling.submission import Submission


def enter_wait(state: State, held: Assignment, wait: int, now: float, lent: bool = False) -> None:
    """The worker of this attempt has given up its slot."""
    if wait <= held.waits:  # said again
        return
    held.waits, held.lent = wait, lent
    if held.wait:
        held.wait = wait
        return
    held.wait, held.wait_since = wait, now
    held.group.work_changed(-1, -held.estimate_s)
    held.user.occupied -= 1
    state.share.standing_changed(held.user)
    state.dispatch_due = True


def ask_for_slot(state: State, held: Assignment, wait: int, now: float) -> None:
    """Its wait is over: it goes on when it is its user's turn."""
    enter_wait(state, held, wait, now)
    if held.wait == wait:
        state.resumable[held] = None
        state.dispatch_due = True


def leave_wait(state: State, held: Assignment, now: float) -> None:
    """It waits no more; whoever calls this counts the slot that it uses now, if it does."""
    held.waited_s += max(0.0, now - held.wait_since)
    held.wait, held.lent = 0, False
    state.resumable.pop(held, None)


def use_again(state: State, held: Assignment, now: float) -> None:
    """What it has submitted is over, so that it goes on, if it ever waited: it is counted again, at once."""
    order = ResumeTask(task=held.record.id, attempt=held.attempt, first=held.first, wait=held.wait)
    use_slot(state, held, now)
    state.send(held.group.hub.address, order)


def use_slot(state: State, held: Assignment, now: float) -> None:
    """It uses a slot again."""
    leave_wait(state, held, now)
    held.group.work_changed(1, held.estimate_s)
    held.user.occupied += 1


def resume_next(state: State, band: Band, entry: Entry | None, now: float) -> bool:
    """Let one worker of the band go on if that is fair towards `entry`, whose turn it is among those with new tasks."""
    best: Assignment | None = None
    for held in state.resumable:
        group = held.group
        if group.band is not band or group.given >= group.alive or group.hub.suspect:
            continue
        if best is None or (held.user.occupied, held.user.usage) < (best.user.occupied, best.user.usage):
            best = held
    if best is None or (entry is not None and entry[:2] < (best.user.occupied, best.user.usage)):
        return False
    order = ResumeTask(task=best.record.id, attempt=best.attempt, first=best.first, wait=best.wait)
    use_slot(state, best, now)
    state.send(best.group.hub.address, order)
    return True


def claimed(state: State, held: Assignment, running: Running, now: float) -> None:
    """A hub that says hello again tells whether the worker of this attempt waits."""
    if running.wait:
        held.waits = running.wait - 1  # what was said of an earlier connection's waits is void
        enter_wait(state, held, running.wait, now, running.lent)
        if running.wait_ended:
            ask_for_slot(state, held, running.wait, now)
        else:
            state.resumable.pop(held, None)
    elif held.wait:
        use_slot(state, held, now)


def why(state: State, task: Slice) -> str:
    """Why a task that has begun does not go on, in a sentence for its owner; "" if this module does not know."""
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
