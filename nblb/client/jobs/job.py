"""Job: a named, ordered set of tasks, seen from a notebook."""

from __future__ import annotations

import asyncio
import concurrent.futures
import operator
import threading
import time
from array import array
from collections.abc import AsyncIterator, Callable, Generator, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, overload

from nblb import payload
from nblb.client import front_end
from nblb.client.connection.connection import Connection
from nblb.client.connection.waiting import interruptible, wait_on
from nblb.client.futures.live import SteeredJob
from nblb.client.futures.output import JobOutput
from nblb.client.futures.output_access import JobOutputAccess
from nblb.client.futures.task_future import TaskFuture
from nblb.client.jobs.ledger import Ledger, of_item
from nblb.client.jobs.reuse import CODE, EarlierJob
from nblb.client.jobs.summary import summed_up
from nblb.client.jobs.view import Pace, View, job_snapshot
from nblb.client.redefined import code_of, watch
from nblb.client.snapshots import ENDED, INDEX, KEPT, MARKED, STATES, JobSnapshot
from nblb.errors import LoadBalancerUnreachable, NblbError, TaskCancelled
from nblb.protocol.messages import (
    CancelTask,
    Failure,
    ForgetJob,
    SubmitTask,
    TaskChanged,
    TaskEnded,
    TaskPrinted,
    TaskReopened,
    TaskState,
)

if TYPE_CHECKING:
    import pandas as pd

Errors = Literal["raise", "return", "skip"]


