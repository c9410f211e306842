"""A worker that waits for its nested tasks gives up its slot, and gets one again when the core allows it."""

from __future__ import annotations

from typing import Any

from nblb.hub.slots.workers import PARKED_S
from nblb.protocol.commands import RefuseWait, ResumeWorker, RetireWorker, StartWorker
from nblb.protocol.messages import (
    Group,
    HubHello,
    LendSlot,
    ResumeTask,
    RunTask,
    ScaleHub,
    WaitBegan,
    WaitEnded,
    Welcome,
    WorkerDied,
    WorkerStarted,
)
from tests.hub.slots_rig import SlotsRig


def begin(rig: SlotsRig, run: RunTask, wait: int = 1) -> str:
    """Its worker says that it waits; which worker that is."""
    worker = rig.holder(run)
    rig.worker(worker, WaitBegan(task=run.task, attempt=run.attempt, wait=wait))
    return worker


def end(rig: SlotsRig, run: RunTask, wait: int = 1) -> None:
    rig.worker(rig.holder(run), WaitEnded(task=run.task, attempt=run.attempt, wait=wait))


def resumed(rig: SlotsRig) -> list[str]:
    return [command.worker for command in rig.commands(ResumeWorker)]


def refused(rig: SlotsRig) -> list[str]:
    return [command.worker for command in rig.commands(RefuseWait)]


def waiting(**settings: Any) -> tuple[SlotsRig, RunTask, str]:
    """A hub of one worker, which waits; its stand-in is there."""
    rig = SlotsRig(1, **settings)
    run = rig.run("parent")
    worker = begin(rig, run)
    rig.start_workers()
    return rig, run, worker


def test_a_stand_in_runs_in_the_place_of_a_worker_that_waits() -> None:
    rig, run, worker = waiting()
    assert [began.task for began in rig.messages(WaitBegan)] == ["parent"]
    (started,) = rig.messages(WorkerStarted)
    assert started.stand_in
    child = rig.run("child")
    assert rig.holder(child) == started.worker != worker
    rig.finish(child)
    end(rig, run)
    assert resumed(rig) == []  # not before the core gives it a slot
    assert [ended.wait for ended in rig.messages(WaitEnded)] == [1]
    rig.core(ResumeTask(task="parent", attempt=1, wait=1))
    assert resumed(rig) == [worker]
    other = rig.run("other")
    assert ("other", started.worker) not in rig.given  # it is parked: there is one slot
    rig.finish(run)
    assert rig.holder(other) == worker


def test_a_parked_stand_in_stands_in_again_and_ends_when_nobody_needs_it() -> None:
    rig, run, _ = waiting()
    stand_in = rig.messages(WorkerStarted)[0].worker
    end(rig, run)
    rig.core(ResumeTask(task="parent", attempt=1, wait=1))
    begin(rig, run, 2)
    assert rig.commands(StartWorker) == []
    child = rig.run("child")
    assert rig.holder(child) == stand_in
    rig.finish(child)
    end(rig, run, 2)
    rig.core(ResumeTask(task="parent", attempt=1, wait=2))
    rig.tick(PARKED_S + 0.1)
    assert [command.worker for command in rig.commands(RetireWorker)] == [stand_in]


def test_an_old_word_of_the_core_resumes_nothing() -> None:
    rig, run, _ = waiting()
    end(rig, run)
    rig.core(ResumeTask(task="parent", attempt=1, wait=1))
    begin(rig, run, 2)
    rig.forget()
    rig.core(ResumeTask(task="parent", attempt=1, wait=1))
    assert resumed(rig) == []


def test_where_no_stand_in_can_be_had_the_last_worker_may_not_wait() -> None:
    rig = SlotsRig(2, most_waits=0)
    one, two = rig.run("one"), rig.run("two")
    first = begin(rig, one)
    assert (refused(rig), rig.messages(WaitBegan)) == ([], [])  # it keeps its slot
    second = begin(rig, two)
    assert refused(rig) in ([first], [second])
    end(rig, one)
    assert first in resumed(rig)


