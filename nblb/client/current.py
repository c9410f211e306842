"""The current cluster of this process, to which tasks are submitted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nblb import parameters, task_api
from nblb.client import nested, open_clusters
from nblb.client.cluster import Cluster
from nblb.client.executor import SIZED_BY_WORKERS, Executor, refuse_unknown
from nblb.errors import LoadBalancerUnreachable

if TYPE_CHECKING:
    from nblb.client.futures.single_tasks import TaskList
    from nblb.client.futures.task_future import TaskFuture
    from nblb.client.jobs.job import Job
    from nblb.client.rows import JobList, UserInfo


def get() -> Cluster:
    """The current cluster, or else the one that runs this task, or outside of a task that of the default parameters.

    Raises
    ------
    LoadBalancerUnreachable
        No cluster runs, or the one that this process used was stopped; the message says what to do.
    """
    if task_api.parent is not None:
        return nested.cluster(task_api.parent)
    here = open_clusters.known()
    if here is not None and not here.stopped:
        return here
    if stopped := open_clusters.stopped_name():
        raise LoadBalancerUnreachable(
            f"the cluster '{stopped}', which this process used, was stopped; start it again with %lb_start or "
            "lb.start(), or connect to another with lb.connect()"
        )
    return Cluster(parameters.load())


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


def users() -> list[UserInfo]:
    """List the users of the cluster: shares, limits, and how much of it each uses.

    Returns
    -------
    list of UserInfo
        One for each user: name, role, group, share, limits, queued, running, stored_bytes, used_s, expires, …

    Raises
    ------
    LoadBalancerUnreachable
        The core does not answer.

    Examples
    --------
    >>> {user.name: user.share for user in lb.users()}
    """
    return get().users()


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


def executor(
    priority: float = 0.0, user: str | None = None, *, cluster: Cluster | None = None, **unknown: Any
) -> Executor:
    """Make a concurrent.futures.Executor whose calls run on the cluster.

    Parameters
    ----------
    priority
        Of its calls, as the option of a task.
    user
        For whom they run; without one, for the user of this connection.
    cluster
        The cluster that runs them; the current cluster by default.
    unknown
        Any other keyword is refused.

    Returns
    -------
    Executor
        A new one; `shutdown()` or the end of a `with` closes it.

    Raises
    ------
    TypeError
        Another keyword was given, such as max_workers: the cluster's workers determine how many calls run at once.

    Examples
    --------
    >>> with lb.executor() as ex:  # doctest: +SKIP
    ...     list(ex.map(abs, [-1, -2]))
    [1, 2]
    """
    refuse_unknown("lb.executor()", unknown, "priority, user and cluster", SIZED_BY_WORKERS)
    return Executor(cluster or get(), priority, user)
