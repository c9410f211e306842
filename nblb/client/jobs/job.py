"""Job: a named, ordered set of tasks, seen from a notebook."""

from __future__ import annotations

import asyncio
import concurrent.futures
import operator
import threading
import time
from array import array
from collections.abc import AsyncIterator, Callable, Generator, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal, overload

from nblb import payload
from nblb.client import front_end
from nblb.client.connection.connection import Connection
from nblb.client.connection.waiting import interruptible, wait_on
from nblb.client.futures.live import SteeredJob
from nblb.client.futures.output import JobOutput
from nblb.client.futures.task_future import TaskFuture
from nblb.client.jobs.job_port import JobPort
from nblb.client.jobs.ledger import Ledger
from nblb.client.jobs.retry import retry_failed
from nblb.client.jobs.reuse import CODE, EarlierJob
from nblb.client.jobs.summary import summed_up
from nblb.client.jobs.view import View, job_snapshot
from nblb.client.redefined import watch
from nblb.client.snapshots import ENDED, INDEX, STATES, JobSnapshot
from nblb.client.throughput import Pace
from nblb.errors import NblbError, TaskCancelled, TaskFailed
from nblb.protocol.messages import CancelTask, Failure, ForgetJob, SubmitTask, TaskEnded, TaskState

if TYPE_CHECKING:
    import pandas as pd

    from nblb.client.jobs.arguments import JobArguments

Errors = Literal["raise", "return", "skip"]


