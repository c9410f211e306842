"""The hubs as the scheduler knows them: their groups of workers, what they have in hand, what they hold."""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from nblb.protocol.messages import Group, HubHello
from nblb.scheduling.backlog import UserQueue
from nblb.scheduling.fair_share import Band
from nblb.scheduling.free_capacity import ByLoad, FreeCapacity, Place
from nblb.scheduling.slice import Slice
from nblb.scheduling.submission import Kind, Submission

NO_WORKERS = 1e9  # the load of a group without any
Fence: TypeAlias = "tuple[str, int, int]"  # (record, first item, attempt): only the current one changes anything


class Assignment(msgspec.Struct, eq=False):  # a Struct because one is made for each decision, and that is quick
    """One attempt at a slice, in the hands of one group of a hub until an end fact comes."""

    fence: Fence
    record: Submission
    first: int
    items: int
    attempt: int
    tasks: list[Slice]  # those that still hope for it: several, or smaller, after some items were cancelled
    group: GroupOfWorkers
    user: UserQueue
    given_at: float
    estimate_s: float = 0.0
    started_at: float = 0.0
    recalled: bool = False
    noticed: bool = False  # its watchers have been told that a hub has it, or that it runs
    worker: str = ""
    told: int = 0  # items of it, from the first on, whose end its hub has told …
    told_s: float = 0.0  # … and how long they took
    wait: int = 0  # number of the wait in which its worker uses no slot; 0: it uses one
    waits: int = 0  # the number of the latest that was heard of
    lent: bool = False  # it was asked to give up its slot, and may go on at any time
    wait_since: float = 0.0
    waited_s: float = 0.0  # in waits that are over

    def __repr__(self) -> str:
        return f"<Assignment {self.fence}>"


class Orphan:
    """An attempt that a core before this one gave to a hub, and of which nobody has spoken yet."""

    __slots__ = ("attempt", "first", "hub", "items", "record", "until")

    def __init__(self, record: Submission, first: int, items: int, attempt: int, hub: str, until: float) -> None:
        self.record, self.first, self.items, self.attempt = record, first, items, attempt
        self.hub = hub  # the incarnation
        self.until = until  # then it runs again

    @property
    def fence(self) -> Fence:
        return self.record.id, self.first, self.attempt

    def tasks(self) -> list[Slice]:
        """What is left of its slice: some items may have been cancelled."""
        return [task for task in self.record.covering(self.first, self.items) if task.orphan is self]


class GroupOfWorkers:
    """Alike workers of one hub; they share a line of slices, kept by the hub."""

    __slots__ = ("alive", "band", "entry", "given", "hub", "line", "load", "number", "pending_s", "room", "spec")

    room: FreeCapacity  # placement's, from the moment when it knows the group

    def __init__(self, hub: Hub, number: int, spec: Group, band: Band) -> None:
        self.hub = hub
        self.number = number
        self.spec = spec
        self.band = band
        self.alive = 0
        self.given = 0  # slices in hand
        self.pending_s = 0.0  # their estimated work
        self.load = NO_WORKERS  # slices in hand for each worker
        self.line: ByLoad | None = None  # of its room, where it stands …
        self.entry: Place | None = None  # … and its place in there

    def workers_changed(self, more: int) -> None:
        self.alive += more
        self.load = self.given / self.alive if self.alive else NO_WORKERS
        self.room.workers += more
        self.room.place(self)

    def work_changed(self, slices: int, seconds: float) -> None:
        """So many slices more (or fewer) are in hand, which are so much work."""
        self.given += slices
        self.load = self.given / self.alive if self.alive else NO_WORKERS
        self.pending_s = self.pending_s + seconds if self.given else 0.0
        self.room.place(self)

    def given_one(self, seconds: float) -> None:
        """One slice more is in hand: `work_changed`, made quick for each dispatch."""
        self.given = given = self.given + 1
        self.pending_s += seconds
        alive = self.alive
        self.load = given / alive if alive else NO_WORKERS
        if given >= alive or self.line is None:  # else it stays where it is: it had a free worker, and has one
            self.room.place(self)

    def has_room(self, estimate_s: float | None, prefetch_s: float) -> bool:
        """A worker is free, or the slice is short enough to be sent ahead (DESIGN 4.5)."""
        if self.given < self.alive:
            return True
        if estimate_s is None or not self.is_short(estimate_s, prefetch_s):
            return False
        return self.ahead_s(estimate_s) <= self.alive * prefetch_s and self.given < 256 * self.alive

    def is_short(self, estimate_s: float, prefetch_s: float) -> bool:
        """Would whoever comes behind it wait for a prefetch at most? The workers share their line: one is free soon."""
        return estimate_s <= self.alive * prefetch_s

    def ahead_s(self, estimate_s: float) -> float:
        """How much work would wait behind what runs, if one more were given; all slices are taken to be alike."""
        given = self.given + 1
        return (self.pending_s + estimate_s) * (given - self.alive) / given


