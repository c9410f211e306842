"""Cluster: a running core and its hubs, as this process sees them."""

from __future__ import annotations

import atexit
import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol

from nblb.client import compatible, current, front_end
from nblb.client.connection.connection import Connection, close_all
from nblb.client.connection.locate import find_core, hello
from nblb.client.connection.ports import Pending
from nblb.client.executor import Executor, executor
from nblb.client.futures import single_tasks
from nblb.client.futures.single_tasks import TaskList
from nblb.client.futures.task_future import TaskFuture
from nblb.client.jobs.attach import attach
from nblb.client.jobs.job import Job
from nblb.client.rows import ClusterStatus, HubInfo, JobInfo, JobList, UserInfo, WorkerInfo
from nblb.client.snapshots import ClusterSnapshot, HubRow
from nblb.errors import LoadBalancerUnreachable, NblbError, UnknownTask
from nblb.parameters import Parameters
from nblb.protocol.messages import Ask, ScaleHub, StopCore

LEAST_PATIENCE_S = 2.0
ANSWER_S = 10.0  # for the answer of a core that is there
LOOK_S = 0.1  # between two looks whether it still is
REFRESH_S = 0.8  # a snapshot is not older than this and a round trip, if somebody takes them


class Launcher(Protocol):
    """What a cluster cannot do by talking alone: its processes. nblb.launch gives one."""

    def stop(self) -> None:
        """End the cluster's processes on this machine."""

    def leave(self) -> None:
        """End those that this process has started; the end of a `with`."""

    def add_hub(self, **options: Any) -> Any: ...
    def monitor_url(self) -> str: ...


class ClusterPort:
    """The side of a Cluster that front-ends use; as that of a TaskFuture (futures/future_port.py)."""

    __slots__ = ()

    def add_listener(self, cluster: Cluster, listener: Callable[[], Any]) -> None:
        """`listener()` is called, in another thread, when the core comes or goes."""
        cluster._connection.watchers.append(listener)

    def remove_listener(self, cluster: Cluster, listener: Callable[[], Any]) -> None:
        with contextlib.suppress(ValueError):
            cluster._connection.watchers.remove(listener)


