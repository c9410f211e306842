"""A concurrent.futures.Executor on a cluster, for all code that takes an executor."""

from __future__ import annotations

import concurrent.futures
import itertools
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from nblb.client.futures.group import FutureGroup
from nblb.client.futures.task_future import TaskFuture
from nblb.client.submit.definition import TaskDefinition
from nblb.client.submit.function_cache import name_of
from nblb.client.submit.ids import new_id
from nblb.client.submit.origin import origin
from nblb.client.submit.submit import Options, submit
from nblb.errors import NotSerializable
from nblb.protocol.messages import ForgetJob, OpenJob

if TYPE_CHECKING:
    from nblb.client.cluster import Cluster
    from nblb.client.connection.connection import Connection

SIZED_BY_WORKERS = " (the cluster's workers determine how many calls run at once)"
_numbers = itertools.count(1)


class CallsOfExecutor:
    """The job that contains all calls of an executor; it is one entry in the core's list of jobs.

    The core drops it when its executor is shut down or no longer referenced, and all its calls have ended.
    """

    def __init__(self, connection: Connection, name: str, user: str) -> None:
        self.connection = connection
        self.name = name or f"executor-{next(_numbers)}"
        self.user = user
        self.id = new_id()
        self.futures: set[TaskFuture] = set()  # the futures that have not ended
        self.group = FutureGroup(self.name)
        # Callbacks and the garbage collector may run on any thread, even on one that has the lock already.
        self._lock = threading.RLock()
        self._in_use = True
        connection.send(OpenJob(job=self.id, name=self.name, items=0, origin=origin(), user=user, made=True))

    def add(self, future: TaskFuture) -> None:
        with self._lock:
            self.futures.add(future)
        self.group.add(future)
        future.add_done_callback(self._ended)

    def open_calls(self) -> list[TaskFuture]:
        with self._lock:
            return list(self.futures)

    def leave(self) -> None:
        """Stop accepting calls, and drop the job as soon as no call is open."""
        with self._lock:
            if not self._in_use:
                return
            self._in_use = False
            if not self.futures:
                self._drop()

    def abandon(self) -> None:
        """Release the job of an executor that is gone; the user's next executor may adopt it while calls are open."""
        with self._lock:
            self.leave()
            if self.futures:
                _abandoned.setdefault(self.connection, {})[self.user] = self

    def take_up(self) -> bool:
        """Adopt this job for a new executor; False if it has been dropped."""
        with self._lock:
            if not self.futures:
                return False
            self._in_use = True
            return True

    def _ended(self, future: TaskFuture) -> None:
        self.group.ended(future)
        with self._lock:
            self.futures.discard(future)
            if not self.futures and not self._in_use:
                self._drop()

    def _drop(self) -> None:
        waiting = _abandoned.get(self.connection, {})
        if waiting.get(self.user) is self:
            del waiting[self.user]
        self.connection.send(ForgetJob(job=self.id))  # all its results have arrived


#: For each user, the job with open calls of an executor that is gone: `lb.executor().submit(…)` in a loop is one job.
_abandoned: weakref.WeakKeyDictionary[Connection, dict[str, CallsOfExecutor]] = weakref.WeakKeyDictionary()