class Worker:
    __slots__ = ("done", "group", "held", "id", "pid", "since", "stand_in", "used_s")

    def __init__(self, worker: str, group: GroupOfWorkers, pid: int, now: float, stand_in: bool = False) -> None:
        self.id = worker
        self.stand_in = stand_in  # adds no slot to its group: it has that of a worker which waits
        self.group = group
        self.pid = pid
        self.held: Assignment | None = None
        self.since = now
        self.done = 0
        self.used_s = 0.0

    @property
    def is_busy(self) -> bool:
        """It uses a slot: it is at a task, and does not wait for tasks of that task's own."""
        return self.held is not None and not self.held.wait


class Hub:
    """One incarnation of a hub."""

    __slots__ = ("address", "functions", "greeted_at", "greetings", "groups", "heard_at", "hello", "holds", "id",
                 "in_hand", "leased_at", "leaves", "load", "memory", "ran", "said_at", "stamp", "suspect",
                 "unclaimed", "unclaimed_until", "workers")  # fmt: skip

    def __init__(self, address: str, hello: HubHello, now: float) -> None:
        self.address = address
        self.id = hello.hub
        self.hello = hello
        self.groups: list[GroupOfWorkers] = []
        self.workers: dict[str, Worker] = {}
        self.in_hand: dict[Fence, Assignment] = {}
        self.unclaimed: tuple[Fence, ...] = ()  # in our books, but not in its last hello
        self.unclaimed_until = 0.0
        self.holds: set[str] = set()  # hashes of blobs, ids of results
        self.functions = frozenset(hello.functions)
        self.ran: Kind | None = None  # the latest that was found to run here: nearly always the next one's as well
        self.heard_at = now
        self.said_at = now
        self.suspect = False
        self.leaves = hello.leaves
        self.greetings = 1  # hellos in a row, with nothing else between: it may not hear us
        self.greeted_at = now  # when the first of them came
        self.leased_at = now  # when that was heard which the hub's lease counts from …
        self.stamp = hello.said_at  # … and when the hub has said it, by its own clock; 0: it does not say
        self.load = self.memory = 0.0

    @property
    def lease_from(self) -> float:
        """From when its lease counts: never earlier than the hub itself counts from."""
        return self.leased_at if self.stamp else self.heard_at

    @property
    def name(self) -> str:
        return self.hello.name

    @property
    def slots(self) -> int:
        """How many tasks can run here at once."""
        return sum(group.alive for group in self.groups)

    @property
    def busy(self) -> int:
        """How many of the slots are in use."""
        return sum(worker.is_busy for worker in self.workers.values())

    def runs(self, kind: Kind) -> bool:
        """Can this hub run records of this kind: does it stay, has it the function, and the Python that pickled it?"""
        if kind is self.ran:
            return True
        if self.leaves:
            return False
        python, name = kind
        runs = (not name or name in self.functions) and python in ((0, 0), self.hello.python)
        if runs:
            self.ran = kind
        return runs
