"""A cluster as a concurrent.futures.Executor, for all code that takes one."""

from __future__ import annotations

import concurrent.futures
import itertools
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from nblb.client.futures.task_future import TaskFuture
from nblb.client.submit.ids import new_id
from nblb.client.submit.origin import origin
from nblb.client.submit.submit import Options, submit
from nblb.client.task_decorator import Task
from nblb.protocol.messages import ForgetJob, OpenJob

if TYPE_CHECKING:
    from nblb.client.cluster import Cluster

_numbers = itertools.count(1)


class Executor(concurrent.futures.Executor):
    """Runs calls on the cluster. Its futures raise what the call raised, with the remote traceback as its cause.

    All its calls are one job with an open end, so LB_QUEING_MAXPERUSER does not refuse any.
    """

    def __init__(self, priority: float = 0.0, user: str | None = None, cluster: Cluster | None = None) -> None:
        from nblb.client import current

        self._cluster = cluster or current.get()
        self._options = Options(priority=priority, user=user or "")
        self._lock = threading.Lock()
        self._job = new_id()
        self._opened = False
        self._shut = False
        self._futures: set[TaskFuture] = set()  # those that have not ended
        self.name = f"executor-{next(_numbers)}"

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> TaskFuture:
        with self._lock:
            if self._shut:
                raise RuntimeError("cannot schedule new futures after shutdown")
            if not self._opened:
                self._opened = True
                opened = OpenJob(
                    job=self._job, name=self.name, items=0, origin=origin(), user=self._options.user, made=True
                )
                self._cluster.connection.say(opened)
            function, options = (fn.function, fn._options) if isinstance(fn, Task) else (fn, self._options)
            future = submit(self._cluster, function, options, (args, kwargs), job=self._job)
            future._raises_original = True
            self._futures.add(future)
        future.add_done_callback(self._futures.discard)
        return future

    def map(
        self,
        fn: Callable[..., Any],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        **_: Any,
    ) -> Iterator[Any]:
        """As the builtin map, in order; TimeoutError `timeout` seconds after this call; leaving it cancels the rest."""
        if chunksize < 1:
            raise ValueError("chunksize must be >= 1.")
        if chunksize == 1:
            return super().map(fn, *iterables, timeout=timeout)
        until = None if timeout is None else time.monotonic() + timeout
        calls = iter(zip(*iterables, strict=False))
        chunks = iter(lambda: list(itertools.islice(calls, chunksize)), [])
        futures = [self.submit(_run_chunk, fn, chunk) for chunk in chunks]
        return _in_order(futures, until)

    def cancel(self) -> None:
        """Cancel all calls that have not ended, those that run too; others can be submitted."""
        with self._lock:
            futures = list(self._futures)
        for future in futures:
            future.cancel()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        with self._lock:
            self._shut = True
            futures = list(self._futures)
        if cancel_futures:
            for future in futures:
                if not future.running():
                    future.cancel()
        if wait:
            concurrent.futures.wait(futures)
            if self._opened:
                self._opened = False
                self._cluster.connection.say(ForgetJob(job=self._job))  # all its results are here


def _run_chunk(function: Callable[..., Any], calls: list[tuple[Any, ...]]) -> list[Any]:
    return [function(*args) for args in calls]


def _in_order(futures: list[TaskFuture], until: float | None) -> Iterator[Any]:
    """The results of chunks, one by one; the chunks that nobody wants any more are cancelled."""
    try:
        for future in futures:
            yield from future.result(None if until is None else until - time.monotonic())
    finally:
        for future in futures:
            future.cancel()


def executor(priority: float = 0.0, user: str | None = None) -> Executor:
    """A concurrent.futures.Executor whose calls run on the cluster."""
    return Executor(priority, user)
