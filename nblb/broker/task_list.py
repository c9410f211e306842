"""Pages of the list of all calls, filtered, searched and sorted by the core: a viewer receives one page.

A call is a row; a slice of a map stands for many. An unfiltered list is read from its newest end. A filtered or sorted
one needs a look at every slice, which is done in steps: each question costs at most STEP slices, the answer tells how
far the search has come (`searched`, 0 to 1), and a later question goes on. A finished search serves its pages until it
is too old; what the rows show is always current.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from heapq import nsmallest
from itertools import islice
from typing import TYPE_CHECKING, Any

from nblb.protocol.messages import TaskState

if TYPE_CHECKING:
    from nblb.scheduling.slice import Slice
    from nblb.scheduling.state import State
    from nblb.scheduling.submission import Submission

STEP = 10_000  # slices looked at for one question: a few milliseconds
MOST_ROWS = 200  # of a page
MOST_FOUND = 20_000  # slices that a search keeps; what is sorted behind them is counted and not shown
MOST_SEARCHES = 16
FRESH_S = 2.0  # a finished search is repeated after this …
SLICES_A_SECOND = 20_000.0  # … and a time in proportion to its cost
SEARCHED_TEXT = 2_000  # characters of a note or an error that are searched

Key = Callable[["Slice"], Any]


def _ran_s(task: Slice) -> float:
    return task.ended.duration_s / max(1, task.ended.items) if task.ended is not None else 0.0


def _host(task: Slice) -> str:
    if task.held is not None:
        return task.held.group.hub.hello.host
    return task.ended.host if task.ended is not None else ""


def _worker(task: Slice) -> str:
    if task.held is not None:
        return task.held.worker
    return task.ended.worker if task.ended is not None else ""


SORTS: dict[str, Key] = {
    "submitted": lambda task: task.record.number,
    "ended": lambda task: task.ended.ended_at if task.ended is not None else 0.0,
    "duration": _ran_s,
    "name": lambda task: task.record.spec.name,
    "user": lambda task: task.record.user,
    "state": lambda task: task.state.value,
    "priority": lambda task: task.record.spec.priority,
    "progress": lambda task: task.progress,
    "attempt": lambda task: task.attempt,
    "host": _host,
    "worker": _worker,
}


class Search:
    """One filtered and sorted list: the slices found so far, and where the search goes on."""

    def __init__(self, state: State, about: dict[str, Any]) -> None:
        self.about = about
        self.found: list[Slice] = []
        self.items = 0
        self.counts: dict[str, int] = {}
        self.done_at: float | None = None
        self.shown: tuple[list[Slice], int, dict[str, int]] | None = None  # of the latest finished search
        self.looked = self._all = 0
        self._walk: Iterator[Slice | None] = iter(())
        self._begin(state)

    def _begin(self, state: State) -> None:
        job = self.about.get("job")
        if job:
            known = state.jobs.get(job)
            records = list(known.records.values()) if known is not None else []
        else:
            records = list(state.records.values())
        records.reverse()  # the newest first
        self.looked, self.items, self._all = 0, 0, sum(len(record.slices) for record in records)
        self.found, self.counts, self.done_at = [], {}, None
        self._walk = self._matching(records)

    def advance(self, now: float, state: State) -> None:
        """Look at up to STEP more slices; begin anew when the result has become old."""
        if self.done_at is not None:
            if now < self.done_at + FRESH_S + self.looked / SLICES_A_SECOND:
                return
            self._begin(state)
        new, looked = [], 0
        for task in islice(self._walk, STEP):
            looked += 1
            if task is not None:
                new.append(task)
        self.looked += looked
        self._merge(new)
        if looked < STEP:
            self.done_at = now
            self.shown = self.found, self.items, self.counts

    @property
    def searched(self) -> float:
        """The part of the list that the current search has looked at, 0 to 1."""
        return 1.0 if self.done_at is not None else min(1.0, self.looked / max(1, self._all))

    def _matching(self, records: list[Submission]) -> Iterator[Slice | None]:
        """Yield the slices that match, and None for what was looked at in vain."""
        about = self.about
        user, name, wanted = about.get("user") or None, about.get("name") or None, about.get("state")
        text = str(about.get("search") or "").casefold()
        for record in records:
            if user not in (None, record.user) or name not in (None, record.spec.name) or record.forgotten:
                yield None
                continue
            whole = not text or text in _text_of(record).casefold()
            for task in reversed(record.slices.copy()):
                if not whole and text not in _text_of_slice(task).casefold():
                    yield None
                    continue
                self.counts[task.state.value] = self.counts.get(task.state.value, 0) + task.items
                if _has_state(task, wanted):
                    self.items += task.items
                    yield task
                else:
                    yield None

    def _merge(self, new: list[Slice]) -> None:
        """Keep the first MOST_FOUND slices in the order of the list."""
        if not new:
            return
        self.found += new
        sort, down = str(self.about.get("sort") or ""), bool(self.about.get("descending"))
        if sort in ("", "submitted"):
            if sort and not down:
                self.found.sort(key=lambda task: (task.record.number, task.first))
        elif down:
            key = SORTS[sort]
            self.found.sort(key=key, reverse=True)
        else:
            self.found = nsmallest(MOST_FOUND, self.found, key=SORTS[sort])
        del self.found[MOST_FOUND:]


def _has_state(task: Slice, wanted: str | None) -> bool:
    if not wanted:
        return True
    if wanted == "OPEN":
        return not task.state.ended
    if wanted == "BAD":
        return task.state in (TaskState.FAILED, TaskState.LOST)
    return task.state.value == wanted


def _text_of(record: Submission) -> str:
    job = record.job.spec.name if record.job is not None else ""
    return f"{record.id}\n{record.spec.name}\n{record.user}\n{job}"


def _text_of_slice(task: Slice) -> str:
    ended = task.ended
    failure = ended.failure if ended is not None else None
    error = f"{failure.kind}: {failure.message[:SEARCHED_TEXT]}\n{failure.call[:200]}" if failure is not None else ""
    return f"{task.note[:SEARCHED_TEXT]}\n{_worker(task)}\n{_host(task)}\n{error}"


class TaskPages:
    """The searches of a core's viewers, and the pages made of them."""

    def __init__(self) -> None:
        self._searches: dict[str, Search] = {}
        self._total: tuple[float, int, int] = (-1.0, 0, 0)  # when counted, records, items

    def page(self, state: State, about: dict[str, Any], now: float, row: Callable[[Slice, int], Any]) -> dict[str, Any]:
        """Return one page of rows, made by `row(slice, item)`, with the number of rows in all.

        Raises
        ------
        LookupError
            There is no such order; the message lists them.
        """
        sort = str(about.get("sort") or "")
        if sort and sort not in SORTS:
            raise LookupError(f"tasks cannot be sorted by {sort!r}; they can by {', '.join(SORTS)}")
        offset = max(0, int(about.get("offset") or 0))
        limit = max(1, min(int(about.get("limit") or 50), MOST_ROWS))
        filters = {key: about.get(key) for key in ("user", "name", "job", "state", "search")}
        if not any(filters.values()) and (not sort or (sort == "submitted" and about.get("descending"))):
            rows = [row(task, item) for task, item in _cut(_newest(state), offset, limit)]
            return {"rows": rows, "total": self._count(state, now), "searched": 1.0, "counts": {}}
        filters.update(sort=sort, descending=bool(about.get("descending")))
        search = self._search(state, filters)
        search.advance(now, state)
        found, total, counts = search.shown or (search.found, search.items, search.counts)
        chosen = _cut((task for task in found if not task.record.forgotten), offset, limit)
        searched = 1.0 if search.shown is not None else search.searched
        return {"rows": [row(task, item) for task, item in chosen], "total": total, "searched": searched,
                "counts": counts}  # fmt: skip

    def _search(self, state: State, filters: dict[str, Any]) -> Search:
        key = repr(filters)
        search = self._searches.pop(key, None)
        if search is None:
            search = Search(state, filters)
            if len(self._searches) >= MOST_SEARCHES:
                del self._searches[next(iter(self._searches))]
        self._searches[key] = search  # the latest used are last
        return search

    def _count(self, state: State, now: float) -> int:
        """Return the number of all calls, counted again when submissions have come or gone."""
        at, records, items = self._total
        if now >= at + FRESH_S or records != len(state.records):
            items = sum(record.items for record in state.records.values())
            self._total = now, len(state.records), items
        return items


def _newest(state: State) -> Iterator[Slice]:
    for record in reversed(state.records.values()):
        if not record.forgotten:
            yield from reversed(record.slices)


def _cut(slices: Iterable[Slice], offset: int, limit: int) -> Iterator[tuple[Slice, int]]:
    """Yield (slice, item) for the calls from `offset` on; the calls of a slice follow each other."""
    at = 0
    for task in slices:
        if at + task.items <= offset:
            at += task.items
            continue
        for item in range(task.first + max(0, offset - at), task.first + task.items):
            if limit <= 0:
                return
            yield task, item
            limit -= 1
        at += task.items
        if limit <= 0:
            return
