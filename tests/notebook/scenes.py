"""Every card in every state, frozen, so that it can be viewed and measured."""

from __future__ import annotations

import base64
import concurrent.futures
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import nblb as lb
from nblb.client.futures.group import FutureGroup
from nblb.client.futures.live import MimeBundle
from nblb.client.jobs.inbox import Finished, Inbox
from nblb.client.rows import JobInfo, JobList
from nblb.client.snapshots import INDEX, FailureGroup, HubRow, JobSnapshot, OutputLine, TaskSnapshot
from tests.notebook.fakes import TRACEBACK, FakeCluster, FakeEarlier, FakeJob, FakeTask

OUTPUT = "".join(f"epoch {n}: loss {1 / (n + 1):.4f}\n" for n in range(40))
LONG_WAIT = (
    "3rd of your tasks; 12 of anna's share the hubs; needs priority 2000, which only hub lab2 takes; about 4 min"
)
NOON = time.mktime((2026, 11, 24, 12, 0, 0, 0, 0, -1))


class StillJob(FakeJob):
    """A job of which `ended` items have ended, and nothing moves."""

    def __init__(self, ended: int = 0, running: int = 0, cancelled: bool = False, **more: Any) -> None:
        self.shown = {key: more.pop(key) for key in ("connected", "waiting", "state", "eta_s") if key in more}
        super().__init__(**more)
        left = "CANCELLED" if cancelled else "QUEUED"
        self.each = [
            ("FAILED" if item in self.bad else "DONE")
            if item < ended
            else ("RUNNING" if item < ended + running else left)
            for item in range(self.total)
        ]

    def state_of(self, item: int, at: float) -> str:
        return self.each[item]

    def states(self) -> bytes:
        return bytes(INDEX[state] for state in self.each)

    def snapshot(self) -> JobSnapshot:
        before = super().snapshot()
        rows = tuple(
            replace(row, progress=10.0 + 11 * place % 85, since_s=2.0 + place)
            for place, row in enumerate(before.running)
        )
        return replace(before, running=rows, counts=dict(Counter(self.each)), elapsed_s=73.0, **self.shown)


class StillTask(FakeTask):
    """A task in one state."""

    def __init__(self, **shown: Any) -> None:
        super().__init__()
        self.shown = shown

    def snapshot(self) -> TaskSnapshot:
        plain = TaskSnapshot("1a2b3c4d5e6f", "simulate", "RUNNING", worker="w1", host="lab1", attempt=1)
        return replace(plain, **self.shown)


class StillCluster(FakeCluster):
    """A cluster as it is said to be."""

    def __init__(self, **shown: Any) -> None:
        super().__init__()
        self.shown = shown

    def snapshot(self) -> Any:
        return replace(super().snapshot(), **self.shown)


def figure() -> MimeBundle:
    """A picture as matplotlib makes it."""
    import matplotlib.figure

    drawn = matplotlib.figure.Figure(figsize=(4, 2.2))
    drawn.subplots().plot([1 / (n + 1) for n in range(40)])
    from io import BytesIO

    drawn.savefig(held := BytesIO(), format="png", dpi=80)
    data = base64.b64encode(held.getvalue()).decode("ascii")
    return MimeBundle({"image/png": data, "text/plain": "<Figure size 320x176 with 1 Axes>"}, item=4)


def steered() -> StillTask:
    """A task with knobs, a picture and an emitted value."""
    task = StillTask(progress=43.0, note="half way", duration_s=12.0, stdout_tail=OUTPUT, output_bytes=5_800_000)
    task.has_knobs()
    task.displays = [figure()]
    task.emits(value={"loss": 0.0312, "accuracy": 0.981})
    return task


def plotting() -> StillJob:
    """A job whose tasks draw."""
    job = StillJob(name="plots", total=60, ended=20, running=4)
    job.displays = [figure(), replace(figure(), item=5)]
    return job


def talking() -> StillJob:
    job = StillJob(name="talking", total=2000, ended=812, running=8, bad={3, 99, 500})
    job.output = [OutputLine(n, "stderr" if n % 3 == 0 else "stdout", f"epoch {n}: loss 0.03") for n in range(8)]
    return job


