"""Waits for a state of a task: that it runs, or that its worker has confirmed its end."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from nblb.client.connection.waiting import interruptible, wait_on
from nblb.protocol.messages import TaskState

if TYPE_CHECKING:
    from nblb.client.futures.task_future import TaskFuture

STARTED = frozenset({TaskState.RUNNING, TaskState.CANCELLING})


def named(state: TaskState | str) -> TaskState:
    """The state of this name, in any case.

    Raises
    ------
    ValueError
        There is no such state; the message lists them.
    """
    try:
        return TaskState(state.upper())
    except (ValueError, AttributeError):
        names = ", ".join(each.value for each in TaskState)
        raise ValueError(f"{state!r} is no state; the states are {names} (timeout=… limits the wait)") from None


def has_reached(future: TaskFuture, wanted: TaskState | None) -> bool:
    """True if the task is in the state, or for RUNNING has been; None: in any state that it does not leave."""
    if wanted is None:
        return future.done()
    if wanted is TaskState.RUNNING and (future.state in STARTED or (future.done() and future.attempt > 0)):
        return True
    return has_stopped(future) if wanted is TaskState.CANCELLED else future.state is wanted


def has_stopped(future: TaskFuture) -> bool:
    """True if the core has confirmed that the task was cancelled, after which its worker is free."""
    return future._ended is not None and future._ended.state is TaskState.CANCELLED


def wait_for_state(future: TaskFuture, wanted: TaskState | None, timeout: float | None) -> bool:
    """Wait until the task has reached the state, and return whether it has: it may end without it, or in time not."""
    wait_for(future, lambda: has_reached(future, wanted) or _is_over(future), timeout)
    return has_reached(future, wanted)


def wait_for_confirmation(future: TaskFuture, timeout: float | None) -> None:
    """Wait until the core has confirmed the end of a task that was cancelled here."""
    wait_for(future, lambda: _is_over(future), timeout)


def _is_over(future: TaskFuture) -> bool:
    """True if no further news of the task will come."""
    return future._ended is not None or (future.done() and not future.cancelled()) or future._connection.is_closed


def wait_for(future: TaskFuture, reached: Callable[[], bool], timeout: float | None) -> None:
    """Wait until `reached()` is true; each change of the task, or of the job that it is an item of, checks again."""
    connection, condition = future._connection, future._condition

    def wake() -> None:
        with condition:
            condition.notify_all()

    job: Any = connection.owners.get(future._record) if future._of_job else None
    if job is not None:
        job._port.add_listener(job, wake)
    future._port.add_listener(future, wake)
    try:
        with interruptible(future, connection):
            wait_on(condition, reached, timeout, future._shown_for)
    finally:
        future._port.remove_listener(future, wake)
        if job is not None:
            job._port.remove_listener(job, wake)
