"""Entries that wait for a commit, and blobs that wait for space."""

from __future__ import annotations

from nblb.broker.journal.pending_entries import PendingEntries, subject
from nblb.protocol.framing import Payload
from nblb.protocol.journal_entries import (
    AnyEntry,
    AttemptKept,
    BlobForgotten,
    BlobKept,
    JobForgotten,
    Published,
    TaskForgotten,
    TaskKept,
)
from nblb.protocol.messages import SubmitTask

TASK = TaskKept(SubmitTask(task="t", name="f"), 1.0)
GIVEN = AttemptKept("t", 0, 1, 1, "hub")
OTHER = AttemptKept("u", 0, 1, 1, "hub")
BLOB = BlobKept("b", Payload((b"four",)))
NAMED = Published("train", "b")


def pending(*entries: AnyEntry) -> PendingEntries:
    made = PendingEntries()
    for entry in entries:
        made.append(entry)
    return made


def test_withdrawn_tasks_are_dropped_and_blobs_wait_for_room() -> None:
    waiting = pending(BLOB, NAMED, TASK, GIVEN, OTHER)
    assert waiting.begins_anything()
    assert waiting.tasks() == ["t"]
    assert waiting.withdraw({"t"})
    assert [*waiting] == [OTHER]
    assert not waiting.begins_anything()
    assert waiting.withheld_nbytes() == 4
    waiting.clear()
    assert not waiting.is_empty
    waiting.append(GIVEN)
    waiting.readmit()
    assert [*waiting] == [BLOB, NAMED, GIVEN]  # later entries may need the blob
    waiting.clear()
    assert waiting.is_empty


def test_withdrawing_nothing_changes_nothing() -> None:
    waiting = pending(GIVEN, OTHER)
    assert not waiting.withdraw({"another"})
    assert [*waiting] == [GIVEN, OTHER]


def test_a_blob_that_is_forgotten_while_it_waits_for_room_is_never_written() -> None:
    """Else a restart would find a blob that the scheduler has dropped. (Found by the simulator.)"""
    other = BlobKept("c", Payload((b"x",)))
    waiting = pending(BLOB, NAMED, other)
    waiting.withdraw(set())
    waiting.append(BlobForgotten("b"))
    waiting.readmit()
    assert [*waiting] == [other, BlobForgotten("b")]


def test_the_same_where_both_were_appended_before_the_commit_failed() -> None:
    waiting = pending(BLOB, BlobForgotten("b"), GIVEN)
    assert waiting.withdraw({"t"})
    waiting.readmit()
    assert [*waiting] == [BlobForgotten("b")]


def test_a_blob_that_is_sent_again_after_it_was_forgotten_is_written_behind() -> None:
    waiting = pending(BlobForgotten("b"), BLOB)
    waiting.withdraw(set())
    assert [*waiting] == [BlobForgotten("b")]
    waiting.clear()
    waiting.readmit()
    assert [*waiting] == [BLOB]


def test_each_entry_is_about_one_thing() -> None:
    entries = (TASK, GIVEN, BLOB, NAMED, JobForgotten("j"), TaskForgotten("t"))
    assert [subject(entry) for entry in entries] == ["t", "t", "b", "b", "j", "t"]


def test_of_the_states_that_a_call_saves_while_there_is_no_room_one_waits() -> None:
    first, last = (BlobKept("checkpoint:t.0", Payload((text,))) for text in (b"first", b"last"))
    waiting = pending(BLOB, first)
    waiting.withdraw(set())
    waiting.append(last)
    waiting.withdraw(set())
    waiting.readmit()
    assert [*waiting] == [BLOB, last]
