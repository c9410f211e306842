"""What a task, a job and a cluster look like at one moment: all that front-ends are given.

Frozen, made of plain values, and cheap to take: a front-end samples as often as it draws and never asks the core.
"""

from __future__ import annotations

from dataclasses import dataclass, field

STATES = ("BLOCKED", "QUEUED", "ASSIGNED", "RUNNING", "CANCELLING", "DONE", "FAILED", "CANCELLED", "LOST")
KEPT = "KEPT"  # DONE, as front-ends show it where the task was stopped early
MARKED = (*STATES, KEPT)
INDEX = {name: number for number, name in enumerate(STATES)}  # a job's `states()` are bytes of these numbers
ENDED = frozenset({"DONE", "FAILED", "CANCELLED", "LOST"})
MOST_RUNNING = 20  # rows of a JobSnapshot
MOST_LINES = 12  # of output in a JobSnapshot
MOST_ITEMS = 20  # items named by a FailureGroup


@dataclass(frozen=True)
class RunningRow:
    """A slice of a job that a worker has in hand; `item` is its first."""

    item: int
    progress: float = 0.0
    note: str = ""
    worker: str = ""
    host: str = ""
    since_s: float = 0.0
    items: int = 1


@dataclass(frozen=True)
class FailureGroup:
    """Items that failed alike: same exception at the same line."""

    kind: str
    message: str
    where: str = ""
    count: int = 1
    items: tuple[int, ...] = ()
    traceback: str = ""


@dataclass(frozen=True)
class OutputLine:
    """A line that a task of a job has printed."""

    item: int
    stream: str
    text: str


@dataclass(frozen=True)
class EarlierRow:
    """The job whose name this one has taken over."""

    job: str
    changed: str  # "code" | "arguments" | "code and arguments" | "": neither, it was cancelled
    items: int
    left: int  # have not ended
    taken: int = 0  # results that were taken from it
    fate: str = ""  # "cancel" | "keep" once it was chosen


@dataclass(frozen=True)
class JobSnapshot:
    job: str
    name: str
    task_name: str
    total: int
    counts: dict[str, int]  # items by the name of their state; zeros are left out
    done_percent: float
    rate_per_s: float
    eta_s: tuple[float, float] | None  # None while too little has ended to say
    elapsed_s: float
    running: tuple[RunningRow, ...] = ()
    failures: tuple[FailureGroup, ...] = ()
    state: str = "running"  # "running" | "done" | "failed" | "cancelled" | "waiting"
    waiting: str = ""  # why nothing runs
    connected: bool = True
    output: tuple[OutputLine, ...] = ()  # the latest lines
    earlier: EarlierRow | None = None
    hosts: tuple[str, ...] = ()  # where its items have ended, the busiest first
    code: str = ""  # hash of the function's code and what it captures; of a job with a name of its own
    function: str = ""  # hash of the function as it was sent; of the other jobs
    kept: int = 0  # items that were stopped early: among those that are DONE
    codes: tuple[tuple[str, int], ...] = ()  # (hash, items) of other functions that have ended some, after a retry
    before: int = 0  # items that had ended before this process came, or in the job whose name this one took over


@dataclass(frozen=True)
class TaskSnapshot:
    task: str
    name: str
    state: str
    progress: float = 0.0
    note: str = ""
    worker: str = ""
    host: str = ""
    attempt: int = 0
    duration_s: float = 0.0
    failure: FailureGroup | None = None
    waiting: str = ""
    stdout_tail: str = ""
    output_bytes: int = 0  # that it has written in all
    function: str = ""  # hash of the function as it was sent; of a task that this process has submitted
    kept: bool = False  # it was stopped early: its result is what it had emitted last
    connected: bool = True


@dataclass(frozen=True)
class HubRow:
    hub: str
    name: str
    host: str
    state: str = "up"  # "up" | "suspect"
    pid: int = 0
    workers: int = 0
    busy: int = 0
    load: float = 0.0
    engine: str = "processes"


@dataclass(frozen=True)
class ClusterSnapshot:
    name: str
    connected: bool
    address: str
    core_pid: int = 0
    durability: str = ""
    hubs: tuple[HubRow, ...] = ()
    workers: int = 0
    busy: int = 0
    queued: int = 0
    running: int = 0
    owner: str = ""
    monitor_url: str = ""
    warning: str = ""
    notes: tuple[str, ...] = ()  # what was asked of it and is not so
    counts: dict[str, int] = field(default_factory=dict)
    known: bool = True  # False: the core has never answered, and the numbers are none
