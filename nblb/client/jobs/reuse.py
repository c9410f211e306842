"""Reuse of an earlier job's results by a new job that takes over its name.

A result is reused if the code is the same by content and the earlier job finished an item with the same arguments.
The new job submits such an item with its result, so the core keeps it like any other, even across a restart; the
job in this process has the result at once.
Each earlier item serves one new item, because `map([0] * 200)` may want 200 different random draws.
"""

from __future__ import annotations

import base64
import hashlib
import logging
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from nblb import payload
from nblb.client.connection.waiting import wait_on
from nblb.client.snapshots import ENDED, EarlierRow
from nblb.payload import Packed
from nblb.protocol.messages import Ask, CancelTask, SubmitTask, TaskEnded, TaskState

if TYPE_CHECKING:
    from nblb.client.connection.connection import Connection
    from nblb.client.connection.ports import Pending
    from nblb.client.jobs.job import Job

CHOICES = ("ask", "cancel", "keep")
CODE = 32  # length of the part of a fingerprint that identifies the code; the rest identifies all arguments
MARK = 8  # bytes of a mark, which identifies an item by its arguments
MOST_MARKED = 10_000  # items of a job whose marks the core keeps
TAKE_S = 10.0  # longest wait for results to reuse; items without one by then are computed
MOST_TAKEN_BYTES = 64 * 1024 * 1024
REFRESH_S = 2.0
log = logging.getLogger("nblb")


def marks(records: Sequence[Packed]) -> str:
    """The marks of all items, in base64; "" if the items cannot be told apart or are too many."""
    if sum(record.items for record in records) > MOST_MARKED:
        return ""
    found = bytearray()
    for record in records:
        if record.items > 1 and not record.split:  # a chunk is one pickle
            return ""
        for buffers in _item_buffers(record):
            digest = hashlib.blake2b(digest_size=MARK)
            for buffer in buffers:
                digest.update(len(buffer).to_bytes(8, "little"))
                digest.update(buffer)
            found += digest.digest()
    return base64.b64encode(found).decode("ascii")


def _item_buffers(record: Packed) -> Iterator[list[memoryview]]:
    buffers = [memoryview(buffer).cast("B") for buffer in record.payload.buffers]
    if not record.split:
        yield buffers
        return
    start = 0
    for size in record.payload.sizes or ():
        yield [buffers[0][start : start + size]]
        start += size


def matched(old: str, new: str, done: Sequence[int]) -> dict[int, int]:
    """New item -> old item that is done and had the same arguments; each old item is used once."""
    before, now = _each(old), _each(new)
    there = [item for item in done if item < len(before)]
    found = {item: item for item in there if item < len(now) and now[item] == before[item]}
    left: dict[bytes, deque[int]] = defaultdict(deque)
    for item in there:
        if item not in found:
            left[before[item]].append(item)
    for item, mark in enumerate(now):
        if item not in found and left.get(mark):
            found[item] = left[mark].popleft()
    return found


def _each(text: str) -> list[bytes]:
    whole = base64.b64decode(text)
    return [whole[start : start + MARK] for start in range(0, len(whole), MARK)]


