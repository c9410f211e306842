"""The journal: committed entries are read back complete and in order, and uncommitted ones never are."""

from __future__ import annotations

import copy
import signal
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nblb.broker.journal.blob_files import lost_reason
from nblb.broker.journal.journal import Journal
from nblb.broker.journal.rows import INLINE, SPAN
from nblb.broker.journal.seal import sealed
from nblb.protocol.framing import Payload
from nblb.protocol.journal_entries import (
    AnyEntry,
    AttemptFailed,
    AttemptKept,
    BlobForgotten,
    BlobKept,
    Collected,
    EndKept,
    JobForgotten,
    JobKept,
    Published,
    TaskForgotten,
    TaskKept,
)
from nblb.protocol.messages import Failure, OpenJob, TaskState
from tests.broker.journals import ended, files, kept, reopened, write
from tests.strategies import fill, spoilt


def test_everything_is_there_again_in_an_order_to_take_it_up(tmp_path: Path, journal: Journal) -> None:
    blob = BlobKept("h", Payload((b"code", b"array")), "f")
    published = Published("f", "h")
    job = JobKept(OpenJob(job="j", name="sweep", items=2), "u", 1.0)
    failure = Failure(kind="ValueError", message="no", payload=Payload((b"e",)))
    failed = EndKept("b", 0, 1, 2, TaskState.FAILED, 3.0, failure=failure, worker="w", host="h")
    crash = AttemptFailed("b", 0, 1, 1, True, "killed")
    running = AttemptKept("c", 0, 1, 1, "hub")
    write(journal, kept("a"), blob, kept("b"), published, AttemptKept("b", 0, 1, 1, "hub"), job, kept("c"))
    write(journal, crash, running, ended("a"), AttemptKept("b", 0, 1, 2, "hub"), failed, Collected("a", 9.0))
    expected = [blob, published, job, kept("a"), kept("b"), kept("c"), crash, running, ended("a"), failed]
    journal.close()
    assert reopened(tmp_path) == [*expected, Collected("a", 9.0)]
    assert reopened(tmp_path) == [*expected, Collected("a", 9.0)]  # a replay changes nothing


def test_what_was_not_committed_has_never_been(tmp_path: Path, journal: Journal) -> None:
    write(journal, kept("a"))
    journal.append(kept("b"))
    journal.close()
    assert reopened(tmp_path) == [kept("a")]


def test_an_empty_commit_touches_nothing(tmp_path: Path, journal: Journal) -> None:
    before = (tmp_path / "journal.sqlite-wal").stat().st_size
    journal.commit()
    assert (tmp_path / "journal.sqlite-wal").stat().st_size == before


def test_what_is_forgotten_is_gone(tmp_path: Path, journal: Journal) -> None:
    large = b"x" * INLINE
    write(journal, kept("a", large), kept("b"), BlobKept("h", Payload((large + b"h",))), Published("f", "h"))
    write(journal, AttemptKept("a", 0, 1, 1, "hub"), JobKept(OpenJob(job="j", name="n", items=1), "u", 1.0))
    write(journal, ended("a", large + b"r"), AttemptFailed("b", 0, 1, 1, False), Collected("a", 3.0))
    assert len(files(tmp_path)) == 3
    write(journal, TaskForgotten("a"), TaskForgotten("b"), BlobForgotten("h"), Published("f", ""), JobForgotten("j"))
    assert files(tmp_path) == []
    write(journal, TaskForgotten("a"), ended("a"), Collected("b", 1.0))  # late words about it are nothing
    journal.close()
    assert reopened(tmp_path) == []


def test_forgotten_and_begun_anew_in_one_turn(tmp_path: Path, journal: Journal) -> None:
    write(journal, kept("a", b"old"), BlobKept("h", Payload((b"1" * INLINE,))))
    write(
        journal, TaskForgotten("a"), kept("a", b"new"), ended("a"), BlobForgotten("h"), BlobKept("h", Payload((b"2",)))
    )
    write(journal, kept("b"), TaskForgotten("b"), kept("b", b"again"), kept("c"))
    journal.close()
    assert files(tmp_path) == []
    found = reopened(tmp_path)
    assert found == [BlobKept("h", Payload((b"2",))), kept("a", b"new"), kept("b", b"again"), kept("c"), ended("a")]


