"""Without durability, large payloads are still stored in files, for as long as they are needed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from nblb.broker.journal.memory import MemoryJournal
from nblb.broker.journal.rows import INLINE
from nblb.protocol.framing import Payload
from nblb.protocol.journal_entries import ArgumentsSpent, BlobForgotten, BlobKept, EndKept, TaskForgotten, TaskKept
from nblb.protocol.messages import SubmitTask, TaskState


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[MemoryJournal]:
    opened = MemoryJournal(tmp_path)
    yield opened
    opened.close()


def large(letter: bytes = b"l") -> Payload:
    return Payload((b"p", letter * INLINE))


def files(journal: MemoryJournal) -> int:
    return len(list((Path(journal.claims.root) / "blobs").iterdir()))


def test_what_is_large_leaves_memory_once_it_is_said(journal: MemoryJournal) -> None:
    small, arguments, result = Payload((b"s" * 100,)), large(b"a"), large(b"r")
    journal.append(TaskKept(SubmitTask(task="s", name="f", payload=small, user="u"), 1.0))
    journal.append(TaskKept(SubmitTask(task="t", name="f", payload=arguments, user="u"), 1.0))
    journal.append(EndKept("t", 0, 1, 1, TaskState.DONE, 2.0, result))
    assert not any(payload.is_away for payload in (small, arguments, result))  # it may be on its way out
    journal.commit()
    journal.unload_sent()
    assert [payload.is_away for payload in (small, arguments, result)] == [False, True, True]
    assert (arguments, result) == (large(b"a"), large(b"r"))
    journal.append(ArgumentsSpent("t"))
    journal.unload_sent()
    assert files(journal) == 1
    journal.append(TaskForgotten("t"))
    journal.append(TaskForgotten("s"))
    journal.unload_sent()
    assert files(journal) == 0


def test_equal_payloads_share_a_file_until_the_last_goes(journal: MemoryJournal) -> None:
    first, second = large(), large()
    journal.append(BlobKept("h", first))
    journal.append(EndKept("t", 0, 1, 1, TaskState.DONE, 2.0, second))
    journal.unload_sent()
    journal.append(BlobForgotten("h"))
    journal.unload_sent()
    assert files(journal) == 1
    assert second == large()
    journal.append(TaskForgotten("t"))
    journal.unload_sent()
    assert files(journal) == 0


def test_what_was_forgotten_before_it_was_said_leaves_no_file(journal: MemoryJournal) -> None:
    payload = large()
    journal.append(EndKept("t", 0, 1, 1, TaskState.DONE, 2.0, payload))
    journal.append(TaskForgotten("t"))
    journal.unload_sent()
    assert files(journal) == 0
    assert payload == large()


def test_without_room_it_stays_in_memory(journal: MemoryJournal, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(journal._blobs, "write", full)
    payload = large()
    journal.append(EndKept("t", 0, 1, 1, TaskState.DONE, 2.0, payload))
    journal.unload_sent()
    assert not payload.is_away
    journal.append(TaskForgotten("t"))
    journal.unload_sent()


def test_a_blob_that_replaces_another_of_its_name_takes_the_place_of_its_file(journal: MemoryJournal) -> None:
    for letter in (b"a", b"b", b"b", b"c"):
        journal.append(BlobKept("checkpoint:t.0", large(letter)))
        journal.unload_sent()
        assert files(journal) == 1
    journal.append(BlobForgotten("checkpoint:t.0"))
    journal.unload_sent()
    assert files(journal) == 0
