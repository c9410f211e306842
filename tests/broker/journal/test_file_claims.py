"""Files that senders hand over: the core owns them from the first message on, and removes them when unused."""

from __future__ import annotations

import errno
import gc
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nblb.broker.journal.file_claims import is_lost
from nblb.broker.journal.journal import Journal
from nblb.broker.journal.lost_files import without_lost
from nblb.broker.journal.memory import MemoryJournal
from nblb.protocol.commands import Send
from nblb.protocol.framing import Payload
from nblb.protocol.journal_entries import ArgumentsSpent, BlobForgotten, BlobKept, EndKept, TaskForgotten, TaskKept
from nblb.protocol.messages import (
    BlobMissing,
    Hello,
    PutBlob,
    SubmitTask,
    TaskEmitted,
    TaskFinished,
    TaskRejected,
    TaskState,
    WorkerDied,
)
from nblb.scheduling.scheduler import Scheduler
from nblb.scheduling.state import Policy
from nblb.shared_files.transfer import IN_FILE, Folder

LARGE = b"large" * IN_FILE


@pytest.fixture(params=["process", "full", "none"])
def journal(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Journal | MemoryJournal]:
    durability: str = request.param
    opened = MemoryJournal(tmp_path) if durability == "none" else Journal(tmp_path, durability)
    list(opened.replay())
    yield opened
    opened.close()


class Sender:
    """A process beside the core."""

    def __init__(self, journal: Journal | MemoryJournal) -> None:
        self.journal = journal
        seen = Folder.seen(journal.claims.root, journal.claims.token)
        assert seen is not None
        self.folder = seen

    def hand_over(self, *buffers: bytes) -> tuple[Payload, Payload]:
        """As the sender holds it, and as it comes to the core."""
        sent = Payload.of(self.folder.write(buffers))
        heard = [p if isinstance(p, bytes) else self.journal.claims.find(p.name, p.at, p.nbytes) for p in sent.parts]
        return sent, Payload.of(heard)


@pytest.fixture
def sender(journal: Journal | MemoryJournal) -> Sender:
    return Sender(journal)


def blobs(journal: Journal | MemoryJournal) -> list[str]:
    gc.collect()
    return sorted(path.name for path in (Path(journal.claims.root) / "blobs").iterdir())


def write(journal: Journal | MemoryJournal, *entries: Any) -> None:
    for entry in entries:
        journal.append(entry)
    journal.commit()
    journal.unload_sent()


def kept(task: str, payload: Payload) -> TaskKept:
    return TaskKept(SubmitTask(task=task, name="f", payload=payload, user="u"), 1.0)


def ended(task: str, payload: Payload) -> EndKept:
    return EndKept(task, 0, 1, 1, TaskState.DONE, 2.0, payload)


def test_what_is_claimed_does_not_need_its_sender(journal: Journal, sender: Sender) -> None:
    sent, heard = sender.hand_over(b"p", LARGE)
    del sent
    gc.collect()
    assert list(map(bytes, heard.buffers)) == [b"p", LARGE]
    assert not is_lost(heard)


