"""The messages from the core to a hub: orders about attempts, blobs and workers."""

from __future__ import annotations

from typing import TypeAlias

from nblb.protocol.framing import Payload
from nblb.protocol.messages.blobs import BlobMissing, HoldBlob
from nblb.protocol.messages.connection import Heartbeat, Refused, Welcome
from nblb.protocol.messages.from_client import DrainHub, ScaleHub, StopAndKeep, TurnKnob
from nblb.protocol.messages.vocabulary import Checkpoint, Message


class RunTask(Message):
    """Run this slice on a worker of the hub's group `group`; facts about it must carry `attempt`."""

    task: str
    attempt: int
    name: str
    function: str
    payload: Payload
    group: int = 0
    first: int = 0
    items: int = 1
    split: bool = False
    call: str = "python"
    timeout_s: float = 0.0  # for the slice: the timeout of one item times `items`
    depends: tuple[str, ...] = ()
    constants: tuple[str, ...] = ()
    user: str = ""
    checkpoints: tuple[Checkpoint, ...] = ()  # states that earlier attempts at its items have saved
    retry_on: tuple[str, ...] = ()  # classes of exceptions; a Failure of one of them, or of a subclass, is `retriable`


class StopTask(Message):
    """Stop this attempt: remove it from the queue, or interrupt it. Fact: TaskStopped, or its real end."""

    task: str
    attempt: int
    first: int = 0
    kill: bool = False
    why: str = "cancel"  # "cancel" | "timeout" | "recall" (only if it has not started)


class ResumeTask(Message):
    """Let the worker that waited for its own tasks use a slot again. `wait` is that of the answered WaitEnded."""

    task: str
    attempt: int
    first: int = 0
    wait: int = 0


class LendSlot(Message):
    """Run a stand-in for the worker of this attempt, which seems to wait unreported. Fact: WaitBegan."""

    task: str
    attempt: int
    first: int = 0


class EndCommitted(Message):
    """The end of this attempt is in the journal (or no longer wanted), so the hub may drop it."""

    task: str
    attempt: int
    first: int = 0
    offset: int = -1  # of the part (ItemsFinished); -1: the end itself


class StopHub(Message):
    """Stop the workers and exit; `reason` is for the log."""

    reason: str = ""
    restart: bool = False  # the process then starts again with its own command


ToHub: TypeAlias = (
    Welcome
    | Refused
    | Heartbeat
    | RunTask
    | StopTask
    | ResumeTask
    | LendSlot
    | HoldBlob
    | BlobMissing
    | EndCommitted
    | ScaleHub
    | DrainHub
    | StopHub
    | TurnKnob
    | StopAndKeep
)
