"""A pool of real worker processes without core or slots, which tests drive by hand."""

from __future__ import annotations

import select
import time
import uuid
from collections.abc import Callable
from typing import Any, TypeVar

from nblb import payload
from nblb.hub.pool.process_pool import ProcessPool
from nblb.parameters import load
from nblb.protocol.messages import HoldBlob, Message, RunTask, TaskFinished, WorkerStarted
from nblb.worker.settings import WorkerSettings

DEFAULTS = {"niceness": 0, "threads": 1, "max_message_mb": 1024, "env": {}, "memory_mb": 0, "max_rss_mb": 0,
            "run_as": "hub", "account": ""}  # fmt: skip
T = TypeVar("T", bound=Message)
DEADLINE_S = 60.0


def worker_settings(**changes: Any) -> WorkerSettings:
    """The settings of a worker without limits, with these changes."""
    return WorkerSettings(**{**DEFAULTS, "max_processes": 0, "parameters": load(), **changes})


class PoolRig:
    """Starts workers, gives them calls, and waits for events; everything that came stands in `events`."""

    def __init__(self, workers: int = 1, **settings: Any) -> None:
        self.logged: list[str] = []
        self.pool = ProcessPool(
            [worker_settings(**settings)], lambda level, text: self.logged.append(f"{level}: {text}")
        )
        self.events: list[tuple[str, Message]] = []
        self.workers = [f"worker_{n}" for n in range(workers)]
        for worker in self.workers:
            self.pool.start_worker(worker, 0, 0.0, time.monotonic())
        for worker in self.workers:
            self.wait(WorkerStarted, lambda m, worker=worker: m.worker == worker)

    def _log(self, level: str, text: str) -> None:
        self.logged.append(f"{level}: {text}")

    def pump(self, wait_s: float = 0.0) -> None:
        """One turn: what has happened is appended to `events`."""
        deadline = self.pool.next_deadline()
        if deadline is not None:
            wait_s = max(0.0, min(wait_s, deadline - time.monotonic()))
        select.select([self.pool.fileno], [], [], 0 if self.pool.has_events else wait_s)
        self.events += self.pool.read(time.monotonic())

    def wait(self, kind: type[T], match: Callable[[T], bool] = lambda _: True, deadline_s: float = DEADLINE_S) -> T:
        """The first event of this kind that matches, among those that came or are to come."""
        end, seen = time.monotonic() + deadline_s, 0
        while True:
            for _, event in self.events[seen:]:
                seen += 1
                if isinstance(event, kind) and match(event):
                    return event
            if time.monotonic() > end:
                raise AssertionError(f"no {kind.__name__} within {deadline_s} s; came: {self.events}; {self.logged}")
            self.pump(0.05)

    def hold(self, function: Callable[..., Any]) -> str:
        blob, packed = payload.dump_function(function)
        self.pool.store_blob(HoldBlob(hash=blob, payload=packed))
        return blob

    def give(self, function: Callable[..., Any], *args: Any, worker: str = "worker_0", **fields: Any) -> RunTask:
        """Give the worker one call."""
        packed = payload.pack_call(args, {})
        run = RunTask(
            task=uuid.uuid4().hex, attempt=1, name="f", function=self.hold(function), payload=packed.payload, **fields
        )
        self.pool.give(worker, run)
        return run

    def give_many(self, function: Callable[..., Any], items: list[Any], worker: str = "worker_0") -> RunTask:
        """Give the worker a slice of many calls."""
        (packed,) = payload.pack_calls([((item,), {}) for item in items])
        run = RunTask(
            task=uuid.uuid4().hex,
            attempt=1,
            name="f",
            function=self.hold(function),
            payload=packed.payload,
            items=packed.items,
            split=True,
        )
        self.pool.give(worker, run)
        return run

    def end_of(self, run: RunTask, deadline_s: float = DEADLINE_S) -> TaskFinished:
        return self.wait(TaskFinished, lambda m: m.task == run.task, deadline_s)

    def result(self, function: Callable[..., Any], *args: Any, worker: str = "worker_0") -> Any:
        """What the worker's call returns."""
        end = self.end_of(self.give(function, *args, worker=worker))
        assert end.payload is not None, end.failures
        return payload.unpack_results(end.payload)[0]

    def close(self) -> None:
        self.pool.close()
