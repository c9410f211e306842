"""What the journal keeps, apart from the live objects that it restores.

The scheduler says what must be kept (`commands.Record`), broker/journal.py keeps it, and `Scheduler.restore`
builds the live state from the same records. The rule for SCHEMA: raise it when a field is added, removed or
changes its meaning; add the step from the version before to broker/journal.py; a core refuses a newer journal.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from nblb.framing import Payload
from nblb.messages import Failure, OpenJob, SubmitTask, TaskState

SCHEMA = 1


class Entry(msgspec.Struct, frozen=True, omit_defaults=True, gc=False, tag=True):
    """The root of what is written."""


class TaskKept(Entry):
    """A task was accepted; `spec.user` is the user it belongs to, `at` the wall clock."""

    spec: SubmitTask
    at: float


class JobKept(Entry):
    spec: OpenJob
    user: str
    at: float


class BlobKept(Entry):
    """A function or a constant; its users are counted from the tasks that name it."""

    hash: str
    payload: Payload
    name: str = ""


class Published(Entry):
    name: str
    hash: str


class AttemptKept(Entry):
    """A slice is about to be sent to a hub: should the core die now, it may be running there."""

    task: str
    first: int
    items: int
    attempt: int
    hub: str  # the hub's name, to know whose return to wait for


class EndKept(Entry):
    """A slice has ended, and how; CANCELLED is kept as soon as it is sure, before the hub has confirmed it."""

    task: str
    first: int
    items: int
    attempt: int
    state: TaskState
    at: float
    payload: Payload | None = None
    failure: Failure | None = None
    duration_s: float = 0.0
    worker: str = ""
    host: str = ""
    holes: tuple[int, ...] = ()  # offsets of items whose end is kept by itself


class AttemptFailed(Entry):
    """A slice goes back to the queue, because of what came of this attempt.

    With `again` the attempt had ended FAILED or LOST and RetryFailed was asked for: what is kept of the end of this
    attempt and of those before it is void, whether it stands before or behind this entry.
    """

    task: str
    first: int
    items: int
    attempt: int
    crashed: bool  # it killed its worker: counts against LB_MAX_CRASHES
    reason: str = ""
    raised: bool = False  # it raised or ran into its timeout: counts against the task's retries
    again: bool = False


class Collected(Entry):
    """A client has these results: they may go at `expires` (wall clock)."""

    task: str
    expires: float


class ArgumentsSpent(Entry):
    """Every item of a record is DONE: the files of its arguments may go. A hint, which no journal keeps."""

    task: str


class TaskForgotten(Entry):
    """A record and its results are dropped."""

    task: str


class JobForgotten(Entry):
    job: str


class BlobForgotten(Entry):
    hash: str


AnyEntry: TypeAlias = (
    TaskKept
    | JobKept
    | BlobKept
    | Published
    | AttemptKept
    | EndKept
    | AttemptFailed
    | Collected
    | ArgumentsSpent
    | TaskForgotten
    | JobForgotten
    | BlobForgotten
)
