"""The scheduler's view of the hubs: their groups of workers, their attempts, and the blobs they have."""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from nblb.protocol.messages import CardUse, Group, HubHello, WorkerUse
from nblb.scheduling.backlog import UserQueue
from nblb.scheduling.fair_share import Band
from nblb.scheduling.free_capacity import ByLoad, FreeCapacity, Place
from nblb.scheduling.slice import Slice
from nblb.scheduling.submission import Kind, Submission, needs_of

NO_WORKERS = 1e9  # the load of a group without workers
SHORT_WAY_S = 0.002  # shorter round trips do not count
LONG_WAY_S = 0.5  # … and longer ones count as this
FAR = 10.0  # a worker that waits for a slice of this many ways is idle for a tenth of the time
MOST_FAR_S = 0.25  # … but no user waits longer for a slot because of work ahead
CHANGED = 0.2  # relative change of a measured way from which on it counts
NEVER = float("inf")
Fence: TypeAlias = "tuple[str, int, int]"  # (submission, first item, attempt): identifies an attempt


class Assignment(msgspec.Struct, eq=False):  # a Struct: one is created for each decision, and that is fast
    """One attempt at a slice, assigned to one group of a hub until the hub reports its end."""

    fence: Fence
    record: Submission
    first: int
    items: int
    attempt: int
    tasks: list[Slice]  # those that still wait for it: several, or smaller, after some items were cancelled
    group: GroupOfWorkers
    user: UserQueue
    given_at: float
    estimate_s: float = 0.0
    started_at: float = 0.0
    recalled: bool = False
    noticed: bool = False  # its watchers have received ASSIGNED or RUNNING
    worker: str = ""
    told: int = 0  # number of first items whose ends the hub has reported …
    reported_s: float = 0.0  # … and their run time
    wait: int = 0  # number of the wait in which its worker uses no slot; 0: it uses one
    waits: int = 0  # number of the latest reported wait
    lent: bool = False  # its group stalled (nesting/stalled.py); it may go on at any time
    wait_since: float = 0.0
    unasked: bool = False  # the latest wait ended without a turn, because its slot had been lent
    waited_s: float = 0.0  # total of the ended waits that no charged time has been shortened by yet

    is_over: bool = False  # the deadline of all its items has passed: its hub has the order to stop it

    def without_waits(self, seconds: float) -> float:
        """The part of this time in which the worker used a slot; each wait shortens one time only."""
        waited_s = min(self.waited_s, seconds)
        self.waited_s -= waited_s
        return seconds - waited_s

    def __repr__(self) -> str:
        return f"<Assignment {self.fence}>"


class Orphan:
    """An attempt that an earlier core assigned to a hub, and that no hub has reported since the restart."""

    __slots__ = ("attempt", "first", "hub", "items", "record", "until")

    def __init__(self, record: Submission, first: int, items: int, attempt: int, hub: str, until: float) -> None:
        self.record, self.first, self.items, self.attempt = record, first, items, attempt
        self.hub = hub  # its incarnation's id
        self.until = until  # after that time it runs again

    @property
    def fence(self) -> Fence:
        return self.record.id, self.first, self.attempt

    def tasks(self) -> list[Slice]:
        """Return what is left of its slice: some items may have been cancelled."""
        return [task for task in self.record.covering(self.first, self.items) if task.orphan is self]


