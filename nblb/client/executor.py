"""A cluster as a concurrent.futures.Executor, for all code that takes one."""

from __future__ import annotations

import concurrent.futures
import itertools
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from nblb.client.futures.task_future import TaskFuture
from nblb.client.submit.function_cache import name_of
from nblb.client.submit.ids import new_id
from nblb.client.submit.origin import origin
from nblb.client.submit.submit import Options, submit
from nblb.client.task_decorator import Task
from nblb.errors import NotSerializable
from nblb.protocol.messages import ForgetJob, OpenJob

if TYPE_CHECKING:
    from nblb.client.cluster import Cluster
    from nblb.client.connection.connection import Connection

_numbers = itertools.count(1)


class CallsOfExecutor:
    """The job of an executor's calls, in the core's list of jobs one entry.

    The core drops it when its executor was shut down, or is not referenced any more, and all its calls have ended.
    """

    def __init__(self, connection: Connection, name: str, user: str) -> None:
        self.connection = connection
        self.name = name or f"executor-{next(_numbers)}"
        self.user = user
        self.id = new_id()
        self.futures: set[TaskFuture] = set()  # those that have not ended
        # Callbacks of futures and the garbage collector come in any thread, also in one that has the lock.
        self._lock = threading.RLock()
        self._in_use = True
        connection.say(OpenJob(job=self.id, name=self.name, items=0, origin=origin(), user=user, made=True))

    def add(self, future: TaskFuture) -> None:
        with self._lock:
            self.futures.add(future)
        future.add_done_callback(self._ended)

    def open_calls(self) -> list[TaskFuture]:
        with self._lock:
            return list(self.futures)

    def leave(self) -> None:
        """The executor takes no more calls: drop the job as soon as none is open."""
        with self._lock:
            if not self._in_use:
                return
            self._in_use = False
            if not self.futures:
                self._drop()

    def abandon(self) -> None:
        """The executor is gone: the next one of this user may go on with the job while calls of it are open."""
        with self._lock:
            self.leave()
            if self.futures:
                _abandoned.setdefault(self.connection, {})[self.user] = self

    def take_up(self) -> bool:
        """An executor goes on with this job; False when it has been dropped."""
        with self._lock:
            if not self.futures:
                return False
            self._in_use = True
            return True

    def _ended(self, future: TaskFuture) -> None:
        with self._lock:
            self.futures.discard(future)
            if not self.futures and not self._in_use:
                self._drop()

    def _drop(self) -> None:
        waiting = _abandoned.get(self.connection, {})
        if waiting.get(self.user) is self:
            del waiting[self.user]
        self.connection.say(ForgetJob(job=self.id))  # all its results are here


#: For each user the job of an executor that is gone, with open calls: `lb.executor().submit(…)` in a loop is one job.
_abandoned: weakref.WeakKeyDictionary[Connection, dict[str, CallsOfExecutor]] = weakref.WeakKeyDictionary()


