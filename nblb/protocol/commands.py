"""The commands of the pure machines to their shells.

The pure machines (Scheduler, Slots, Session) answer each event with a list of commands, which a shell performs. Their
order is the durability rule: a Record comes before the Send that depends on it, and a shell that gathers several lists
commits all Records before it sends anything.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import msgspec

from nblb.protocol.journal_entries import AnyEntry
from nblb.protocol.messages import (
    Failure,
    FetchOutput,
    Message,
    OutputKept,
    RunTask,
    SubmitTask,
    TaskChanged,
    TaskEnded,
)


class Command(msgspec.Struct, frozen=True, gc=False):
    """The base class of all commands."""


class Send(Command):
    """Send `message` to the party at the address `to` (an opaque text of the transport, such as 'hub:3f…')."""

    to: str
    message: Message


class Record(Command):
    """Commit `entry` to the journal before any later message is sent."""

    entry: AnyEntry


class Log(Command):
    """Print a line on the console of the process, with the level 'info', 'good', 'warning' or 'error'."""

    level: str
    text: str


class Drop(Command):
    """Drop the party at this address, which has been refused or is silent."""

    address: str


class NameFiles(Command):
    """Send payloads to this address as file names from now on; the party sees the state folder."""

    address: str


class KeepOutput(Command):
    """Put the output of a slice into the folder for output."""

    message: OutputKept


class TellOutput(Command):
    """Answer a client that asks for the output of an item."""

    address: str
    message: FetchOutput


class KeepSetting(Command):
    """Keep a setting that was changed while the core runs in a file for the next start; None removes the file."""

    name: str
    value: dict[str, Any] | None


class Halt(Command):
    """Shut this process down in good order."""

    reason: str = ""


# ── a hub's ────────────────────────────────────────────────────────────────────────────────────────────────


class GiveTask(Command):
    """Give this slice to the worker."""

    worker: str
    run: RunTask


class Interrupt(Command):
    """Raise KeyboardInterrupt in the worker, if it still runs this attempt."""

    worker: str
    task: str
    attempt: int
    first: int = 0


class Steer(Command):
    """Give the worker, if it still runs this attempt, a knob's new value, or the order to end and keep what it emitted.

    `item` counts from the slice's first; -1: the current item and all later ones.
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
    """Send SIGKILL to the worker's process group; its end is then reported as any other."""

    worker: str
    why: str


class StartWorker(Command):
    """Start a worker with this id in this group, not before `not_before` (same clock as `now`)."""

    worker: str
    group: int
    not_before: float = 0.0


class TakeBack(Command):
    """Read back the slices that the worker has not taken from its socket; each gives a TaskStopped(why="recall")."""

    worker: str


class AskForItems(Command):
    """Ask the worker to report the ended items of its slice (ItemsFinished), because the slice takes long."""

    worker: str


class HandBack(Command):
    """Make the worker end this slice after its current call; its TaskFinished counts the calls `left` to others."""

    worker: str
    task: str
    attempt: int
    first: int = 0


class ResumeWorker(Command):
    """Let the worker go on, which has waited for its own tasks."""

    worker: str


class RefuseWait(Command):
    """Make the worker's wait fail: no stand-in is available, and no other worker could run the awaited tasks."""

    worker: str


class RetireWorker(Command):
    """Make this idle worker exit."""

    worker: str
    why: str = ""


class ForgetBlob(Command):
    """Drop this blob from the hub and its workers, which no longer need it."""

    hash: str


# ── a client's ─────────────────────────────────────────────────────────────────────────────────────────────


class Settle(Command):
    """Give the futures of an ended slice their results or errors."""

    ended: TaskEnded
    fresh: tuple[tuple[int, int], ...] = ()  # (first, items): items whose end is new


class Show(Command):
    """Show a slice's new state or progress."""

    changed: TaskChanged


class Reject(Command):
    """Make the futures of a submission fail, because the core refused it or cannot be reached."""

    task: str
    failure: Failure
    spec: SubmitTask | None = None  # if the core has never accepted it: it may be sent again
    first: int = 0  # the first item that fails


class Deliver(Command):
    """Deliver the answer, or the error, to the question `request`."""

    request: int
    value: Any = None
    error: str = ""
    kind: str = ""


class BlobReceived(Command):
    """Show a message: JobChanged, JobNamed, TaskPrinted, …"""

    message: Message


AnyCommand: TypeAlias = (
    Send
    | Record
    | Log
    | Drop
    | NameFiles
    | KeepOutput
    | TellOutput
    | Halt
    | GiveTask
    | Interrupt
    | Steer
    | KillWorker
    | StartWorker
    | TakeBack
    | AskForItems
    | HandBack
    | ResumeWorker
    | RefuseWait
    | RetireWorker
    | ForgetBlob
    | Settle
    | Show
    | Reject
    | Deliver
    | BlobReceived
)