class Executor(concurrent.futures.Executor):
    """A concurrent.futures.Executor whose calls run on the cluster; `lb.executor` makes one.

    Its futures raise the exception of the call, with the remote traceback as its cause. All its calls belong to one
    job with an open end. As with other executors, a call that cannot be pickled returns a future with that error. An
    executor that is no longer referenced counts as shut down; its calls continue.

    Examples
    --------
    >>> with lb.executor(priority=5) as executor:
    ...     executor.submit(pow, 2, 10).result()
    """

    def __init__(self, cluster: Cluster, priority: float = 0.0, user: str | None = None) -> None:
        self._cluster = cluster
        self._options = Options(priority=priority, user=user or "")
        self._lock = threading.RLock()
        self._shut = False
        self._calls: CallsOfExecutor | None = None
        self.name = ""  # name of its job; "" until the first call, unless it is set before

    @property
    def _max_workers(self) -> int:
        """The number of calls that run at once, which code such as Dask reads to keep that many under way."""
        priority = self._options.priority
        able = [worker for worker in self._cluster.workers() if worker["minP"] <= priority <= worker["maxP"]]
        return max(1, len(able))

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> TaskFuture:
        """Run a call on the cluster; returns at once.

        Parameters
        ----------
        fn
            A function, or a task, whose options are kept.
        *args, **kwargs
            The arguments of the call.

        Returns
        -------
        TaskFuture
            The future of the call.

        Raises
        ------
        RuntimeError
            The executor was shut down.

        Examples
        --------
        >>> executor.submit(pow, 2, 10).result()
        """
        function, options = self._how(fn)
        return self._submit(function, options, args, kwargs)

    def _submit(
        self, function: Callable[..., Any], options: Options, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> TaskFuture:
        with self._lock:
            if self._shut:
                raise RuntimeError("cannot schedule new futures after shutdown")
            calls = self._calls or self._open()
            try:
                future = submit(self._cluster, function, options, (args, kwargs), job=calls.id)
            except NotSerializable as error:
                future = TaskFuture(calls.connection, new_id(), options.name or getattr(function, "__name__", "call"))
                future._port.never_sent(future, error)
            future._raises_original = True
            future._group = calls.group
            calls.add(future)
        return future

    def _submit_chunk(self, fn: Callable[..., Any], chunk: list[tuple[Any, ...]]) -> TaskFuture:
        """Submit several calls as one task, with the options of a call; its result is the list of theirs."""
        function, options = self._how(fn)
        changes: dict[str, Any] = {"name": options.name or name_of(function)}
        if options.timeout is not None:  # the limit is for one call
            changes["timeout"] = options.timeout * len(chunk)
        return self._submit(_run_chunk, options.changed(changes), (function, chunk), {})

    def _how(self, fn: Callable[..., Any]) -> tuple[Callable[..., Any], Options]:
        """The function and its options: those of a task, completed by those of the executor."""
        if not isinstance(fn, TaskDefinition):
            return fn, self._options
        own, ours = fn._options, self._options
        return fn.function, own.changed({"priority": own.priority or ours.priority, "user": own.user or ours.user})

    def _open(self) -> CallsOfExecutor:
        """The job for the calls: that of an executor which is gone while its calls continue, or a new one."""
        connection, user = self._cluster.connection, self._options.user
        earlier = None if self.name else _abandoned.get(connection, {}).pop(user, None)
        calls = earlier if earlier is not None and earlier.take_up() else CallsOfExecutor(connection, self.name, user)
        self._calls, self.name = calls, calls.name
        weakref.finalize(self, calls.abandon).atexit = False
        return calls

    def map(
        self,
        fn: Callable[..., Any],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
        **unknown: Any,
    ) -> Iterator[Any]:
        """Run a call for each item, in order, like the builtin map; closing the iterator cancels the rest.

        Parameters
        ----------
        fn
            A function, or a task, whose options are kept.
        *iterables
            The arguments of the calls.
        timeout
            Seconds from this call within which each result must come; None waits without a limit.
        chunksize
            The number of calls that are sent and run together.
        buffersize
            The most calls (or chunks) that run or have results not yet taken; None submits all at once.
        unknown
            Any other keyword is refused.

        Returns
        -------
        iterator
            The results, in the order of the items.

        Raises
        ------
        TimeoutError
            A result has not come after `timeout` seconds.
        TypeError
            For any other keyword.
        RuntimeError
            The executor was shut down.

        Examples
        --------
        >>> list(executor.map(pow, [1, 2, 3], [2, 2, 2]))
        """
        refuse_unknown("Executor.map()", unknown, "timeout, chunksize, buffersize")
        if chunksize < 1:
            raise ValueError("chunksize must be >= 1.")
        if buffersize is not None and (isinstance(buffersize, bool) or not isinstance(buffersize, int)):
            raise TypeError("buffersize must be an integer or None")
        if buffersize is not None and buffersize < 1:
            raise ValueError("buffersize must be None or > 0")
        until = None if timeout is None else time.monotonic() + timeout
        calls = iter(zip(*iterables, strict=False))
        chunks = iter(lambda: list(itertools.islice(calls, chunksize)), [])
        sent = (
            (self.submit(fn, *args) for args in calls)
            if chunksize == 1
            else (self._submit_chunk(fn, chunk) for chunk in chunks)
        )
        first = deque(itertools.islice(sent, buffersize))  # submitted at once, like the builtin executors
        results = _in_order(first, sent, until)
        return results if chunksize == 1 else itertools.chain.from_iterable(results)

    def cancel(self) -> None:
        """Cancel all calls that have not ended, including running ones; new calls can be submitted."""
        for future in self._calls.open_calls() if self._calls is not None else ():
            future.cancel()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Stop accepting calls.

        Parameters
        ----------
        wait
            True waits until the calls have ended.
        cancel_futures
            True cancels the calls that have not started.

        Examples
        --------
        >>> executor.shutdown(cancel_futures=True)
        """
        with self._lock:
            self._shut = True
            calls = self._calls
        if calls is None:
            return
        futures = calls.open_calls()
        if cancel_futures:
            for future in futures:
                if not future.running():
                    future.cancel()
        if wait:
            concurrent.futures.wait(futures)
        calls.leave()


def _run_chunk(function: Callable[..., Any], calls: list[tuple[Any, ...]]) -> list[Any]:
    return [function(*args) for args in calls]


def _in_order(futures: deque[TaskFuture], more: Iterator[TaskFuture], until: float | None) -> Iterator[Any]:
    """Yield the results one by one, and submit a new call for each; closing the iterator cancels the rest."""
    try:
        while futures:
            result = futures[0].result(None if until is None else until - time.monotonic())
            futures.popleft()
            futures.extend(itertools.islice(more, 1))
            yield result
    finally:
        for future in futures:
            future.cancel()


def refuse_unknown(what: str, unknown: dict[str, Any], known: str, why: str = "") -> None:
    """Raise TypeError for keywords that are not known."""
    if unknown:
        names = ", ".join(map(repr, unknown))
        raise TypeError(f"{what} has no keyword {names}; it takes {known}{why}")
