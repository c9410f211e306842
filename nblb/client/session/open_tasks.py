"""What a session has in hand: the records whose ends it waits for, with the jobs and blobs that they need."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from nblb.client.session.blob_cache import SessionBlobs
from nblb.client.session.open_record import OpenRecord
from nblb.protocol.messages import Message, OpenJob, PutBlob, SubmitTask


class OpenTasks:
    """Opened by what the user says, closed by the last end of each."""

    def __init__(self) -> None:
        self.unaccepted: dict[str, SubmitTask] = {}
        self.records: dict[str, OpenRecord] = {}
        self.jobs: dict[str, OpenJob] = {}
        self.blobs = SessionBlobs()
        self.told_blobs: set[str] = set()  # on this connection
        self._singles: dict[tuple[Any, ...], OpenRecord] = {}  # what records of one item share
        self._job_records: dict[str, int] = {}  # open records of each job; single ones together count as one

    def enter(self, spec: SubmitTask) -> OpenRecord:
        record = self._shared(spec) if spec.items == 1 else self._begun(spec)
        record.open += 1
        self.records[spec.task] = record
        return record

    def enter_many(self, calls: Iterable[tuple[SubmitTask, PutBlob]]) -> list[Message]:
        """Single calls, or several that came together, each with its function; what the core has to hear of them."""
        said: list[Message] = []
        records, unaccepted, singles, known = self.records, self.unaccepted, self._singles, None
        for spec, blob in calls:
            if blob is not known:
                known = blob
                self.blobs.put(blob)
                if blob.hash not in self.told_blobs:
                    said.append(blob)
                    self.told_blobs.add(blob.hash)
            task = spec.task
            if task in records:
                continue
            if spec.items > 1:
                record = self._begun(spec)
            else:
                record = singles.get((spec.job, spec.function, spec.constants)) or self._shared(spec)
            record.open += 1
            records[task] = record
            unaccepted[task] = spec
            said.append(spec)
        return said

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
        """Nothing more can come of this record."""
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
            if job is not None and job.items:  # an executor's job has an open end
                del self.jobs[record.job]