def superseding() -> StillJob:
    job = StillJob(name="again", ended=163, running=8)
    job.earlier = FakeEarlier()
    return job


def _job_rows() -> list[JobInfo]:
    def row(name: str, state: str, origin: str, counts: dict[str, int], **more: Any) -> JobInfo:
        told = {"job": name, "name": name, "user": "anna", "items": 200, "counts": counts, "state": state}
        told |= {"task_name": "simulate", "arguments": "0, n=1000, kind='thermal'"}
        return JobInfo({**told, "created_at": NOON, "origin": origin, **more})

    return [
        row("long-sweep", "running", "lab.ipynb#7", {"DONE": 61, "FAILED": 2}),
        row("a name that is rather longer than there is room", "running", "a long notebook name.ipynb#12", {}),
        row("quick", "done", "lab.ipynb#3", {"DONE": 200}, ended_at=NOON),
        row("broken", "failed", "lab.ipynb#4", {"DONE": 150, "FAILED": 50}, ended_at=NOON - 9000),
        row("stopped", "cancelled", "lab.ipynb#5", {"DONE": 20, "CANCELLED": 180}, ended_at=NOON - 99000),
    ]


def jobs() -> JobList:
    cluster = SimpleNamespace(user="anna", name="lab-5799", connected=False, connection=None)
    return JobList(_job_rows(), cluster)  # type: ignore[arg-type]


def inbox() -> Inbox:
    def entry(name: str, state: str, items: int, failed: int = 0) -> Finished:
        kind = "job" if items > 1 else "task"
        call = "fit(0, rate=0.1, name='a long name …')" if items > 1 else f"{name}(100)"
        return Finished(kind, name, name, "work/lab.ipynb", "7", state, items, failed, NOON, call=call)

    cluster = SimpleNamespace(user="anna", name="lab-5799", connected=True, connection=None)
    found = [entry("overnight", "failed", 600, 3), entry("train", "done", 1), entry("sweep", "done", 200)]
    return Inbox(cluster, found)  # type: ignore[arg-type]


def ten_thousand() -> StillJob:
    bad = set(range(3, 5000, 97))
    return StillJob(name="ten-thousand", total=10_000, ended=5200, running=200, bad=bad)


def many_hubs() -> StillCluster:
    place = "lab{}.physics.example.org"
    return StillCluster(hubs=tuple(HubRow(f"h{n}", f"hub-{n}", place.format(n), workers=64, busy=n) for n in range(7)))


def no_hub() -> StillCluster:
    return StillCluster(hubs=(), workers=0, busy=0, warning="no hub is connected: %lb_hub starts one")


def kept() -> StillJob:
    """A job some of whose items were stopped early."""
    job = StillJob(name="kept", ended=200)
    job.kept = {*range(0, 200, 7)}
    return job


@lb.task(name="fit")
def fit(x: float) -> float:
    return x


def redefined() -> StillJob:
    """A job of which some items have failed, and whose function was defined anew since."""
    job = StillJob(name="new-code", ended=200, bad={3, 77, 130})
    job._task_name = "fit"
    return job


class _Arguments:
    def __init__(self, text: str) -> None:
        self._text = text

    def text(self, _item: int) -> str:
        return self._text


def opened(item: int) -> StillJob:
    """A job whose item is opened: one that failed, or one with much to say."""
    bad = {3, 77, 130}
    job = StillJob(name="opened" if item in bad else "opened-long", ended=200, bad=bad)
    long = ", ".join(f"parameter_{n}=<ndarray 1000 × 1000>" for n in range(12))
    job._arguments = _Arguments("seed=130, n=1000" if item in bad else long)  # type: ignore[attr-defined]
    job.open = item  # type: ignore[attr-defined]
    return job


def stopped() -> StillCluster:
    cluster = StillCluster(connected=False)
    cluster.stopped = True
    return cluster


def noted() -> StillCluster:
    note = (
        "the hub on lab2 has Python 3.9 and NumPy 1.26, and cannot run tasks of this notebook (Python 3.11, NumPy 2.1)"
    )
    return StillCluster(warning=note, notes=("LB_LEASE_S is 30 there and 60 in parameters.json: restart the core",))


