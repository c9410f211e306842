"""Calls that have returned a nested task instead of waiting for it.

Such a call *follows* that task: it is BLOCKED, has no worker, and ends as that task does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from nblb.protocol.commands import Record
from nblb.protocol.journal_entries import AttemptFailed
from nblb.protocol.messages import Failure, TaskState

if TYPE_CHECKING:
    from nblb.scheduling.slice import Slice
    from nblb.scheduling.state import State
    from nblb.scheduling.submission import Submission


def follow(state: State, task: Slice, name: str, now: float) -> None:
    """Block a slice whose call returned a task that it submitted: it ends as that task does, and needs no worker."""
    task.move("FollowsTask", now)
    task.held = None
    task.progress, task.follows = 0.0, name
    state.out.append(Record(AttemptFailed(task.record.id, task.first, task.items, task.attempt, False, follows=name)))
    state.notice(task, now)
    resume_follower(state, task, now)


def resume_follower(state: State, task: Slice, now: float) -> None:
    """Make a BLOCKED slice wait for the task that it follows, or end it at once if that task has ended."""
    followed = state.records.get(task.follows)
    if followed is not None and followed.unended:
        state.followers.setdefault(followed.id, []).append(task)
    else:
        _end_as(state, task, followed, now)


def followed_ended(state: State, record: Submission, now: float) -> None:
    """End the slices that follow this submission, which has ended."""
    for task in state.followers.pop(record.id):
        if task.state is TaskState.BLOCKED and task.follows == record.id:
            _end_as(state, task, record, now)


def _end_as(state: State, task: Slice, followed: Submission | None, now: float) -> None:
    ended = followed.slices[0].ended if followed is not None and followed.items == task.items == 1 else None
    name, task.follows = task.follows, ""
    if ended is not None and ended.state is TaskState.DONE:
        task.move("FollowedDone", now)
        own = msgspec.structs.replace(
            ended,
            task=task.record.id,
            first=task.first,
            attempt=task.attempt,
            duration_s=0.0,  # else sums over ends would count the time of the followed task twice
            ended_at=state.wall(now),
        )
        state.finish([task], own, now)
        return
    failure = ended.failure if ended is not None else None
    if failure is None:
        end = ended.state if ended is not None else "not known any more"
        failure = Failure(kind="DependencyFailed", message=f"it returned the future of task {name}, which is {end}")
    state.fail(task, "FollowedFailed", msgspec.structs.replace(failure, offset=0), now)
