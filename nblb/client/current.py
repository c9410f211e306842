"""The current cluster of this process, to which tasks are submitted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nblb import task_api
from nblb.client import front_end
from nblb.client.connection import wait_display, waiting
from nblb.errors import LoadBalancerUnreachable

if TYPE_CHECKING:
    from nblb.client.cluster import Cluster
    from nblb.client.futures.single_tasks import TaskList
    from nblb.client.futures.task_future import TaskFuture
    from nblb.client.jobs.job import Job
    from nblb.client.rows import JobList
    from nblb.parameters import Parameters

_open: list[Cluster] = []  # the last one is current; when it closes, the one before it becomes current again
_stopped: list[str] = []  # name of the current cluster that was stopped, until another one is used


def get() -> Cluster:
    """The current cluster, or else the one that runs this task, or outside of a task that of the default parameters.

    Raises
    ------
    LoadBalancerUnreachable
        No cluster runs, or the one that this process used was stopped; the message says what to do.
    """
    if task_api.parent is not None:
        from nblb.client import nested

        return nested.cluster(task_api.parent)
    here = known()
    if here is not None and not here.stopped:
        return here
    if _stopped:
        raise LoadBalancerUnreachable(
            f"the cluster '{_stopped[0]}', which this process used, was stopped; start it again with %lb_start or "
            "lb.start(), or connect to another with lb.connect()"
        )
    from nblb import parameters
    from nblb.client.cluster import Cluster

    return Cluster(parameters.load())


def known() -> Cluster | None:
    """The current cluster, if there is one."""
    return _open[-1] if _open else None


def use(cluster: Cluster) -> None:
    """Make this the current cluster."""
    _drop(cluster)
    _stopped.clear()
    _open.append(cluster)
    _follow(cluster.parameters)
    front_end.meet_front_end()


def forget(cluster: Cluster) -> None:
    """Remove this cluster; if it was current, the one that was used before it becomes current."""
    _drop(cluster)
    before = known()
    if before is not None:
        _follow(before.parameters)


def _follow(parameters: Parameters) -> None:
    """Take over what the parameters of the current cluster say about waits."""
    waiting.on_interrupt = parameters.LB_ON_INTERRUPT
    wait_display.shown_after_s = parameters.LB_SHOW_WAIT_S


def stopped(cluster: Cluster) -> None:
    """Remove a stopped cluster; if it was current and no other is open, no cluster is current until one is used."""
    was_current = known() is cluster
    forget(cluster)
    if was_current and known() is None:
        _stopped[:] = [cluster.name]


def _drop(cluster: Cluster) -> None:
    _open[:] = [one for one in _open if one is not cluster]


def jobs() -> JobList:
    """List the jobs that the core knows; the list displays as a live card.

    Returns
    -------
    JobList
        A list of JobInfo.

    Raises
    ------
    LoadBalancerUnreachable
        The core does not answer.

    Examples
    --------
    >>> [row.name for row in lb.jobs()]
    """
    return get().jobs()


def tasks(user: str | None = None, name: str | None = None) -> TaskList:
    """List the single tasks that have not ended; tasks of jobs are not included.

    Parameters
    ----------
    user
        List only the tasks of this user.
    name
        List only the tasks of this name.

    Returns
    -------
    TaskList
        A list of TaskRow, the oldest first.

    Raises
    ------
    LoadBalancerUnreachable
        The core does not answer.

    Examples
    --------
    >>> lb.attach(lb.tasks()[0].task).cancel()
    """
    return get().tasks(user, name)


def attach(name: str) -> Job | TaskFuture:
    """Attach to a job that was submitted before, by this kernel or an earlier one.

    If no job has the name, attach to a single task that has not ended.

    Parameters
    ----------
    name
        The name or id of a job; or the id of a single task, the end of its id, or its name.

    Returns
    -------
    Job or TaskFuture
        The job with the results so far, or the future of the task.

    Raises
    ------
    UnknownTask
        No job or task matches; the message names the jobs that exist.

    Examples
    --------
    >>> lb.attach("sweep").results()
    """
    return get().attach(name)