def grouped() -> FutureGroup:
    """Futures that are awaited together."""
    futures: list[concurrent.futures.Future[int]] = [concurrent.futures.Future() for _ in range(40)]
    for number, future in enumerate(futures[:25]):
        if number % 9 == 3:
            future.set_exception(ValueError("x must be >= 0"))
        else:
            future.set_result(number)
    _kept.extend(futures)
    return FutureGroup("40 calls", futures)


FAILURE = FailureGroup("ValueError", "x must be >= 0", "cell In[3] line 4", traceback=TRACEBACK)
LOST = replace(FAILURE, kind="TaskLost", message="its worker died 3 times: signal 9, out of memory")
SCENES: dict[str, tuple[str, Callable[[], Any]]] = {  # name -> kind of card, and what it shows
    "job-queued": ("job", lambda: StillJob(name="queued", state="waiting", waiting=LONG_WAIT, eta_s=None)),
    "job-running": ("job", lambda: StillJob(name="running", ended=86, running=8)),
    "job-10000": ("job", ten_thousand),
    "job-done": ("job", lambda: StillJob(name="done", ended=200)),
    "job-failed": ("job", lambda: StillJob(name="failed", ended=200, bad={3, 77, 130})),
    "job-cancelled": ("job", lambda: StillJob(name="cancelled", ended=60, cancelled=True, bad={3}, state="cancelled")),
    "job-away": ("job", lambda: StillJob(name="away", ended=86, running=8, connected=False)),
    "job-earlier": ("job", superseding),
    "job-plots": ("job", plotting),
    "job-talking": ("job", talking),
    "job-kept": ("job", kept),
    "job-new-code": ("job", redefined),
    "job-opened": ("job", lambda: opened(130)),
    "job-opened-long": ("job", lambda: opened(5)),
    "task-queued": ("task", lambda: StillTask(state="QUEUED", waiting=LONG_WAIT, worker="", host="", attempt=0)),
    "task-running": ("task", steered),
    "task-away": ("task", lambda: StillTask(progress=43.0, connected=False)),
    "task-done": ("task", lambda: StillTask(state="DONE", duration_s=73.0, stdout_tail="one line\n")),
    "task-failed": ("task", lambda: StillTask(state="FAILED", progress=100.0, duration_s=7.0, failure=FAILURE)),
    "task-failed-at-once": ("task", lambda: StillTask(state="FAILED", duration_s=0.2, failure=FAILURE)),
    "task-cancelled": ("task", lambda: StillTask(state="CANCELLED", progress=43.0, duration_s=7.0)),
    "task-lost": ("task", lambda: StillTask(state="LOST", progress=12.0, attempt=3, failure=LOST)),
    "cluster-up": ("cluster", StillCluster),
    "cluster-empty": ("cluster", no_hub),
    "cluster-away": ("cluster", lambda: StillCluster(connected=False)),
    "cluster-many": ("cluster", many_hubs),
    "cluster-stopped": ("cluster", stopped),
    "cluster-notes": ("cluster", noted),
    "group": ("group", grouped),
    "stop": ("stop", lambda: StillJob(name="stopped-wait", ended=86, running=8)),
    "jobs": ("jobs", jobs),
    "inbox": ("inbox", inbox),
}
_kept: list[Any] = []  # a card whose object is gone has nothing more to say


def show(name: str) -> None:
    """Displays a scene in the cell that runs now; runs in a kernel."""
    from nblb.notebook import display_hooks

    kind, make = SCENES[name]
    thing = make()
    _kept.append(thing)
    if kind == "stop":
        from nblb.notebook.cards.stop_card import StopCard
        from nblb.notebook.kernel import comm, environment

        comm.watch(environment.kernel())
        comm.prepare(environment.kernel())
        _kept.append(StopCard(thing, environment.mode()))
        _kept[-1].show()
        return
    display_hooks.show(kind, thing)
    if hasattr(thing, "open"):
        display_hooks._cards[thing]._opened = thing.open
        display_hooks._cards[thing].changed()
