"""The choice of what a wait for a single future shows: the future alone, its job, or all open single tasks."""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from nblb.client.futures.group import FutureGroup

if TYPE_CHECKING:
    from nblb.client.futures.task_future import TaskFuture

_groups: weakref.WeakKeyDictionary[Any, FutureGroup] = weakref.WeakKeyDictionary()  # connection -> its single tasks


def shown_for(future: TaskFuture, owners: Mapping[str, Any]) -> Any:
    """The object whose card or line is shown during a wait for `future`.

    Parameters
    ----------
    future
        The future that is awaited.
    owners
        Submission id -> the future, batch or job of the connection that follows it.

    Returns
    -------
    TaskFuture, Job or FutureGroup
        The future if it is the only open one; else its job or group, so that a loop over futures shows one card.
    """
    if future._of_job:
        owner = owners.get(future._record)
        return owner if owner is not None and hasattr(owner, "retry_failed") else future
    if future._group is not None:
        return future._group
    connection = future._connection
    group = _groups.get(connection)
    if group is not None and not group.done():
        group.add(future)
        return group
    singles = [one for one in _single_tasks(owners) if not one.done()]
    if len(singles) <= 1:
        return future
    if future not in singles:
        singles.append(future)
    group = _groups[connection] = FutureGroup(futures=singles)
    return group


def _single_tasks(owners: Mapping[str, Any]) -> Iterator[TaskFuture]:
    """The futures of single tasks that this process follows."""
    for owner in list(owners.values()):
        if hasattr(owner, "futures"):
            yield from owner.futures
        elif hasattr(owner, "task_id") and not owner._of_job and owner._group is None:
            yield owner
