"""The answers of `cluster.status()`, `.hubs()`, `.workers()`, `.users()`, `.jobs()` and `.tasks()`, as typed objects.

`hub.name` and `hub["name"]` are the same: each is a frozen dataclass and a dict that cannot be changed.
"""

from __future__ import annotations

import contextlib
import difflib
import time
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from nblb.client import front_end
from nblb.client.snapshots import ENDED
from nblb.errors import LoadBalancerUnreachable
from nblb.protocol.messages import Ask

if TYPE_CHECKING:
    from nblb.client.cluster import Cluster
    from nblb.client.connection.ports import Pending

AGAIN_S = 0.8  # between two queries for a list that is displayed


@dataclass(frozen=True, init=False, repr=False, eq=False)
class Row(dict[str, Any]):
    """An answer of the core: a frozen dataclass that is a read-only dict, too.

    Additional keys from a newer core become attributes as well; fields that an older core does not send have their
    defaults.

    Parameters
    ----------
    told
        The core's answer, by the core's names.
    more
        Fields by their attribute names.
    """

    _KEYS: ClassVar[Mapping[str, str]] = {"n_items": "items"}  # field -> key, if a dict method has the name of the key
    _SHOWN: ClassVar[tuple[str, ...]] = ()  # the fields shown in the repr

    def __init__(self, told: Mapping[str, Any] | None = None, /, **more: Any) -> None:
        rest = {**(told or {}), **more}
        known: dict[str, Any] = {}
        for each in fields(self):
            key = self._KEYS.get(each.name, each.name)
            value = rest.pop(each.name, MISSING)
            value = rest.pop(key, value)
            if value is MISSING:
                made = each.default_factory
                value = made() if callable(made) else each.default
            object.__setattr__(self, each.name, value)
            known[key] = value
        super().__init__({**known, **rest})

    def __getattr__(self, name: str) -> Any:
        if name in self:
            return self[name]
        close = difflib.get_close_matches(name, self, n=1)
        hint = f"did you mean {close[0]}?" if close else f"it has {', '.join(self)}"
        raise AttributeError(f"this {type(self).__name__} has no {name!r}; {hint}")

    def __dir__(self) -> list[str]:
        return [
            *(name for name in super().__dir__() if name not in CHANGES),
            *(key for key in self if key.isidentifier()),
        ]

    def __reduce__(self) -> tuple[type[Row], tuple[dict[str, Any]]]:
        return type(self), (dict(self),)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {' '.join(f'{key}={self[key]!r}' for key in self._SHOWN or self)}>"

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        raise TypeError(f"a {type(self).__name__} is an answer of the core and cannot be changed; dict(row) is a copy")

    __setitem__ = __delitem__ = __ior__ = clear = pop = popitem = setdefault = update = _refuse


CHANGES = frozenset({"clear", "pop", "popitem", "setdefault", "update", "fromkeys"})
frozen = dataclass(frozen=True, init=False, repr=False, eq=False)