class GroupOfWorkers:
    """Identical workers of one hub; they share a queue of slices, owned by the hub."""

    __slots__ = (
        "alive", "band", "entry", "given", "hub", "line", "load", "number", "pending_s", "room", "spec",
        "takes_all", "wanted", "way_s",
    )  # fmt: skip

    room: FreeCapacity  # set when placement adds the group

    def __init__(self, hub: Hub, number: int, spec: Group, band: Band) -> None:
        self.hub = hub
        self.number = number
        self.spec = spec
        self.band = band
        self.takes_all = not spec.has.reserved  # also what needs nothing of its workers
        self.wanted = spec.workers  # the number of workers that it should have; scaling changes it
        self.alive = 0
        self.given = 0  # slices assigned
        self.pending_s = 0.0  # their estimated run time
        self.way_s = 0.0  # of a message to the hub and back, if that is long enough to count
        self.load = NO_WORKERS  # slices assigned per worker
        self.line: ByLoad | None = None  # the list of its room that contains it …
        self.entry: Place | None = None  # … and its entry there

    def workers_changed(self, more: int) -> None:
        self.alive += more
        self.load = self.given / self.alive if self.alive else NO_WORKERS
        self.room.workers += more
        self.room.place(self)

    def work_changed(self, slices: int, seconds: float) -> None:
        """Add a number of slices, and their estimated run time, to the assigned work; both may be negative."""
        alive = self.alive
        self.given = given = self.given + slices
        self.load = given / alive if alive else NO_WORKERS
        self.pending_s = self.pending_s + seconds if given else 0.0
        if slices < 0 or given >= alive or self.line is None:  # else it keeps its place: it still has a free worker
            self.room.place(self)

    def runs(self, kind: Kind) -> bool:
        """Return whether its workers have what this kind needs, and its hub runs it."""
        if len(kind) < 4 or kind[3] is None:  # nearly always: it needs nothing of its worker
            return self.takes_all and self.hub.runs(kind)
        return self.has_needs(kind) and self.hub.runs(kind)

    def has_needs(self, kind: Kind) -> bool:
        """Return whether its workers have what this kind needs of a worker."""
        if not self.band.fits(kind):
            return False
        needs, share_mb = needs_of(kind), self.spec.share_mb
        return needs is None or not share_mb or needs.memory_mb <= share_mb

    def has_room(self, estimate_s: float | None, prefetch_s: float) -> bool:
        """Return whether a worker is free, or the slice is short enough to be sent ahead."""
        if self.given < self.alive:
            return True
        if estimate_s is None or not self.is_short(estimate_s, prefetch_s):
            return False
        if self.ahead_s(estimate_s) <= self.alive * (prefetch_s + self.way_s):
            return self.given < 256 * self.alive
        return self.given < 2 * self.alive and self.ahead_s(estimate_s) <= self.alive * self.far_s

    def is_open(self, prefetch_s: float) -> bool:
        """Return whether the busy workers may get more work ahead."""
        if self.ahead_s(0.0) < self.alive * (prefetch_s + self.way_s):
            return True
        return self.given < 2 * self.alive and self.ahead_s(0.0) < self.alive * self.far_s

    @property
    def far_s(self) -> float:
        """The longest slice that is sent ahead because the hub is far away, and what may wait behind each worker."""
        return min(FAR * self.way_s, MOST_FAR_S)

    def is_short(self, estimate_s: float, prefetch_s: float) -> bool:
        """Return whether a slice behind it would wait at most `prefetch_s`; the workers share one queue.

        To a hub that is far away, slices are sent ahead that last a few times as long as the way: one for each worker,
        which would otherwise do nothing while its next slice travels.
        """
        if self.way_s and estimate_s <= self.far_s:
            return True
        return estimate_s <= self.alive * (prefetch_s + self.way_s)

    def ahead_s(self, estimate_s: float) -> float:
        """Return the work that would wait behind the running slices with one more; all count as equally long."""
        given = self.given + 1
        return (self.pending_s + estimate_s) * (given - self.alive) / given


class Worker:
    __slots__ = ("done", "group", "held", "id", "pid", "since", "stand_in", "used_s")

    def __init__(self, worker: str, group: GroupOfWorkers, pid: int, now: float, stand_in: bool = False) -> None:
        self.id = worker
        self.stand_in = stand_in  # adds no slot: it uses the slot of a worker that waits
        self.group = group
        self.pid = pid
        self.held: Assignment | None = None
        self.since = now
        self.done = 0
        self.used_s = 0.0

    @property
    def is_busy(self) -> bool:
        """True if it uses a slot: it runs a task that does not wait for nested tasks."""
        return self.held is not None and not self.held.wait