class Cluster:
    """A running cluster, and this process's connection to it.

    Making one connects to it, and it becomes the cluster that tasks go to; `lb.start` and `lb.connect` make them.

    Parameters
    ----------
    parameters
        The parameters of the cluster, which say where its core is.
    launcher
        What starts and ends its processes; without one the cluster can be used, and not be given a hub.

    Raises
    ------
    LoadBalancerUnreachable
        No core answers; the message names the address.

    Examples
    --------
    >>> with lb.start(workers=2) as cluster:
    ...     print(cluster.status().workers)
    """

    _port = ClusterPort()

    def __init__(self, parameters: Parameters, launcher: Launcher | None = None) -> None:
        self.parameters = parameters
        self.name = parameters.name
        self.stopped = False
        self._launcher = launcher
        self._lock = threading.Lock()
        self._known = ClusterSnapshot(self.name, False, "", known=False)
        self._refreshed_at = 0.0
        self._hubs: list[dict[str, Any]] = []
        find_core(parameters)  # where there is none, that is said at once
        self._connection = self._connect()
        patience_s = max(LEAST_PATIENCE_S, 4 * parameters.SOCKET_TIMEOUT / 1000)
        try:
            if not self._connection.wait_connected(patience_s):
                raise LoadBalancerUnreachable(
                    f"no core answers at {self._connection.address} within {patience_s:g} s "
                    f"({self._connection.warning or 'it may be busy, or hang'})"
                )
        except BaseException:
            self._connection.close(0.0)
            raise
        current.use(self)

    def _connect(self) -> Connection:
        return Connection(lambda: find_core(self.parameters), hello())

    @property
    def connection(self) -> Connection:
        """The connection of this process: a forked child makes its own."""
        if self._connection.is_closed and self._connection.pid != os.getpid():  # a fork closes it in the child
            self._lock = threading.Lock()  # the parent's may have been held while it forked
            self._connection = self._connect()
        return self._connection

    @property
    def connected(self) -> bool:
        """True while the core answers this process."""
        return not self.stopped and self._connection.connected

    @property
    def address(self) -> str:
        """The address of its core, as this process dials it."""
        return self._connection.address

    @property
    def user(self) -> str:
        """The name of the user that the core takes this process for."""
        session = self.connection.session
        if session.welcome is None or not session.welcome.user:
            return session.hello.user
        return session.welcome.user

    @property
    def warning(self) -> str:
        """The reason why the core does not answer; "" while it does."""
        return "stopped" if self.stopped else self._connection.warning

    # ── questions ──

    def status(self) -> ClusterStatus:
        """The state of the cluster; the core is asked each time.

        Returns
        -------
        ClusterStatus
            core.pid, addresses, counts, queued, running, …

        Raises
        ------
        LoadBalancerUnreachable
            The core is away, or goes away while it is asked.

        Examples
        --------
        >>> cluster.status().core.pid
        """
        pending, until = self._refresh(), time.monotonic() + ANSWER_S
        while not pending.ready.wait(LOOK_S):
            if not self.connected or time.monotonic() > until:
                raise LoadBalancerUnreachable(self.warning or f"the core at {self.address} does not answer")
        return ClusterStatus(pending.result())

    def hubs(self) -> list[HubInfo]:
        """The hubs that the core knows.

        Returns
        -------
        list of HubInfo
            One a hub: name, host, pid, workers, busy, engine, …

        Raises
        ------
        LoadBalancerUnreachable
            The core does not answer.

        Examples
        --------
        >>> [hub.name for hub in cluster.hubs()]
        """
        self._hubs = self.connection.ask("hubs")
        return [HubInfo(row) for row in self._hubs]

    def workers(self) -> list[WorkerInfo]:
        """The worker processes of all hubs, and what each does.

        Returns
        -------
        list of WorkerInfo
            One a worker: worker, hub, pid, state, task, user, …

        Raises
        ------
        LoadBalancerUnreachable
            The core does not answer.

        Examples
        --------
        >>> len(cluster.workers())
        """
        return [WorkerInfo(row) for row in self.connection.ask("workers")]

    def users(self) -> list[UserInfo]:
        """The users of the cluster, and how much of it each has.

        Returns
        -------
        list of UserInfo
            One a user: user, queued, running, done, failed, used_s.

        Raises
        ------
        LoadBalancerUnreachable
            The core does not answer.

        Examples
        --------
        >>> {user.user: user.running for user in cluster.users()}
        """
        return [UserInfo(row) for row in self.connection.ask("users")]

    def jobs(self, user: str | None = None) -> JobList:
        """The jobs that the core knows, as a list that shows itself as a live card.

        Parameters
        ----------
        user
            Only the jobs of this user; those of all without one.

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
        >>> [row.name for row in cluster.jobs() if row.state == "running"]
        """
        told = self.connection.ask("jobs", {} if user is None else {"user": user})
        return JobList([JobInfo(row) for row in told], self, user)

    def tasks(self, user: str | None = None, name: str | None = None) -> TaskList:
        """The single tasks that have not ended; those of jobs are not among them.

        `cluster.attach(row.task)` gives the future of one, also when the variable that held it is gone.

        Parameters
        ----------
        user
            Only the tasks of this user.
        name
            Only the tasks of this name.

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
        >>> cluster.attach(cluster.tasks()[0].task).cancel()
        """
        return TaskList(single_tasks.listed(self.connection.ask, user, name))

    def attach(self, name: str) -> Job | TaskFuture:
        """Take up a job that was submitted before: what is done, what runs, and what comes.

        Where no job has the name, a single task that has not ended is taken up.

        Parameters
        ----------
        name
            Name or id of a job; else a single task's id, the end of it, or its name (the latest).

        Returns
        -------
        Job or TaskFuture
            The job with the results so far, or the future of the task.

        Raises
        ------
        UnknownTask
            There is neither; the message names the jobs that there are.

        Examples
        --------
        >>> cluster.attach("sweep").results()
        """
        try:
            return attach(self, name)
        except UnknownTask as no_job:
            try:
                return single_tasks.attach(self, name)
            except UnknownTask as no_task:
                raise UnknownTask(f"{no_job}. And {no_task}") from None

    def executor(self, priority: float = 0.0, user: str | None = None, **unknown: Any) -> Executor:
        """Give a concurrent.futures.Executor whose calls run on this cluster; as `lb.executor`.

        Parameters
        ----------
        priority
            Of its calls, as the option of a task.
        user
            For whom they run; without one, for the user of this connection.
        unknown
            Any other keyword is refused.

        Returns
        -------
        Executor
            A new one; `shutdown()` or the end of a `with` closes it.

        Raises
        ------
        TypeError
            For any other keyword.

        Examples
        --------
        >>> with cluster.executor() as executor:
        ...     list(executor.map(abs, [-1, -2]))
        """
        return executor(priority, user, cluster=self, **unknown)

    # ── changes ──

    def scale(self, workers: int, hub: str = "") -> None:
        """Give a hub so many workers in all.

        The groups of the hub share them in proportion to the sizes that they were started with.

        Parameters
        ----------
        workers
            Number of workers, 0 or more.
        hub
            Name or id of the hub; without one, the first on this machine.

        Raises
        ------
        ValueError
            The number of workers is none.
        NblbError
            There is no such hub.

        Examples
        --------
        >>> cluster.scale(8)
        """
        if type(workers) is not int or workers < 0:
            raise ValueError(f"the number of workers is {workers!r}; it must be a whole number, 0 or more")
        if not hub:
            hubs = self.hubs()
            here = [row for row in hubs if row.host == socket.gethostname()] or hubs
            if not here:
                raise NblbError(f"cluster {self.name} has no hub to scale; add_hub() starts one")
            hub = here[0].hub
        message = ScaleHub(hub=hub, workers=workers, request=self.connection.request())
        self.connection.wait_for(self.connection.question(message))

    def add_hub(self, **options: Any) -> Any:
        """Start one more hub on this computer.

        Parameters
        ----------
        options
            `workers`, the number of its workers (by default those of WKHUB_WORKERS); `host` and `engine` are refused
            until other computers and engines can be used.

        Returns
        -------
        Any
            The process of the hub, with `pid` and `log`, the path of its log.

        Raises
        ------
        NblbError
            It cannot be started; the message says why.
        TypeError
            There is no such option.

        Examples
        --------
        >>> cluster.add_hub(workers=4)
        """
        if self._launcher is None:
            raise NblbError("this cluster was not started or connected to by nblb.launch; start a hub with 'nblb hub'")
        return self._launcher.add_hub(**options)

    @property
    def monitor_url(self) -> str:
        """The address of the Monitor's page; "" where none runs."""
        return self._launcher.monitor_url() if self._launcher is not None else ""

    @property
    def monitor_trouble(self) -> str:
        """The reason why no Monitor answers, in a sentence; "" where one does, or none was asked for."""
        trouble: Callable[[], str] | None = getattr(self._launcher, "monitor_trouble", None)
        return trouble() if trouble is not None else ""

    @property
    def notes(self) -> list[str]:
        """Sentences about what was asked of the cluster and is not so, and about hubs that cannot run what is sent
        from here.

        The card of the cluster shows them.
        """
        return [*getattr(self._launcher, "notes", ()), *compatible.notes(self._hubs)]

    def stop(self) -> None:
        """End the core and its hubs. What the journal holds waits for the next start."""
        if self.stopped:
            return
        self.connection.close()  # what was submitted is accepted first
        self.stopped = True
        current.stopped(self)
        if self._launcher is not None:
            self._launcher.stop()
        else:
            _stop_core(self.parameters)

    def close(self) -> None:
        """End the connection; the cluster goes on."""
        current.forget(self)
        self._connection.close()

    def __enter__(self) -> Cluster:  # noqa: PYI034  # typing.Self came with Python 3.11
        current.use(self)
        return self

    def __exit__(self, *exception: object) -> None:
        if self._launcher is not None and not self.stopped:
            self.close()
            self._launcher.leave()
            self.stopped = True
        else:
            self.close()

    # ── for front-ends ──

    def snapshot(self) -> ClusterSnapshot:
        """The state of the cluster as far as it is known, without waiting for the core, which is asked in the
        background.

        Returns
        -------
        ClusterSnapshot
            The state that the card of the cluster shows.

        Examples
        --------
        >>> cluster.snapshot().workers
        """
        first = self._refreshed_at == 0.0
        if self.connected and time.monotonic() - self._refreshed_at > REFRESH_S:
            self._refreshed_at = time.monotonic()
            with contextlib.suppress(LoadBalancerUnreachable):
                pending = self._refresh()
                if first:
                    pending.ready.wait(1.0)
        known = self._known
        return ClusterSnapshot(
            **{
                **{name: getattr(known, name) for name in ("core_pid", "durability", "hubs", "workers", "busy")},
                **{name: getattr(known, name) for name in ("queued", "running", "counts", "known")},
            },
            name=self.name,
            connected=self.connected,
            address=self.address,
            owner=self.user,
            monitor_url=self.monitor_url if not self.stopped else "",
            warning=self.warning,
            notes=tuple(self.notes),
        )

    def _refresh(self) -> Pending:
        connection = self.connection

        def note_hubs(pending: Pending) -> None:
            self._hubs = pending.value or []

        def note_status(pending: Pending) -> None:
            if pending.value:
                self._known = _snapshot(self.name, pending.value, self._hubs)

        connection.question(Ask(request=connection.request(), topic="hubs"), note_hubs)
        return connection.question(Ask(request=connection.request(), topic="status"), note_status)

    def __repr__(self) -> str:
        state = "stopped" if self.stopped else "up" if self.connected else "away"
        return f"<Cluster {self.name}: {state}, {self.address}>"

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        return front_end.bundle("cluster", self)


def _snapshot(name: str, status: dict[str, Any], hubs: list[dict[str, Any]]) -> ClusterSnapshot:
    rows = [{key: hub[key] for key in HubRow.__dataclass_fields__ if key in hub} for hub in hubs]
    return ClusterSnapshot(
        name=name,
        connected=True,
        address="",
        core_pid=status.get("pid", 0),
        durability=status.get("durability", ""),
        hubs=tuple(HubRow(**row) for row in rows),
        workers=status.get("workers", 0),
        busy=status.get("busy", 0),
        queued=status.get("queued", 0),
        running=status.get("running", 0),
        counts=status.get("counts", {}),
    )


def _stop_core(parameters: Parameters) -> None:
    """Tell the core to end with its hubs, on a connection of its own."""
    connection = Connection(lambda: find_core(parameters), hello())
    try:
        message = StopCore(request=connection.request())
        connection.wait_for(connection.question(message))
    finally:
        connection.close(0.0)


atexit.register(close_all)
