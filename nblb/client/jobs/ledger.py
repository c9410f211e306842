"""The ledger of a job: one byte of state for each item, ranges of results, and the failures.

It stays small for a million items, and takes no locks: the Job that owns it does.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from nblb import payload
from nblb.client.snapshots import ENDED, INDEX, MOST_ITEMS, MOST_RUNNING, STATES, FailureGroup, RunningRow
from nblb.protocol.framing import Payload
from nblb.protocol.messages import TOO_MANY_FAILURES, Failure, TaskChanged, TaskEnded, TaskState

MOST_FULL_FAILURES = 1000  # further failures are kept without the pickled exception

_ended = tuple(name in ENDED for name in STATES)
_QUEUED, _ASSIGNED, _DONE, _LOST = INDEX["QUEUED"], INDEX["ASSIGNED"], INDEX["DONE"], INDEX["LOST"]


class Ending(msgspec.Struct, frozen=True, gc=False):
    """The place, time and duration of items that ended together."""

    worker: str = ""
    host: str = ""
    attempt: int = 0
    duration_s: float = 0.0  # of each item
    ended_at: float = 0.0  # wall clock of the core
    peak_bytes: int = 0


UNKNOWN = Ending()


class ResultRange:
    """Results that arrived together; they are unpickled on first access."""

    __slots__ = ("_is_whole", "_results", "_whole", "ending", "first")

    def __init__(self, first: int, whole: Payload | None, ending: Ending = UNKNOWN) -> None:
        self.first = first
        self.ending = ending
        self._whole = whole
        self._results: list[Any] | None = None
        self._is_whole = True  # False if some of them cannot be loaded here

    def values(self, start: int, stop: int) -> list[Any]:
        """The results of these items of the submission; raises the error of one that cannot be loaded."""
        whole = self._whole
        if whole is not None:
            self._results, self._is_whole = payload.unpack_each_result(whole)
            self._whole = None
        assert self._results is not None
        results = self._results[start - self.first : stop - self.first]
        if not self._is_whole:
            for result in results:
                if isinstance(result, payload.NotLoaded):
                    raise result.error
        return results

    def value(self, item: int) -> Any:
        """The result of this item of the submission."""
        return self.values(item, item + 1)[0]


@dataclass
class _Record:
    """A submission of the job; its items start at `index` in the job."""

    task: str
    index: int
    items: int
    function: str = ""  # content hash of the function that it runs, if not the job's
    starts: list[int] = field(default_factory=list)  # first item (in the submission) of each range of results
    slices: list[ResultRange] = field(default_factory=list)


class Ledger:
    """States, results and failures of `total` items."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.states = bytearray([_QUEUED]) * total
        self.counts = [0] * len(STATES)
        self.counts[_QUEUED] = total
        self.records: dict[str, _Record] = {}
        self.failures: dict[int, Failure] = {}
        self.groups: dict[tuple[str, str], list[Any]] = {}  # (kind, where) -> [count, items, a failure]
        self.running: dict[tuple[str, int], tuple[TaskChanged, float]] = {}
        self.hosts: dict[str, int] = {}  # host -> number of items that ended there
        self.last_end = 0.0  # wall clock of the core
        self.endings: dict[int, Ending] = {}  # for items without a result; for the others their ResultRange has it
        self._names: dict[str, str] = {}  # one str object for each name of a host or worker
        self.waiting = ""
        self.codes: dict[int, str] = {}  # item -> content hash of the function that it ran, if not the job's own
        self.ended_by_limit: set[int] = set()  # items that were cancelled by the job's max_failures
        self.limit = ""  # the sentence about that
        self.kept: set[int] = set()  # items that were stopped early; the result is what they emitted last
        self.given: set[str] = set()  # submissions whose results were known from the start; the core sends them back
        self._starts: list[int] = []  # indexes of the submissions, sorted, parallel to _ordered
        self._ordered: list[_Record] = []

    # ── submissions ──

    def add(self, task: str, index: int, items: int) -> list[int]:
        """Add a submission with these items; return those of them that had been lost for lack of one."""
        record = self.records[task] = _Record(task, index, items)
        self.grow(index + items)
        span = range(index, index + items) if self.counts[_LOST] else ()
        at = bisect_right(self._starts, index)
        self._starts.insert(at, index)
        self._ordered.insert(at, record)
        return [item for item in span if self.states[item] == _LOST]

    def grow(self, total: int) -> None:
        """Raise the number of items of a job with an open end."""
        if total > self.total:
            more = total - self.total
            self.states += bytes([_QUEUED]) * more
            self.counts[_QUEUED] += more
            self.total = total

    def _holder(self, item: int) -> _Record | None:
        at = bisect_right(self._starts, item) - 1
        record = self._ordered[at] if at >= 0 else None
        return record if record is not None and item < record.index + record.items else None

    def place(self, item: int) -> tuple[str, int] | None:
        """The submission that contains an item, and the item's place in it."""
        record = self._holder(item)
        return (record.task, item - record.index) if record is not None else None

    def in_records(self, items: Iterable[int]) -> dict[str, tuple[tuple[int, int], ...]]:
        """The runs (first, items) within each submission that cover these items of the job, given in order."""
        runs: dict[str, list[tuple[int, int]]] = {}
        for item in items:
            record = self._holder(item)
            if record is None:
                continue
            offset, known = item - record.index, runs.setdefault(record.task, [])
            if known and known[-1][0] + known[-1][1] == offset:
                known[-1] = known[-1][0], known[-1][1] + 1
            else:
                known.append((offset, 1))
        return {task: tuple(known) for task, known in runs.items()}

    @property
    def whole(self) -> bool:
        """True if every item is in a submission."""
        return sum(record.items for record in self._ordered) == self.total

    # ── what happens ──

    def end(self, ended: TaskEnded, fresh: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
        """Apply the end of a slice; return the runs of items of the job that it ends."""
        record = self.records.get(ended.task)
        if record is None or ended.task in self.given:
            return []
        if ended.host:
            self.hosts[ended.host] = self.hosts.get(ended.host, 0) + sum(items for _, items in fresh)
        ending = self._ending(ended)
        self.last_end = max(self.last_end, ended.ended_at)
        whole = ResultRange(ended.first, ended.payload, ending) if ended.state is TaskState.DONE else None
        runs = [(record.index + first, items) for first, items in fresh]
        self._mark(record, ended, fresh)
        for first, items in fresh:
            if whole is not None:
                at = bisect_right(record.starts, first)
                record.starts.insert(at, first)
                record.slices.insert(at, whole)
            else:
                self.endings.update(dict.fromkeys(range(record.index + first, record.index + first + items), ending))
                if ended.state is TaskState.CANCELLED:
                    self._cancelled(record.index + first, items, ended.failure)
                else:
                    self._failed(record.index + first, items, ended.failure or Failure(message="no reason given"))
            self._move(record.index + first, items, INDEX[ended.state.value])
        last = ended.first + ended.items
        for key in [key for key in self.running if key[0] == ended.task and ended.first <= key[1] < last]:
            del self.running[key]
        return runs

    def _mark(self, record: _Record, ended: TaskEnded, fresh: Sequence[tuple[int, int]]) -> None:
        """Note which items ran other code than the job's, and which were stopped early; a result does not show that."""
        code = ended.function or record.function
        if not (code or ended.kept or self.codes):
            return
        early = {ended.first + offset for offset in ended.kept}
        for item in (n for first, items in fresh for n in range(first, first + items)):
            if code:
                self.codes[record.index + item] = code
            else:
                self.codes.pop(record.index + item, None)
            if item in early:
                self.kept.add(record.index + item)

    def _ending(self, ended: TaskEnded) -> Ending:
        names = self._names
        return Ending(
            names.setdefault(ended.worker, ended.worker),
            names.setdefault(ended.host, ended.host),
            ended.attempt,
            ended.duration_s / max(1, ended.items - len(ended.holes)),
            ended.ended_at,
            ended.peak_bytes,
        )

    def reject(self, task: str, failure: Failure) -> list[tuple[int, int]]:
        """End the items of a submission that the core refused."""
        record = self.records.get(task)
        if record is None:
            return []
        fresh = [(n, 1) for n in range(record.items) if not _ended[self.states[record.index + n]]]
        ended = TaskEnded(task=task, items=record.items, state=TaskState.FAILED, failure=failure)
        return self.end(ended, fresh)

    def lose(self, items: Sequence[int], failure: Failure) -> list[tuple[int, int]]:
        """End items that are in no submission and never will be."""
        for item in items:
            self._failed(item, 1, failure)
            self._move(item, 1, INDEX["LOST"])
        return [(item, 1) for item in items]

    def show(self, changed: TaskChanged, now: float) -> None:
        record = self.records.get(changed.task)
        if record is None:
            return
        items = min(changed.items, record.items - changed.first)
        first, state = record.index + changed.first, INDEX[changed.state.value]
        if changed.state is TaskState.RUNNING and items > 1:  # the worker runs one of them; the others wait behind it
            self._move(first, items, _ASSIGNED)
            first, items = record.index + item_at(changed), 1
        self._move(first, items, state)
        key = (changed.task, changed.first)
        if changed.state is TaskState.RUNNING:
            since = self.running[key][1] if key in self.running else now
            self.running[key] = changed, since
            self.waiting = ""
        else:
            self.running.pop(key, None)
            if changed.state in (TaskState.QUEUED, TaskState.BLOCKED):
                self.waiting = changed.note

    def again(self, items: Sequence[int]) -> None:
        """Reopen these items, which failed, were lost or ended by max_failures, to run again."""
        for item in items:
            self.failures.pop(item, None)
            self.endings.pop(item, None)
            self._move(item, 1, _QUEUED, reopen=True)
        self.ended_by_limit.difference_update(items)
        self.limit = self.limit if self.ended_by_limit else ""
        left, self.groups = self.failures, {}
        for item, failure in left.items():
            if item not in self.ended_by_limit:
                self._group(item, 1, failure)

    def _move(self, first: int, items: int, new: int, reopen: bool = False) -> None:
        """Set the state of items; those that have ended keep theirs unless `reopen` is set."""
        states, counts = self.states, self.counts
        old = states[first : first + items]
        for state in set(old):
            if not _ended[state] or reopen:
                number = old.count(state)
                counts[state] -= number
                counts[new] += number
                if number == len(old):
                    states[first : first + items] = bytes([new]) * items
                    return
                old = old.replace(bytes([state]), bytes([255]))
        states[first : first + items] = old.replace(b"\xff", bytes([new]))

    def _cancelled(self, first: int, items: int, reason: Failure | None) -> None:
        """Note the reason if a rule of the job, and not a user, has cancelled these items."""
        if reason is not None and reason.kind == TOO_MANY_FAILURES:
            self.failures.update(dict.fromkeys(range(first, first + items), reason))
            self.ended_by_limit.update(range(first, first + items))
            self.limit = reason.message

    def _failed(self, first: int, items: int, failure: Failure) -> None:
        if len(self.failures) >= MOST_FULL_FAILURES:
            like = self.groups.get((failure.kind, failure.where))
            text = like[2].traceback if like is not None else failure.traceback
            failure = msgspec.structs.replace(failure, payload=None, frames=None, traceback=text)
        for item in range(first, first + items):
            self.failures[item] = failure
        self._group(first, items, failure)

    def _group(self, first: int, items: int, failure: Failure) -> None:
        group = self.groups.setdefault((failure.kind, failure.where), [0, [], failure])
        group[0] += items
        group[1] += range(first, first + min(items, MOST_ITEMS - len(group[1])))

    # ── what is known ──

    @property
    def ended(self) -> int:
        return sum(number for number, over in zip(self.counts, _ended, strict=True) if over)

    def has_ended(self, item: int) -> bool:
        return _ended[self.states[item]]

    def state(self, item: int) -> TaskState:
        return TaskState(STATES[self.states[item]])

    def of_state(self, *names: str) -> list[int]:
        """The items in any of these states, in order."""
        wanted = {INDEX[name] for name in names}
        if not any(self.counts[number] for number in wanted):
            return []
        return [item for item, state in enumerate(self.states) if state in wanted]

    def loader(self, item: int) -> Callable[[], Any]:
        """A callable that unpickles the result of an item that is DONE."""
        found, offset = self._results(item)
        return lambda: found.values(offset, offset + 1)[0]

    def _results(self, item: int) -> tuple[ResultRange, int]:
        """The range of results that contains a DONE item, and the item's place in its submission."""
        record = self._holder(item)
        if record is None:
            raise LookupError(item)
        offset = item - record.index
        return record.slices[bisect_right(record.starts, offset) - 1], offset

    def ending(self, item: int) -> Ending:
        """The place and time of an item's end, as far as known."""
        if self.states[item] == _DONE:
            return self._results(item)[0].ending
        return self.endings.get(item, UNKNOWN)

    def news(self, item: int) -> TaskChanged | None:
        """The core's last report on an item that has not ended; None if it is in no submission."""
        record = self._holder(item)
        if record is None:
            return None
        offset = item - record.index
        for (task, first), (changed, _) in self.running.items():
            if task == record.task and first <= offset < first + changed.items:
                return of_item(changed, offset)
        state = self.state(item)
        note = self.waiting if state in (TaskState.QUEUED, TaskState.BLOCKED) else ""
        return TaskChanged(task=record.task, state=state, first=offset, note=note)

    def all_values(self) -> list[Any]:
        """The results of all items; each must be DONE."""
        values: list[Any] = []
        for record in self._ordered:
            stops = [*record.starts[1:], record.items]
            for start, stop, found in zip(record.starts, stops, record.slices, strict=True):
                values += found.values(start, stop)
        return values

    def failure_groups(self) -> tuple[FailureGroup, ...]:
        """Failures grouped by kind and place, the most frequent first."""
        return tuple(
            FailureGroup(failure.kind, failure.message, failure.where, count, tuple(items), failure.traceback)
            for count, items, failure in sorted(self.groups.values(), key=lambda group: -group[0])
        )

    def running_rows(self, now: float) -> tuple[RunningRow, ...]:
        rows = []
        for changed, since in list(self.running.values())[:MOST_RUNNING]:
            index = self.records[changed.task].index + changed.first
            rows.append(
                RunningRow(
                    index, changed.progress, changed.note, changed.worker, changed.host, now - since, changed.items
                )
            )
        return tuple(rows)


def item_at(changed: TaskChanged) -> int:
    """The item (in the submission) that the worker of a running slice now runs, from the progress of the slice."""
    return changed.first + min(int(changed.progress * changed.items / 100.0), changed.items - 1)


def of_item(changed: TaskChanged, item: int) -> TaskChanged:
    """A report on a slice as a report on one of its items; items behind the current one count as not running."""
    if changed.items == 1:
        return changed
    if changed.state is not TaskState.RUNNING:
        return msgspec.structs.replace(changed, first=item, items=1)
    if item != item_at(changed):
        return msgspec.structs.replace(
            changed, first=item, items=1, state=TaskState.ASSIGNED, progress=0.0, note="", worker=""
        )
    progress = min(100.0, max(0.0, changed.progress * changed.items - 100.0 * (item - changed.first)))
    return msgspec.structs.replace(changed, first=item, items=1, progress=progress)