class Hub:
    """One incarnation of a hub."""

    __slots__ = (
        "address",
        "cards",
        "disk",
        "draining",
        "ends_at",
        "functions",
        "greeted_at",
        "greetings",
        "groups",
        "hello",
        "holds",
        "id",
        "in_flight",
        "leased_at",
        "leaves",
        "load",
        "memory",
        "numpy",
        "ran",
        "received_at",
        "said_at",
        "stamp",
        "suspect",
        "unclaimed",
        "unclaimed_until",
        "usage",
        "way_s",
        "workers",
    )  # fmt: skip

    def __init__(self, address: str, hello: HubHello, now: float) -> None:
        self.address = address
        self.id = hello.hub
        self.hello = hello
        self.numpy = major(hello.numpy)  # of the version that its workers import; 0: they have none
        self.groups: list[GroupOfWorkers] = []
        self.workers: dict[str, Worker] = {}
        self.in_flight: dict[Fence, Assignment] = {}
        self.unclaimed: tuple[Fence, ...] = ()  # assigned, but missing in its last hello
        self.unclaimed_until = 0.0
        self.holds: set[str] = set()  # hashes of blobs, ids of results
        self.functions = frozenset(hello.functions)
        self.ran: Kind | None = None  # the kind last found to run here: nearly always the next one too
        self.received_at = now
        self.said_at = now
        self.suspect = False
        self.leaves = hello.leaves
        self.draining = hello.draining  # it gets no new work until that is taken back
        self.ends_at = end_of(hello, now)
        self.greetings = 1  # hellos in a row with nothing in between: it may not receive our messages
        self.greeted_at = now  # when the first of them arrived
        self.leased_at = now  # arrival of the message from which the hub's lease counts …
        self.stamp = hello.said_at  # … and its send time by the hub's clock; 0: not sent
        self.load = self.memory = self.disk = 0.0
        self.way_s = 0.0  # measured round trip; 0: not yet
        self.cards: tuple[CardUse, ...] = ()  # likewise, its GPUs
        self.usage: dict[str, WorkerUse] = {}  # by worker, as its latest heartbeat reports it

    @property
    def lease_from(self) -> float:
        """Start of its lease: never earlier than the start by the hub's own count."""
        return self.leased_at if self.stamp else self.received_at

    @property
    def name(self) -> str:
        return self.hello.name

    @property
    def slots(self) -> int:
        """Number of tasks that can run here at once."""
        return sum(group.alive for group in self.groups)

    @property
    def busy(self) -> int:
        """Number of slots in use."""
        return sum(worker.is_busy for worker in self.workers.values())

    def way_measured(self, way_s: float) -> bool:
        """Take a measured round trip; return True if that changes how much work may be sent ahead."""
        self.way_s = way_s or self.way_s
        way_s = 0.0 if way_s < SHORT_WAY_S else min(way_s, LONG_WAY_S)
        known = self.groups[0].way_s if self.groups else way_s
        if abs(way_s - known) <= CHANGED * known:
            return False
        for group in self.groups:
            group.way_s = way_s
            group.room.place(group)
        return True

    def runs(self, kind: Kind) -> bool:
        """Return whether this hub takes this kind: neither leaving nor drained, it has function, Python and NumPy."""
        if kind is self.ran:
            return True
        if self.leaves or self.draining:
            return False
        python, name = kind[:2]
        runs = (not name or name in self.functions) and python in ((0, 0), self.hello.python)
        if len(kind) >= 3:
            runs = runs and kind[2] <= self.numpy
        if runs and self.ends_at == NEVER:  # `ran` lets placement skip its other checks
            self.ran = kind
        return runs


def end_of(hello: HubHello, now: float) -> float:
    """Return when all that runs on a hub must have ended, since its batch job ends; NEVER if no end is known."""
    return now + hello.left_s if hello.left_s > 0.0 else NEVER


def major(version: str) -> int:
    """Return the major version of "2.1.0"; 0 of ""."""
    number = version.partition(".")[0]
    return int(number) if number.isdecimal() else 0
