"""A slice, the unit of scheduling: its states, the table of its transitions, and its story (the past transitions).

The slices of a submission partition its items, and each is in one state (a TaskState). `Slice.move` looks the pair
(state, cause) up in TRANSITIONS. A pair that is missing there is a bug and raises InvalidTransition with the slice's
story; late reports are normal, and the table maps them to the same state. Only undoing an acceptance (cancelling.py)
and the replay of a journal (restore.py) bypass `move`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from msgspec.structs import replace

from nblb.protocol.messages import ENDED, Failure, TaskChanged, TaskEnded, TaskState

if TYPE_CHECKING:
    from nblb.scheduling.hubs import Assignment, Orphan
    from nblb.scheduling.submission import Submission

BLOCKED, QUEUED, ASSIGNED, RUNNING, CANCELLING, DONE, FAILED, CANCELLED, LOST = TaskState

#: (state, cause) -> state. A cause is the name of a message, or of an event that the scheduler detects itself.
TRANSITIONS: dict[TaskState, dict[str, TaskState]] = {
    BLOCKED: {
        "DependenciesDone": QUEUED,
        "DependencyFailed": FAILED,
        "DeadlinePassed": FAILED,
        "CancelTask": CANCELLED,
        "CacheHit": DONE,
        "FollowedDone": DONE,
        "FollowedFailed": FAILED,
        "JournalDamaged": LOST,
    },
    QUEUED: {
        "RunTask": ASSIGNED,
        "DeadlinePassed": FAILED,
        "CancelTask": CANCELLED,
        "JournalDamaged": LOST,
    },
    ASSIGNED: {
        "TaskStarted": RUNNING,
        "TaskFinished": DONE,
        "StoppedAndKept": DONE,
        "TaskFailed": FAILED,
        "FollowsTask": BLOCKED,
        "RetryTask": QUEUED,
        "TaskReturned": QUEUED,
        "WorkerDied": QUEUED,
        "HubSilent": QUEUED,
        "TooManyCrashes": LOST,
        "AtMostOnce": LOST,
        "StopTask": CANCELLING,
        "CancelTask": CANCELLED,
        "TimeoutPassed": FAILED,
        "DeadlinePassed": FAILED,
        "JournalDamaged": LOST,
    },
    RUNNING: {
        "TaskStarted": RUNNING,
        "TaskFinished": DONE,
        "StoppedAndKept": DONE,
        "TaskFailed": FAILED,
        "FollowsTask": BLOCKED,
        "RetryTask": QUEUED,
        "TaskReturned": QUEUED,
        "WorkerDied": QUEUED,
        "HubSilent": QUEUED,
        "TooManyCrashes": LOST,
        "AtMostOnce": LOST,
        "StopTask": CANCELLING,
        "CancelTask": CANCELLED,
        "TimeoutPassed": FAILED,
        "DeadlinePassed": FAILED,
        "JournalDamaged": LOST,
    },
    CANCELLING: {
        "TaskStarted": CANCELLING,
        "StopTask": CANCELLING,
        "TaskStopped": CANCELLED,
        "TaskFinished": CANCELLED,
        "TaskFailed": CANCELLED,
        "WorkerDied": CANCELLED,
        "HubSilent": CANCELLED,
    },
    DONE: {
        "CancelTask": CANCELLED,  # the seed's rule: cancelling a finished task drops its result
        "ResultDamaged": LOST,
    },
    FAILED: {"RetryFailed": QUEUED, "RetryBlocked": BLOCKED},
    CANCELLED: {"RetryFailed": QUEUED, "RetryBlocked": BLOCKED},  # if max_failures has cancelled it
    LOST: {"RetryFailed": QUEUED, "RetryBlocked": BLOCKED},
}

#: The same for `move`: (state, cause) -> (state, -1 if the slice ends, 1 if an ended slice is reopened, else 0).
_STEPS: dict[TaskState, dict[str, tuple[TaskState, int]]] = {
    old: {cause: (new, (old in ENDED) - (new in ENDED)) for cause, new in causes.items()}
    for old, causes in TRANSITIONS.items()
}

STORY_LENGTH = 24
Story: TypeAlias = "tuple[tuple[float, str, str, str], ...]"  # (when, cause, from, to)


class InvalidTransition(Exception):  # the name says what it is; it is a bug, never a user's error
    """An event that is impossible in the slice's state; contains the story."""

    def __init__(self, task: Slice, cause: str) -> None:
        told = "; ".join(f"{at:.3f} {why}: {old} -> {new}" for at, why, old, new in task.story)
        super().__init__(f"{cause} came to {task!r}, whose story is: {told or 'just accepted'}")
        self.task, self.cause = task, cause


