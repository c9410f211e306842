"""Messages that name a missing file: each gets an end that its client receives, so that no client waits for ever.

This happens only if somebody removes files by hand: a sender keeps its file until the message is acknowledged.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from nblb.broker.journal.file_claims import is_lost
from nblb.protocol.commands import Command, Send
from nblb.protocol.messages import (
    Failure,
    ItemsFinished,
    Message,
    PutBlob,
    SubmitTask,
    TaskEmitted,
    TaskFinished,
    TaskRejected,
    WorkerDied,
)
from nblb.scheduling.scheduler import Scheduler

REASON = "lay in a file of the core's state folder that has been removed; submit the task again"


def without_lost(scheduler: Scheduler, sender: str, messages: Iterable[Message]) -> tuple[list[Message], list[Command]]:
    """Return the messages that can still be handled, and the commands that answer the others."""
    left: list[Message] = []
    said: list[Command] = []
    for message in messages:
        payload = getattr(message, "payload", None)
        if payload is None or not is_lost(payload):
            left.append(message)
        elif isinstance(message, SubmitTask):
            if scheduler.task_view(message.task) is not None:
                left.append(message)  # it was accepted before, and only the answer was lost
            else:
                reason = f"the arguments of task {message.name} {REASON}"
                said.append(Send(sender, TaskRejected(task=message.task, kind="TaskRejected", reason=reason)))
        elif isinstance(message, PutBlob):
            said += scheduler.blob_lost(message.hash, f"{message.name or message.hash} {REASON}")
        elif isinstance(message, TaskFinished):
            left.append(
                WorkerDied(
                    worker="",
                    reason="its result lay in a file that is gone",
                    task=message.task,
                    attempt=message.attempt,
                    first=message.first,
                )
            )
        elif isinstance(message, ItemsFinished):
            lost = Failure(kind="TaskLost", message="its result lay in a file that is gone")
            failures = tuple(msgspec.structs.replace(lost, offset=n) for n in range(message.items))
            left.append(msgspec.structs.replace(message, payload=None, failures=failures))
        elif not isinstance(message, TaskEmitted):  # the next TaskEmitted supersedes it
            left.append(message)
    return left, said
