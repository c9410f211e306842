"""Batches of single calls: calls that are submitted before the I/O thread has taken the previous ones.

A lone call is sent at once, as a submission of its own. Calls of the same function and options that follow before the
I/O thread has taken them become one submission, which the core cuts into slices by the run time of its items, as it
does for a map. To the user each call is a task like any other, with its own future, state and end; its id is the id of
the submission and its number in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from msgspec.structs import replace

from nblb.client.futures.task_future import TaskFuture
from nblb.client.jobs.ledger import ResultRange
from nblb.client.submit.ids import new_id
from nblb.protocol.framing import Buffer, Payload
from nblb.protocol.messages import (
    Failure,
    FetchTask,
    KnobOffered,
    PutBlob,
    SubmitTask,
    TaskChanged,
    TaskEmitted,
    TaskEnded,
    TaskPrinted,
    TaskState,
)

if TYPE_CHECKING:
    from nblb.client.connection.connection import Connection
    from nblb.errors import LoadBalancerUnreachable

MAX_ITEMS = 1024  # of one submission
MAX_BYTES = 1024 * 1024
MAX_CALL_BYTES = 32 * 1024  # larger calls get a submission of their own
MOST_TOLD = 64  # calls of a submission whose arguments are told in short: nobody reads longer lists
ONE = ((0, 1),)


def gather(
    connection: Connection, form: SubmitTask, blob: PutBlob, call: Buffer, arguments: str = ""
) -> TaskFuture | None:
    """Add a call to the batch that waits for the I/O thread; None if the thread sleeps and the call can go alone."""
    inbox = connection.inbox
    if not inbox.is_awake:
        return None
    with inbox.batching:
        batch = inbox.batch
        if batch is not None and batch.takes(form):
            return batch.add(connection, call, arguments)
        batch = Batch(new_id(), form, blob)
        connection.owners[batch.task] = batch
        future = batch.add(connection, call, arguments)
        inbox.put(batch)
        inbox.batch = batch
        return future


def attached(connection: Connection, task: str, items: int, name: str) -> list[TaskFuture]:
    """The futures of an existing submission of single calls, by any process, in the order of its items."""
    owner = connection.owners.get(task)
    if isinstance(owner, Batch):
        return owner.futures
    if isinstance(owner, TaskFuture):  # a second future would leave threads that wait for this one waiting
        return [owner]
    futures = [
        TaskFuture(connection, task, name, item, f"{task}.{item}" if items > 1 else task) for item in range(items)
    ]
    connection.expect(task, items, "", Batch.of(task, futures) if items > 1 else futures[0])
    connection.send(FetchTask(task=task))
    return futures


class BatchPort:
    """The methods of a Batch that the connection calls; they pass each event on to the future of its item."""

    __slots__ = ()

    def settle(self, batch: Batch, ended: TaskEnded, fresh: Sequence[tuple[int, int]]) -> bool:
        if ended.items == 1:
            future = batch._calls[ended.first][1]
            future._port.settle(future, ended, ONE)
            batch._touch(ended.first)
            return True
        one_s = ended.duration_s / max(1, ended.items - len(ended.holes))
        told = replace(ended, payload=None, duration_s=one_s, kept=())
        early = {ended.first + offset for offset in ended.kept}
        results = ResultRange(ended.first, ended.payload)
        for first, items in fresh:
            for item in range(first, first + items):
                load = partial(results.value, item) if ended.state is TaskState.DONE else None
                future = batch._calls[item][1]
                future._port.finish(future, replace(told, kept=(0,)) if item in early else told, load)
                batch._touch(item)
        return True

    def reject(self, batch: Batch, task: str, failure: Failure, spec: SubmitTask | None, first: int) -> None:
        for item in range(first, len(batch._calls)):
            future = batch._calls[item][1]
            if not future.done():
                future._port.reject(future, task, failure, spec, 0)
                batch._touch(item)

    def show(self, batch: Batch, changed: TaskChanged) -> None:
        for item in range(changed.first, changed.first + changed.items):
            future = batch._calls[item][1]
            future._port.show(future, changed)
            batch._touch(item)

    def printed(self, batch: Batch, printed: TaskPrinted) -> None:
        item = printed.first + printed.offset
        future = batch._calls[item][1]
        future._port.printed(future, printed)
        batch._touch(item)

    def received(self, batch: Batch, message: TaskEmitted | KnobOffered | TaskPrinted) -> None:
        item = message.first + message.offset
        future = batch._calls[item][1]
        future._port.received(future, message)
        batch._touch(item)

    def turned(self, batch: Batch) -> None:
        touched, batch._touched = batch._touched, {}
        for future in touched.values():
            future._port.turned(future)

    def connection_closed(self, batch: Batch, error: LoadBalancerUnreachable) -> None:
        for _, future in batch._calls:
            if not future.done():
                future._port.connection_closed(future, error)


class Batch:
    """Calls that were submitted one by one and share a submission; the batch passes its events to each future.

    `form` has the fields that all calls share. Callers add calls under the inbox's lock; the I/O thread reads them
    after the last one was added.
    """

    _port = BatchPort()
    __slots__ = ("_arguments", "_calls", "_form", "_nbytes", "_touched", "blob", "task")

    def __init__(self, task: str, form: SubmitTask, blob: PutBlob) -> None:
        self.task = task
        self.blob = blob
        self._form = form
        self._calls: list[tuple[Buffer, TaskFuture]] = []
        self._arguments: list[str] = []
        self._nbytes = 0
        self._touched: dict[int, TaskFuture] = {}

    def takes(self, form: SubmitTask) -> bool:
        """True if a call with these options may be added."""
        return form is self._form and len(self._calls) < MAX_ITEMS and self._nbytes < MAX_BYTES

    def add(self, connection: Connection, call: Buffer, arguments: str = "") -> TaskFuture:
        item = len(self._calls)
        if arguments and item < MOST_TOLD:
            self._arguments.append(arguments)
        future = TaskFuture(connection, self.task, self._form.name, item, f"{self.task}.{item}")
        self._calls.append((call, future))
        self._nbytes += len(call)
        return future

    @classmethod
    def of(cls, task: str, futures: Sequence[TaskFuture]) -> Batch:
        """A batch for an existing submission, with the future of each item."""
        batch = cls(task, SubmitTask(task=task, name=""), PutBlob(hash="", payload=Payload()))
        batch._calls = [(b"", future) for future in futures]
        return batch

    @property
    def futures(self) -> list[TaskFuture]:
        return [future for _, future in self._calls]

    def spec(self) -> SubmitTask:
        """The complete submission."""
        calls = [call for call, _ in self._calls]
        form, told = self._form, self._arguments
        if told and len(told) == len(calls):
            form = replace(form, arguments=tuple(told))
        if len(calls) == 1:
            return replace(form, task=self.task, payload=Payload((calls[0],)))
        payload = Payload((b"".join(calls),), [len(call) for call in calls])
        return replace(form, task=self.task, payload=payload, items=len(calls), split=True)

    def _touch(self, item: int) -> None:
        future = self._calls[item][1]
        if future._listeners is not None:
            self._touched[item] = future