class Job(SteeredJob, JobOutputAccess):
    """The tasks of one `map`, in order: `for result in job`, `job.results()`, `job[3]`, `await job`, `job.cancel()`.

    It keeps a byte for each item and the pickled results; futures of single items are made when they are asked for.
    """

    def __init__(
        self,
        connection: Connection,
        job_id: str,
        name: str,
        task_name: str,
        total: int,
        fingerprint: str = "",
        code: str = "",
    ) -> None:
        self.job_id = job_id
        self.name = name
        self.task_name = task_name
        self.fingerprint = fingerprint
        self._code = code or fingerprint[:CODE]
        self.connection = connection
        self.earlier: EarlierJob | None = None  # the one that had the name before
        self._lock = threading.Condition(threading.RLock())
        self._ledger = Ledger(total)
        self._refused: dict[str, SubmitTask] = {}  # records that the core has never accepted
        self.retried_with = ""  # hash of the function that failed items were given instead of theirs
        self._asked: dict[int, set[int]] = {}  # request -> items that are to run again, until the core has said so
        self._futures: dict[int, TaskFuture] = {}
        self._order: array[int] | None = None  # items in the order in which they ended, once somebody asks
        self._told: Mapping[str, int] | None = None  # the core's counts
        self._begin_steering()
        self._pace = Pace(time.monotonic())
        self._base: int | None = 0  # items that had ended before this process came; None: not known yet
        self._ended_at: float | None = None
        self._output = JobOutput()
        connection.jobs[job_id] = self
        watch(self)

    # ── filled by those who submit and attach ──

    def add_record(self, task: str, index: int, items: int) -> None:
        with self._lock:
            lost = self._ledger.add(task, index, items)
            if lost:
                self.reopen(lost)

    def has_record(self, task: str) -> bool:
        return task in self._ledger.records

    def record_ids(self) -> list[str]:
        return list(self._ledger.records)

    def attached(self) -> None:
        """It was submitted before: what has ended already says nothing about its pace."""
        self._base = None

    def lose(self, items: Sequence[int], why: str, kind: str = "TaskLost") -> None:
        """Nothing more will be heard of these items."""
        with self._lock:
            ended = self._ended(self._ledger.lose(items, Failure(kind=kind, message=why)))
        self._finish_all(ended)

    # ── results ──

    def __len__(self) -> int:
        return self._ledger.total

    def done(self) -> bool:
        """Whether every item has ended, well or not."""
        return self._ledger.ended >= self._ledger.total

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until every item has ended; False if the time is over before."""
        return self._wait(self.done, timeout)

    def _wait(self, done: Callable[[], bool], timeout: float | None) -> bool:
        if done():
            return True
        with interruptible(self, self.connection):
            ended = wait_on(self._lock, lambda: done() or self.connection.is_closed, timeout)
        if ended and not done():
            self.connection.check_open()
        return ended

    def results(self, timeout: float | None = None, errors: Errors = "raise") -> list[Any]:
        """All results in order, once every item has ended.

        Parameters
        ----------
        timeout
            Seconds to wait at most; TimeoutError after them.
        errors
            What to do about items that have no result: "raise" the first one's error, "return" the error in its
            place, or "skip" them.
        """
        if errors not in ("raise", "return", "skip"):
            raise ValueError(f'errors is {errors!r}; it must be "raise", "return" or "skip"')
        if not self.wait(timeout):
            left = len(self) - self._ledger.ended
            raise concurrent.futures.TimeoutError(f"{left:,} tasks of {self.name} have not ended after {timeout} s")
        bad = self._ledger.of_state("FAILED", "LOST", "CANCELLED")
        if bad and errors == "raise":
            raise summed_up(self.error(bad[0]), self._ledger, bad[0])
        if not bad:
            return self._ledger.all_values()
        return [result for result in (self._outcome(n, errors) for n in range(len(self))) if result is not _SKIPPED]

    def _outcome(self, item: int, errors: Errors) -> Any:
        if self._ledger.state(item) is TaskState.DONE:
            return self._ledger.loader(item)()
        return self.error(item) if errors == "return" else _SKIPPED

    def error(self, item: int) -> NblbError:
        """What `job[item].result()` raises."""
        state = self._ledger.state(item)
        if state is TaskState.CANCELLED:
            return TaskCancelled(f"item {item} of {self.name} was cancelled", self.task_id(item))
        failure = self._ledger.failures.get(item, Failure(message="the core gave no reason"))
        return payload.to_exception(failure, self.task_id(item), state)

    def __iter__(self) -> Iterator[Any]:
        """Results in order, each as soon as it is there; raises where an item has none."""
        item = 0
        while item < len(self):
            yield self._when_ended(item, None)
            item += 1

    def _when_ended(self, item: int, timeout: float | None) -> Any:
        if not self._wait(lambda: self._ledger.has_ended(item), timeout):
            raise concurrent.futures.TimeoutError(f"item {item} of {self.name} has not ended after {timeout} s")
        if self._ledger.state(item) is not TaskState.DONE:
            raise self.error(item)
        return self._ledger.loader(item)()

    async def __aiter__(self) -> AsyncIterator[Any]:
        for item in range(len(self)):
            await self._until(lambda item=item: self._ledger.has_ended(item))  # type: ignore[misc]
            yield self._when_ended(item, 0)

    def __await__(self) -> Generator[Any, None, list[Any]]:
        yield from self._until(self.done).__await__()
        return self.results()

    async def _until(self, done: Callable[[], bool]) -> None:
        loop = asyncio.get_running_loop()
        changed = asyncio.Event()

        def tell() -> None:
            loop.call_soon_threadsafe(changed.set)

        self.add_listener(tell)
        try:
            while not done():
                if self.connection.is_closed:
                    self.connection.check_open()
                await changed.wait()
                changed.clear()
        finally:
            self.remove_listener(tell)

    def as_completed(self, timeout: float | None = None) -> Iterator[TaskFuture]:
        """The futures of the items, in the order in which they end."""
        until = None if timeout is None else time.monotonic() + timeout
        with self._lock:
            if self._order is None:
                self._order = array("q", self._ledger.of_state(*ENDED))
            order = self._order
        at, left, told = 0, len(self), bytearray(len(self))  # an item that runs again ends again: told once
        while left:
            left_s = None if until is None else max(0.0, until - time.monotonic())
            if not self._wait(lambda: len(order) > at, left_s):  # noqa: B023
                raise concurrent.futures.TimeoutError(f"{left:,} tasks of {self.name} run after {timeout} s")
            item = order[at]
            at += 1
            if not told[item] and self._ledger.has_ended(item):
                told[item] = 1
                left -= 1
                yield self[item]

    @overload
    def __getitem__(self, item: int) -> TaskFuture: ...
    @overload
    def __getitem__(self, item: slice) -> list[TaskFuture]: ...
    def __getitem__(self, item: int | slice) -> TaskFuture | list[TaskFuture]:
        """The future of one item, or with a slice a list of those of several: `lb.gather(*job[10:20])`."""
        if isinstance(item, slice):
            return [self._future(number) for number in range(*item.indices(len(self)))]
        return self._future(operator.index(item))

    def _future(self, item: int) -> TaskFuture:
        number = item + len(self) if item < 0 else item
        if not 0 <= number < len(self):
            raise IndexError(f"{self.name} has {len(self):,} items, and {item} is not one of them")
        with self._lock:
            future = self._futures.get(number)
            if future is None:
                task, offset = self._ledger.place(number) or (self.job_id, number)
                future = TaskFuture(self.connection, task, self.task_name, offset, self.task_id(number))
                future._of_job = True
                future.function = self._ledger.codes.get(number, self._function)
                self._futures[number] = future
                future._said = self.said_of(number)
                if self._ledger.has_ended(number):
                    self._finish(future, number)
                else:
                    future._changed = self._ledger.news(number)
            return future

    def task_id(self, item: int) -> str:
        """The id of an item, as the core knows it."""
        task, offset = self._ledger.place(item) or (self.job_id, item)
        record = self._ledger.records.get(task)
        return task if record is not None and record.items == 1 else f"{task}.{offset}"

    @property
    def code(self) -> str:
        """Fingerprint of the code that its failed items have run, which comments and places do not change."""
        return code_of(self.retried_with) if self.retried_with else self._code

    @property
    def kept(self) -> list[TaskFuture]:
        """The futures of the items that were stopped early: their results are what they had emitted last."""
        return [self[item] for item in sorted(self._ledger.kept)]

    @property
    def _function(self) -> str:
        """Hash of the function as it was sent, of a job without a name of its own."""
        return self.fingerprint if len(self.fingerprint) == CODE else ""

    def _finish(self, future: TaskFuture, item: int) -> None:
        state, ending = self._ledger.state(item), self._ledger.ending(item)
        told = TaskEnded(
            task=future.task_id,
            state=state,
            failure=self._ledger.failures.get(item),
            duration_s=ending.duration_s,
            worker=ending.worker,
            host=ending.host,
            attempt=ending.attempt,
            ended_at=ending.ended_at,
            kept=(0,) if item in self._ledger.kept else (),
        )
        future.function = self._ledger.codes.get(item, self._function)
        future.finish(told, self._ledger.loader(item) if state is TaskState.DONE else None)

    @property
    def failed(self) -> list[TaskFuture]:
        """The futures of the items that failed or were lost."""
        return [self[item] for item in self._ledger.of_state("FAILED", "LOST")]

    def dataframe(self) -> pd.DataFrame:
        """One row an item, as far as is known now.

        Columns: `state`; `kept`, whether it was stopped early, so that its result is what it emitted last; `code`, the
        hash of the code that made it, as the card shows it (see `retry_failed(with_=)`); `result`, or a column for
        each key if results are dicts; `error` and `where` of those that failed.
        """
        from nblb.client.jobs.dataframe import dataframe

        return dataframe(self._ledger, self.fingerprint[:CODE])

    # ── cancel, retry, forget ──

    def cancel(self, kill: bool = False) -> None:
        """Cancel all items that have not ended, also running ones; returns at once."""
        self.connection.say(CancelTask(request=self.connection.request(), job=self.job_id, kill=kill))

    def retry_failed(self, with_: Callable[..., Any] | None = None) -> int:
        """Run the items that failed or were lost once more; how many they are.

        The core has their arguments, so this works in every process that holds or has attached to the job, and all of
        them follow. Items that were lost because their notebook never submitted them are not among them: run the map
        again for these.

        Parameters
        ----------
        with_
            The function, or task, to run instead of the one that failed: `job.retry_failed(with_=simulate)` after a
            bug in `simulate` was mended. Without it the code runs that the items have run before. Which code has made
            a result, `job.dataframe()` says.
        """
        from nblb.client.jobs.retry import retry_failed

        return retry_failed(self, with_)

    def reopen(self, items: Sequence[int]) -> None:
        """These have ended, and will end again; the lock is held."""
        self._ledger.again(items)
        self._ended_at = None
        for item in items:
            self._futures.pop(item, None)  # they keep the end that they tell of

    def forget(self) -> None:
        """Drop the job and its results at the core, cancelling what has not ended; what is here stays.

        When it returns the core has done so: the same map, under the same name, computes everything anew.

        Raises
        ------
        LoadBalancerUnreachable
            The core does not answer; it drops the job when it is back.
        """
        self.connection.carried_out(ForgetJob(request=self.connection.request(), job=self.job_id))

    # ── from the connection's thread ──

    def settle(self, ended: TaskEnded, fresh: Sequence[tuple[int, int]]) -> bool:
        with self._lock:
            futures = self._ended(self._ledger.end(ended, fresh))
        self._finish_all(futures)
        return True

    def reject(self, task: str, failure: Failure, spec: SubmitTask | None, first: int) -> None:  # noqa: ARG002
        with self._lock:
            if spec is not None:
                self._refused[task] = spec
            futures = self._ended(self._ledger.reject(task, failure))
        self._finish_all(futures)

    def _finish_all(self, futures: list[tuple[int, TaskFuture]]) -> None:
        for item, future in futures:  # without the lock: their callbacks are the user's
            self._finish(future, item)

    def _ended(self, runs: list[tuple[int, int]]) -> list[tuple[int, TaskFuture]]:
        """Note that these items have ended; the futures that somebody holds of them."""
        if self._order is not None:
            for first, number in runs:
                self._order.extend(range(first, first + number))
        now = time.monotonic()
        self._pace.note(max(0, self._ledger.ended - (self._base or 0)), now)
        if self.done() and self._ended_at is None:
            self._ended_at = now
        futures = self._futures
        if not futures:
            return []
        items = (item for first, number in runs for item in range(first, first + number))
        return [(item, futures[item]) for item in items if item in futures]

    def reopened(self, message: TaskReopened) -> None:
        """The core's word that items run once more: this kernel has asked for it, or another."""
        record = self._ledger.records.get(message.task)
        if record is None:
            return
        items = [record.index + n for first, number in message.again for n in range(first, first + number)]
        with self._lock:
            self.reopen(items)
            self.retried_with = message.function or self.retried_with
            for asked in self._asked.values():
                asked.difference_update(items)

    def reconnected(self) -> None:
        """The core is here, perhaps after a while in which it was not heard."""
        from nblb.client.jobs.retry import reconnected

        reconnected(self)

    def show(self, changed: TaskChanged) -> None:
        with self._lock:
            self._ledger.show(changed, time.monotonic())
            record = self._ledger.records.get(changed.task)
            if record is None or not self._futures:
                return
            first = record.index + changed.first
            held = range(first, first + changed.items)
            if len(self._futures) < changed.items:
                held = [item for item in self._futures if item in held]  # type: ignore[assignment]
            for item in held:
                future = self._futures.get(item)
                if future is not None:
                    future.show(of_item(changed, item - record.index))

    def printed(self, printed: TaskPrinted) -> None:
        record = self._ledger.records.get(printed.task)
        if record is None:
            return
        item = record.index + printed.first + printed.offset
        self._output.add(item, printed.stream, printed.text)
        future = self._futures.get(item)
        if future is not None:
            future.printed(printed)

    def counted(self, counts: Mapping[str, int]) -> None:
        """The core's counts, which say how many run even when it does not tell of each."""
        self._told = counts
        if self._base is None:
            self._base = sum(number for state, number in counts.items() if state in ENDED)

    def hung_up(self, error: LoadBalancerUnreachable) -> None:
        for future in list(self._futures.values()):
            future.hung_up(error)
        self.turned()

    def turned(self) -> None:
        with self._lock:
            self._lock.notify_all()
        for listener in [*self._listeners]:
            listener()

    # ── what is known ──

    def states(self) -> bytes:
        """One byte an item: the place of its state in `snapshot.STATES`."""
        return bytes(self._ledger.states)

    def marked_states(self) -> bytes:
        """The same, with places in `snapshot.MARKED`: items that were stopped early are told from those that ended."""
        states = bytearray(self._ledger.states)
        for item in list(self._ledger.kept):
            if states[item] == INDEX["DONE"]:
                states[item] = MARKED.index(KEPT)
        return bytes(states)

    def counts(self) -> dict[str, int]:
        """Items by the name of their state; zeros are left out."""
        ledger = self._ledger
        counts = dict(zip(STATES, ledger.counts, strict=True))
        left = ledger.total - ledger.ended
        if self._told is not None and left:
            # The ends are known here for each item. Of the others the core knows more: it tells of slices only
            # while they are few.
            for state in ("RUNNING", "CANCELLING", "ASSIGNED", "BLOCKED"):
                counts[state] = min(left, self._told.get(state, 0))
                left -= counts[state]
            counts["QUEUED"] = left
        return {state: number for state, number in counts.items() if number}

    def snapshot(self) -> JobSnapshot:
        with self._lock:
            return job_snapshot(self._view(), self.counts(), time.monotonic())

    def _view(self) -> View:
        return View(
            job=self.job_id,
            name=self.name,
            task_name=self.task_name,
            ledger=self._ledger,
            pace=self._pace,
            base=self._ledger.ended if self._base is None else self._base,
            ended_at=self._ended_at,
            output=self._output,
            connected=self.connection.connected,
            fingerprint=self.fingerprint,
            earlier=self.earlier,
        )

    def __nblb_argument__(self) -> payload.Inputs | payload.Given:
        if not self._ledger.whole:  # which raises the error of an item that was never submitted
            return payload.Given(self.results())
        records = sorted(self._ledger.records.values(), key=lambda record: record.index)
        return payload.Inputs(record.task for record in records)

    def __repr__(self) -> str:
        ledger = self._ledger
        bad = ledger.counts[INDEX["FAILED"]] + ledger.counts[INDEX["LOST"]]
        failed = f", {bad:,} failed" if bad else ""
        return f"<Job {self.name}: {ledger.ended:,} of {ledger.total:,} tasks ended{failed}>"

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        return front_end.bundle("job", self)


_SKIPPED = object()
