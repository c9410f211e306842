"""Snapshots of a task, a job and a cluster at one moment, from which front-ends draw.

They are frozen, contain plain values, and are cheap to take: a front-end takes one per frame and never asks the core.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

STATES = ("BLOCKED", "QUEUED", "ASSIGNED", "RUNNING", "CANCELLING", "DONE", "FAILED", "CANCELLED", "LOST")
KEPT = "KEPT"  # shown instead of DONE for a task that was stopped early
MARKED = (*STATES, KEPT)
INDEX = {name: number for number, name in enumerate(STATES)}  # the bytes of a job's `states()`
ENDED = frozenset({"DONE", "FAILED", "CANCELLED", "LOST"})
MOST_RUNNING = 20  # most running rows in a JobSnapshot
MOST_LINES = 12  # most lines of output in a JobSnapshot
MOST_ITEMS = 20  # most items named by a FailureGroup


@dataclass(frozen=True)
class RunningRow:
    """A slice of a job that a worker runs; `item` is its first item."""

    item: int
    progress: float = 0.0
    note: str = ""
    worker: str = ""
    host: str = ""
    since_s: float = 0.0
    items: int = 1


@dataclass(frozen=True)
class FailureGroup:
    """Items that failed with the same exception at the same line."""

    kind: str
    message: str
    where: str = ""
    count: int = 1
    items: tuple[int, ...] = ()
    traceback: str = ""


@dataclass(frozen=True)
class OutputLine:
    """A line that a task of a job printed."""

    item: int
    stream: str
    text: str


@dataclass(frozen=True)
class EarlierRow:
    """The earlier job whose name a job has taken over."""

    job: str
    changed: str  # "code" | "arguments" | "code and arguments" | "": neither, it was cancelled
    items: int
    left: int  # tasks that have not ended
    taken: int = 0  # results that the new job reused
    fate: str = ""  # once the user has chosen


@dataclass(frozen=True)
class JobSnapshot:
    job: str
    name: str
    task_name: str
    total: int
    counts: dict[str, int]  # numbers of items by the name of their state; zeros are left out
    done_percent: float
    rate_per_s: float
    eta_s: tuple[float, float] | None  # None while too few items have ended
    elapsed_s: float
    running: tuple[RunningRow, ...] = ()
    failures: tuple[FailureGroup, ...] = ()
    state: str = "running"  # "running" | "done" | "failed" | "cancelled" | "waiting"
    waiting: str = ""  # the reason why nothing runs
    connected: bool = True
    output: tuple[OutputLine, ...] = ()  # the latest lines of output
    output_lines: int = 0  # that were written in all, as far as this process has received them
    earlier: EarlierRow | None = None
    hosts: tuple[str, ...] = ()  # the computers where its items ended, the busiest first
    code: str = ""  # hash of the function's code and of what it captures, for a named job
    function: str = ""  # hash of the function as it was sent, for the other jobs
    kept: int = 0  # items that were stopped early; they count as DONE
    codes: tuple[tuple[str, int], ...] = ()  # (hash, items) of other functions that ended items after a retry
    before: int = 0  # items that had ended before this process attached, or whose results were reused
    created_at: float = 0.0  # wall clock; 0: unknown
    ended_at: float = 0.0  # wall clock of the core; 0: not yet, or unknown
    limit: str = ""  # a sentence, if max_failures has ended some of its items


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
    output_bytes: int = 0  # bytes that the task has written in all
    function: str = ""  # hash of the function as it was sent, if this process submitted the task
    kept: bool = False  # it was stopped early; its result is what it last emitted
    connected: bool = True
    peak_mb: float = 0.0  # most memory of its worker; 0: unknown


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
    gpus: Sequence[Mapping[str, Any]] = ()  # as in HubInfo


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
    notes: tuple[str, ...] = ()  # warnings, such as requested settings that are not in force
    counts: dict[str, int] = field(default_factory=dict)
    idle_end: str = ""  # a sentence on LB_IDLE_TIMEOUT_S, if it is on
    adapts: str = ""  # a sentence on `cluster.adapt`, if it is on
    known: bool = True  # False if the core has never answered, so that all numbers are missing


def cluster_snapshot(name: str, status: dict[str, Any], hubs: list[dict[str, Any]]) -> ClusterSnapshot:
    """Return the snapshot of a cluster from the core's answers about its status and its hubs."""
    rows = [{key: hub[key] for key in HubRow.__dataclass_fields__ if key in hub} for hub in hubs]
    return ClusterSnapshot(
        name=name,
        connected=True,
        address="",
        core_pid=status.get("pid", 0),
        durability=status.get("durability", ""),
        hubs=tuple(HubRow(**row) for row in rows),
        workers=status.get("workers", 0),
        busy=status.get("busy", 0),
        queued=status.get("queued", 0),
        running=status.get("running", 0),
        counts=status.get("counts", {}),
        idle_end=(status.get("idle_end") or {}).get("text", ""),
        adapts=(status.get("adapts") or {}).get("text", ""),
    )
