"""What the journal keeps, apart from the live objects that it restores.

The scheduler says what must be kept (`commands.Record`), broker/journal/journal.py keeps it, and `Scheduler.restore`
builds the live state from the same records.

The rule for SCHEMA. It counts what is written: the classes below, those of messages.py that they hold (SubmitTask,
OpenJob, Failure, TaskState), their fields, defaults (a default is not written, so another one changes what old rows
mean), and the tables.

- A field with a default may be added without raising it: old rows read as if they had the default, and a core from
  before overlooks the field. If overlooking it would do harm, raise SCHEMA.
- Anything else raises it: add the step from the version before to UPGRADES in broker/journal/schema.py. An older
  journal is upgraded in one transaction when it is opened; a newer one is refused.
- Either way `python -m tests.broker.schemas` writes down the new shapes, and with a new SCHEMA a journal to be kept as
  a sample. tests/broker/test_schema.py fails until that is done, and opens the samples of all schemas.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from nblb.protocol.framing import Payload
from nblb.protocol.messages import Failure, OpenJob, SubmitTask, TaskState

# 2: a row may name the file of each large buffer; arguments are let go of when their task is done
# 3: the row of a task of one item names the hub that has been given it in the same turn
# 4: an open attempt knows when it was given; the sums by task name and user have tables of their own
SCHEMA = 4


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
    at: float = 0.0  # wall clock, for its story; 0: not known


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
    function: str = ""  # content hash of the function that made it, where it is not the record's own
    kept: tuple[int, ...] = ()  # offsets of items that were stopped early: their result is what they emitted last


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
    function: str = ""  # with `again`: what it runs from now on, where that is not the record's own
    follows: str = ""  # it has not failed, and ends as this task does, which it has submitted
    at: float = 0.0  # wall clock; 0: not known
    cause: str = ""  # as the task's story has it


class StatisticsKept(Entry):
    """Sums of a task name over calls whose records are gone; the last entry of a name counts, `total` 0 is none."""

    name: str
    total: int = 0
    failed: int = 0
    ran: int = 0  # calls that have times
    calc_sum: float = 0.0
    calc_min: float = float("inf")
    calc_max: float = 0.0
    wait_sum: float = 0.0
    wait_min: float = float("inf")
    wait_max: float = 0.0


class UserKept(Entry):
    """Sums of a user over what no kept end tells of; the last entry of a user counts."""

    user: str
    done: int = 0
    failed: int = 0
    used_s: float = 0.0  # worker time
    recent_s: float = 0.0  # what of it counted against the fair share …
    at: float = 0.0  # … at this time of the wall clock


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
    | StatisticsKept
    | UserKept
    | Collected
    | ArgumentsSpent
    | TaskForgotten
    | JobForgotten
    | BlobForgotten
)
