"""An accepted submission with its slices, the job it may belong to, and the interning of equal values."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec
from msgspec.structs import force_setattr

from nblb.protocol.equipment import Needs
from nblb.protocol.framing import Payload
from nblb.protocol.messages import ENDED, OpenJob, SubmitTask, TaskEnded, TaskState
from nblb.scheduling.slice import Slice, narrowed

if TYPE_CHECKING:
    from nblb.scheduling.backlog import UserQueue

DONE = TaskState.DONE
MOST_SOLE = 1_000_000  # tracked items of a sole job: a byte each
WHOLE = -1  # instead of an item number: all items
MOST_INTERNED = 4096  # interned values; usually few
# Python that pickled it, name that the hub must have, for arrays the major version of NumPy (see Hub.runs), what a
# worker must have (see GroupOfWorkers.runs), and the longest that a call takes, by its owner: hubs whose batch jobs end
# may take one such kind and not another
Kind: TypeAlias = (
    "tuple[tuple[int, int], str] | tuple[tuple[int, int], str, int] | tuple[tuple[int, int], str, int, Needs]"
    " | tuple[tuple[int, int], str, int, Needs | None, float]"
)


@lru_cache(maxsize=1024)
def _kind(python: tuple[int, int], name: str, numpy: int, needs: Needs | None, time_s: float) -> Kind:
    """Return one object for all equal kinds, which saves memory and makes comparison fast."""
    if time_s:
        return python, name, numpy, needs, time_s
    if needs is not None:
        return python, name, numpy, needs
    return (python, name, numpy) if numpy else (python, name)


def needs_of(kind: Kind) -> Needs | None:
    """Return what a worker must have for slices of this kind."""
    return kind[3] if len(kind) > 3 else None


class Submission:
    """An accepted SubmitTask; `slices` partition its items, sorted by their first item."""

    __slots__ = (
        "accepted_at",
        "alone",
        "blocked_on",
        "checkpoints",
        "children",
        "closed",
        "codes",
        "dependents",
        "depth",
        "earlier_priorities",
        "ended_at",
        "expires",
        "followers",
        "follows",
        "id",
        "items",
        "job",
        "kind",
        "needed_items",
        "number",
        "order",
        "owner",
        "pins",
        "since",
        "slices",
        "spec",
        "stored",
        "turned",
        "unended",
        "untied",
        "user",
        "watchers",
    )

    owner: UserQueue  # set when the scheduler takes it

    def __init__(self, spec: SubmitTask, user: str, number: int, now: float, job: SubmittedJob | None) -> None:
        self.id = spec.task
        self.spec = spec
        self.user = user
        self.stored = 0  # bytes of its arguments and results, as its owner counts them
        self.number = number  # order of acceptance
        self.order = number  # place in its user's line; deeper nested ones come first (nesting/parents.py)
        self.depth = 0  # depth of nesting
        self.earlier_priorities: tuple[float, ...] = ()  # at which attempts may have begun that still run
        self.untied = False  # it was nested, and was removed from its parent
        self.children: dict[Submission, None] | None = None  # open submissions of its calls
        self.items = spec.items
        name = "" if spec.function else spec.name
        self.kind = _kind(spec.python, name, spec.numpy, spec.needs, spec.time_s)  # equal: the same hubs can run them
        self.alone = not (spec.constants or spec.depends)  # its function is all that a hub must have
        self.accepted_at = now
        self.since = now  # from when on its priority ages: of a nested one, that of the outermost task
        self.ended_at = 0.0
        self.closed = False  # every item has ended, and the end is being processed or done
        self.expires = 0.0  # 0: not before it has ended
        self.job = job
        self.slices: list[Slice] = []
        self.unended = spec.items
        self.watchers: tuple[str, ...] = ()
        self.blocked_on = 0  # dependencies that are not done yet
        self.dependents: dict[int, list[Submission]] | None = None  # item, or WHOLE -> submissions that wait for it
        self.needed_items: set[int] | None = None  # items that others depend on singly
        self.followers: list[Submission] | None = None  # submissions that will take its result (cache)
        self.follows: Submission | None = None  # the submission whose result it will take (cache)
        self.pins = 0  # number of submissions that may still need its results
        self.checkpoints: dict[int, Payload] | None = None  # item -> its saved state: see checkpoints.py
        self.codes: tuple[str, ...] = ()  # functions that its slices run instead of its own
        self.turned: dict[tuple[int, str], Any] | None = None  # (item or -1, knob) -> value

    def begin(self, state: TaskState, now: float) -> Slice:
        """Create and return the first slice, which has all items."""
        task = Slice(self, 0, self.items, now, state)
        self.slices = [task]
        if self.job:
            self.job.counts[state] = self.job.counts.get(state, 0) + self.items
        return task

    def count(self, old: TaskState, new: TaskState, items: int) -> None:
        """Update the counts for a slice that changes its state."""
        if self.job is not None:
            counts = self.job.counts
            counts[old] -= items
            counts[new] = counts.get(new, 0) + items
        if new in ENDED:
            if old not in ENDED:
                self.unended -= items
        elif old in ENDED:
            self.unended += items

    def position(self, item: int) -> int:
        """Return the index in `slices` of the slice with this item."""
        return 0 if len(self.slices) == 1 else bisect_right(self.slices, item, key=_first) - 1

    def at(self, item: int) -> Slice:
        """Return the slice with this item."""
        return self.slices[self.position(item)]

    def carve(self, task: Slice, first: int, items: int) -> Slice:
        """Cut `task` so that one slice has exactly these of its items, and return that slice.

        `task` itself stays the leftmost of the pieces; pieces to the right are new.
        """
        end, last = task.first + task.items, first + items
        at = self.position(task.first)
        if last < end:
            self.slices.insert(at + 1, task.part(last, end - last))
            task.items = last - task.first
        if first == task.first:
            return task
        middle = task.part(first, items)
        task.items = first - task.first
        self.slices.insert(at + 1, middle)
        return middle

    def take(self, task: Slice, items: int) -> Slice:
        """Cut the first `items` of `task` into a new slice; `task` keeps the rest and its place in a queue."""
        taken = task.part(task.first, items)
        self.slices.insert(self.position(task.first), taken)
        task.first += items
        task.items -= items
        return taken

    def replace(self, task: Slice) -> Slice:
        """Put a copy of the slice in its place, and return it; a line that contains the old one drops that."""
        twin = task.part(task.first, task.items)
        self.slices[self.position(task.first)] = twin
        return twin

    def narrow(self, ended: TaskEnded, again: Collection[Slice]) -> None:
        """Give the other slices that have this end an end without those that run again, each run of neighbours one."""
        run: list[Slice] = []
        for task in [*self.covering(ended.first, ended.items), None]:
            if task is not None and task.ended is ended and task not in again:
                run.append(task)
                continue
            if run:
                part = narrowed(ended, run[0].first, sum(one.items for one in run))
                for one in run:
                    one.ended = part
            run = []

    def covering(self, first: int, items: int) -> Iterator[Slice]:
        """Yield the slices that have some of these items, from left to right."""
        at, last = self.position(first), first + items
        while at < len(self.slices) and self.slices[at].first < last:
            yield self.slices[at]
            at += 1

    @property
    def blobs(self) -> tuple[str, ...]:
        """The hashes of the functions and constants that it names."""
        own = (self.spec.function, *self.spec.constants) if self.spec.function else self.spec.constants
        return (*own, *self.codes) if self.codes else own

    @property
    def shares(self) -> bool:
        """True if its result belongs to its cache key: it runs its own function."""
        return bool(self.spec.cache) and self.items == 1 and not self.codes

    @property
    def serves(self) -> bool:
        """True if others may take its result: it was not stopped early."""
        ended = self.slices[0].ended
        return self.shares and self.done and ended is not None and not ended.kept

    @property
    def forgotten(self) -> bool:
        """True if its job was dropped: none of its items runs again, and the next sweep removes it."""
        return bool(self.spec.job) and self.job is None

    @property
    def done(self) -> bool:
        if self.unended:
            return False
        if len(self.slices) == 1:
            return self.slices[0].state is DONE
        return all(task.state is DONE for task in self.slices)

    def has_result(self, item: int) -> bool:
        """Return whether this item is DONE; for WHOLE, whether all are."""
        return self.done if item == WHOLE else self.at(item).state is DONE

    def is_open(self, item: int) -> bool:
        """Return whether this item has not ended; for WHOLE, whether any has not."""
        return self.unended > 0 if item == WHOLE else self.at(item).state not in ENDED

    def payload_of(self, task: Slice) -> Payload:
        """Return the arguments of a slice; of a payload that cannot be cut, the worker picks the slice's items."""
        payload = self.spec.payload
        if task.items == self.items or not self.spec.split:
            return payload
        return payload.part(task.first, task.items, self.items)

    @property
    def arguments_released(self) -> bool:
        """True if the arguments were dropped, so that nothing of it can run again."""
        return self.spec.payload.nbytes == 0 and not self.spec.payload.is_away

    def change_priority(self, priority: float) -> None:
        """Set the priority of all that has not begun."""
        self.earlier_priorities = (*self.earlier_priorities[-7:], self.spec.priority)
        self.spec = msgspec.structs.replace(self.spec, priority=priority)

    def need_memory(self, memory_mb: int) -> None:
        """Set the memory that a worker must have for all that has not begun; none of it may stand in a line."""
        needs = msgspec.structs.replace(self.spec.needs or Needs(), memory_mb=memory_mb)
        self.spec = msgspec.structs.replace(self.spec, needs=needs)
        self.kind = _kind(self.kind[0], self.kind[1], self.spec.numpy, needs, self.spec.time_s)

    def weight(self) -> int:
        """Return the bytes of its arguments and results."""
        ends = {id(task.ended): task.ended for task in self.slices if task.ended is not None}
        return self.spec.payload.nbytes + sum(each.payload.nbytes for each in ends.values() if each.payload is not None)

    def release_arguments(self) -> None:
        """Drop the arguments, since every item has its result and nothing will run again."""
        self.spec = msgspec.structs.replace(self.spec, payload=Payload())


