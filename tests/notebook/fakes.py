"""A job, a task and a cluster without a cluster: their state follows a clock, so that cards can be watched."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from nblb.client import redefined
from nblb.client.connection import waiting
from nblb.client.futures.live import Knob, MimeBundle
from nblb.client.snapshots import (
    INDEX,
    MARKED,
    ClusterSnapshot,
    EarlierRow,
    FailureGroup,
    HubRow,
    JobSnapshot,
    OutputLine,
    RunningRow,
    TaskSnapshot,
)
from tests.waiting import wait_until

TRACEBACK = 'Traceback (most recent call last):\n  File "cell In[3]", line 4, in simulate\nValueError: x must be >= 0'


class Spoken:
    """The latest words of a fake task."""

    def __init__(self) -> None:
        self.count = 0
        self.latest: MimeBundle | None = None

    def picture(self) -> MimeBundle | None:
        return self.latest


class FakePort:
    """The inner side of a fake: each method is one of the fake itself."""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return lambda fake, *arguments: getattr(fake, name)(*arguments)


class Listened:
    _port = FakePort()

    def __init__(self) -> None:
        self.listeners: list[Callable[[], None]] = []
        self.calls: list[tuple[str, Any]] = []
        self.knobs: dict[str, Knob] = {}
        self.displays: list[MimeBundle] = []
        self.output: list[OutputLine] = []
        self._said = self.said = Spoken()
        self.emitted: Any = None

    def has_knobs(self) -> None:
        """A knob of each kind."""
        for knob in (
            Knob("lr", 0.1, 0.1, 0.0, 1.0),
            Knob("steps", 5, 5, 1, 20),
            Knob("noise", True, True),
            Knob("title", "a run", "a run"),
            Knob("limit", 3.5, 3.5),
        ):
            self.knobs[knob.name] = knob

    def turn(self, name: str, value: Any) -> None:
        self.calls.append(("turn", (name, value)))
        self.knobs[name] = replace(self.knobs[name], value=value)

    def emits(self, data: dict[str, Any] | None = None, value: Any = None) -> None:
        self.said.count += 1
        self.emitted = value
        self.said.latest = MimeBundle(data) if data is not None else None

    def live_state(self) -> Spoken:
        return self.said

    def live_of(self, item: int) -> Spoken | None:
        return self.said

    def stop_and_keep(self) -> int:
        self.calls.append(("keep", time.monotonic()))
        return 1

    def why(self) -> str:
        return "3rd of your tasks; 12 of anna's share the hubs"

    def add_listener(self, listener: Callable[[], None]) -> None:
        self.listeners.append(listener)

    def remove_listener(self, listener: Callable[[], None]) -> None:
        self.listeners.remove(listener)

    def changed(self) -> None:
        for listener in self.listeners:
            listener()


class Line:
    """As much of a connection as a wait needs."""

    def someone_waits(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()


class FakeEarlier:
    """A job that lost its name, with 37 of 200 tasks left until it is cancelled."""

    def __init__(self) -> None:
        self.job_id, self.left, self.fate = "j0", 37, ""

    def cancel(self) -> None:
        self.left, self.fate = 0, "cancel"

    def keep(self) -> None:
        self.fate = "keep"

    def row(self) -> EarlierRow:
        return EarlierRow(self.job_id, "arguments", 200, self.left, 163, self.fate)


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
        self.earlier: FakeEarlier | None = None
        self._task_name = "simulate"
        self.kept: set[int] = set()
        self.retried_with: list[Any] = []
        redefined.watch(self)

    def turned(self) -> None:
        self.changed()

    def code(self) -> str:
        return "0" * 32

    def marked_states(self) -> bytes:
        states = bytearray(self.states())
        for item in self.kept:
            if states[item] == INDEX["DONE"]:
                states[item] = MARKED.index("KEPT")
        return bytes(states)

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
            output=tuple(self.output),
            earlier=self.earlier.row() if self.earlier is not None else None,
            kept=sum(states[item] == "DONE" for item in self.kept),
        )

    def __getitem__(self, item: int) -> FakeTask:
        return FakeTask(fails=item in self.bad, age=100 if self.state_of(item, self.at()) in ("DONE", "FAILED") else 0)

    def done(self) -> bool:
        return self.stopped is not None or self.at() >= -(-self.total // self.workers) * self.seconds

    def wait(self) -> None:
        """As a Job waits, the stop button included."""
        with waiting.interruptible(self, Line()):  # type: ignore[arg-type]
            while not self.done():
                time.sleep(0.02)

    def cancel(self, kill: bool = False) -> None:
        self.calls.append(("kill" if kill else "cancel", time.monotonic()))
        self.stopped = time.monotonic()
        self.changed()

    def retry_failed(self, with_: Any = None, items: int | None = None) -> int:
        self.calls.append(("retry", time.monotonic()))
        self.retried_with.append(with_)
        number = len(self.bad) if items is None else int(items in self.bad)
        self.bad = set() if items is None else self.bad - {items}
        self.started, self.stopped = time.monotonic(), None
        self.changed()
        return number


class FakeTask(Listened):
    output_bytes = 0

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
            output_bytes=self.output_bytes,
        )

    def latest_output(self) -> str:
        return "epoch 0\nepoch 1\nepoch 2\n"

    def recall_output(self) -> None:
        self.calls.append(("recall", time.monotonic()))

    def cancel(self, kill: bool = False) -> None:
        self.calls.append(("cancel", time.monotonic()))

    def done(self) -> bool:
        return time.monotonic() - self.started >= self.seconds


class FakeCluster(Listened):
    def __init__(self, workers: int = 4) -> None:
        super().__init__()
        self.workers, self.stopped = workers, False
        self.queued, self.running = 120, 3
        self.parameters = SimpleNamespace(name="lab-5799", state_dir=None)
        self.connection = SimpleNamespace(ask=self.ask, session=SimpleNamespace(welcome=None), is_remote=False)
        self.tasks = [{"task": "ab12", "first": 0, "job": ""}, {"task": "ab12", "first": 7, "job": ""}]
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
            queued=self.queued,
            running=self.running,
            owner="alice",
            monitor_url=self.monitor_url,
        )

    def ask(self, topic: str, about: dict[str, Any]) -> Any:
        """What the core answers."""
        if topic == "tasks":
            return {"total": len(self.tasks), "rows": self.tasks if about.get("state") != "RUNNING" else []}
        found = [row for row in self.tasks if (row["task"], row["first"]) == (about["task"], about["first"])]
        return {"state": "DONE", "stdout": "one\ntwo\n", "stderr": "oh\n", **found[0]} if found else None

    def status(self) -> SimpleNamespace:
        hubs = {"hubs": 1, "workers": self.workers}
        adapts = {"text": "adapts between {} and {} workers: 0 now".format(*self.limits)} if self.limits else None
        return SimpleNamespace(name="lab-5799", queued=self.queued, running=self.running, adapts=adapts, **hubs)

    def add_hub(self, **options: Any) -> SimpleNamespace:
        self.calls.append(("add_hub", options))
        return SimpleNamespace(pid=77, log="/state/logs/hub-2.log")

    limits: tuple[int | None, int | None] | None = None

    def adapt(self, minimum: int | None, maximum: int | None = None) -> None:
        self.calls.append(("adapt", (minimum, maximum)))
        self.limits = None if minimum is None else (minimum, maximum)

    def scale(self, workers: int, hub: str = "") -> None:
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


def until_drawn(thing: Any, deadline_s: float = 60.0) -> None:
    """Returns when the card of `thing` has drawn its end; runs in a kernel."""
    from nblb.notebook import display_hooks

    wait_until(lambda: display_hooks._cards[thing]._thing is None, deadline_s, "the last picture")


def install() -> None:
    """Shows the fakes as their models are shown; runs in a kernel."""
    import sys

    from nblb.notebook import display_hooks

    shell: Any = sys.modules["IPython"].get_ipython()  # type: ignore[attr-defined]
    formatter = shell.display_formatter.ipython_display_formatter
    shell.events.register("post_run_cell", display_hooks.draw_ends)
    for kind, fake in (("job", FakeJob), ("task", FakeTask), ("cluster", FakeCluster)):
        formatter.for_type(fake, lambda thing, kind=kind: display_hooks.show(kind, thing))
