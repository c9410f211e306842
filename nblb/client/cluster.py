"""Cluster: a running core and its hubs, seen from this process."""

from __future__ import annotations

import atexit
import contextlib
import os
import threading
import time
from collections.abc import Callable
from typing import Any

from nblb.client import compatible, front_end, open_clusters, scaling
from nblb.client.connection.connection import Connection, close_all
from nblb.client.connection.locate import find_core, hello
from nblb.client.connection.ports import Pending
from nblb.client.executor import SIZED_BY_WORKERS, Executor, refuse_unknown
from nblb.client.futures import single_tasks
from nblb.client.futures.single_tasks import TaskList
from nblb.client.futures.task_future import TaskFuture
from nblb.client.jobs.attach import attach
from nblb.client.jobs.job import Job
from nblb.client.launcher import ClusterPort, Launcher, owners_link
from nblb.client.rows import ClusterStatus, HubInfo, JobInfo, JobList, UserInfo, WorkerInfo
from nblb.client.snapshots import ClusterSnapshot, cluster_snapshot
from nblb.errors import LoadBalancerUnreachable, NblbError, UnknownTask
from nblb.parameters import Parameters
from nblb.protocol.messages import Ask, StopCore

LEAST_PATIENCE_S = 2.0
ANSWER_S = 10.0  # longest wait for the answer of a core that is connected
LOOK_S = 0.1  # between two checks that it is still connected
REFRESH_S = 0.8  # a snapshot that is taken regularly is at most this and a round trip old


