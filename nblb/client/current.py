"""The cluster that this process's tasks go to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nblb.client import display, waiting

if TYPE_CHECKING:
    from nblb.client.cluster import Cluster
    from nblb.client.job import Job
    from nblb.client.rows import JobList

_current: Cluster | None = None


def get() -> Cluster:
    """The current cluster; without one, the one of the default parameters.

    Raises
    ------
    LoadBalancerUnreachable
        There is none, and none runs; the message says how to start one.
    """
    if _current is not None and not _current.stopped:
        return _current
    from nblb import parameters
    from nblb.client.cluster import Cluster

    return Cluster(parameters.load())


def known() -> Cluster | None:
    """The current cluster, if there is one."""
    return _current


def use(cluster: Cluster) -> None:
    """From now on tasks go to this cluster."""
    global _current
    _current = cluster
    waiting.on_interrupt = cluster.parameters.LB_ON_INTERRUPT
    display.meet_front_end()


def forget(cluster: Cluster) -> None:
    """Tasks do not go to this cluster any more."""
    global _current
    if _current is cluster:
        _current = None


def jobs() -> JobList:
    """The jobs that the core knows."""
    return get().jobs()


def attach(name: str) -> Job:
    """Take up a job that was submitted before, by this kernel or one before it: `lb.attach("sweep").results()`."""
    return get().attach(name)
