"""The parts of several messages: their base class, the states of a task, and the failure of an item."""

from __future__ import annotations

from enum import Enum

import msgspec

from nblb.protocol.framing import Payload


class TaskState(str, Enum):
    """The state of a task; scheduling/slice.py holds the table of transitions.

    Examples
    --------
    >>> future.state is lb.TaskState.DONE
    """

    BLOCKED = "BLOCKED"  # it waits for the results of other tasks
    QUEUED = "QUEUED"
    ASSIGNED = "ASSIGNED"  # a hub has it, no worker yet
    RUNNING = "RUNNING"
    CANCELLING = "CANCELLING"  # its hub has the order, and has not confirmed it
    DONE = "DONE"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    LOST = "LOST"

    def __str__(self) -> str:
        return self.value

    __hash__ = str.__hash__  # Enum's own is slow Python code, and the scheduler looks states up all the time

    @property
    def ended(self) -> bool:
        """True for a state that a task does not leave any more."""
        return self in ENDED


ENDED = frozenset({TaskState.DONE, TaskState.FAILED, TaskState.CANCELLED, TaskState.LOST})
TOO_MANY_FAILURES = "TooManyFailures"  # the kind of the Failure of an item that `max_failures` of its job cancelled


class Message(msgspec.Struct, frozen=True, tag=True, omit_defaults=True, kw_only=True, gc=False):
    """The base class of all messages; the tag is the name of the class."""


MOST_CHECKPOINT_BYTES = 8 * 1024 * 1024


class Checkpoint(Message):
    """The state that a call has saved with lb.checkpoint, for its next attempt."""

    offset: int = 0  # of the item, from the slice's first
    payload: Payload = Payload()  # pickled


class Failure(Message):
    """The failure of one item of a slice, as text that needs no unpickling."""

    offset: int = 0  # from the slice's first item
    kind: str = ""  # name of the exception's class, or of a class in errors.py
    message: str = ""  # str(exception), bounded
    traceback: str = ""  # with source lines, bounded
    where: str = ""  # the innermost line of the user's own code: 'cell In[7] line 4'
    payload: Payload | None = None  # the pickled exception, if it can be pickled
    line: str = ""  # the text of that line
    call: str = ""  # the call that failed, bounded: 'simulate(3, n=1000)'
    frames: Payload | None = None  # the user's frames, JSON and pickles, bounded: see payload/frames.py
    host: str = ""  # the host on which it was raised
    worker: str = ""
    attempt: int = 0
    retriable: bool = False  # its class is among those of `RunTask.retry_on`, or a subclass