@frozen
class HubInfo(Row):
    """A hub of the cluster, as the core knows it.

    Attributes
    ----------
    hub
        Its id; `cluster.scale(n, hub=…)` takes the id or the name.
    name, host, ip, pid
        Its name, its computer and its process; the pid is 0 if the core does not know it.
    state
        "up", "draining", "leaving", or "suspect" if it has sent nothing for longer than a heartbeat.
    workers, busy
        The numbers of its workers, and of those that run a task.
    engine
        The engine that runs its workers: "processes", "dask" or "module:callable".
    load, memory
        The shares of its computer's cores and main memory in use, 0 to 1.
    age_s
        Seconds since its last message.
    python, numpy
        The versions of its interpreter, as [major, minor], and of the NumPy that its workers import ("" for none).
    nblb, cloudpickle
        The versions of nblb and of cloudpickle that it runs.
    batch_job, left_s
        The batch job in which it runs, such as "slurm 17" ("" for none), and the seconds that are left of it, or None.
    disk
        The share in use, 0 to 1, of the disk of its temporary files.
    way_s
        Seconds that a message to it and the answer take; 0 until that is measured.
    address
        The address at which it answers health probes.
    functions, holds
        The names of the functions registered there, and of the blobs in the query that are there.
    groups
        A dict for each group of workers: group, workers, alive, given, busy, minP, maxP, processP, engine,
        only, run_as, gpus, memory_mb, features, reserved.
    gpus
        A dict for each card of groups with GPUs: id, name, percent (of the time, -1 if unknown), memory_mb, used_mb,
        outside_mb and outside (memory in use outside the queue, and by which accounts), lost (why it does not
        answer), workers, and tasks.

    Examples
    --------
    >>> [(hub.name, hub.busy, hub.workers) for hub in cluster.hubs()]
    """

    hub: str = ""
    name: str = ""
    host: str = ""
    ip: str = ""
    pid: int = 0
    state: str = ""
    workers: int = 0
    busy: int = 0
    engine: str = "processes"
    load: float = 0.0
    memory: float = 0.0
    age_s: float = 0.0
    python: list[int] = field(default_factory=list)
    numpy: str = ""
    nblb: str = ""
    cloudpickle: str = ""
    batch_job: str = ""
    left_s: float | None = None
    disk: float = 0.0
    way_s: float = 0.0
    address: str = ""
    functions: list[str] = field(default_factory=list)
    holds: list[str] = field(default_factory=list)
    groups: list[dict[str, Any]] = field(default_factory=list)
    gpus: list[dict[str, Any]] = field(default_factory=list)

    _SHOWN = ("name", "host", "pid", "workers", "busy", "state")


@frozen
class WorkerInfo(Row):
    """A worker process and its current state.

    Attributes
    ----------
    worker
        Its id.
    hub, host, ip
        The name of its hub, and its computer.
    pid
        The id of its process; None if the core does not know it.
    group, minP, maxP
        The number of its group at the hub, and the priorities that it takes (inclusive).
    state
        "idle" or "busy".
    suspect
        True if its hub has sent nothing for longer than a heartbeat.
    task, first, n_items, task_name, job, user
        Its work: the id of the submission, the first item and the number of items, the names of the task and of its
        job ("" for none), and its user. The key of `n_items` is "items".
    progress
        0 to 100, as the task reports it.
    note
        The text of its last progress report.
    since_s
        Seconds since it entered this state.
    waits, stand_in
        True if its task waits for tasks that it submitted, and true if it replaces a worker whose task does.
    done
        The number of tasks that it has finished.
    cpu
        The use of its computer's cores, in percent.
    own_cpu, memory_mb
        Its own use of the processor, in percent of a core, and its memory; None if its hub has not measured them.
    address, lb_port, hc_port
        The address at which its hub answers probes, and its ports: 0 for none.

    Examples
    --------
    >>> {worker.user for worker in cluster.workers() if worker.state == "busy"}
    """

    worker: str = ""
    hub: str = ""
    host: str = ""
    ip: str = ""
    pid: int | None = None
    group: int = 0
    minP: float = 0.0
    maxP: float = 0.0
    state: str = ""
    suspect: bool = False
    task: str = ""
    first: int = 0
    n_items: int = 0
    task_name: str = ""
    job: str = ""
    user: str = ""
    progress: float = 0.0
    note: str = ""
    since_s: float = 0.0
    waits: bool = False
    stand_in: bool = False
    done: int = 0
    cpu: float = 0.0
    own_cpu: float | None = None
    memory_mb: int | None = None
    address: str = ""
    lb_port: int = 0
    hc_port: int = 0

    _SHOWN = ("worker", "hub", "state", "task_name", "progress", "user")