def _first(task: Slice) -> int:
    return task.first


class SubmittedJob:
    """A named, ordered set of submissions."""

    __slots__ = (
        "_taken",
        "counts",
        "created_at",
        "id",
        "items",
        "opened_by",
        "records",
        "spec",
        "turned",
        "user",
        "watchers",
    )

    def __init__(self, spec: OpenJob, user: str, now: float) -> None:
        self.id = spec.job
        self.spec = spec
        self.user = user
        self.created_at = now
        self.items = spec.items
        self.records: dict[str, Submission] = {}
        self.counts: dict[TaskState, int] = {}
        self.turned: dict[str, Any] = {}  # knob values for all its tasks
        self.watchers: tuple[str, ...] = ()
        self.opened_by = ""  # the client that submits to it; "" after a restart
        self._taken = bytearray()  # of a sole job: 1 for each submitted item

    def join(self, record: Submission) -> None:
        """Add the submission to the job."""
        self.records[record.id] = record
        self._take(record, 1)

    def leave(self, record: Submission) -> None:
        """Remove a dropped submission from the job."""
        del self.records[record.id]
        self._take(record, 0)
        for task in record.slices:
            self.counts[task.state] -= task.items

    def has_any(self, first: int, items: int) -> bool:
        """Return whether some of these items of a sole job were submitted already."""
        return self._taken.find(1, max(0, first), first + items) >= 0

    def _take(self, record: Submission, taken: int) -> None:
        if not self.spec.sole:
            return
        first = max(0, record.spec.index)
        last = min(first + record.items, self.items, MOST_SOLE)
        if last > first:
            self._taken.extend(bytes(max(0, last - len(self._taken))))
            self._taken[first:last] = bytes((taken,)) * (last - first)

    def shown(self, running: int) -> dict[str, int]:
        """Return calls by state, for display: `running` of those that hubs have are RUNNING, the others ASSIGNED."""
        counts = {state.value: n for state, n in self.counts.items() if n}
        at_hubs = counts.pop("ASSIGNED", 0) + counts.pop("RUNNING", 0)
        running = min(running, at_hubs)
        if running:
            counts["RUNNING"] = running
        if at_hubs > running:
            counts["ASSIGNED"] = at_hubs - running
        return counts

    @property
    def failed(self) -> int:
        """Number of its items that are FAILED or LOST."""
        counts = self.counts
        return counts.get(TaskState.FAILED, 0) + counts.get(TaskState.LOST, 0)

    @property
    def has_too_many_failures(self) -> bool:
        """True if as many items have failed as its `max_failures` allows, so that no other may run."""
        return 0 < self.spec.max_failures <= self.failed

    @property
    def unended(self) -> int:
        return sum(n for state, n in self.counts.items() if state not in ENDED)