def test_two_ends_with_the_same_first_item(tmp_path: Path, journal: Journal) -> None:
    """An item that raised, and the slice that it was the first of."""
    raised = EndKept("a", 0, 1, 1, TaskState.FAILED, 2.0, failure=Failure(kind="E"))
    rest = ended("a", items=10, holes=(0,))
    write(journal, kept("a", items=10), AttemptKept("a", 0, 10, 1, "hub"))
    write(journal, raised, rest)
    journal.close()
    assert reopened(tmp_path) == [kept("a", items=10), raised, rest]


# ── attempts ──


def test_only_open_attempts_come_back(tmp_path: Path, journal: Journal) -> None:
    write(journal, *(kept(task) for task in "abcde"), *(AttemptKept(task, 0, 1, 1, "hub") for task in "abcde"))
    write(journal, ended("a"), AttemptFailed("b", 0, 1, 1, True), AttemptFailed("c", 0, 1, 1, True))
    write(journal, AttemptKept("c", 0, 1, 2, "other"), TaskForgotten("d"))
    journal.close()
    attempts = [entry for entry in reopened(tmp_path) if isinstance(entry, AttemptKept)]
    attempts.sort(key=lambda attempt: attempt.task)
    assert attempts == [AttemptKept("c", 0, 1, 2, "other"), AttemptKept("e", 0, 1, 1, "hub", at=1.5)]  # accepted then


def test_slices_of_one_record(tmp_path: Path, journal: Journal) -> None:
    write(journal, kept("a", items=30), *(AttemptKept("a", first, 10, 1, "hub") for first in (0, 10, 20)))
    write(journal, ended("a", first=10, items=10), AttemptFailed("a", 20, 10, 1, True))
    write(
        journal,
        AttemptKept("a", 20, 5, 2, "hub"),
        AttemptKept("a", 25, 5, 2, "hub"),
        ended("a", first=25, items=5, attempt=2),
    )
    journal.close()
    attempts = [entry for entry in reopened(tmp_path) if isinstance(entry, AttemptKept)]
    assert attempts == [AttemptKept("a", 0, 10, 1, "hub"), AttemptKept("a", 20, 5, 2, "hub")]


def test_a_slice_stays_open_while_an_item_of_it_that_was_told_is_tried_again(tmp_path: Path, journal: Journal) -> None:
    write(journal, kept("a", items=10), AttemptKept("a", 0, 10, 1, "hub"))
    write(journal, AttemptFailed("a", 0, 1, 1, False, raised=True), ended("a", first=1, items=3))
    write(journal, AttemptKept("a", 0, 1, 2, "hub"))
    write(journal, kept("b"))
    journal.close()
    open_now = [AttemptKept("a", 0, 10, 1, "hub"), AttemptKept("a", 0, 1, 2, "hub")]
    assert [entry for entry in reopened(tmp_path) if isinstance(entry, AttemptKept)] == open_now
    again = Journal(tmp_path)
    list(again.replay())
    write(again, ended("a", items=1, attempt=2), ended("a", first=0, items=10))
    write(again, kept("c"))
    again.close()
    assert rows(tmp_path, "attempts") == 0


def rows(folder: Path, table: str) -> int:
    db = sqlite3.connect(folder / "journal.sqlite")
    try:
        return int(db.execute(f"SELECT count(*) FROM {table}").fetchone()[0])
    finally:
        db.close()


def test_attempts_that_have_ended_leave_no_rows(tmp_path: Path, journal: Journal) -> None:
    for turn in range(20):
        write(journal, kept(f"{turn}", items=2), AttemptKept(f"{turn}", 0, 2, 1, "hub"))
        write(journal, ended(f"{turn}", items=2))
    write(journal, kept("x", items=2), AttemptKept("x", 0, 2, 1, "hub"), ended("x", items=2))
    write(journal, kept("last"))
    journal.close()
    assert rows(tmp_path, "attempts") == 0


