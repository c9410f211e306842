"""The relation of a nested task to the task that submitted it.

A nested task belongs to the attempt of the call that submitted it, its *parent*. It has the parent's user and at least
the parent's priority, and does not outlive the parent: when that attempt is cancelled, fails or is lost, its nested
tasks are cancelled. In a user's line, deeper nested tasks come first, so a tree of calls is processed depth first and,
for each slot, at most as many workers wait as the tree is deep.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from nblb.protocol.messages import SubmitTask, TaskState
from nblb.scheduling.nesting import waits

if TYPE_CHECKING:
    from nblb.scheduling.slice import Slice
    from nblb.scheduling.state import State
    from nblb.scheduling.submission import Submission

A_LEVEL = 1 << 48  # of nesting, in `Submission.order`: more than there are submissions
GOES_ON = (TaskState.BLOCKED, TaskState.ASSIGNED, TaskState.RUNNING)


def completed(state: State, spec: SubmitTask) -> SubmitTask:
    """Return the submission with the user of its parent, and at least the parent's priority."""
    parent = state.records.get(spec.parent)
    if parent is None:
        return spec
    return msgspec.structs.replace(spec, user=parent.user, priority=max(spec.priority, parent.spec.priority))


def refusal(state: State, spec: SubmitTask) -> str:
    """Return why a nested task is refused (its parent is over, so its result has no use); "" if it is accepted."""
    parent = state.records.get(spec.parent)
    if parent is None or not 0 <= spec.parent_item < parent.items:
        return f"task {spec.name} was submitted by a task that the core does not know (any more)"
    task = parent.at(spec.parent_item)
    if task.attempt == spec.parent_attempt and (task.state in GOES_ON or task.state is TaskState.DONE):
        return ""
    what = f"which is {task.state}" if task.attempt == spec.parent_attempt else "which was started again"
    return f"task {spec.name} was submitted by an attempt of {parent.spec.name} ({task.id}) {what}"


def tie(state: State, record: Submission) -> None:
    """Register the submission with its parent, and order it before all that is nested less deeply."""
    parent = state.records.get(record.spec.parent)
    state.nested += 1
    if parent is None:
        return
    record.depth = parent.depth + 1
    record.since = parent.since
    record.order = record.number - record.depth * A_LEVEL
    if parent.children is None:
        parent.children = {}
    parent.children[record] = None


def untie(state: State, record: Submission, now: float) -> None:
    """Remove the ended submission from its parent."""
    parent = state.records.get(record.spec.parent)
    if not record.untied:
        record.untied = True
        state.nested -= 1
    if parent is not None and parent.children is not None:
        parent.children.pop(record, None)
        if not parent.children:
            parent.children = None
            if parent.owner.is_special:
                state.share.count_all(parent.owner)
            for task in parent.slices:
                if task.held is not None and task.held.lent:
                    waits.use_again(state, task.held, now)


def may_be_returned(state: State, record: Submission) -> bool:
    """Return whether the call that submitted this may still return its future; until then its result is kept."""
    parent = state.records.get(record.spec.parent) if record.spec.parent else None
    if parent is None:
        return False
    task = parent.at(record.spec.parent_item)
    return task.attempt == record.spec.parent_attempt and task.state in GOES_ON


def leave_children(state: State, task: Slice) -> None:
    """Mark the children of a lost attempt: they are cancelled before the next dispatch."""
    state.left.append((task.record, task.first, task.items, task.attempt))


def left_children(state: State) -> list[Submission]:
    """Return the open children of all attempts marked since the last call."""
    left, state.left = state.left, []
    found: dict[Submission, None] = {}
    for parent, first, items, attempt in left:
        for child in parent.children or ():
            spec = child.spec
            if first <= spec.parent_item < first + items and spec.parent_attempt <= attempt and child.unended:
                found[child] = None
    return list(found)


def restored(state: State, record: Submission, now: float) -> None:
    """After a restart, remove a child that has ended, or cancel one whose parent's attempt is over."""
    parent = state.records.get(record.spec.parent)
    if record.unended == 0:
        untie(state, record, now)
    elif parent is not None:
        task = parent.at(record.spec.parent_item)
        if task.attempt != record.spec.parent_attempt or task.state not in (*GOES_ON, TaskState.DONE):
            state.left.append((parent, task.first, task.items, record.spec.parent_attempt))