class EarlierJob:
    """The job that had the name before. `left` of its tasks have not ended; `cancel()` ends them, `keep()` does not."""

    def __init__(
        self,
        connection: Connection,
        about: Mapping[str, Any],
        fingerprint: str,
        new_marks: str,
        attach: Callable[[], Job],
        fresh: bool = False,
    ) -> None:
        self._attach = attach
        self.job_id = str(about["job"])
        self.name = str(about["name"])
        self.items = int(about["items"])
        self.taken = 0
        self.fate = ""  # once the user has chosen
        self._connection = connection
        self._counts: Mapping[str, int] = about["counts"]
        self._asked_at = time.monotonic()
        before = str(about["fingerprint"])
        self.same_code = len(before) > CODE and before[:CODE] == fingerprint[:CODE]
        same_items = before[CODE:] == fingerprint[CODE:] or bool(new_marks and new_marks == about.get("marks"))
        changed = {"code": not self.same_code, "arguments": not same_items}
        self.changed = " and ".join(what for what, so in changed.items() if so)
        if not self.changed and not fresh:  # an unchanged job that was not cancelled would have been reused
            self.fate = "cancel"

    @property
    def left(self) -> int:
        """The number of its tasks that have not ended, as far as known here."""
        return max(0, self.items - sum(number for state, number in self._counts.items() if state in ENDED))

    def cancel(self) -> None:
        """Cancel its remaining tasks; its results stay until they expire or are dropped."""
        self.fate = "cancel"
        self._connection.send(CancelTask(request=self._connection.request(), job=self.job_id))
        self._asked_at = 0.0

    def keep(self) -> None:
        """Let it continue beside the new one."""
        self.fate = "keep"

    def attach(self) -> Job:
        """The earlier Job itself, with its results."""
        return self._attach()

    def row(self) -> EarlierRow:
        """A row for front-ends; the number of remaining tasks is refreshed in the background."""
        now = time.monotonic()
        if self.left and now - self._asked_at > REFRESH_S and self._connection.connected:
            self._asked_at = now
            ask = Ask(request=self._connection.request(), topic="job", about={"job": self.job_id})
            self._connection.question(ask, self._told)
        return EarlierRow(self.job_id, self.changed, self.items, self.left, self.taken, self.fate)

    def _told(self, answer: Pending) -> None:
        if answer.error:
            return
        self._counts = answer.value["counts"] if answer.value else {}
        if not answer.value:  # the core has dropped it
            self.items = 0

    def __repr__(self) -> str:
        return f"<Earlier {self.name}: {words(self.row())}>"


def words(row: EarlierRow) -> str:
    """The state of the earlier job in one sentence, for cards, logs and reprs."""
    same = "the same, cancelled" if row.fate == "cancel" else "the same, computed anew"
    why = f"other {row.changed}" if row.changed else same
    left = f"{row.left:,} of {row.items:,} tasks left"
    if row.left and row.fate == "cancel":
        said = f"the earlier job ({why}) is being cancelled, {left}"
    elif row.left:
        said = f"the earlier job ({why}) goes on{' beside this one' if row.fate else ''}, {left}"
    elif row.fate == "cancel":
        said = f"the earlier job was cancelled{f' ({why})' if row.changed else ''}"
    else:
        said = f"the earlier job ({why}) has ended"
    if row.taken:
        said += f"; {row.taken:,} {'result' if row.taken == 1 else 'results'} that did not change were taken from it"
    return said


def taken_values(earlier: EarlierJob, old: Job, old_marks: str, new_marks: str) -> dict[int, Any]:
    """New item -> the result that the earlier job has for it."""
    if not (earlier.same_code and old_marks and new_marks):
        return {}
    done = earlier._counts.get("DONE", 0)
    wait_on(old._lock, lambda: old.counts().get("DONE", 0) >= done, TAKE_S)
    values = {}
    own = [item for item in old._ledger.of_state("DONE") if item not in old._ledger.kept | old._ledger.codes.keys()]
    for new, before in matched(old_marks, new_marks, own).items():  # items with the same code and arguments
        try:
            values[new] = old._ledger.loader(before)()
        except Exception as problem:  # such as a class that can no longer be imported here
            log.info("item %d of the earlier %s cannot be loaded and is computed again: %s", before, old.name, problem)
    return values


def settle_here(job: Job, spec: SubmitTask, values: Mapping[int, Any]) -> None:
    """Set the results in this job at once, without waiting until the core sends them back."""
    job._base = (job._base or 0) + spec.items  # these items do not count for the job's pace
    known = payload.pack_results([values[item] for item in range(spec.index, spec.index + spec.items)])
    job._port.settle(
        job, TaskEnded(task=spec.task, items=spec.items, state=TaskState.DONE, payload=known), ((0, spec.items),)
    )
    job._ledger.given.add(spec.task)


def runs_of(values: Mapping[int, Any]) -> Iterator[tuple[int, Packed]]:
    """(place in the job, submission that returns the results) for runs of neighbouring items, as large as fits."""
    spent, items = 0, sorted(values)
    for first, run in _runs(items):
        at = first
        for record in payload.pack_calls(((values[item],), {}) for item in run):
            spent += record.payload.nbytes
            if spent > MOST_TAKEN_BYTES:
                return
            yield at, record
            at += record.items


def _runs(items: Sequence[int]) -> Iterator[tuple[int, range]]:
    start = 0
    for at in range(1, len(items) + 1):
        if at == len(items) or items[at] != items[at - 1] + 1:
            yield items[start], range(items[start], items[at - 1] + 1)
            start = at
