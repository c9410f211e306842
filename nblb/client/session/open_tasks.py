"""The open work of a session: the submissions whose ends it waits for, with the jobs and blobs that they need."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

from nblb.client.session.blob_cache import SessionBlobs
from nblb.protocol.messages import Message, OpenJob, SubmitTask, TaskEnded


class OpenTasks:
    """The open submissions: opened by the user's messages, closed by the last end of each."""

    def __init__(self) -> None:
        self.unaccepted: dict[str, SubmitTask] = {}
        self.records: dict[str, OpenRecord] = {}
        self.jobs: dict[str, OpenJob] = {}
        self.blobs = SessionBlobs()
        self.sent_blobs: set[str] = set()  # blobs sent on the current connection
        self._singles: dict[tuple[Any, ...], OpenRecord] = {}  # shared entries for submissions of one item
        self._job_records: dict[str, int] = {}  # open submissions of each job; all single ones count as one

    def enter(self, spec: SubmitTask) -> OpenRecord:
        record = self._shared(spec) if spec.items == 1 else self._begun(spec)
        record.open += 1
        self.records[spec.task] = record
        return record

    def _shared(self, spec: SubmitTask) -> OpenRecord:
        key = spec.job, spec.function, spec.constants
        record = self._singles.get(key)
        if record is None:
            record = self._singles[key] = self._begun(spec, key)
        return record

    def _begun(self, spec: SubmitTask, key: tuple[Any, ...] = ()) -> OpenRecord:
        blobs = (spec.function, *spec.constants) if spec.function else spec.constants
        self._job_records[spec.job] = self._job_records.get(spec.job, 0) + 1
        self.blobs.use(blobs)
        return OpenRecord(spec.items, spec.job, blobs, key)

    def close(self, task: str) -> None:
        """Close a submission: no further messages about it are expected."""
        record = self.records.pop(task)
        self.unaccepted.pop(task, None)
        record.open -= 1
        if record.open:
            return
        self._singles.pop(record.key, None)
        self.blobs.release(record.blobs)
        self._job_records[record.job] -= 1
        if not self._job_records[record.job]:
            del self._job_records[record.job]
            job = self.jobs.get(record.job)
            if job is not None and job.items:  # the job of an executor has an open end, and stays
                del self.jobs[record.job]


class Expect(Message, frozen=True):
    """An event from the user's side: expect the ends of an existing submission, perhaps made by an ended process.

    `again` limits it to runs (first, items) that will end (again); ends of other items are known or expected already.
    """

    task: str
    items: int = 1
    job: str = ""
    again: tuple[tuple[int, int], ...] = ()


class OpenRecord:
    """A submission whose ends are not all known.

    A submission of one item has no state except that it is open, so all those of one function (and job) share one
    OpenRecord: a hundred thousand of them cost little more than their entries in a dict.
    """

    __slots__ = ("_ended", "blobs", "items", "job", "key", "left", "open")

    def __init__(self, items: int, job: str, blobs: tuple[str, ...], key: tuple[Any, ...] = ()) -> None:
        self.items = self.left = items
        self.job = job
        self.blobs = blobs  # blobs that the core needs while the submission is open
        self.key = key  # key of a shared entry
        self.open = 0  # number of submissions that share this entry
        self._ended = bytearray(items) if items > 1 else None  # 1 where an item has ended

    def reopen(self, runs: Sequence[tuple[int, int]], others: bool) -> None:
        """Expect these runs (first, items) to end again; if `others` is False, the other items count as ended."""
        ended = self._ended
        if ended is None:
            return
        if not others:
            ended[:] = b"\1" * len(ended)
        for first, items in runs:
            ended[first : first + items] = bytes(items)
        self.left = ended.count(0)

    def refused(self, first: int) -> bool:
        """Mark the items from `first` on as refused by the core; False if they were marked before."""
        ended = self._ended
        if ended is None or ended.find(0, first) < 0:
            return False
        ended[first:] = b"\1" * (len(ended) - first)
        self.left = ended.count(0)
        return True

    def fresh(self, message: TaskEnded) -> tuple[tuple[int, int], ...]:
        """Mark the items of a slice as ended; return the runs (first, items) that had not ended before."""
        ended = self._ended
        if ended is None:
            return ((0, 1),) if message.first == 0 and not message.holes else ()
        runs = self._fresh(message, ended)
        self.left -= sum(items for _, items in runs)
        return runs

    def _fresh(self, message: TaskEnded, ended: bytearray) -> tuple[tuple[int, int], ...]:
        first, last = max(0, message.first), min(message.first + message.items, len(ended))
        if last <= first:
            return ()
        if not message.holes and ended.find(1, first, last) < 0:
            ended[first:last] = b"\1" * (last - first)
            return ((first, last - first),)
        holes = set(message.holes)
        new = [n for n in range(first, last) if not ended[n] and n - message.first not in holes]
        for n in new:
            ended[n] = 1
        runs = (list(run) for _, run in groupby(enumerate(new), key=lambda pair: pair[1] - pair[0]))
        return tuple((run[0][1], len(run)) for run in runs)