@frozen
class UserInfo(Row):
    """A user of the cluster, and how much of it the user has used.

    Attributes
    ----------
    user, name
        The name.
    role, expires
        The role of the user's key, and when it expires, in seconds as time.time(); "" and 0 without a key.
    group, share
        The group, "" without one, and the share: twice the share, twice the workers while others wait, too.
    max_queued, max_running, max_bytes
        The user's own limits, 0 for none: on waiting tasks that compete, on occupied workers, on stored bytes.
    stored_bytes
        The bytes of arguments, results and uploaded objects that the core stores for the user.
    queued, running, done, failed
        The numbers of calls; lost calls count as failed.
    used_s
        The seconds of workers that the user has used.
    recent_s
        Those that count against the user's share now: past use counts half as much after each LB_FAIR_HALFLIFE_S.
    occupied
        The workers that the user's tasks occupy.

    Examples
    --------
    >>> sum(user.queued for user in cluster.users())
    """

    user: str = ""
    name: str = ""
    role: str = ""
    group: str = ""
    share: float = 1.0
    max_queued: int = 0
    max_running: int = 0
    max_bytes: int = 0
    stored_bytes: int = 0
    expires: float = 0.0
    queued: int = 0
    running: int = 0
    done: int = 0
    failed: int = 0
    used_s: float = 0.0
    recent_s: float = 0.0
    occupied: int = 0

    _SHOWN = ("user", "queued", "running", "done", "failed")


@frozen
class JobInfo(Row):
    """A job that the core knows; `cluster.attach(row.name)` returns the Job.

    Attributes
    ----------
    job, name, task_name, user
        Its id, its name, the name of its task, and its user.
    arguments
        The arguments of its first call, in short.
    state
        "running", "done", "failed" or "cancelled".
    n_items
        The number of its tasks; the key is "items".
    counts
        The numbers of tasks by the name of their state; zeros are left out.
    progressed
        How many whole tasks the running ones amount to, by their reported progress: two at 60 % are 1.2.
    stored_bytes
        The bytes of its arguments and results that the core stores.
    created_at, ended_at
        Times by the core's clock, in seconds as time.time(); `ended_at` is 0 until the end.
    ended_ago_s
        Seconds since it ended.
    expires_in_s
        Seconds until the core may drop its results; 0 until the end.
    origin
        The notebook and cell that submitted it, as "lab.ipynb#7".
    fingerprint, code
        The hash of its function and arguments, and the hash of its code alone.

    Examples
    --------
    >>> [row.name for row in cluster.jobs() if row.state == "failed"]
    """

    job: str = ""
    name: str = ""
    task_name: str = ""
    arguments: str = ""
    user: str = ""
    state: str = ""
    n_items: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    progressed: float = 0.0
    stored_bytes: int = 0
    created_at: float = 0.0
    ended_at: float = 0.0
    ended_ago_s: float = 0.0
    expires_in_s: float = 0.0
    origin: str = ""
    fingerprint: str = ""
    code: str = ""

    _SHOWN = ("name", "state", "items", "counts", "user")


class JobList(list[JobInfo]):
    """The jobs of a cluster at one moment; in a notebook, the list displays as a card that stays up to date.

    Examples
    --------
    >>> lb.jobs()[0].name
    """

    __hash__ = object.__hash__  # type: ignore[assignment]  # so that a card can be kept for it

    def __init__(self, rows: Iterable[JobInfo] = (), cluster: Cluster | None = None, of: str | None = None) -> None:
        super().__init__(rows)
        self.cluster: Any = cluster
        self.user = cluster.user if cluster is not None else ""
        self.place = cluster.name if cluster is not None else ""
        self._about = {} if of is None else {"user": of}
        self._latest: list[JobInfo] = list(self)
        self._asked_at = time.monotonic()

    def latest(self) -> list[JobInfo]:
        """Return the latest known rows, and ask the core for newer ones in the background.

        Returns
        -------
        list of JobInfo
            The rows of this list, or newer ones.

        Examples
        --------
        >>> lb.jobs().latest()
        """
        now = time.monotonic()
        if self.cluster is not None and self.cluster.connected and now - self._asked_at > AGAIN_S:
            self._asked_at = now
            connection = self.cluster.connection
            ask = Ask(request=connection.request(), topic="jobs", about=self._about)
            with contextlib.suppress(LoadBalancerUnreachable):
                connection.question(ask, self._told)
        return list(self._latest)

    def _told(self, answer: Pending) -> None:
        if answer.value is not None:
            self._latest = [JobInfo(row) for row in answer.value]

    def __repr__(self) -> str:
        if not self:
            return "<no jobs>"
        return "\n".join(
            f"{row.name}: {row.state}, {_ended(row)} of {row['items']:,} ended ({row.user})" for row in self
        )

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        return front_end.bundle("jobs", self)


