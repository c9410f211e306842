"""A job, a task and a cluster that need no cluster: their state follows a clock, so that cards can be watched."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from nblb.client.snapshot import (
    INDEX,
    ClusterSnapshot,
    FailureGroup,
    HubRow,
    JobSnapshot,
    RunningRow,
    TaskSnapshot,
)

TRACEBACK = 'Traceback (most recent call last):\n  File "cell In[3]", line 4, in simulate\nValueError: x must be >= 0'


class Listened:
    def __init__(self) -> None:
        self.listeners: list[Callable[[], None]] = []
        self.calls: list[tuple[str, Any]] = []

    def add_listener(self, listener: Callable[[], None]) -> None:
        self.listeners.append(listener)

    def remove_listener(self, listener: Callable[[], None]) -> None:
        self.listeners.remove(listener)

    def changed(self) -> None:
        for listener in self.listeners:
            listener()


class FakeJob(Listened):
    """`total` items of `seconds` each on `workers` workers; those in `bad` fail."""

    def __init__(
        self,
        name: str = "sweep",
        total: int = 200,
        seconds: float = 0.1,
        workers: int = 8,
        bad: Any = (),
        age: float = 0.0,
    ) -> None:
        super().__init__()
        self.name, self.total, self.seconds, self.workers, self.bad = name, total, seconds, workers, set(bad)
        self.started = time.monotonic() - age
        self.stopped: float | None = None

    def __repr__(self) -> str:
        return f"<Job {self.name}>"

    def state_of(self, item: int, at: float) -> str:
        begin = item // self.workers * self.seconds
        if at < begin:
            return "CANCELLED" if self.stopped is not None else "QUEUED"
        if at < begin + self.seconds:
            return "CANCELLED" if self.stopped is not None else "RUNNING"
        return "FAILED" if item in self.bad else "DONE"

    def at(self) -> float:
        return (self.stopped or time.monotonic()) - self.started

    def states(self) -> bytes:
        at = self.at()
        return bytes(INDEX[self.state_of(item, at)] for item in range(self.total))

    def snapshot(self) -> JobSnapshot:
        at = self.at()
        states = [self.state_of(item, at) for item in range(self.total)]
        counts = dict(Counter(states))
        ended = self.total - counts.get("QUEUED", 0) - counts.get("RUNNING", 0)
        running = [item for item, state in enumerate(states) if state == "RUNNING"]
        failed = [item for item, state in enumerate(states) if state == "FAILED"]
        rate = self.workers / self.seconds
        state = "running" if ended < self.total else "cancelled" if self.stopped else "failed" if failed else "done"
        groups = [
            FailureGroup(
                "ValueError", "x must be >= 0", "cell In[3] line 4", len(failed), tuple(failed[:20]), TRACEBACK
            )
        ]
        passed = at % self.seconds
        return JobSnapshot(
            job="j1",
            name=self.name,
            task_name="simulate",
            total=self.total,
            counts=counts,
            done_percent=100 * ended / self.total,
            rate_per_s=rate,
            eta_s=((self.total - ended) / rate * 0.9, (self.total - ended) / rate * 1.3),
            elapsed_s=min(at, self.total / rate),
            running=tuple(
                RunningRow(item, 100 * passed / self.seconds, "fitting", f"w{item % self.workers}", "lab1", passed)
                for item in running[:20]
            ),
            failures=tuple(groups) if failed else (),
            state=state,
        )

    def cancel(self) -> None:
        self.calls.append(("cancel", time.monotonic()))
        self.stopped = time.monotonic()
        self.changed()

    def retry_failed(self) -> None:
        self.calls.append(("retry", time.monotonic()))
        self.bad = set()
        self.started, self.stopped = time.monotonic(), None
        self.changed()


class FakeTask(Listened):
    def __init__(self, seconds: float = 2.0, fails: bool = False, age: float = 0.0) -> None:
        super().__init__()
        self.seconds, self.fails, self.started = seconds, fails, time.monotonic() - age

    def snapshot(self) -> TaskSnapshot:
        at = time.monotonic() - self.started
        over = at >= self.seconds
        failure = FailureGroup("ValueError", "x must be >= 0", "cell In[3] line 4", traceback=TRACEBACK)
        return TaskSnapshot(
            task="1a2b3c",
            name="simulate",
            state=("FAILED" if self.fails else "DONE") if over else "RUNNING",
            progress=min(100.0, 100 * at / self.seconds),
            note="half way" if not over else "",
            worker="w1",
            host="lab1",
            attempt=1,
            duration_s=min(at, self.seconds),
            failure=failure if over and self.fails else None,
            stdout_tail="epoch 1\nepoch 2\n",
        )

    def cancel(self) -> None:
        self.calls.append(("cancel", time.monotonic()))


class FakeCluster(Listened):
    def __init__(self, workers: int = 4) -> None:
        super().__init__()
        self.workers, self.stopped = workers, False
        self.monitor_url = "http://127.0.0.1:5810/monitor"

    def snapshot(self) -> ClusterSnapshot:
        return ClusterSnapshot(
            name="lab-5799",
            connected=not self.stopped,
            address="ipc:///run/user/1000/nblb/lab-5799/clients",
            core_pid=1234,
            durability="process",
            hubs=(HubRow("h1", "hub-1", "lab1", workers=self.workers, busy=3),),
            workers=self.workers,
            busy=3,
            queued=120,
            running=3,
            owner="alice",
            monitor_url=self.monitor_url,
        )

    def scale(self, workers: int) -> None:
        self.calls.append(("scale", workers))
        self.workers = workers

    def stop(self) -> None:
        self.calls.append(("stop", time.monotonic()))
        self.stopped = True
        self.changed()

    def users(self) -> list[dict[str, Any]]:
        return [{"user": "alice", "queued": 120, "running": 3, "done": 17}]

    def jobs(self) -> list[dict[str, Any]]:
        return [{"name": "sweep", "user": "alice", "items": 200, "counts": {"DONE": 200}, "state": "done"}]

    def attach(self, name: str) -> FakeJob:
        return FakeJob(name)


def install() -> None:
    """Shows the fakes as their models are shown; runs in a kernel."""
    import sys

    from nblb.notebook import showing

    shell: Any = sys.modules["IPython"].get_ipython()  # type: ignore[attr-defined]
    formatter = shell.display_formatter.ipython_display_formatter
    for kind, fake in (("job", FakeJob), ("task", FakeTask), ("cluster", FakeCluster)):
        formatter.for_type(fake, lambda thing, kind=kind: showing.show(kind, thing))