def test_who_keeps_its_slot_is_refused_when_the_others_leave() -> None:
    rig = SlotsRig(2, most_waits=0)
    worker = begin(rig, rig.run("one"))
    assert refused(rig) == []
    rig.core(ScaleHub(hub="h", workers=1))
    rig.tick()
    assert refused(rig) == [worker]


def test_memory_bounds_stand_ins() -> None:
    rig = SlotsRig(1)
    rig.slots.memory = 0.97
    worker = begin(rig, rig.run("one"))
    assert refused(rig) == [worker]


def test_a_hello_tells_who_waits_and_who_stands_in() -> None:
    rig, run, _ = waiting()
    end(rig, run)
    stand_in = rig.messages(WorkerStarted)[0].worker
    rig.forget()
    rig.slots.line_up(rig.now)
    rig.tick()
    (hello,) = rig.messages(HubHello)
    assert hello.stand_ins == (stand_in,)
    (parent,) = hello.running
    assert (parent.wait, parent.wait_ended) == (1, True)
    rig.core(Welcome(core="c", epoch=1, name="lab"))
    assert [ended.wait for ended in rig.messages(WaitEnded)] == [1]


def test_a_stand_in_takes_the_place_of_a_worker_that_died_waiting() -> None:
    rig, run, worker = waiting()
    stand_in = rig.messages(WorkerStarted)[0].worker
    rig.forget()
    rig.die(worker, run)
    assert [died.worker for died in rig.messages(WorkerDied)] == [worker]
    assert [(started.worker, started.stand_in) for started in rig.messages(WorkerStarted)] == [(stand_in, False)]
    assert rig.commands(StartWorker) == []


def test_a_stand_in_that_takes_the_place_of_a_worker_which_leaves_is_no_slot_too_many() -> None:
    """Until the worker has ended, the core counts one of the two. (Found by the simulator.)"""
    rig = SlotsRig(groups=(Group(workers=2, max_tasks=1),))
    begin(rig, rig.run("parent"))
    rig.start_workers()
    (stand_in,) = [started.worker for started in rig.messages(WorkerStarted)]
    other = rig.run("other")
    spent = rig.holder(other)
    rig.said.clear()
    rig.finish(other)
    assert [command.worker for command in rig.commands(RetireWorker)] == [spent]
    told = [(started.worker, started.stand_in) for started in rig.messages(WorkerStarted)]
    assert told == [(spent, True), (stand_in, False)]


def test_a_task_that_is_stopped_while_it_waits_needs_no_slot() -> None:
    rig, run, worker = waiting()
    rig.stopped(run, worker=worker)
    child = rig.run("child")
    other = rig.run("other")
    assert rig.holder(child)
    assert ("other", worker) not in rig.given  # one slot, whoever uses it
    rig.finish(child)
    assert rig.holder(other)


def test_the_core_may_ask_for_a_slot_of_one_that_tells_nothing() -> None:
    rig = SlotsRig(1)
    run = rig.run("parent")
    rig.core(LendSlot(task="parent", attempt=1))
    assert [(began.wait, began.lent) for began in rig.messages(WaitBegan)] == [(1, True)]
    rig.start_workers()
    rig.finish(rig.run("child"))
    worker = begin(rig, run, 1)  # it waits in nblb's way at last: its slot is lent already
    end(rig, run, 1)
    assert resumed(rig) == [worker]
    rig.core(ResumeTask(task="parent", attempt=1, wait=1))
    assert rig.given[-1][0] == "child"
    rig.run("next")
    assert rig.given[-1][0] == "child"  # the parent uses the slot again


def test_the_place_of_a_parked_worker_that_ends_is_a_stand_ins_and_the_core_never_counts_both() -> None:
    rig, run, worker = waiting()
    stand_in = rig.messages(WorkerStarted)[0].worker
    rig.run("child")
    end(rig, run)
    rig.core(ResumeTask(task="parent", attempt=1, wait=1))  # the core thinks that there is a slot
    rig.finish(run)
    rig.forget()
    rig.tick(PARKED_S + 0.1)
    told = [(started.worker, started.stand_in) for started in rig.messages(WorkerStarted)]
    assert told == [(worker, True), (stand_in, False)]
    assert [command.worker for command in rig.commands(RetireWorker)] == [worker]