def _ended(row: JobInfo) -> str:
    return f"{sum(number for state, number in row.counts.items() if state in ENDED):,}"


@frozen
class CoreInfo(Row):
    """The core's process.

    Attributes
    ----------
    id
        Its id, created with its journal; every journal has a different one.
    pid, host
        The id of its process, and its computer.
    epoch
        The number of times that this core has started.
    started_at
        The time of its last start, in seconds as time.time().

    Examples
    --------
    >>> cluster.status().core.pid
    """

    id: str = ""
    pid: int = 0
    host: str = ""
    epoch: int = 0
    started_at: float = 0.0


@frozen
class ClusterStatus(Row):
    """The state of a cluster, as reported by its core.

    Attributes
    ----------
    name
        The name of the cluster.
    core
        The core's process, a CoreInfo: `status.core.pid`.
    hubs, workers, busy
        The numbers of hubs, of their workers, and of workers that run a task.
    queued, running
        The numbers of waiting and of running calls.
    counts
        The numbers of calls by the name of their state.
    users, clients
        The names of the connected users, and the number of their connections.
    addresses
        The addresses of the core, by kind of peer: "clients", "hubs", "health", and the same for this computer.
    durability, security
        The values of LB_DURABILITY and LB_SECURITY in force.
    version
        The version of nblb that the core runs.
    uptime_s
        Seconds since the core started.
    state_dir, runtime_dir
        The folders with its journal and with its sockets.
    lost
        Sentences on what the journal has lost; empty if its files were whole.
    disk
        A dict of bytes: "journal" is the size of its journal, "free" and "total" tell of the disk that it is on.
    journal
        A dict: "commits" is the number of writes to the journal, and "commit_s" the seconds that all of them took.
    records
        The number of submissions (a call, or a chunk of items) that the core keeps.
    adapts
        A dict on `cluster.adapt`: "minimum", "maximum", "idle_s", "wanted", "why", "text"; None if it is off.
    idle_end
        A dict on LB_IDLE_TIMEOUT_S: "timeout_s", "ends_in_s" (None while it is in use), "text"; None if it is off.
    garbage, faults, late_facts
        The numbers of unreadable messages, of errors inside the core, and of reports that came too late to count.

    Examples
    --------
    >>> cluster.status().counts["RUNNING"]
    """

    name: str = ""
    core: CoreInfo = field(default_factory=CoreInfo)
    hubs: int = 0
    workers: int = 0
    busy: int = 0
    queued: int = 0
    running: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    users: list[str] = field(default_factory=list)
    clients: int = 0
    addresses: dict[str, str] = field(default_factory=dict)
    durability: str = ""
    security: str = ""
    version: str = ""
    uptime_s: float = 0.0
    state_dir: str = ""
    runtime_dir: str = ""
    lost: list[str] = field(default_factory=list)
    disk: dict[str, int] = field(default_factory=dict)
    journal: dict[str, float] = field(default_factory=dict)
    records: int = 0
    garbage: int = 0
    faults: int = 0
    late_facts: int = 0
    adapts: dict[str, Any] | None = None
    idle_end: dict[str, Any] | None = None

    _SHOWN = ("name", "core", "hubs", "workers", "busy", "queued", "running")

    def __init__(self, told: Mapping[str, Any] | None = None, /, **more: Any) -> None:
        given = {**(told or {}), **more}
        core = given.get("core")
        if not isinstance(core, CoreInfo):
            about: dict[str, Any] = {key: given[key] for key in ("pid", "epoch", "host", "started_at") if key in given}
            given["core"] = CoreInfo(about, id=core or "")
        super().__init__(given)
