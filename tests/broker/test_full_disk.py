"""A journal without space: new work is refused, running work continues, and no promise is made that is not kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest

from nblb.broker.full_disk import FullDisk
from nblb.broker.journal.journal import Journal
from nblb.broker.journal.memory import MemoryJournal
from nblb.broker.outgoing import Outgoing, is_unbound
from nblb.errors import JournalError, JournalFull
from nblb.parameters import Parameters
from nblb.protocol.framing import Payload
from nblb.protocol.messages import EndCommitted, Heartbeat, RunTask, TaskAccepted, TaskEnded, TaskRejected
from tests.broker.fakes import FakeScheduler
from tests.broker.running import DEADLINE_S, Running, asking, done, hear, task
from tests.waiting import wait_until


class Disk:
    """Makes a journal's commits fail while `full`; while `tight`, only those that begin to keep a task."""

    def __init__(self, journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
        self.full = self.tight = False
        self.in_use = False  # the reserve
        self.tries = 0
        commit = journal.commit

        def trying() -> None:
            self.tries += 1
            if (self.full and journal._pending) or (self.tight and journal.pending_tasks()):
                raise JournalFull("The disk is full.")
            commit()

        monkeypatch.setattr(journal, "commit", trying)
        monkeypatch.setattr(Journal, "is_tight", property(lambda _: self.in_use))
        monkeypatch.setattr(journal, "has_room", lambda: not (self.in_use or self.tight))


@pytest.fixture
def disk(core: Running, monkeypatch: pytest.MonkeyPatch) -> Disk:
    assert isinstance(core.balancer.journal, Journal)
    return Disk(core.balancer.journal, monkeypatch)


def test_a_full_disk_refuses_what_is_new_and_goes_on(core: Running, disk: Disk) -> None:
    client, hub = core.client(), core.hub()
    client.send([task("a")])
    assert hear(client) == [TaskAccepted(task="a")]
    orders = hear(hub)
    disk.full = True
    client.send([task("b")])
    (rejected,) = hear(client)
    assert (type(rejected), rejected.task, rejected.kind) == (TaskRejected, "b", "JournalFull")
    assert core.scheduler.refused == core.scheduler.recalled() == ["b"]
    hub.send([done(order) for order in orders])
    client.send([task("c"), Heartbeat()])
    refused, beat = hear(client, 2)
    assert (refused.task, refused.kind) == ("c", "JournalFull")
    assert isinstance(beat, Heartbeat)
    assert "c" not in [getattr(message, "task", "") for _, message in core.scheduler.handled]
    before = disk.tries
    wait_until(lambda: disk.tries > before + 2, DEADLINE_S, "tries to commit")
    assert client.receive(0) == []  # neither the result nor its acknowledgement before they are kept
    assert hub.receive(0) == []
    disk.full = False
    (ended,) = hear(client)
    assert (type(ended), ended.task) == (TaskEnded, "a")
    assert hear(hub) == [EndCommitted(task="a", attempt=1)]
    client.send([task("d")])
    assert hear(client) == [TaskAccepted(task="d")]
    assert "LB - THERE IS ROOM AGAIN" in core.said.getvalue()


def test_room_enough_for_ends_keeps_them(core: Running, disk: Disk) -> None:
    client, hub = core.client(), core.hub()
    client.send([task("a")])
    hear(client)
    orders = hear(hub)
    disk.tight = True
    hub.send([done(order) for order in orders])
    assert hear(hub) == [EndCommitted(task="a", attempt=1)]
    hear(client)
    client.send([task("b"), task("b2")])
    assert {message.task for message in hear(client, 2)} == {"b", "b2"}
    with asking(core.balancer.doors.addresses["clients"]) as ask:
        new = {"toLB": "NEWTASK", "taskname": "f", "taskdict": {}, "userid": "u"}
        assert "full" in ask(new)["error"]


def test_while_the_reserve_is_in_use_nothing_new_is_taken_or_started(core: Running, disk: Disk) -> None:
    client, hub = core.client(), core.hub()
    client.send([task("a")])
    hear(client)
    (order,) = hear(hub)
    disk.in_use = True
    hub.send([done(order)])
    assert hear(hub) == [EndCommitted(task="a", attempt=1)]
    hear(client)
    wait_until(lambda: core.scheduler.held, DEADLINE_S, "the scheduler to start nothing")
    client.send([task("b"), Heartbeat()])
    refused, _ = hear(client, 2)
    assert (refused.task, refused.kind) == ("b", "JournalFull")
    assert "LB - The disk of" in core.said.getvalue()
    disk.in_use = False
    wait_until(lambda: "THERE IS ROOM AGAIN" in core.said.getvalue(), DEADLINE_S, "the core to accept again")
    assert not core.scheduler.held
    client.send([task("c")])
    assert hear(client) == [TaskAccepted(task="c")]


def test_an_order_that_waited_for_room_and_is_meant_no_more_is_not_said() -> None:
    """It had been given to another hub meanwhile."""

    class Stuck(MemoryJournal):
        full = True

        def __init__(self) -> None:
            pass

        def commit(self) -> None:
            if self.full:
                raise JournalFull("full")

    journal, out, scheduler = Stuck(), Outgoing(), FakeScheduler(None, None)
    scheduler.given_up = {"old"}
    disk = FullDisk(
        journal, cast(Any, scheduler), out, lambda *_: None, lambda decide, *event: decide(*event), lambda: False
    )
    orders = [RunTask(task=name, attempt=1, name="f", function="", payload=Payload()) for name in ("old", "new")]
    for order in orders:
        out.add("hub", order)
    assert not disk.keep(1.0)
    journal.full = False
    assert not disk.keep(1.1)  # not before it is tried again
    assert disk.keep(1.6)
    assert out.sends["hub"] == orders[1:]


def test_that_a_task_is_not_known_waits_until_its_being_forgotten_is_kept() -> None:
    assert not is_unbound(TaskRejected(task="t", kind="UnknownTask", reason="r"))
    assert is_unbound(TaskRejected(task="t", kind="JournalFull", reason="r"))
    assert not is_unbound(TaskAccepted(task="t"))


def test_tasks_refused_for_want_of_room_never_come_back(
    run: Callable[..., Running], parameters: Parameters, monkeypatch: pytest.MonkeyPatch
) -> None:
    core = run(parameters)
    assert isinstance(core.balancer.journal, Journal)
    disk = Disk(core.balancer.journal, monkeypatch)
    client, hub = core.client(), core.hub()
    client.send([task("kept")])
    hear(client)
    disk.tight = True
    client.send([task("refused")])
    hear(client)
    hear(hub)
    disk.tight = False
    core.end()
    tasks = [entry for entry in run(parameters).scheduler.restored if type(entry).__name__ == "TaskKept"]
    assert [entry.spec.task for entry in tasks] == ["kept"]  # type: ignore[union-attr]


def test_a_broken_disk_ends_the_core(core: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    client = core.client()

    def broken() -> None:
        raise JournalError("The journal cannot be written: disk I/O error.")

    monkeypatch.setattr(core.balancer.journal, "commit", broken)
    client.send([task("a")])
    core.thread.join(DEADLINE_S)
    assert isinstance(core.error, JournalError)
    assert client.receive(0) == []  # it was not acknowledged
