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

AGAIN_S = 0.8  # between two questions of a list that is watched


@dataclass(frozen=True, init=False, repr=False, eq=False)
class Row(dict[str, Any]):
    """An answer of the core: a frozen dataclass that is a read-only dict, too.

    Keys that a newer core sends beside the fields are attributes as well; what an older core does not send has its
    default.

    Parameters
    ----------
    told
        The answer, by the names of the core.
    more
        Fields by their names.
    """

    _KEYS: ClassVar[Mapping[str, str]] = {"n_items": "items"}  # field -> its key, where a method has that name
    _SHOWN: ClassVar[tuple[str, ...]] = ()  # in the repr

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
        Its id, which `cluster.scale(n, hub=…)` takes as well as the name.
    name, host, ip, pid
        Its name, and the computer and process that it is; the pid is 0 where the core has not been told.
    state
        "up", or "suspect" while it has been silent for longer than a heartbeat.
    workers, busy
        Numbers of its workers, and of those that run a task.
    engine
        What runs its workers: "processes", "dask" or "module:callable".
    load, memory
        Shares of its computer in use, 0 to 1: of all cores, and of the main memory.
    age_s
        Seconds since its last message.
    python, numpy
        Versions: of its interpreter, as [major, minor], and of the NumPy that its workers import ("" for none).
    address
        Where it answers probes.
    functions, holds
        Names of the functions that were registered there, and those of the blobs that were asked for and are there.
    groups
        A dict for each group of workers: group, workers, alive, given, busy, minP, maxP, processP, engine.

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
    address: str = ""
    functions: list[str] = field(default_factory=list)
    holds: list[str] = field(default_factory=list)
    groups: list[dict[str, Any]] = field(default_factory=list)

    _SHOWN = ("name", "host", "pid", "workers", "busy", "state")


@frozen
class WorkerInfo(Row):
    """A worker process, and what it does.

    Attributes
    ----------
    worker
        Its id.
    hub, host, ip
        Name of its hub, and the computer.
    pid
        Its process; None where the core does not know it.
    group, minP, maxP
        Number of its group at the hub, and the priorities that it takes (inclusive).
    state
        "idle" or "busy".
    task, first, n_items, task_name, user
        What it has: id of the record, the first item and the number of items in it, the task's name, whose it is.
        The key of `n_items` is "items".
    progress
        0 to 100, as the task reports it.
    note
        The text of its last progress.
    since_s
        Seconds since it is in this state.
    waits, stand_in
        Whether its task waits for tasks of its own, and whether it runs in place of a worker that does.
    done
        Number of tasks that it has ended.
    cpu
        Use of its computer's cores, in percent.
    address, lb_port, hc_port
        Where its hub answers probes, and its ports: 0 for none.

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
    task: str = ""
    first: int = 0
    n_items: int = 0
    task_name: str = ""
    user: str = ""
    progress: float = 0.0
    note: str = ""
    since_s: float = 0.0
    waits: bool = False
    stand_in: bool = False
    done: int = 0
    cpu: float = 0.0
    address: str = ""
    lb_port: int = 0
    hc_port: int = 0

    _SHOWN = ("worker", "hub", "state", "task_name", "progress", "user")


@frozen
class UserInfo(Row):
    """A user of the cluster, and how much of it is theirs.

    Attributes
    ----------
    user
        The name.
    queued, running, done, failed
        Numbers of calls; what was lost counts as failed.
    used_s
        Seconds of workers that were used lately, of which half is forgotten every LB_FAIR_HALFLIFE_S.

    Examples
    --------
    >>> sum(user.queued for user in cluster.users())
    """

    user: str = ""
    queued: int = 0
    running: int = 0
    done: int = 0
    failed: int = 0
    used_s: float = 0.0

    _SHOWN = ("user", "queued", "running", "done", "failed")


@frozen
class JobInfo(Row):
    """A job that the core knows; `cluster.attach(row.name)` gives the Job.

    Attributes
    ----------
    job, name, task_name, user
        Its id, its name, the name of its task, whose it is.
    state
        "running", "done", "failed" or "cancelled".
    n_items
        Number of its tasks; the key is "items".
    counts
        Numbers of tasks by the name of their state; zeros are left out.
    created_at, ended_at
        Times by the core's clock, in seconds as time.time(); 0 for one that has not ended.
    ended_ago_s
        Seconds since it has ended.
    origin
        The notebook and cell that submitted it, as "lab.ipynb#7".
    fingerprint, code
        Hash of its function and arguments, and that of its code alone.

    Examples
    --------
    >>> [row.name for row in cluster.jobs() if row.state == "failed"]
    """

    job: str = ""
    name: str = ""
    task_name: str = ""
    user: str = ""
    state: str = ""
    n_items: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    created_at: float = 0.0
    ended_at: float = 0.0
    ended_ago_s: float = 0.0
    origin: str = ""
    fingerprint: str = ""
    code: str = ""

    _SHOWN = ("name", "state", "items", "counts", "user")


class JobList(list[JobInfo]):
    """The jobs of a cluster as they were; in a notebook it shows itself as a card that follows them.

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
        """Give the rows that were told last; they are asked for anew in the background.

        Returns
        -------
        list of JobInfo
            As this list was, or newer.

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
        Made when its journal was: another core has another one.
    pid, host
        The process, and its computer.
    epoch
        How often this core has started.
    started_at
        When it did so last, in seconds as time.time().

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
    """The state of a cluster, as its core answered.

    Attributes
    ----------
    name
        Of the cluster.
    core
        Its process, a CoreInfo: `status.core.pid`.
    hubs, workers, busy
        Numbers of hubs, of their workers, and of workers that run a task.
    queued, running
        Numbers of calls that wait, and that run.
    counts
        Numbers of calls by the name of their state.
    users, clients
        Names of the users that are connected, and the number of their connections.
    addresses
        Where the core listens, by who dials: "clients", "hubs", "health", and the same for this computer.
    durability, security
        LB_DURABILITY and LB_SECURITY, as they are in force.
    version
        Of nblb.
    uptime_s
        Seconds since the core has started.
    state_dir
        The folder with its journal.
    journal
        "commits", and "commit_s": the number of writes to the journal, and the seconds that all of them took.
    records
        Number of records (a call, or a chunk of items) that the core keeps.
    garbage, faults, late_facts
        Numbers of messages that could not be read, of errors of the core itself, of facts that came too late to count.

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
    journal: dict[str, float] = field(default_factory=dict)
    records: int = 0
    garbage: int = 0
    faults: int = 0
    late_facts: int = 0

    _SHOWN = ("name", "core", "hubs", "workers", "busy", "queued", "running")

    def __init__(self, told: Mapping[str, Any] | None = None, /, **more: Any) -> None:
        given = {**(told or {}), **more}
        core = given.get("core")
        if not isinstance(core, CoreInfo):
            about: dict[str, Any] = {key: given[key] for key in ("pid", "epoch", "host", "started_at") if key in given}
            given["core"] = CoreInfo(about, id=core or "")
        super().__init__(given)