class Job(SteeredJob):
    """The tasks of one `map`, in order: a collection of futures with a live card.

    `for result in job`, `job.results()`, `job[3]` (a TaskFuture), `await job` and `len(job)` work. A job keeps one
    byte for each item and the pickled results; it makes the future of an item on first access.

    Attributes
    ----------
    name
        The job's name, by which `lb.attach` finds it.
    job_id
        The job's id at the core.
    earlier
        The job that had the name before, with `left`, `cancel()` and `keep()`; None if there was none.

    Examples
    --------
    >>> job = simulate.map(range(1000), job="sweep")
    >>> job.results(timeout=60)
    """

    _port = JobPort()

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
        self._task_name = task_name
        self._fingerprint = fingerprint
        self._code = code or fingerprint[:CODE]
        self._connection = connection
        self.earlier: EarlierJob | None = None  # the job that had the name before
        self._lock = threading.Condition(threading.RLock())
        self._ledger = Ledger(total)
        self._refused: dict[str, SubmitTask] = {}  # submissions that the core has refused
        self._retried_with = ""  # hash of the function that the last retry_failed(with_=...) gave to failed items
        self._asked: dict[int, set[int]] = {}  # request -> items to run again that the core has not yet confirmed
        self._futures: dict[int, TaskFuture] = {}
        self._order: array[int] | None = None  # items in the order in which they ended; built on first use
        self._told: Mapping[str, int] | None = None  # the core's counts
        self._begin_steering()
        self._pace = Pace(time.monotonic())
        self._created_at = time.time()
        self._base: int | None = 0  # items that had ended before this process attached; None: not known yet
        self._ended_at: float | None = None
        self._output = JobOutput()
        self._arguments: JobArguments | None = None  # if this process submitted the job
        connection.jobs[job_id] = self
        watch(self)

    # ── results ──

    def __len__(self) -> int:
        return self._ledger.total

    def done(self) -> bool:
        """Return whether every item has ended, successfully or not.

        Returns
        -------
        bool
            True when `results()` does not wait.

        Examples
        --------
        >>> job.done()
        """
        return self._ledger.ended >= self._ledger.total

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until every item has ended.

        Parameters
        ----------
        timeout
            Seconds to wait at most; None waits without a limit.

        Returns
        -------
        bool
            False if the timeout expires first.

        Raises
        ------
        LoadBalancerUnreachable
            The connection was closed; the tasks go on.

        Examples
        --------
        >>> job.wait(60)
        """
        return self._wait(self.done, timeout)

    def _wait(self, done: Callable[[], bool], timeout: float | None) -> bool:
        if done():
            return True
        with interruptible(self, self._connection):
            ended = wait_on(self._lock, lambda: done() or self._connection.is_closed, timeout, lambda: self)
        if ended and not done():
            self._connection.check_open()
        return ended

    def results(self, timeout: float | None = None, errors: Errors = "raise") -> list[Any]:
        """Wait for all items, and return their results in order.

        Parameters
        ----------
        timeout
            Seconds to wait at most; None waits without a limit.
        errors
            What to do for items that have no result: "raise" the first error, "return" each error in the
            result's place, or "skip" them.

        Returns
        -------
        list
            One result an item; fewer with errors="skip".

        Raises
        ------
        TaskError
            An item has no result: TaskFailed, TaskTimeout, TaskLost, TaskCancelled or DependencyFailed.
        TimeoutError
            Some have not ended after `timeout` seconds.

        Examples
        --------
        >>> job.results(errors="skip")
        """
        if errors not in ("raise", "return", "skip"):
            raise ValueError(f'errors is {errors!r}; it must be "raise", "return" or "skip"')
        if not self.wait(timeout):
            left = len(self) - self._ledger.ended
            raise concurrent.futures.TimeoutError(f"{left:,} tasks of {self.name} have not ended after {timeout} s")
        bad = self._ledger.of_state("FAILED", "LOST", "CANCELLED")
        if bad and errors == "raise":
            raise summed_up(self._error(bad[0]), self._ledger, bad[0])
        if not bad:
            try:
                return self._ledger.all_values()
            except KeyboardInterrupt:
                raise
            except BaseException:  # the loop below finds the item whose result cannot be loaded
                pass
        return [result for result in (self._outcome(n, errors) for n in range(len(self))) if result is not _SKIPPED]

    def result(self, timeout: float | None = None) -> list[Any]:
        """Return the results of all items in order, as `results(timeout)` does.

        Parameters
        ----------
        timeout
            The longest wait in seconds; None sets no limit.

        Returns
        -------
        list
            One result for each item.

        Raises
        ------
        TaskError
            An item has no result.
        TimeoutError
            Some items have not ended after `timeout` seconds.

        Examples
        --------
        >>> job.result()
        """
        return self.results(timeout)

    def _outcome(self, item: int, errors: Errors) -> Any:
        if self._ledger.state(item) is TaskState.DONE:
            try:
                return self._loaded(item)
            except TaskFailed as error:
                if errors == "raise":
                    raise
                return error if errors == "return" else _SKIPPED
        return self._error(item) if errors == "return" else _SKIPPED

    def _loaded(self, item: int) -> Any:
        """The result of a DONE item; raises TaskFailed if it cannot be loaded here."""
        try:
            return self._ledger.loader(item)()
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # a user's class may raise anything when it is loaded
            raise payload.not_loaded(f"item {item} of {self.name}", self._task_id(item), error) from error

    def _error(self, item: int) -> NblbError:
        """The error that `job[item].result()` raises."""
        state = self._ledger.state(item)
        if state is TaskState.CANCELLED and item not in self._ledger.ended_by_limit:
            return TaskCancelled(f"item {item} of {self.name} was cancelled", self._task_id(item))
        failure = self._ledger.failures.get(item, Failure(message="the core gave no reason"))
        return payload.to_exception(failure, self._task_id(item), state)

    def __iter__(self) -> Iterator[Any]:
        """Yield the results in order, each as soon as it arrives; raise at an item that has none."""
        item = 0
        while item < len(self):
            yield self._when_ended(item, None)
            item += 1

    def _when_ended(self, item: int, timeout: float | None) -> Any:
        if not self._wait(lambda: self._ledger.has_ended(item), timeout):
            raise concurrent.futures.TimeoutError(f"item {item} of {self.name} has not ended after {timeout} s")
        if self._ledger.state(item) is not TaskState.DONE:
            raise self._error(item)
        return self._loaded(item)

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

        self._port.add_listener(self, tell)
        try:
            while not done():
                if self._connection.is_closed:
                    self._connection.check_open()
                await changed.wait()
                changed.clear()
        finally:
            self._port.remove_listener(self, tell)

    def as_completed(self, timeout: float | None = None) -> Iterator[TaskFuture]:
        """Yield the futures of the items, in the order in which they end.

        Parameters
        ----------
        timeout
            Seconds from now within which all must end; None waits without a limit.

        Returns
        -------
        iterator of TaskFuture
            Each item once.

        Raises
        ------
        TimeoutError
            Some have not ended after `timeout` seconds.

        Examples
        --------
        >>> for future in job.as_completed():
        ...     print(future.task_id, future.state)
        """
        until = None if timeout is None else time.monotonic() + timeout
        with self._lock:
            if self._order is None:
                self._order = array("q", self._ledger.of_state(*ENDED))
            order = self._order
        at, left, told = 0, len(self), bytearray(len(self))  # an item that runs again ends again, but is yielded once
        while left:
            left_s = None if until is None else max(0.0, until - time.monotonic())
            if not self._wait(lambda: len(order) > at, left_s):  # noqa: B023
                raise concurrent.futures.TimeoutError(f"{left:,} tasks of {self.name} have not ended after {timeout} s")
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
        """The future of one item, or a list of futures for a slice: `lb.gather(*job[10:20])`."""
        if isinstance(item, slice):
            return [self._future(number) for number in range(*item.indices(len(self)))]
        return self._future(operator.index(item))

    def _number(self, item: int) -> int:
        """The number of an item that is counted from the start, or from the end if it is negative."""
        number = item + len(self) if item < 0 else item
        if not 0 <= number < len(self):
            raise IndexError(f"{self.name} has {len(self):,} items, and {item} is not one of them")
        return number

    def _future(self, item: int) -> TaskFuture:
        number = self._number(item)
        with self._lock:
            future = self._futures.get(number)
            if future is None:
                task, offset = self._ledger.place(number) or (self.job_id, number)
                future = TaskFuture(self._connection, task, self._task_name, offset, self._task_id(number))
                future._of_job = True
                future._function = self._ledger.codes.get(number, self._function)
                self._futures[number] = future
                future._said = self._said.get(number)
                if self._ledger.has_ended(number):
                    self._finish(future, number)
                else:
                    future._changed = self._ledger.news(number)
            return future

    def _task_id(self, item: int) -> str:
        """The id of an item at the core."""
        task, offset = self._ledger.place(item) or (self.job_id, item)
        record = self._ledger.records.get(task)
        return task if record is not None and record.items == 1 else f"{task}.{offset}"

    @property
    def kept(self) -> list[TaskFuture]:
        """The futures of the items that were stopped early; the result of each is what it emitted last."""
        return [self[item] for item in sorted(self._ledger.kept)]

    @property
    def _function(self) -> str:
        """Hash of the function as it was sent, for a job without a name of its own."""
        return self._fingerprint if len(self._fingerprint) == CODE else ""

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
            peak_bytes=ending.peak_bytes,
            kept=(0,) if item in self._ledger.kept else (),
        )
        future._function = self._ledger.codes.get(item, self._function)
        future._port.finish(future, told, self._ledger.loader(item) if state is TaskState.DONE else None)

    @property
    def failed(self) -> list[TaskFuture]:
        """The futures of the items that failed or were lost."""
        return [self[item] for item in self._ledger.of_state("FAILED", "LOST")]

    def dataframe(self) -> pd.DataFrame:
        """Make a table of the current state, with one row an item.

        Returns
        -------
        pandas.DataFrame
            Columns: `state`; one for each argument, if this process submitted the job and the arguments are not too
            large; `result`, or a column for each key if results are dicts; `kept`, True if the item was stopped
            early, so that its result is what it emitted last; `code`, the hash of the code that ran it, as on the card
            (see `retry_failed(with_=)`); `duration_s`, `peak_mb`, `attempt`, `host` and `ended_at` (since 1970);
            `error` and `where` for items that failed.

        Raises
        ------
        ImportError
            pandas is not installed.

        Examples
        --------
        >>> job.dataframe().groupby("state").size()
        """
        from nblb.client.jobs.dataframe import dataframe

        return dataframe(self._ledger, self._fingerprint[:CODE], self._arguments)

    # ── cancel, retry, forget ──

    def cancel(self, kill: bool = False, wait: bool | float = False) -> None:
        """Cancel all items that have not ended, including running ones; returns at once unless `wait` is given.

        Parameters
        ----------
        kill
            True ends the worker processes of running items at once.
        wait
            True waits until all items have ended, so that their workers are free; a number waits that many seconds.

        Examples
        --------
        >>> job.cancel()
        """
        self._connection.send(CancelTask(request=self._connection.request(), job=self.job_id, kill=kill))
        if wait is not False:
            self.wait(None if wait is True else wait)

    def retry_failed(self, with_: Callable[..., Any] | None = None, items: Iterable[int] | int | None = None) -> int:
        """Run the items that failed, were lost or ended by `max_failures` again, or some of them.

        The core has their arguments, so this works in every process that submitted or attached to the job, and all
        of these processes follow the new run. Items that were lost because their notebook never submitted them are
        not included: run the map again for these.

        Parameters
        ----------
        with_
            The function or task to run instead of the one that failed, for example after you fixed a bug in it. By
            default the items run the same code as before. `job.dataframe()` shows which code made each result.
        items
            The number of an item, or several, of which those run again that may; None means all.

        Returns
        -------
        int
            The number of items that run again.

        Raises
        ------
        TypeError
            `with_` is not a function or a task.
        IndexError
            The job has no such item.
        LoadBalancerUnreachable
            The connection is closed.

        Examples
        --------
        >>> job.retry_failed(with_=simulate)
        >>> job.retry_failed(items=[3, 17])
        """
        return retry_failed(self, with_, items)

    def forget(self) -> None:
        """Drop the job and its results at the core, and cancel items that have not ended; results in this process stay.

        When this method returns, the core has dropped them: the same map under the same name computes everything again.

        Raises
        ------
        LoadBalancerUnreachable
            The core does not answer; it will drop the job when it is reachable again.

        Examples
        --------
        >>> job.forget()
        """
        self._connection.carried_out(ForgetJob(request=self._connection.request(), job=self.job_id))

    # ── the ends of items ──

    def _finish_all(self, futures: list[tuple[int, TaskFuture]]) -> None:
        for item, future in futures:  # without the lock, since this runs the user's callbacks
            self._finish(future, item)

    def _ended(self, runs: list[tuple[int, int]]) -> list[tuple[int, TaskFuture]]:
        """Record that these items have ended, and return their futures where such exist."""
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

    def _resume(self) -> None:
        """Go on after the end: the pause does not count as time that the job has taken."""
        if self._ended_at is not None:
            self._pace.began_at += time.monotonic() - self._ended_at
            self._ended_at = None

    # ── what is known ──

    def counts(self) -> dict[str, int]:
        """Count the items by the name of their state.

        Returns
        -------
        dict
            {"DONE": 180, "FAILED": 20}; zeros are left out.

        Examples
        --------
        >>> job.counts().get("DONE", 0)
        """
        ledger = self._ledger
        counts = dict(zip(STATES, ledger.counts, strict=True))
        left = ledger.total - ledger.ended
        if self._told is not None and left:
            # Ends arrive here for each item. For the other states the core's counts are better: it reports single
            # slices only while they are few.
            for state in ("RUNNING", "CANCELLING", "ASSIGNED", "BLOCKED"):
                counts[state] = min(left, self._told.get(state, 0))
                left -= counts[state]
            counts["QUEUED"] = left
        return {state: number for state, number in counts.items() if number}

    def snapshot(self) -> JobSnapshot:
        """Take a snapshot of the job, as its card shows it.

        Returns
        -------
        JobSnapshot
            A frozen object: total, counts, done_percent (0 to 100), rate_per_s, eta_s (seconds), failures, …

        Examples
        --------
        >>> job.snapshot().done_percent
        """
        with self._lock:
            return job_snapshot(self._view(), self.counts(), time.monotonic())

    def _view(self) -> View:
        return View(
            job=self.job_id,
            name=self.name,
            task_name=self._task_name,
            ledger=self._ledger,
            pace=self._pace,
            base=self._ledger.ended if self._base is None else self._base,
            ended_at=self._ended_at,
            output=self._output,
            connected=self._connection.connected,
            fingerprint=self._fingerprint,
            earlier=self.earlier,
            created_at=self._created_at,
        )

    def __nblb_argument__(self) -> payload.Inputs | payload.Given:
        if not self._ledger.whole:  # results() raises the error of an item that was never submitted
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