class Interning:
    """Replaces equal values by one object: each decoded message has its own copies, and a million may wait."""

    def __init__(self) -> None:
        self._known: dict[object, object] = {}
        self._alone: dict[str, tuple[str]] = {}

    def share(self, spec: SubmitTask) -> None:
        """Replace the submission's repeated strings by shared objects with the same values."""
        known = self._known
        if len(known) > MOST_INTERNED:
            known.clear()
        name, function, user, python, origin, job = (
            spec.name, spec.function, spec.user, spec.python, spec.origin, spec.job,
        )  # fmt: skip
        if (same := known.setdefault(name, name)) is not name:
            force_setattr(spec, "name", same)
        if (same := known.setdefault(function, function)) is not function:
            force_setattr(spec, "function", same)
        if (same := known.setdefault(user, user)) is not user:
            force_setattr(spec, "user", same)
        if (same := known.setdefault(python, python)) is not python:
            force_setattr(spec, "python", same)
        if origin and (same := known.setdefault(origin, origin)) is not origin:
            force_setattr(spec, "origin", same)
        if job and (same := known.setdefault(job, job)) is not job:
            force_setattr(spec, "job", same)
        if spec.needs is not None:
            force_setattr(spec, "needs", known.setdefault(spec.needs, spec.needs))

    def alone(self, word: str) -> tuple[str]:
        """Return a shared tuple with only this string."""
        found = self._alone.get(word)
        if found is None:
            if len(self._alone) > MOST_INTERNED:
                self._alone.clear()
            found = self._alone[word] = (word,)
        return found