def test_a_lone_call_and_the_hub_that_gets_it_at_once_are_one_row(tmp_path: Path, journal: Journal) -> None:
    for task in "abcd":
        write(journal, kept(task), AttemptKept(task, 0, 1, 1, f"hub of {task}"))
    write(journal, AttemptFailed("b", 0, 1, 1, crashed=False, reason="returned"))
    write(
        journal, AttemptFailed("c", 0, 1, 1, crashed=False, reason="returned"), AttemptKept("c", 0, 1, 2, "other", 4.5)
    )
    write(journal, ended("d"))
    journal.close()
    assert rows(tmp_path, "attempts") == 1  # the second of c
    open_now = [AttemptKept("a", 0, 1, 1, "hub of a", 1.5), AttemptKept("c", 0, 1, 2, "other", 4.5)]
    for _ in range(2):  # the second start finds what the first has written anew
        assert [entry for entry in reopened(tmp_path) if isinstance(entry, AttemptKept)] == open_now
    again = Journal(tmp_path)
    write(again, ended("a"), ended("c", attempt=2))
    again.close()
    assert not [entry for entry in reopened(tmp_path) if isinstance(entry, AttemptKept)]


# ── against a model ──


TASKS = st.sampled_from("abcd")
ENTRIES = st.one_of(
    st.builds(kept, TASKS, st.sampled_from([b"p", b"P" * INLINE])),
    st.builds(ended, TASKS, st.sampled_from([b"r", b"R" * INLINE])),
    st.builds(AttemptKept, TASKS, st.just(0), st.just(1), st.integers(1, 3), st.just("hub")),
    st.builds(Collected, TASKS, st.floats(0, 9)),
    st.builds(TaskForgotten, TASKS),
    st.builds(BlobKept, st.sampled_from("xy"), st.sampled_from([Payload((b"b",)), Payload((b"B" * INLINE,))])),
    st.builds(BlobForgotten, st.sampled_from("xy")),
    st.builds(Published, st.sampled_from("fg"), st.sampled_from(["", "x"])),
)


class Model:
    """What should come back, in the plainest words."""

    def __init__(self) -> None:
        self.tasks: dict[str, TaskKept] = {}
        self.ends: dict[str, list[EndKept]] = {}
        self.collected: dict[str, Collected] = {}
        self.blobs: dict[str, BlobKept] = {}
        self.published: dict[str, Published] = {}

    def play(self, entry: AnyEntry) -> bool:
        """Take it; False if no scheduler would say it now."""
        match entry:
            case TaskKept():
                if entry.spec.task in self.tasks:
                    return False
                self.tasks[entry.spec.task] = entry
            case BlobKept():
                self.blobs.pop(entry.hash, None)
                self.blobs[entry.hash] = entry
            case BlobForgotten():
                self.blobs.pop(entry.hash, None)
            case Published():
                self.published.pop(entry.name, None)
                if entry.hash:
                    self.published[entry.name] = entry
            case TaskForgotten(task=task):
                self.tasks.pop(task, None)
                self.ends.pop(task, None)
                self.collected.pop(task, None)
            case EndKept(task=task) if task in self.tasks:
                self.ends.setdefault(task, []).append(entry)
            case Collected(task=task) if task in self.tasks:
                self.collected[task] = entry
        return True


def by_kind(entries: list[AnyEntry], kind: type) -> list[Any]:
    return sorted((entry for entry in entries if isinstance(entry, kind)), key=repr)


@settings(deadline=None, max_examples=60)  # disks and busy machines have their own pace
@given(st.lists(st.lists(ENTRIES, max_size=6), max_size=6))
def test_any_history(tmp_path_factory: pytest.TempPathFactory, turns: list[list[AnyEntry]]) -> None:
    folder = tmp_path_factory.mktemp("history")
    journal, model = Journal(folder), Model()
    for turn in turns:
        write(journal, *(copy.deepcopy(entry) for entry in turn if model.play(entry)))  # a payload may leave memory
    journal.close()
    found = reopened(folder)
    assert [entry for entry in found if isinstance(entry, TaskKept)] == list(model.tasks.values())
    assert by_kind(found, EndKept) == sorted((e for ends in model.ends.values() for e in ends), key=repr)
    assert by_kind(found, Collected) == sorted(model.collected.values(), key=repr)
    assert by_kind(found, BlobKept) == sorted(model.blobs.values(), key=repr)
    assert by_kind(found, Published) == sorted(model.published.values(), key=repr)
    payloads = [e.spec.payload for e in model.tasks.values()] + [b.payload for b in model.blobs.values()]
    payloads += [e.payload for ends in model.ends.values() for e in ends if e.payload is not None]
    large = {p.tobytes() for p in payloads if p.nbytes >= INLINE}
    assert len(files(folder)) == len(large)