class Slice:
    """One slice of a submission: `items` calls from `first` on, all in one state."""

    __slots__ = (
        "attempt",
        "code",
        "crashes",
        "ended",
        "first",
        "follows",
        "held",
        "items",
        "not_before",
        "note",
        "orphan",
        "progress",
        "queued_at",
        "reason",
        "record",
        "state",
        "story",
        "tries",
    )

    def __init__(self, record: Submission, first: int, items: int, now: float, state: TaskState = QUEUED) -> None:
        self.record = record
        self.first = first
        self.items = items
        self.state = state
        self.queued_at = now
        self.code = ""  # content hash of its function, if it is not the submission's (RetryFailed)
        self.attempt = 0
        self.tries = 0  # attempts that raised
        self.crashes = 0  # attempts that killed their worker
        self.held: Assignment | None = None
        self.ended: TaskEnded | None = None
        self.progress = 0.0
        self.note = ""
        self.reason: Failure | None = None  # for which it is being cancelled, if a rule and not a user does that
        self.not_before = 0.0  # while it is QUEUED: the time of its next attempt
        self.story: Story = ()
        self.follows = ""  # the task that its call returned, and as which it will end
        self.orphan: Orphan | None = None  # after a restart: the attempt that a hub may still have

    def move(self, cause: str, now: float) -> TaskState:
        """Change the state according to the table; return the old state.

        Raises
        ------
        InvalidTransition
            If the table does not contain the pair.
        """
        old = self.state
        step = _STEPS[old].get(cause)
        if step is None:
            raise InvalidTransition(self, cause)
        new, lives = step
        if new is not old:
            self.state = new
            story = self.story
            self.story = (story if len(story) < STORY_LENGTH else story[1:]) + ((now, cause, old, new),)
            if lives or self.record.job is not None:
                self.record.count(old, new, self.items)
        return old

    def add_earlier(self, at: float, cause: str, old: TaskState, new: TaskState) -> None:
        """Add to the story a transition from before a restart of the core."""
        story = self.story
        self.story = (story if len(story) < STORY_LENGTH else story[1:]) + ((at, cause, old, new),)

    def part(self, first: int, items: int) -> Slice:
        """Return a new slice with this one's past for some of its items; the caller adjusts the partition."""
        twin = Slice(self.record, first, items, self.queued_at, self.state)
        twin.code, twin.attempt, twin.tries, twin.crashes = self.code, self.attempt, self.tries, self.crashes
        twin.held, twin.ended, twin.story = self.held, self.ended, self.story
        twin.progress, twin.note, twin.not_before = self.progress, self.note, self.not_before
        twin.orphan, twin.reason = self.orphan, self.reason
        return twin

    def news(self) -> TaskChanged:
        """Return the message for watchers about its current state, which is not an end."""
        held = self.held
        return TaskChanged(
            task=self.record.id,
            state=self.state,
            first=self.first,
            items=self.items,
            progress=self.progress,
            note=self.note,
            worker=held.worker if held is not None else "",
            host=held.group.hub.hello.host if held is not None else "",
            attempt=self.attempt,
        )

    @property
    def function(self) -> str:
        """Content hash of its function; "" for a function that its hub provides by name."""
        return self.code or self.record.spec.function

    @property
    def id(self) -> str:
        """The id as users see it."""
        return self.record.id if self.record.items == 1 else f"{self.record.id}.{self.first}"

    def __lt__(self, other: Slice) -> bool:
        """Order in a line: deeper nested slices first, then those accepted earlier."""
        mine, its = self.record.order, other.record.order
        return mine < its or (mine == its and self.first < other.first)

    def __repr__(self) -> str:
        of = f"[{self.first}:{self.first + self.items}]" if self.record.items > 1 else ""
        return f"<Task {self.record.spec.name}{of} {self.record.id} {self.state} attempt {self.attempt}>"


def narrowed(ended: TaskEnded, first: int, items: int) -> TaskEnded:
    """Return an end without results for some of its items only, with their share of the run time."""
    return replace(ended, first=first, items=items, duration_s=ended.duration_s * items / max(1, ended.items))
