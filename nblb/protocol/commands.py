"""All that a decision can ask to be done.

The pure machines (Scheduler, Slots, Session) answer each event with a list of these, and a shell performs them.
Their order is the durability rule: a Record stands before the Send that promises what it keeps, and a shell that
gathers several lists commits all Records before it sends anything.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import msgspec

from nblb.protocol.journal_entries import AnyEntry
from nblb.protocol.messages import Failure, Message, RunTask, SubmitTask, TaskChanged, TaskEnded


class Command(msgspec.Struct, frozen=True, gc=False):
    """The root of what can be asked."""


class Send(Command):
    """Say `message` to the party at the address `to` (an opaque word of the transport, such as 'hub:3f…')."""

    to: str
    message: Message


class Record(Command):
    """Keep `entry`, before anything behind it is sent."""

    entry: AnyEntry


class Log(Command):
    """A line for the console of the process: level 'info', 'good', 'warning' or 'error'."""

    level: str
    text: str


class Drop(Command):
    """Forget the party at this address; it has been refused, or is silent."""

    address: str


class NameFiles(Command):
    """The party at this address sees the files of the state folder: they can be named to it."""

    address: str


class Halt(Command):
    """End this process in good order."""

    reason: str = ""


# ── a hub's ────────────────────────────────────────────────────────────────────────────────────────────────


class GiveTask(Command):
    """Hand this slice to the worker."""

    worker: str
    run: RunTask


class Interrupt(Command):
    """Raise KeyboardInterrupt in the worker, if it is still at this attempt."""

    worker: str
    task: str
    attempt: int
    first: int = 0


class Steer(Command):
    """Let the worker, if it is still at this attempt, have a knob's new value, or end and keep what it emitted.

    `item` counts from the slice's first; -1: whichever it is at, and all that follow.
    """

    worker: str
    task: str
    attempt: int
    first: int
    item: int = -1
    knob: str = ""
    value: Any = None
    keep: bool = False


class KillWorker(Command):
    """SIGKILL to the worker's process group; its death is then reported as for any other."""

    worker: str
    why: str


class StartWorker(Command):
    """Start a worker of this id in this group, not before `not_before` (same clock as `now`)."""

    worker: str
    group: int
    not_before: float = 0.0


class TakeBack(Command):
    """Read back the slices that the worker has not taken from its socket; each comes as TaskStopped(why="recall")."""

    worker: str


class AskForItems(Command):
    """Let the worker say (ItemsFinished) which calls of its slice are over: it has been at it for long."""

    worker: str


class ResumeWorker(Command):
    """Let the worker, which has waited for tasks of its own, go on."""

    worker: str


class RefuseWait(Command):
    """Let the worker's wait fail: no stand-in can be had, and nobody else would run what it waits for."""

    worker: str


class RetireWorker(Command):
    """Let this idle worker end by itself."""

    worker: str
    why: str = ""


class ForgetBlob(Command):
    """The hub and its workers need not hold this blob any more."""

    hash: str


# ── a client's ─────────────────────────────────────────────────────────────────────────────────────────────


class SendMany(Command):
    """Say these, in this order."""

    to: str
    messages: list[Message]


class SettleMany(Command):
    """Tasks of one call each have ended: give their futures their results or errors."""

    ends: list[TaskEnded]


class Settle(Command):
    """A slice has ended: give its futures their results or errors."""

    ended: TaskEnded
    fresh: tuple[tuple[int, int], ...] = ()  # (first, items): those whose end was not known before


class Show(Command):
    """A slice is in another state, or further on."""

    changed: TaskChanged


class Reject(Command):
    """The core refused a task, or is not to be reached: its futures fail with this."""

    task: str
    failure: Failure
    spec: SubmitTask | None = None  # where the core has never accepted it: it may be said again
    first: int = 0  # the items from here on


class Deliver(Command):
    """An answer to the question `request` (or the error it got)."""

    request: int
    value: Any = None
    error: str = ""
    kind: str = ""


class BlobReceived(Command):
    """Something to show: JobChanged, JobNamed, TaskPrinted, …"""

    message: Message


AnyCommand: TypeAlias = (
    Send
    | Record
    | Log
    | Drop
    | NameFiles
    | Halt
    | GiveTask
    | Interrupt
    | Steer
    | KillWorker
    | StartWorker
    | TakeBack
    | AskForItems
    | ResumeWorker
    | RefuseWait
    | RetireWorker
    | ForgetBlob
    | SendMany
    | SettleMany
    | Settle
    | Show
    | Reject
    | Deliver
    | BlobReceived
)
