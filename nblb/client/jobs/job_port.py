"""JobPort: the methods of a Job that the connection, the submitting code and front-ends call, hidden from users."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from nblb.client import front_end
from nblb.client.futures.live import MOST_ITEMS, MOST_PICTURES, LiveState, MimeBundle
from nblb.client.futures.output import JobOutput
from nblb.client.futures.output_access import SAID_BYTES, SHOWN_BYTES, folder
from nblb.client.jobs import retry
from nblb.client.jobs.ledger import of_item
from nblb.client.redefined import code_of
from nblb.client.snapshots import ENDED, INDEX, KEPT, MARKED
from nblb.errors import LoadBalancerUnreachable
from nblb.protocol.messages import (
    Failure,
    KnobOffered,
    SubmitTask,
    TaskChanged,
    TaskEmitted,
    TaskEnded,
    TaskPrinted,
    TaskReopened,
)
from nblb.shared_files.output_log import Piece, decoded, latest

if TYPE_CHECKING:
    from nblb.client.jobs.job import Job


class JobPort:
    """The inner methods of a Job: one object serves all jobs, and each method takes the job as an argument.

    It keeps no reference to a job, so a job is freed as soon as the user drops it.
    """

    __slots__ = ()

    def add_record(self, job: Job, task: str, index: int, items: int) -> None:
        with job._lock:
            lost = job._ledger.add(task, index, items)
            if lost:
                self.reopen(job, lost)

    def has_record(self, job: Job, task: str) -> bool:
        return task in job._ledger.records

    def record_ids(self, job: Job) -> list[str]:
        return list(job._ledger.records)

    def attached(self, job: Job) -> None:
        """Mark the job as submitted earlier: items that ended before now do not count for its pace."""
        job._base = None

    def lose(self, job: Job, items: Sequence[int], why: str, kind: str = "TaskLost") -> None:
        """End these items as lost: no further message about them will come."""
        with job._lock:
            ended = job._ended(job._ledger.lose(items, Failure(kind=kind, message=why)))
        job._finish_all(ended)

    def reopen(self, job: Job, items: Sequence[int]) -> None:
        """Reopen items that have ended and run again; the caller holds the lock."""
        job._ledger.again(items)
        if items:
            job._resume()
        for item in items:
            job._futures.pop(item, None)  # a future that has ended keeps its end

    def settle(self, job: Job, ended: TaskEnded, fresh: Sequence[tuple[int, int]]) -> bool:
        with job._lock:
            futures = job._ended(job._ledger.end(ended, fresh))
        job._finish_all(futures)
        return True

    def reject(self, job: Job, task: str, failure: Failure, spec: SubmitTask | None, first: int) -> None:  # noqa: ARG002
        with job._lock:
            if spec is not None:
                job._refused[task] = spec
            futures = job._ended(job._ledger.reject(task, failure))
        job._finish_all(futures)

    def reopened(self, job: Job, message: TaskReopened) -> None:
        """Reopen the items that the core reports as running again, at the request of this or another kernel."""
        record = job._ledger.records.get(message.task)
        if record is None:
            return
        items = [record.index + n for first, number in message.again for n in range(first, first + number)]
        with job._lock:
            self.reopen(job, items)
            job._retried_with = message.function or job._retried_with
            for asked in job._asked.values():
                asked.difference_update(items)

    def reconnected(self, job: Job) -> None:
        """Ask the core for what was missed while the connection was down."""
        retry.reconnected(job)

    def show(self, job: Job, changed: TaskChanged) -> None:
        with job._lock:
            job._ledger.show(changed, time.monotonic())
            record = job._ledger.records.get(changed.task)
            if record is None or not job._futures:
                return
            first = record.index + changed.first
            held = range(first, first + changed.items)
            if len(job._futures) < changed.items:
                held = [item for item in job._futures if item in held]  # type: ignore[assignment]
            for item in held:
                future = job._futures.get(item)
                if future is not None:
                    future._port.show(future, of_item(changed, item - record.index))

    def printed(self, job: Job, printed: TaskPrinted) -> None:
        record = job._ledger.records.get(printed.task)
        if record is None:
            return
        item = record.index + printed.first + printed.offset
        job._output.add(item, printed.stream, printed.text)
        future = job._futures.get(item)
        if future is not None:
            future._port.printed(future, printed)

    def counted(self, job: Job, counts: Mapping[str, int]) -> None:
        """Store the core's counts, which include items whose single changes of state it does not send."""
        job._told = counts
        if job._base is None:
            job._base = sum(number for state, number in counts.items() if state in ENDED)

    def connection_closed(self, job: Job, error: LoadBalancerUnreachable) -> None:
        for future in list(job._futures.values()):
            future._port.connection_closed(future, error)
        self.turned(job)

    def turned(self, job: Job) -> None:
        with job._lock:
            job._lock.notify_all()
        for listener in [*job._listeners]:
            listener()

    def states(self, job: Job) -> bytes:
        """One byte an item: the index of its state in `snapshot.STATES`."""
        return bytes(job._ledger.states)

    def marked_states(self, job: Job) -> bytes:
        """The same with indexes in `snapshot.MARKED`, which tell items stopped early from items that ended."""
        states = bytearray(job._ledger.states)
        for item in list(job._ledger.kept):
            if states[item] == INDEX["DONE"]:
                states[item] = MARKED.index(KEPT)
        return bytes(states)

    def code(self, job: Job) -> str:
        """Fingerprint of the code that the failed items ran; comments and line numbers do not change it."""
        return code_of(job._retried_with) if job._retried_with else job._code

    def add_listener(self, job: Job, listener: Callable[[], Any]) -> None:
        """Call `listener()`, on another thread, whenever something has changed."""
        job._listeners = (*job._listeners, listener)

    def remove_listener(self, job: Job, listener: Callable[[], Any]) -> None:
        job._listeners = tuple(known for known in job._listeners if known != listener)

    def live_of(self, job: Job, item: int) -> LiveState | None:
        """The live state of an item, if it is still kept."""
        return job._said.get(item)

    def received(self, job: Job, message: TaskEmitted | KnobOffered | TaskPrinted) -> None:
        """Apply a live message of an item (on the I/O thread)."""
        record = job._ledger.records.get(message.task)
        if record is None:
            return
        item = record.index + message.first + message.offset
        future, said = job._futures.get(item), self._printed_here(job, item)
        if isinstance(message, TaskEmitted):
            said.emitted(message)
            for callback in job._on_emit:
                callback(item, said.value())
            if future is not None:
                future._port.notify_emitted(future)
        elif isinstance(message, KnobOffered):
            said.offered(message)
        else:
            self._display(job, said, item, message.text)

    def _printed_here(self, job: Job, item: int) -> LiveState:
        """The live state of an item; only those of the latest items are kept."""
        future, said = job._futures.get(item), job._said.get(item)
        if said is None:
            said = job._said[item] = future._port.live_state(future) if future is not None else LiveState()
            while len(job._said) > MOST_ITEMS:
                job._said.popitem(last=False)
        if future is not None and future._said is None:
            future._said = said
        return said

    def _recall_displays(self, job: Job, found: Iterable[tuple[str, int, Piece]], index: Mapping[str, int]) -> None:
        """Restore what items displayed from the output log: (submission, item in it, display)."""
        by_item: dict[int, list[tuple[str, int]]] = {}
        for record, of, piece in [*found][-MOST_PICTURES:]:
            item = index[record] + of
            by_item.setdefault(item, []).append((piece.read().decode("utf-8", "replace"), item))
        pictures: deque[MimeBundle] = deque(maxlen=MOST_PICTURES)
        for item, texts in by_item.items():
            said = self._printed_here(job, item)
            said.recall(texts)
            pictures.extend(said.pictures)
        job._pictures = pictures

    def _display(self, job: Job, said: LiveState, item: int, text: str) -> None:
        picture = said.displayed(text, item)
        if picture is None:
            return
        if picture.display_id:
            kept = [p for p in job._pictures if (p.item, p.display_id) != (item, picture.display_id)]
            job._pictures = deque(kept, maxlen=MOST_PICTURES)
        job._pictures.append(picture)
        front_end.shown(job, replace(picture, item=item))

    def recall(self, job: Job) -> None:
        """Read what its items printed and displayed before this process attached, so that its card shows it."""
        index = {task: record.index for task, record in job._ledger.records.items()}
        self._recall_displays(job, latest(folder(job._connection), index, "shown", SHOWN_BYTES), index)
        output = JobOutput()
        for record, item, piece in latest(folder(job._connection), index, "said", SAID_BYTES):
            output.add(index[record] + item, piece.stream, "".join(decoded(iter([piece]))))
        job._output = output
