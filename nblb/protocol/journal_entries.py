"""The entries of the journal, separate from the live objects that are restored from them.

The scheduler orders each entry (`commands.Record`), broker/journal/journal.py writes it, and `Scheduler.restore`
rebuilds the live state from the same entries.

SCHEMA is the version of everything that is written: the classes below, the classes of messages/ in them (SubmitTask,
OpenJob, Failure, TaskState), their fields, their defaults (a default is not written, so a changed one changes the
meaning of old rows), and the tables.

- A new field with a default does not raise SCHEMA: old rows read as if they had the default, and an older core ignores
  the field. If ignoring it would do harm, raise SCHEMA.
- Any other change raises it: add the step from the version before to UPGRADES in broker/journal/schema.py. An older
  journal is upgraded in one transaction when it is opened; a newer one is refused.
- In both cases `python -m tests.broker.journal.schemas` records the new shapes, and for a new SCHEMA also a sample
  journal. tests/broker/journal/test_schema.py fails until that is done, and opens the samples of all schemas.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from nblb.protocol.framing import Payload
from nblb.protocol.messages import Failure, OpenJob, SubmitTask, TaskState

# 2: a row may name the file of each large buffer; arguments are dropped when their task is done
# 3: the row of a single-item submission names the hub to which it was assigned in the same turn
# 4: an open attempt has the time of its assignment; the sums by task name and by user have tables of their own
# 5: the priority of a submission may be changed: such an entry is in the table of failed attempts
# 6: each row has a checksum, and each file that was handed over a row
SCHEMA = 6


class Entry(msgspec.Struct, frozen=True, omit_defaults=True, gc=False, tag=True):
    """The base class of all entries."""


class TaskKept(Entry):
    """A submission was accepted; `spec.user` is its owner, `at` the wall clock."""

    spec: SubmitTask
    at: float


class JobKept(Entry):
    spec: OpenJob
    user: str
    at: float


class BlobKept(Entry):
    """A function or a constant; its references are counted from the submissions that name it."""

    hash: str
    payload: Payload
    name: str = ""


class Published(Entry):
    name: str
    hash: str


class AttemptKept(Entry):
    """A slice is about to be sent to a hub, and may be running there after a restart of the core."""

    task: str
    first: int
    items: int
    attempt: int
    hub: str  # the hub's name, for which a restarted core waits
    at: float = 0.0  # wall clock, for the task's history; 0: unknown


class EndKept(Entry):
    """The end of a slice; CANCELLED is written as soon as it is certain, before the hub has confirmed it."""

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
    holes: tuple[int, ...] = ()  # offsets of items with an EndKept of their own
    function: str = ""  # content hash of the function that ran, if not the submission's own
    kept: tuple[int, ...] = ()  # offsets of items that were stopped early: their result is their last emitted value
    peak_bytes: int = 0  # most memory that the worker had while it ran them; 0: unknown


class AttemptFailed(Entry):
    """A slice returns to the queue after this attempt.

    With `again` the attempt had ended FAILED or LOST, and a client sent RetryFailed: the written ends of this attempt
    and of earlier ones are void, whether they come before or after this entry.
    """

    task: str
    first: int
    items: int
    attempt: int
    crashed: bool  # its worker died: counts against LB_MAX_CRASHES
    reason: str = ""
    raised: bool = False  # it raised or ran into its timeout: counts against the task's retries
    again: bool = False
    function: str = ""  # with `again`: the function to run from now on, if not the submission's own
    follows: str = ""  # it has not failed: it ends as this task does, which it has submitted
    at: float = 0.0  # wall clock; 0: unknown
    cause: str = ""  # as in the task's history
    memory_mb: int = 0  # what the calls of the submission need from now on; 0: what they needed
    wait_s: float = 0.0  # after `at`, before its next attempt


class PriorityKept(Entry):
    """A client has changed the priority of a submission."""

    task: str
    priority: float


class StatisticsKept(Entry):
    """Sums of a task name over dropped submissions; the last entry of a name counts, and `total` 0 removes it."""

    name: str
    total: int = 0
    failed: int = 0
    ran: int = 0  # calls with known times
    calc_sum: float = 0.0
    calc_min: float = float("inf")
    calc_max: float = 0.0
    wait_sum: float = 0.0
    wait_min: float = float("inf")
    wait_max: float = 0.0
    peak_bytes: int = 0  # most memory of a worker that ran its calls


class UserKept(Entry):
    """Sums of a user over tasks whose ends are no longer in the journal; the last entry of a user counts."""

    user: str
    done: int = 0
    failed: int = 0
    used_s: float = 0.0  # worker time
    recent_s: float = 0.0  # the part that counted against the fair share …
    at: float = 0.0  # … at this time of the wall clock


class Collected(Entry):
    """A client has collected the results, which may be dropped at `expires` (wall clock)."""

    task: str
    expires: float


class ArgumentsSpent(Entry):
    """Every item of a submission is DONE, so the files of its arguments may be removed; a hint without a row."""

    task: str


class TaskForgotten(Entry):
    """A submission and its results are dropped."""

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
    | PriorityKept
    | StatisticsKept
    | UserKept
    | Collected
    | ArgumentsSpent
    | TaskForgotten
    | JobForgotten
    | BlobForgotten
)
