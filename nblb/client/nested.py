"""Nested tasks: a task that submits tasks uses the cluster that runs it, on behalf of the same user.

A worker connects when a task first needs this, and stays connected for the following tasks until one belongs to
another user. A cluster that a task connects to explicitly is in use until that task ends.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import threading
import time
from typing import Any

from nblb import payload, task_api
from nblb.access import connection_file
from nblb.client import open_clusters
from nblb.client.cluster import Cluster
from nblb.client.connection.connection import Connection
from nblb.client.connection.locate import find_core, hello
from nblb.client.futures.task_future import TaskFuture
from nblb.client.jobs.job import Job
from nblb.client.submit.submit import Options, submit
from nblb.errors import NblbError
from nblb.parameters import Parameters

ACCEPTED_S = 5.0  # longest wait at the end of a task until the core has accepted what it submitted
LOOK_S = 0.001
MOST_PARTS = 10_000  # most parts of a result that are searched for futures

_lock = threading.RLock()
_own: NestedCluster | None = None
_number = 0  # number of the slice that used it last


class NestedCluster(Cluster):
    """A worker's connection to its own cluster, for the tasks of one user."""

    def __init__(self, parameters: Parameters, user: str) -> None:
        self.of_user = user
        super().__init__(parameters)

    def _connect(self) -> Connection:
        return Connection(self._find_core, hello(self.of_user))

    def _find_core(self) -> str:
        """Return the address of the core.

        On another computer a task connects with the key of its hub; one that runs as the account of its user, with the
        key of that account.
        """
        if task_api.parent is not None and task_api.parent.has_own_key:
            return connection_file.read(connection_file.named(self.parameters.name)).address("clients")
        return find_core(self.parameters, role="hub")


def cluster(parent: task_api.Parent) -> Cluster:
    """The cluster to which the running task submits its tasks.

    Raises
    ------
    LoadBalancerUnreachable
        Its core does not answer.
    """
    global _own, _number
    with _lock:
        if parent.number != _number:
            _number = parent.number
            for left in [one for one in open_clusters.all_open() if one is not _own]:  # opened by an earlier task
                open_clusters.drop(left)
                left.connection.close(0.0)
        here = open_clusters.known()
        if here is not None and here is not _own and not here.stopped:
            return here
        own = _own
        if own is not None and (own.of_user != parent.user or own.stopped or own.connection.is_closed):
            open_clusters.forget(own)
            own.connection.close()
            own = None
        if own is None:
            own = _own = NestedCluster(parent.parameters, parent.user)
            parent.at_end, parent.takes_over = _settle, _take_over
        open_clusters.use(own)
        return own


def is_own(parameters: Parameters) -> bool:
    """True if these are the parameters of the cluster that runs the current task."""
    parent = task_api.parent
    return parent is not None and parent.parameters.connection_file == parameters.connection_file


def _settle() -> None:
    """Wait at the end of a task until the core has accepted the tasks that it submitted, before its end is reported."""
    own = _own
    if own is None or own.stopped or own.connection.is_closed:
        return
    until = time.monotonic() + ACCEPTED_S
    connection = own.connection
    while (connection.inbox or connection.session.unaccepted) and time.monotonic() < until:
        time.sleep(LOOK_S)


# ── results that are futures ──


def _take_over(result: Any) -> str:
    """The task whose result becomes the result of this call, if the call returns futures or jobs; else ""."""
    left = [MOST_PARTS]
    if not _has_future(result, left):
        return ""
    own = _own
    if own is None:
        raise NblbError("a task returned a future of another cluster; return the future's result instead")
    future = result if isinstance(result, TaskFuture) else None
    alone = future is not None and not future._of_job and future._record == future.task_id
    if future is None or not alone or future._connection is not own.connection:
        future = submit(own, payload.as_it_is, Options(name="(result)"), ((result,), {}))
    record = future._record
    until = time.monotonic() + ACCEPTED_S
    while record in own.connection.session.unaccepted or own.connection.inbox:
        if time.monotonic() > until:
            raise NblbError("the core has not accepted the task whose future is returned")
        time.sleep(LOOK_S)
    if future.done():
        with contextlib.suppress(concurrent.futures.CancelledError):
            error = future.exception()
            if error is not None:
                raise error
    return record


def _has_future(value: Any, left: list[int]) -> bool:
    """True for a future or a job, or for a plain container that contains one."""
    left[0] -= 1
    if isinstance(value, (TaskFuture, Job)):
        return True
    if left[0] <= 0:
        return False
    if type(value) in (list, tuple, set, frozenset):
        return any(_has_future(part, left) for part in value)
    return type(value) is dict and any(_has_future(part, left) for part in value.values())
