"""The system that runs the cases on an nblb cluster: within a time limit, and leaving no tasks or jobs there."""

from __future__ import annotations

import concurrent.futures
import contextlib
from collections.abc import Callable, Iterable, Sequence
from time import monotonic
from typing import TYPE_CHECKING, Any

import cloudpickle

from nblb.bench import work
from nblb.bench.system import System
from nblb.client.futures.collect import put
from nblb.client.task_decorator import Task, task
from nblb.errors import NblbError

if TYPE_CHECKING:
    from nblb.client.cluster import Cluster
    from nblb.client.jobs.job import Job

NAME = "nblb-bench"


class OutOfTime(Exception):
    """Raised when the submitted tasks have not ended within the time."""


class OnCluster(System):
    """Runs the current user's tasks, all called nblb-bench, on a running cluster."""

    def __init__(self, cluster: Cluster, workers: int, priority: float = 0.0, user: str = "") -> None:
        cloudpickle.register_pickle_by_value(work)  # as a notebook's functions; hubs may have another nblb
        self.cluster = cluster
        self.workers = workers
        self.until: float | None = None  # on the monotonic clock
        self._priority, self._user = priority, user
        self._tasks: dict[Any, Task] = {}
        self._open: list[Any] = []
        self._jobs: list[Job] = []

    def submit(self, function: Callable[..., Any], *args: Any) -> Any:
        future = self._task(function).submit(*args)
        self._open.append(future)
        return future

    def _task(self, function: Callable[..., Any]) -> Task:
        known = self._tasks.get(function)
        if known is None:
            known = self._tasks[function] = task(name=NAME, priority=self._priority, user=self._user)(function)
        return known

    def map(self, function: Callable[..., Any], items: Sequence[Any], chunk: int | None = None) -> list[Any]:
        job = self._task(function).map(items, chunksize=chunk or "auto")
        self._jobs.append(job)
        with self._in_time():
            return job.results(self._left_s())

    def gather(self, futures: Iterable[Any]) -> list[Any]:
        with self._in_time():
            if self.until is None:
                results = [future.result() for future in futures]
            else:
                results = [future.result(self._left_s()) for future in futures]
        self._open.clear()
        return results

    def put(self, value: Any) -> Any:
        return put(value)

    def _left_s(self) -> float | None:
        return None if self.until is None else max(0.0, self.until - monotonic())

    @contextlib.contextmanager
    def _in_time(self) -> Any:
        try:
            yield
        except (concurrent.futures.TimeoutError, TimeoutError):
            raise OutOfTime from None

    def clean(self) -> None:
        """Cancels open tasks and drops the jobs; results of single tasks expire by their time to live."""
        open_, self._open = self._open, []
        jobs, self._jobs = self._jobs, []
        self._tasks.clear()
        for future in open_:
            future.cancel()
        with contextlib.suppress(NblbError):  # a core that has ended has no jobs to drop
            for job in jobs:
                job.forget()  # also cancels its open tasks
            self.cluster.connection.ask("jobs", {"limit": 1})  # answered after all earlier messages

    def close(self) -> None:
        self.clean()
