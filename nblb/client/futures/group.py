"""FutureGroup: futures that are awaited together, and counted and shown as one."""

from __future__ import annotations

import concurrent.futures
import threading
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from nblb.client.snapshots import INDEX, MARKED, MOST_ITEMS, MOST_RUNNING, FailureGroup, JobSnapshot, RunningRow
from nblb.client.throughput import Pace

if TYPE_CHECKING:
    from nblb.client.connection.connection import Connection

ENDED_STATES = bytes(INDEX[state] for state in ("DONE", "FAILED", "CANCELLED", "LOST"))
MOST_KINDS = 20  # most groups of failures


class FutureGroup:
    """Futures that are awaited together; the group refers to each future only until the future has ended.

    Parameters
    ----------
    name
        The name to show; "" for a name made of the tasks' names.
    futures
        The first members.

    Examples
    --------
    >>> group = FutureGroup("fits", futures)
    >>> group.snapshot().done_percent
    """

    def __init__(self, name: str = "", futures: Iterable[concurrent.futures.Future[Any]] = ()) -> None:
        self._name = name
        self._names: set[str] = set()
        self._lock = threading.RLock()
        self._open: dict[concurrent.futures.Future[Any], int] = {}  # future -> its place
        self._states = bytearray()
        self._failures: dict[tuple[str, str], FailureGroup] = {}
        self._pace = Pace(time.monotonic())
        self._ended_at: float | None = None
        self._connection: Connection | None = None
        self.changed: Callable[[], None] | None = None  # called when a member joins a group that had ended
        self.add(*futures)

    def add(self, *futures: concurrent.futures.Future[Any]) -> None:
        """Add futures that are not members yet."""
        with self._lock:
            had_ended = not self._open
            for future in futures:
                if future not in self._open:
                    self._open[future] = len(self._states)
                    self._states.append(INDEX["QUEUED"])
                    self._names.add(str(getattr(future, "name", "")))
                    self._connection = self._connection or getattr(future, "_connection", None)
            if self._open:
                self._ended_at = None
        if had_ended and self._open and self.changed is not None:
            self.changed()

    def ended(self, future: concurrent.futures.Future[Any]) -> None:
        """Record the end of a member, and drop the member."""
        with self._lock:
            place = self._open.pop(future, None)
            if place is None:
                return
            self._states[place] = _state(future)
            if self._states[place] in (INDEX["FAILED"], INDEX["LOST"]):
                self._note_failure(place, future)
            now = time.monotonic()
            self._pace.note(len(self._states) - len(self._open), now)
            if not self._open:
                self._ended_at = now

    def _note_failure(self, place: int, future: concurrent.futures.Future[Any]) -> None:
        snapshot = getattr(future, "snapshot", None)
        one = snapshot().failure if snapshot is not None else None
        if one is None:
            one = FailureGroup("error", "it has no result")
        known = self._failures.get((one.kind, one.where))
        if known is None and len(self._failures) >= MOST_KINDS:
            return
        items = (*(known.items if known is not None else ()), place)[:MOST_ITEMS]
        count = known.count + 1 if known is not None else 1
        first = known or one
        self._failures[one.kind, one.where] = FailureGroup(
            first.kind, first.message, first.where, count, items, first.traceback
        )

    def _look(self) -> None:
        """Record ends that no callback has reported, and the states of the other members."""
        for future, place in list(self._open.items()):
            if future.done():
                self.ended(future)
            else:
                self._states[place] = _state(future)

    def marked_states(self) -> bytes:
        """One byte for each member: the index of its state in MARKED."""
        with self._lock:
            return bytes(self._states)

    def done(self) -> bool:
        """True if every member has ended."""
        with self._lock:
            return all(future.done() for future in list(self._open))

    def cancel(self, kill: bool = False) -> None:
        """Cancel the members that have not ended; members that are not tasks of a cluster continue."""
        with self._lock:
            members = list(self._open)
        for future in members:
            if hasattr(future, "task_id"):
                future.cancel(kill)  # type: ignore[call-arg]

    @property
    def name(self) -> str:
        """The name to show."""
        if self._name:
            return self._name
        names = sorted(filter(None, self._names))
        return f"{len(self._states):,} tasks" if len(names) != 1 else f"{len(self._states):,} × {names[0]}"

    def snapshot(self) -> JobSnapshot:
        """Take a snapshot of the group, in the form of a job's."""
        now = time.monotonic()
        with self._lock:
            self._look()
            total, left = len(self._states), len(self._open)
            counts = {state: number for place, state in enumerate(MARKED) if (number := self._states.count(place))}
            running = self._running()
            part = sum(row.progress for row in running) / 100
            ended = total - left
            return JobSnapshot(
                job="",
                name=self.name,
                task_name=next(iter(self._names)) if len(self._names) == 1 and self._name else "",
                total=total,
                counts=counts,
                done_percent=100.0 * (ended + part) / total if total else 100.0,
                rate_per_s=self._pace.rate_per_s(now) if left else 0.0,
                eta_s=self._pace.eta_s(ended, left, now, part),
                elapsed_s=(self._ended_at or now) - self._pace.began_at,
                running=running,
                failures=tuple(sorted(self._failures.values(), key=lambda group: -group.count)),
                state=_word(counts, left),
                connected=self._connection is None or self._connection.connected,
            )

    def _running(self) -> tuple[RunningRow, ...]:
        """The first running members."""
        rows = []
        for future, place in self._open.items():
            if self._states[place] == INDEX["RUNNING"] and hasattr(future, "task_id"):
                rows.append(RunningRow(place, future.progress, future.note, future.worker, future.host))  # type: ignore[attr-defined]
                if len(rows) == MOST_RUNNING:
                    break
        return tuple(rows)

    def __repr__(self) -> str:
        with self._lock:
            return f"<{self.name}, {len(self._open):,} of them open>"


def _word(counts: dict[str, int], left: int) -> str:
    """The state of the whole group, named like that of a job."""
    if left:
        return (
            "running" if left < sum(counts.values()) or counts.get("RUNNING") or counts.get("ASSIGNED") else "waiting"
        )
    if counts.get("FAILED") or counts.get("LOST"):
        return "failed"
    return "cancelled" if counts.get("CANCELLED") else "done"


def _state(future: concurrent.futures.Future[Any]) -> int:
    """The state of a future, as an index into STATES."""
    state = getattr(future, "state", None)
    if state is not None:
        number = INDEX[state.value]
        # A future whose connection was closed has ended, but its task has not.
        return INDEX["FAILED"] if future.done() and number not in ENDED_STATES else number
    if future.cancelled():
        return INDEX["CANCELLED"]
    if future.done():
        return INDEX["FAILED"] if future.exception() is not None else INDEX["DONE"]
    return INDEX["RUNNING"] if future.running() else INDEX["QUEUED"]