TABLES = {TaskKept: "tasks (n, entry)", EndKept: "ends (key, entry)", AttemptFailed: "failed (key, entry)"}


@pytest.mark.decoder
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_row_costs_its_entry_and_no_other(tmp_path: Path, data: st.DataObject) -> None:
    journal = Journal(Path(tempfile.mkdtemp(dir=tmp_path)))
    kind = data.draw(st.sampled_from([TaskKept, EndKept, AttemptFailed]))
    key = 2 if kind is TaskKept else SPAN
    columns: tuple[Any, ...] = {TaskKept: (2, None), EndKept: (SPAN, 0, 1, 1, None)}.get(kind, (SPAN,))
    row = sealed(journal._encode(data.draw(fill(kind)))[0], *columns)
    damaged = spoilt(data, row)
    db = journal._db
    whole = sealed(journal._encode(kept("whole"))[0], 1, None)
    db.execute("INSERT INTO tasks (n, entry) VALUES (1, ?)", (whole,))
    db.execute(f"INSERT INTO {TABLES[kind]} VALUES (?, ?)", (key, damaged))
    if kind is EndKept:
        db.execute("UPDATE ends SET first = 0, items = 1, attempt = 1")
    found = list(journal.replay())
    journal.close()
    assert found[0] == kept("whole")
    if damaged == row:
        assert [type(entry) for entry in found] == [TaskKept, kind]
        return
    assert journal.damage
    assert len(found) <= 2
    if kind is EndKept:
        assert isinstance(found[1], EndKept)
        assert (found[1].task, found[1].state) == ("whole", TaskState.LOST)
    elif kind is TaskKept and len(found) == 2:
        assert isinstance(found[1], TaskKept)
        assert lost_reason(found[1].spec.payload) or not found[1].spec.payload.nbytes


def test_attempts_that_begin_and_end_in_one_commit_take_no_others_along(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    first = [kept("a"), AttemptKept("a", 0, 1, 1, "h"), ended("a"), kept("b"), AttemptKept("b", 0, 1, 1, "h")]
    write(journal, *first)
    write(journal, kept("c"))
    journal.close()
    assert [entry.task for entry in reopened(tmp_path) if isinstance(entry, AttemptKept)] == ["b"]


# ── kill -9 ──

WRITER = """
import os, sys
from pathlib import Path
from nblb.broker.journal.journal import Journal
from nblb.protocol.framing import Payload
from nblb.protocol.messages import SubmitTask
from nblb.protocol.journal_entries import TaskKept
journal = Journal(Path(sys.argv[1]))
number = sum(1 for _ in journal.replay())
while True:
    for n in range(number, number + 7):
        payload = Payload((b"x" * (50_000 if n % 5 == 0 else 100),))
        journal.append(TaskKept(SubmitTask(task=str(n), name="f", payload=payload), 1.0))
    journal.commit()
    number += 7
    os.write(1, b"%d\\n" % number)
"""


def test_a_killed_core_has_lost_nothing_it_promised(tmp_path: Path) -> None:
    promised = 0
    for _ in range(4):
        with subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE) as writer:
            assert writer.stdout is not None
            for _ in range(20):
                promised = int(writer.stdout.readline())
            writer.send_signal(signal.SIGKILL)
            rest = writer.stdout.read().split(b"\n")[:-1]
            promised = int(rest[-1]) if rest else promised
    found = [entry.spec.task for entry in reopened(tmp_path) if isinstance(entry, TaskKept)]
    assert found == list(map(str, range(len(found))))
    assert promised <= len(found) <= promised + 7
    assert sqlite3.connect(tmp_path / "journal.sqlite").execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert len(files(tmp_path)) == 1  # equal content


def test_a_saved_state_replaces_the_one_before_and_its_file(tmp_path: Path, journal: Journal) -> None:
    for letter in (b"a", b"b", b"b", b"c"):
        journal.append(BlobKept("checkpoint:t.0", Payload((b"p", letter * INLINE))))
        journal.commit()
        journal.unload_sent()
        assert len([*(tmp_path / "blobs").iterdir()]) == 1
    journal.append(BlobForgotten("checkpoint:t.0"))
    journal.commit()
    journal.unload_sent()
    assert not [*(tmp_path / "blobs").iterdir()]
    journal.close()
    assert rows(tmp_path, "blobs") == 0