class Executor(concurrent.futures.Executor):
    """A concurrent.futures.Executor whose calls run on the cluster; `lb.executor` makes one.

    Its futures raise what the call raised, with the remote traceback as its cause. All its calls are one job with an
    open end. A call that cannot be pickled gives a future with that error, as other executors do. An executor that is
    not referenced any more counts as shut down; its calls go on.

    Examples
    --------
    >>> with lb.executor(priority=5) as executor:
    ...     executor.submit(pow, 2, 10).result()
    """

    def __init__(self, priority: float = 0.0, user: str | None = None, cluster: Cluster | None = None) -> None:
        from nblb.client import current

        self._cluster = cluster or current.get()
        self._options = Options(priority=priority, user=user or "")
        self._lock = threading.RLock()
        self._shut = False
        self._calls: CallsOfExecutor | None = None
        self.name = ""  # of its job; "" until the first call, unless somebody sets it before

    @property
    def _max_workers(self) -> int:
        """How many calls run at once: code that keeps as many under way, such as Dask, asks an executor for it."""
        priority = self._options.priority
        able = [worker for worker in self._cluster.workers() if worker["minP"] <= priority <= worker["maxP"]]
        return max(1, len(able))

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> TaskFuture:
        """Run a call on the cluster; returns at once.

        Parameters
        ----------
        fn
            A function, or a task, whose options it keeps.
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
            calls.add(future)
        return future

    def _submit_chunk(self, fn: Callable[..., Any], chunk: list[tuple[Any, ...]]) -> TaskFuture:
        """One task of several calls, with the options of each; its result is their list."""
        function, options = self._how(fn)
        changes: dict[str, Any] = {"name": options.name or name_of(function)}
        if options.timeout is not None:  # of one call
            changes["timeout"] = options.timeout * len(chunk)
        return self.submit(Task(_run_chunk, options.changed(changes)), function, chunk)

    def _how(self, fn: Callable[..., Any]) -> tuple[Callable[..., Any], Options]:
        """The function and its options: a task has its own, and the executor's where it has none."""
        if not isinstance(fn, Task):
            return fn, self._options
        own, ours = fn._options, self._options
        return fn.function, own.changed({"priority": own.priority or ours.priority, "user": own.user or ours.user})

    def _open(self) -> CallsOfExecutor:
        """A job for the calls: a new one, or that of an executor which is gone while its calls go on."""
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
        """Run a call for each item, as the builtin map, in order; leaving the iterator cancels the rest.

        Parameters
        ----------
        fn
            A function, or a task, whose options it keeps.
        *iterables
            The arguments of the calls.
        timeout
            Seconds from this call in which each result has to come; None waits without a limit.
        chunksize
            How many calls travel and run together.
        buffersize
            At most so many calls (or chunks) are under way or have results that were not taken yet; None for all.
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
        _refuse("Executor.map()", unknown, "timeout, chunksize, buffersize")
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
        first = deque(itertools.islice(sent, buffersize))  # at once, as the builtin executors do
        results = _in_order(first, sent, until)
        return results if chunksize == 1 else itertools.chain.from_iterable(results)

    def cancel(self) -> None:
        """Cancel all calls that have not ended, those that run too; others can be submitted."""
        for future in self._calls.open_calls() if self._calls is not None else ():
            future.cancel()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls.

        Parameters
        ----------
        wait
            True waits until the calls have ended.
        cancel_futures
            True cancels the calls that have not begun.

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
    """The results one by one, a new call for each that was taken; calls that nobody wants any more are cancelled."""
    try:
        while futures:
            result = futures[0].result(None if until is None else until - time.monotonic())
            futures.popleft()
            futures.extend(itertools.islice(more, 1))
            yield result
    finally:
        for future in futures:
            future.cancel()


def _refuse(what: str, unknown: dict[str, Any], known: str, why: str = "") -> None:
    """Raise TypeError for keywords that are not known."""
    if unknown:
        names = ", ".join(map(repr, unknown))
        raise TypeError(f"{what} has no keyword {names}; it takes {known}{why}")


def executor(
    priority: float = 0.0, user: str | None = None, *, cluster: Cluster | None = None, **unknown: Any
) -> Executor:
    """Make a concurrent.futures.Executor whose calls run on the cluster.

    Parameters
    ----------
    priority
        Of its calls, as the option of a task.
    user
        For whom they run; without one, for the user of this connection.
    cluster
        Where they run; the current cluster by default.
    unknown
        Any other keyword is refused.

    Returns
    -------
    Executor
        A new one; `shutdown()` or the end of a `with` closes it.

    Raises
    ------
    TypeError
        For any other keyword, such as max_workers: the cluster's workers say how many calls run at once.

    Examples
    --------
    >>> with lb.executor() as ex:  # doctest: +SKIP
    ...     list(ex.map(abs, [-1, -2]))
    [1, 2]
    """
    _refuse(
        "lb.executor()",
        unknown,
        "priority, user and cluster",
        " (the cluster's workers say how many calls run at once)",
    )
    return Executor(priority, user, cluster)