class Cluster:
    """A running cluster, and this process's connection to it.

    A new Cluster connects at once and becomes the current cluster. `lb.start` and `lb.connect` make one.

    Parameters
    ----------
    parameters
        The parameters of the cluster, which tell where its core is.
    launcher
        The object that starts and stops its processes; without one the cluster can be used, but no hub can be added.

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
        self._find_core()  # raises at once if there is none
        self._connection = self._connect()
        patience_s = max(LEAST_PATIENCE_S, 4 * parameters.SOCKET_TIMEOUT / 1000)
        try:
            if not self._connection.wait_connected(patience_s):
                raise LoadBalancerUnreachable(
                    f"no core answers at {self._connection.address} within {patience_s:g} s "
                    f"({self._connection.warning or 'it may be busy, or blocked; see its log'})"
                )
        except BaseException:
            self._connection.close(0.0)
            raise
        open_clusters.use(self)

    def _connect(self) -> Connection:
        return Connection(self._find_core, hello())

    def _find_core(self) -> str:
        return find_core(self.parameters)

    @property
    def connection(self) -> Connection:
        """The connection of this process; a forked child makes its own."""
        if self._connection.is_closed and self._connection.pid != os.getpid():  # closed by a fork
            self._lock = threading.Lock()  # the parent's lock may have been held during the fork
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
        """The name under which the core knows the user of this process."""
        session = self.connection.session
        if session.welcome is None or not session.welcome.user:
            return session.hello.user
        return session.welcome.user

    @property
    def warning(self) -> str:
        """The reason why the core does not answer; "" while it does."""
        return "stopped" if self.stopped else self._connection.warning

    # ── queries ──

    def status(self) -> ClusterStatus:
        """Ask the core for the state of the cluster.

        Returns
        -------
        ClusterStatus
            core.pid, addresses, counts, queued, running, …

        Raises
        ------
        LoadBalancerUnreachable
            The core is away, or its connection is lost before it answers.

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
        """List the hubs that the core knows.

        Returns
        -------
        list of HubInfo
            One for each hub: name, host, pid, workers, busy, engine, …

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
        """List the worker processes of all hubs, and what each does.

        Returns
        -------
        list of WorkerInfo
            One for each worker: worker, hub, pid, state, task, user, …

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
        >>> {user.user: user.running for user in cluster.users()}
        """
        return [UserInfo(row) for row in self.connection.ask("users")]

    def jobs(self, user: str | None = None) -> JobList:
        """List the jobs that the core knows; the list displays as a live card.

        Parameters
        ----------
        user
            List only the jobs of this user; None lists those of all users.

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
        """List the single tasks that have not ended; tasks of jobs are not included.

        `cluster.attach(row.task)` returns the future of one, even if no variable refers to it any more.

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
        >>> cluster.attach(cluster.tasks()[0].task).cancel()
        """
        return TaskList(single_tasks.listed(self.connection.ask, user, name))

    def attach(self, name: str) -> Job | TaskFuture:
        """Attach to a job that was submitted before, with its results so far and those to come.

        If no job has the name, attach to a single task that has not ended.

        Parameters
        ----------
        name
            The name or id of a job; or a single task's id, the end of its id, or its name (of several, the latest).

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
        """Make a concurrent.futures.Executor whose calls run on this cluster, like `lb.executor`.

        Parameters
        ----------
        priority
            The priority of its calls, as for a task.
        user
            The user for whom they run; None means the user of this connection.
        unknown
            Any other keyword is refused.

        Returns
        -------
        Executor
            A new one; `shutdown()` or the end of a `with` closes it.

        Raises
        ------
        TypeError
            Another keyword was given.

        Examples
        --------
        >>> with cluster.executor() as executor:
        ...     list(executor.map(abs, [-1, -2]))
        """
        refuse_unknown("cluster.executor()", unknown, "priority and user", SIZED_BY_WORKERS)
        return Executor(self, priority, user)

    # ── changes ──

    def scale(self, workers: int, hub: str = "") -> None:
        """Set the number of workers of the cluster, or of one of its hubs.

        Of several hubs, the latest ones shrink first, and the first one on this computer grows. The groups of a hub
        share its workers in proportion to the sizes with which they were started.

        Parameters
        ----------
        workers
            The number of workers, 0 or more.
        hub
            The name or id of a hub; without it `workers` is the total of all hubs, and a cluster without a hub gets one
            on this computer.

        Raises
        ------
        ValueError
            `workers` is not a whole number of 0 or more.
        NblbError
            No hub has this name or id.

        Examples
        --------
        >>> cluster.scale(8)
        """
        scaling.scale(self, workers, hub)

    def adapt(self, minimum: int | None, maximum: int | None = None, idle_s: float = scaling.IDLE_S) -> None:
        """Let the number of workers follow the load, until that is turned off or somebody scales a hub.

        The core does it, so it goes on when this process ends, and after a restart of the core.

        Parameters
        ----------
        minimum, maximum
            The limits of the number of workers of all hubs together; None instead of `minimum` turns it off.
        idle_s
            How long fewer workers must have been enough before some end.

        Raises
        ------
        ValueError
            The limits are not whole numbers of 0 or more, or the first is larger than the second.
        NblbError
            The core refuses it; the message says why.

        Examples
        --------
        >>> cluster.adapt(0, 8)
        >>> cluster.adapt(None)
        """
        scaling.adapt(self, minimum, maximum, idle_s)

    def add_hub(self, **options: Any) -> Any:
        """Start one more hub on this computer, on another one over ssh, or as a job of Slurm.

        Parameters
        ----------
        options
            `workers`, the number of its workers (WKHUB_WORKERS by default). `only`, a list of the names of the users
            whose tasks it runs (all by default). `host`, another computer by its name for
            the system's ssh, such as "user@machine"; what differs there is printed before the start. With `host`:
            `python`, the command that runs Python there, and `make_venv`, True to make a virtual environment there
            with the versions of this process if nblb is missing. `slurm`, the options of sbatch with which hubs are
            submitted as batch jobs; with it: `hubs`, how many to have (1), and `backlog`, how many may wait at a time.
            `engine`, what runs the tasks in place of processes: "dask", a Dask Cluster object, or "module:callable"
            for what returns a concurrent.futures.Executor; with it `engine_options`, a dict of its options.

        Returns
        -------
        Any
            The process of the hub, with `pid`, and `log`, the path of its log; for another computer, the process here
            that keeps the connection, with `host` and `differences` as well; for Slurm, the process here that submits
            and cancels jobs: it does not wait until they run, and `cluster.notes` say what they wait for.

        Raises
        ------
        NblbError
            The hub cannot be started; the message says why.
        TypeError
            Another option was given.

        Examples
        --------
        >>> cluster.add_hub(workers=4)
        >>> cluster.add_hub(host="anna@lab2", workers=16)
        >>> cluster.add_hub(slurm="--partition=main --time=60", hubs=4, workers=16)
        """
        if self._launcher is None:
            raise NblbError("this cluster was not started or connected to by nblb.launch; start a hub with 'nblb hub'")
        return self._launcher.add_hub(**options)

    @property
    def monitor_url(self) -> str:
        """The address of the Monitor's page; "" if no Monitor runs."""
        return self._launcher.monitor_url() if self._launcher is not None else ""

    def monitor_link(
        self, name: str = "", role: str = "viewer", expires_s: float = 3600.0, login_s: float = 43200.0
    ) -> str:
        """Return a link that opens the Monitor for somebody else.

        Parameters
        ----------
        name
            The person, as the user of tasks: with the role "user", that user's tasks can be changed.
        role
            "viewer" (looks only), "user" or "admin".
        expires_s, login_s
            How long the link can be opened, and how long a browser that has opened it stays logged in.

        Returns
        -------
        str
            The link; whoever has it can use it.

        Raises
        ------
        NblbError
            No Monitor runs on this computer, or the role or a time cannot be.

        Examples
        --------
        >>> cluster.monitor_link("anna", "user")
        """
        if self._launcher is None:
            raise NblbError("this cluster was not started or connected to by nblb.launch, so its Monitor is not known")
        return self._launcher.monitor_link(name=name, role=role, expires_s=expires_s, login_s=login_s)

    @property
    def monitor_trouble(self) -> str:
        """The reason why no Monitor answers, in a sentence; "" if one does, or none was requested."""
        trouble: Callable[[], str] | None = getattr(self._launcher, "monitor_trouble", None)
        return trouble() if trouble is not None else ""

    def dashboard(self) -> Any:
        """Open the control panel with this cluster's parameters; a cell of a notebook shows it.

        Returns
        -------
        Dashboard
            With its `url` and `stop`; a second call gives the one that runs.

        Raises
        ------
        NblbError
            It did not start; the message ends with what it wrote.

        Examples
        --------
        >>> cluster.dashboard().url
        """
        if self._launcher is None:
            raise NblbError("without nblb.launch a cluster has no dashboard; run 'nblb dashboard'")
        return self._launcher.dashboard()

    @property
    def notes(self) -> list[str]:
        """Warnings: requested settings that are not in force, and hubs that cannot run tasks from this process.

        The card of the cluster shows them.
        """
        later: Callable[[], list[str]] = getattr(self._launcher, "later_notes", list)
        return [*getattr(self._launcher, "notes", ()), *later(), *compatible.notes(self._hubs)]

    def stop(self) -> None:
        """Stop the core and its hubs. Tasks in the journal continue after the next start."""
        if self.stopped:
            return
        is_remote = bool(self.parameters.connection) and self._launcher is not None
        if is_remote and self._launcher is not None:
            self._launcher.stop()  # only an administrator may: for others it raises, and all stays as it is
        self.connection.close()  # first waits until submitted tasks are accepted
        self.stopped = True
        open_clusters.stopped(self)
        if is_remote:
            return
        if self._launcher is not None:
            self._launcher.stop()
            return
        connection = self._connect()  # a separate one, since this process's is closed
        try:
            connection.wait_for(connection.question(StopCore(request=connection.request())))
        finally:
            connection.close(0.0)

    def close(self) -> None:
        """Close the connection; the cluster continues to run."""
        open_clusters.forget(self)
        self._connection.close()

    def __enter__(self) -> Cluster:  # noqa: PYI034  # typing.Self came with Python 3.11
        open_clusters.use(self)
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
        """Take a snapshot of what is known of the cluster; the core is asked for a newer one in the background.

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
                **{
                    name: getattr(known, name)
                    for name in ("core_pid", "durability", "hubs", "workers", "busy", "adapts", "idle_end")
                },
                **{name: getattr(known, name) for name in ("queued", "running", "counts", "known")},
            },
            name=self.name,
            connected=self.connected,
            address=self.address,
            owner=self.user,
            monitor_url=owners_link(self._launcher) if not self.stopped else "",
            warning=self.warning,
            notes=tuple(self.notes),
        )

    def _refresh(self) -> Pending:
        connection = self.connection

        def note_hubs(pending: Pending) -> None:
            self._hubs = pending.value or []

        def note_status(pending: Pending) -> None:
            if pending.value:
                self._known = cluster_snapshot(self.name, pending.value, self._hubs)

        connection.question(Ask(request=connection.request(), topic="hubs"), note_hubs)
        return connection.question(Ask(request=connection.request(), topic="status"), note_status)

    def __repr__(self) -> str:
        state = "stopped" if self.stopped else "up" if self.connected else "away"
        return f"<Cluster {self.name}: {state}, {self.address}>"

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        return front_end.bundle("cluster", self)


atexit.register(close_all)
