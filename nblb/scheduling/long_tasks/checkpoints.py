"""The states that calls have saved with lb.checkpoint: kept until the call ends, and sent with its next attempt.

In the journal a state is a blob with a name of its own kind, which a later state replaces.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nblb.protocol.commands import Record
from nblb.protocol.framing import Payload
from nblb.protocol.journal_entries import BlobForgotten, BlobKept
from nblb.protocol.messages import ENDED, MOST_CHECKPOINT_BYTES, Checkpoint, TaskCheckpointed, TaskState
from nblb.scheduling.hubs import Assignment
from nblb.scheduling.slice import Slice

if TYPE_CHECKING:
    from nblb.scheduling.state import State

PREFIX = "checkpoint:"  # no client can send a blob of such a name


def is_checkpoint(blob: str) -> bool:
    """Return whether a name of a blob in the journal is that of a saved state."""
    return blob.startswith(PREFIX)


def keep(state: State, held: Assignment, message: TaskCheckpointed) -> None:
    """Keep the state that an item of this attempt has saved, instead of its last one."""
    record, item = held.record, held.first + message.offset
    if not (0 <= message.offset < held.items and message.payload.nbytes <= MOST_CHECKPOINT_BYTES):
        return
    task = record.at(item)
    if task.held is not held or task.state in ENDED or task.state is TaskState.CANCELLING:
        return
    if record.checkpoints is None:
        record.checkpoints = {}
    record.checkpoints[item] = message.payload
    name = f"{PREFIX}{record.id}.{item}"
    state.out.append(Record(BlobKept(name, message.payload, f"checkpoint of {record.spec.name}")))


def drop(state: State, task: Slice) -> None:
    """Drop the saved states of a slice that has ended."""
    checkpoints = task.record.checkpoints
    if not checkpoints:
        return
    last = task.first + task.items
    for item in [item for item in checkpoints if task.first <= item < last]:
        del checkpoints[item]
        state.out.append(Record(BlobForgotten(f"{PREFIX}{task.record.id}.{item}")))


def of_slice(task: Slice) -> tuple[Checkpoint, ...]:
    """Return the states that the next attempt at this slice begins with."""
    checkpoints = task.record.checkpoints
    if not checkpoints:
        return ()
    offsets = range(task.items) if task.items < len(checkpoints) else sorted(n - task.first for n in checkpoints)
    states = ((n, checkpoints.get(task.first + n)) for n in offsets if 0 <= n < task.items)
    return tuple(Checkpoint(offset=n, payload=payload) for n, payload in states if payload is not None)


def restore(state: State, kept: dict[str, Payload]) -> None:
    """Give the states in a journal to the open items that have saved them; drop the others."""
    for name, payload in kept.items():
        task, _, number = name.removeprefix(PREFIX).rpartition(".")
        record = state.records.get(task)
        item = int(number) if number.isdecimal() else -1
        if record is None or not 0 <= item < record.items or record.at(item).state in ENDED:
            state.out.append(Record(BlobForgotten(name)))
            continue
        if record.checkpoints is None:
            record.checkpoints = {}
        record.checkpoints[item] = payload