def test_without_a_descriptor_left_a_file_is_claimed_and_not_called_removed(
    journal: Journal, sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_more(*_: object, **__: object) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with monkeypatch.context() as patched:
        sent = Payload.of(sender.folder.write([b"p", LARGE]))
        patched.setattr(os, "open", no_more)
        heard = [p if isinstance(p, bytes) else journal.claims.find(p.name, p.at, p.nbytes) for p in sent.parts]
        journal.claims.find("0" * 44, 0, 1)
    assert not is_lost(payload := Payload.of(heard))
    assert bytes(payload.buffers[1]) == LARGE
    assert journal.claims.has_lost, "what is not there is lost all the same"


def test_a_claim_that_comes_to_nothing_goes(journal: Journal, sender: Sender) -> None:
    _, heard = sender.hand_over(b"p", LARGE, LARGE)
    assert len(blobs(journal)) == 1
    write(journal)  # a turn in which it waits, parked
    assert len(blobs(journal)) == 1
    del heard
    assert blobs(journal) == []


def test_rows_count_their_files(journal: Journal, sender: Sender) -> None:
    sent, heard = sender.hand_over(b"p", LARGE)
    again = Payload.of([sender.journal.claims.find(p.name, p.at, p.nbytes) for p in sent.parts[1:]])
    write(journal, kept("a", heard), kept("b", again), BlobKept("h", heard))
    del sent
    write(journal, TaskForgotten("a"))
    write(journal, BlobForgotten("h"))
    assert len(blobs(journal)) == 1
    assert bytes(again.buffers[0]) == LARGE
    write(journal, TaskForgotten("b"))
    assert blobs(journal) == []


def test_arguments_go_when_all_is_done_and_results_later(journal: Journal, sender: Sender) -> None:
    _, arguments = sender.hand_over(b"p", LARGE)
    _, result = sender.hand_over(b"r", LARGE)
    write(journal, kept("a", arguments))
    write(journal, ended("a", result), ArgumentsSpent("a"))
    assert blobs(journal) == [result.parts[1].name]
    write(journal, TaskForgotten("a"))
    assert blobs(journal) == []


def test_a_file_that_is_released_and_named_anew_in_one_turn_stays(journal: Journal, sender: Sender) -> None:
    sent, heard = sender.hand_over(b"p", LARGE)
    write(journal, kept("a", heard))
    parked = sender.journal.claims.find(sent.parts[1].name, 0, len(LARGE))
    write(journal, TaskForgotten("a"))
    assert bytes(parked.read()) == LARGE
    write(journal, kept("b", Payload.of([b"p", parked])))
    assert len(blobs(journal)) == 1


@pytest.mark.parametrize("spent", [False, True])
def test_after_a_restart_payloads_lie_where_they_lay(tmp_path: Path, spent: bool) -> None:
    journal = Journal(tmp_path)
    list(journal.replay())
    sender = Sender(journal)
    (_, task), (_, result), (_, blob) = (sender.hand_over(b"%d" % n, LARGE, b"small") for n in range(3))
    words = [kept("a", task), ended("a", result), BlobKept("h", blob)]
    write(journal, *words, *([ArgumentsSpent("a")] if spent else []))
    before = blobs(journal)
    journal.close()
    journal = Journal(tmp_path)
    try:
        entries = list(journal.replay())
        found = {type(e): e.spec.payload if isinstance(e, TaskKept) else e.payload for e in entries}  # type: ignore[union-attr]
        assert blobs(journal) == before
        assert len(before) == 3 - spent
        assert list(map(bytes, found[EndKept].buffers)) == [b"1", LARGE, b"small"]
        assert list(map(bytes, found[BlobKept].buffers)) == [b"2", LARGE, b"small"]
        write(journal, TaskForgotten("a"), BlobForgotten("h"))
        assert blobs(journal) == []
    finally:
        journal.close()


def test_a_core_that_dies_before_its_commit_has_lost_nothing(tmp_path: Path) -> None:
    """The sender has heard of no acceptance, so it still has its own name and says all of it again."""
    journal = Journal(tmp_path)
    list(journal.replay())
    sender = Sender(journal)
    sent, heard = sender.hand_over(b"p", LARGE)
    journal.append(kept("a", heard))
    copy = tmp_path / "blobs" / sent.parts[1].name
    assert copy.exists()
    journal._db.close()  # as kill -9 leaves it: the name is there, the row is not
    journal._folder.close()
    journal = sender.journal = Journal(tmp_path)
    try:
        assert list(journal.replay()) == []
        assert not copy.exists()
        again = Payload.of([b"p", journal.claims.find(sent.parts[1].name, 0, len(LARGE))])
        write(journal, kept("a", again))
        del sent
        assert bytes(again.buffers[1]) == LARGE
    finally:
        journal.close()


def test_what_the_dead_have_left_is_swept_at_the_next_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(tmp_path)
    root, token = journal.claims.root, journal.claims.token
    script = (
        "import sys, os; from nblb.shared_files.transfer import Folder\n"
        "placed = Folder.seen(*sys.argv[1:]).write([b'x' * 100_000]); os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", script, root, token], check=True)
    alive = Sender(journal).folder.write([LARGE])
    assert len(list((tmp_path / "incoming").iterdir())) == 3
    journal.claims.sweep()  # its last words may still be on the way
    with monkeypatch.context() as patched:  # whatever the wall clock says
        patched.setattr(time, "time", lambda: 4e9)
        journal.claims.sweep()
    assert len(list((tmp_path / "incoming").iterdir())) == 3
    journal.close()
    journal = Journal(tmp_path)
    try:
        left = {path.name for path in (tmp_path / "incoming").iterdir()}
        assert left == {"token", alive[0].name}  # type: ignore[union-attr]
        assert journal.claims.token == token
    finally:
        journal.close()


def test_where_no_links_can_be_made_the_bytes_are_taken(
    journal: Journal, sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    sent, heard = sender.hand_over(b"p", LARGE)
    del sent
    assert heard.parts is None
    assert list(map(bytes, heard.buffers)) == [b"p", LARGE]
    write(journal, kept("a", heard))


# ── files that are gone ──


def lost(journal: Journal, sender: Sender) -> Payload:
    sent, _ = sender.hand_over(b"p", LARGE)
    name = sent.parts[1].name  # type: ignore[index, union-attr]
    del sent, _
    gc.collect()
    assert not journal.claims.has_lost
    payload = Payload.of([b"p", journal.claims.find(name, 0, len(LARGE))])
    assert journal.claims.has_lost
    assert is_lost(payload)
    return payload


def test_each_message_about_a_lost_file_has_one_end(journal: Journal, sender: Sender) -> None:
    scheduler, gone = Scheduler(Policy()), lost(journal, sender)
    scheduler.handle("client:a", Hello(client="a", user="u"), 0.0)
    scheduler.handle("client:a", SubmitTask(task="known", name="f"), 0.0)
    missing = scheduler.handle("client:a", SubmitTask(task="waits", name="f", function="h"), 0.0)
    assert missing == [Send("client:a", BlobMissing(hash="h"))]
    known = SubmitTask(task="known", name="f", payload=gone)
    left, said = without_lost(
        scheduler,
        "client:a",
        [
            SubmitTask(task="good", name="f"),
            SubmitTask(task="bad", name="f", payload=gone),
            known,
            PutBlob(hash="h", payload=gone, name="f"),
            TaskFinished(task="t", attempt=2, first=3, payload=gone),
            TaskEmitted(task="t", attempt=2, payload=gone),
        ],
    )
    assert [type(message) for message in left] == [SubmitTask, SubmitTask, WorkerDied]
    assert left[1] is known  # its acceptance is said again
    died = left[2]
    assert isinstance(died, WorkerDied)
    assert (died.task, died.attempt, died.first) == ("t", 2, 3)  # it counts as an attempt that killed its worker
    refused = [command.message for command in said if isinstance(command, Send)]
    assert [(m.task, m.kind) for m in refused if isinstance(m, TaskRejected)] == [
        ("bad", "TaskRejected"),
        ("waits", "TaskRejected"),
    ]
    assert all("has been removed" in m.reason for m in refused if isinstance(m, TaskRejected))
