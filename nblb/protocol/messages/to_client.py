"""The messages from the core to a client: answers to its requests, and the news of its tasks."""

from __future__ import annotations

from typing import Any, TypeAlias

from nblb.protocol.framing import Payload
from nblb.protocol.messages.access import Enrolled
from nblb.protocol.messages.blobs import BlobMissing, HoldBlob
from nblb.protocol.messages.connection import Heartbeat, Refused, Welcome
from nblb.protocol.messages.from_hub import KnobOffered, TaskEmitted, TaskPrinted
from nblb.protocol.messages.vocabulary import Failure, Message, TaskState


class TaskAccepted(Message):
    """The task is in the journal, and will end even if processes die."""

    task: str = ""
    tasks: tuple[str, ...] = ()  # or many
    items: int = 0  # if positive, only this many of the single calls that arrived together were accepted
    reason: str = ""


class TaskRejected(Message):
    """The core refused the task, and keeps nothing of it."""

    task: str
    kind: str  # name of a class in errors.py
    reason: str


class TaskChanged(Message):
    """The new state or progress of a slice. Coalesced: only the latest counts."""

    task: str
    state: TaskState
    first: int = 0
    items: int = 1
    progress: float = 0.0  # 0..100
    note: str = ""  # the task's note on its progress, or why it waits
    worker: str = ""
    host: str = ""
    attempt: int = 0


class TaskEnded(Message):
    """The end of a slice: all its items are DONE (payload), or FAILED, CANCELLED or LOST (failure)."""

    task: str
    state: TaskState
    first: int = 0
    items: int = 1
    payload: Payload | None = None  # one pickle of the list of results; call="json": one JSON value
    failure: Failure | None = None
    holes: tuple[int, ...] = ()  # DONE: offsets of items with a TaskEnded of their own (they raised)
    duration_s: float = 0.0  # of all these items together, without the holes
    worker: str = ""
    host: str = ""
    attempt: int = 0
    ended_at: float = 0.0  # wall clock, for display
    function: str = ""  # content hash of the function, if not the submission's own (RetryFailed)
    kept: tuple[int, ...] = ()  # DONE: offsets of items ended by StopAndKeep: their result is their last emitted value
    peak_bytes: int = 0  # most memory that the worker had while it ran them; 0: unknown


class TaskReopened(Message):
    """Ended items of a submission run once more, because a client sent RetryFailed, and will end again."""

    task: str
    again: tuple[tuple[int, int], ...]  # runs of items: (first, items)
    items: int = 1  # of the submission
    job: str = ""
    function: str = ""  # content hash of the function that they run now, if it is another one
    number: int = 0  # increases with each, even after restarts of the core: it identifies a late copy


class JobChanged(Message):
    """The counts of a job's items by state, at most a few times a second."""

    job: str
    counts: dict[str, int]


class JobNamed(Message):
    """The new name of a job, because another job of the user has the name that the client invented."""

    job: str
    name: str


class CancelAnswer(Message):
    """The answer to CancelTask: the number of items that are or will be cancelled, and where they were found."""

    request: int
    cancelled: int = 0  # items that are or will be cancelled
    source: str = ""  # the seed's 'from': queue, pending, done or ''


class Answer(Message):
    """The answer to a request: a value; or `error`, a sentence, with its class's name in `kind`."""

    request: int
    value: Any = None
    error: str = ""
    kind: str = ""
    committed: bool = False  # it reports a change in the journal, so it is sent only after its commit


class CallTold(Message):
    """The answer to FetchCall, with the contents of the RunTask and HoldBlob for a hub."""

    request: int
    name: str
    payload: Payload
    function: str = ""  # content hash; it is in `held`
    item: int = 0  # the item in the payload, which may contain several calls
    items: int = 1
    split: bool = False
    call: str = "python"
    held: tuple[HoldBlob, ...] = ()  # function, constants, and results that are arguments


class OutputTold(Message):
    """The answer to FetchOutput: segments of output_log.py, each a buffer, by (attempt, first item, number)."""

    request: int
    segments: tuple[tuple[int, int, int], ...] = ()
    payload: Payload = Payload()


ToClient: TypeAlias = (
    Welcome
    | Refused
    | Heartbeat
    | TaskAccepted
    | TaskRejected
    | BlobMissing
    | TaskChanged
    | TaskEnded
    | TaskReopened
    | TaskPrinted
    | TaskEmitted
    | KnobOffered
    | JobChanged
    | JobNamed
    | CancelAnswer
    | Answer
    | CallTold
    | OutputTold
    | Enrolled
)
