"""Journal entries, and helpers for the tests of the journal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nblb.broker.journal.journal import Journal
from nblb.protocol.framing import Payload
from nblb.protocol.journal_entries import AnyEntry, EndKept, TaskKept
from nblb.protocol.messages import SubmitTask, TaskState

MIB = 1024 * 1024


def kept(task: str, payload: bytes = b"p", items: int = 1) -> TaskKept:
    return TaskKept(SubmitTask(task=task, name="f", payload=Payload((payload,)), items=items, user="u"), 1.5)


def ended(task: str, payload: bytes = b"r", **more: Any) -> EndKept:
    fields = {"first": 0, "items": 1, "attempt": 1, "state": TaskState.DONE, "at": 2.5, **more}
    return EndKept(task, payload=Payload((payload,)), **fields)


def reopened(folder: Path) -> list[AnyEntry]:
    """What a core that starts now would find."""
    journal = Journal(folder)
    try:
        return list(journal.replay())
    finally:
        journal.close()


def write(journal: Journal, *entries: AnyEntry) -> None:
    for entry in entries:
        journal.append(entry)
    journal.commit()
    journal.unload_sent()


def files(folder: Path) -> list[Path]:
    return sorted((folder / "blobs").iterdir())
