"""The decisions of a hub: events in, commands out."""

from __future__ import annotations

from typing import Any

import pytest

from nblb.protocol.commands import AskForItems, ForgetBlob, Halt, HandBack, KillWorker, Log, RetireWorker, StartWorker
from nblb.protocol.framing import Payload
from nblb.protocol.messages import (
    BlobMissing,
    BlobWanted,
    EndCommitted,
    Heartbeat,
    HoldBlob,
    HubGone,
    HubHello,
    HubLeaves,
    ItemsFinished,
    OutputKept,
    Refused,
    Running,
    RunTask,
    ScaleHub,
    StopHub,
    StopTask,
    TaskFinished,
    TaskPrinted,
    TaskProgressed,
    TaskStarted,
    TaskStopped,
    Welcome,
    WorkerDied,
    WorkerStarted,
)
from tests.hub.slots_rig import RESULT, SlotsRig


def committed(run: RunTask) -> EndCommitted:
    return EndCommitted(task=run.task, attempt=run.attempt, first=run.first)


def stop(run: RunTask, why: str = "cancel", kill: bool = False) -> StopTask:
    return StopTask(task=run.task, attempt=run.attempt, first=run.first, why=why, kill=kill)


# ── giving ──


def test_slices_go_to_idle_workers_in_order() -> None:
    rig = SlotsRig(2)
    a, b, c = rig.run("a"), rig.run("b"), rig.run("c")
    assert rig.given == [("a", "w1"), ("b", "w2")]
    rig.finish(b)
    assert rig.given[2:] == [("c", "w2")]
    rig.finish(a)
    rig.finish(c)
    assert [m.task for m in rig.messages(TaskFinished)] == ["b", "a", "c"]


def test_groups_do_not_share_workers() -> None:
    rig = SlotsRig(1, 1)
    rig.run("a", group=1)
    rig.run("b", group=1)
    rig.run("c", group=0)
    assert rig.given == [("a", "w2"), ("c", "w1")]


def test_a_group_that_is_not_there_is_handed_back() -> None:
    rig = SlotsRig(1)
    rig.run("a", group=5)
    assert [(m.task, m.why, m.ran) for m in rig.messages(TaskStopped)] == [("a", "recall", False)]


def test_the_same_order_twice_runs_once() -> None:
    rig = SlotsRig(2)
    run = rig.run("a")
    rig.core(run)
    assert rig.given == [("a", "w1")]
    rig.finish(run)
    rig.core(run)
    assert len(rig.messages(TaskFinished)) == 2  # told again, not run again
    rig.core(committed(run))
    rig.core(run)  # a copy that comes when all is over
    assert rig.given == [("a", "w1")]
    assert len(rig.messages(TaskFinished)) == 2
    rig.run("a", attempt=2)
    assert len(rig.given) == 2


def test_an_order_that_was_overtaken_by_its_stop_is_not_run() -> None:
    rig = SlotsRig(1)
    run = RunTask(task="a", attempt=1, name="f", function="f", payload=Payload((b"call",)))
    rig.core(stop(run))
    assert [m.task for m in rig.messages(TaskStopped)] == ["a"]
    rig.core(run)
    assert rig.given == []


def test_a_core_that_was_started_anew_may_count_as_the_one_before() -> None:
    """After a power failure it may not know of the attempt that it had sent."""
    rig = SlotsRig(1)
    run = rig.run("a")
    rig.finish(run)
    rig.core(committed(run))
    rig.slots.line_up(rig.now)
    rig.tick()
    rig.core(Welcome(core="c", epoch=2, name="lab"))
    rig.core(run)
    assert rig.given == [("a", "w1"), ("a", "w1")]


def test_short_slices_wait_in_the_workers_socket() -> None:
    rig = SlotsRig(2)
    first = rig.run("first")
    rig.finish(first, duration_s=0.0001)  # now it is known to be short
    runs = [rig.run(f"t{n}") for n in range(40)]
    assert len(rig.given) > 20
    held = {worker: [task for task, w in rig.given[1:] if w == worker] for worker in ("w1", "w2")}
    assert abs(len(held["w1"]) - len(held["w2"])) <= 1
    assert not rig.messages(TaskStarted)
    for run in runs:
        rig.finish(run, duration_s=0.0001)
    assert len(rig.messages(TaskFinished)) == 41


def test_long_or_unknown_slices_do_not() -> None:
    rig = SlotsRig(1)
    first = rig.run("first")
    rig.run("second")
    assert rig.given == [("first", "w1")]
    rig.finish(first, duration_s=1.0)
    rig.run("third")
    assert rig.given == [("first", "w1"), ("second", "w1")]


def test_no_prefetch_no_slices_ahead() -> None:
    rig = SlotsRig(1, prefetch_s=0.0)
    rig.finish(rig.run("first"), duration_s=0.0001)
    rig.run("a")
    rig.run("b")
    assert rig.given == [("first", "w1"), ("a", "w1")]


def test_what_waits_behind_a_long_slice_is_taken_back_for_whoever_is_free() -> None:
    rig = SlotsRig(2)
    rig.finish(rig.run("first"), duration_s=0.0001)
    runs = {task: rig.run(task) for task in "abcd"}
    where = dict(rig.given)
    busy, other = where["a"], where["b"]
    assert {busy, other} == {"w1", "w2"}
    (behind,) = [task for task in "cd" if where[task] == busy]
    for task in "bcd":
        if where[task] == other:
            rig.finish(runs[task], duration_s=0.0001)
    assert (rig.slots.next_deadline() or 0.0) <= rig.now + 0.005
    rig.tick(0.006)
    assert rig.taken_back == [busy]
    rig.stopped(runs[behind], ran=False, worker=busy)
    assert rig.given[-1] == (behind, other)
    rig.finish(runs[behind])
    rig.finish(runs["a"], worker=busy)
    assert {m.task for m in rig.messages(TaskFinished)} == {"first", *"abcd"}


# ── news ──


def test_a_start_is_told_only_when_the_slice_lasts() -> None:
    rig = SlotsRig(1)
    run = rig.run("a")
    rig.tick(0.01)
    assert not rig.said
    rig.worker("w1", TaskProgressed(task="a", attempt=1, progress=5.0))
    assert not rig.said
    rig.tick(0.01)
    assert rig.said == [
        TaskStarted(task="a", attempt=1, worker="w1"),
        TaskProgressed(task="a", attempt=1, progress=5.0),
    ]
    rig.worker("w1", TaskProgressed(task="a", attempt=1, progress=9.0, note="n"))
    assert rig.said[-1] == TaskProgressed(task="a", attempt=1, progress=9.0, note="n")
    rig.finish(run)
    rig.worker("w1", TaskProgressed(task="a", attempt=1, progress=99.0))
    assert isinstance(rig.said[-1], TaskFinished)


def test_output_passes() -> None:
    rig = SlotsRig(1)
    rig.run("a")
    text = TaskPrinted(task="a", attempt=1, text="hello")
    rig.worker("w1", text)
    assert rig.said == [text]


# ── blobs ──


def test_a_slice_waits_for_what_it_needs() -> None:
    rig = SlotsRig(1)
    rig.run("a", function="g", constants=("k",), depends=("t",))
    b = rig.run("b", function="g")
    assert sorted(m.hash for m in rig.messages(BlobWanted)) == ["g", "k", "t"]
    rig.core(HoldBlob(hash="g", payload=Payload((b"",))))
    assert rig.given == [("b", "w1")]
    rig.core(HoldBlob(hash="k", payload=Payload((b"",))))
    rig.core(HoldBlob(hash="t", payload=Payload((b"",)), first=0, items=3, total=5, holes=(1,)))
    rig.core(HoldBlob(hash="t", payload=Payload((b"",)), first=1, items=1, total=5))
    rig.finish(b)
    assert rig.given == [("b", "w1")]
    rig.core(HoldBlob(hash="t", payload=Payload((b"",)), first=3, items=2, total=5))
    assert rig.given == [("b", "w1"), ("a", "w1")]


def test_a_blob_that_nobody_has_fails_what_waits_for_it() -> None:
    rig = SlotsRig(1)
    rig.run("a", function="g", items=2)
    rig.core(BlobMissing(hash="g"))
    (end,) = rig.messages(TaskFinished)
    assert [f.offset for f in end.failures] == [0, 1]
    assert "no longer has blob g" in end.failures[0].message


def test_unused_blobs_go_when_there_are_too_many() -> None:
    rig = SlotsRig(1, blob_bytes=100)
    rig.run("a", function="f")
    for n in range(4):
        rig.core(HoldBlob(hash=f"b{n}", payload=Payload((bytes(40),))))
    assert [command.hash for command in rig.commands(ForgetBlob)] == ["b0", "b1"]
    assert rig.slots.wants(HoldBlob(hash="b0", payload=Payload((b"",))))
    assert not rig.slots.wants(HoldBlob(hash="f", payload=Payload((b"",))))


def test_tasks_by_name_are_called_in_the_seeds_way() -> None:
    rig = SlotsRig(1)
    rig.slots.set_functions({"HELLO": ("hf", "ha")}, rig.now)
    rig.tick()
    (hello,) = rig.messages(HubHello)
    assert hello.functions == ("HELLO",)
    rig.core(Welcome(core="c", epoch=1, name="lab"))
    rig.run("a", name="HELLO", function="", call="json")
    given = rig.done[-1].run  # type: ignore[attr-defined]
    assert (given.function, given.constants, given.call) == ("hf", ("ha",), "seed")
    rig.run("b", name="NOBODY", function="", call="json")
    assert "no task named 'NOBODY'" in rig.messages(TaskFinished)[0].failures[0].message


# ── stopping ──


def test_cancel_in_line() -> None:
    rig = SlotsRig(1)
    rig.run("a")
    b, c = rig.run("b"), rig.run("c")
    rig.core(stop(b))
    assert rig.messages(TaskStopped) == [TaskStopped(task="b", attempt=1, why="cancel", ran=False)]
    rig.core(stop(c, why="recall"))
    assert rig.messages(TaskStopped)[1].why == "recall"
    rig.finish(RunTask(task="a", attempt=1, name="", function="", payload=Payload()), worker="w1")
    assert rig.given == [("a", "w1")]


def test_cancel_of_a_running_one_interrupts_then_kills() -> None:
    rig = SlotsRig(1, grace_s=0.4)
    run = rig.run("a")
    rig.core(stop(run))
    assert rig.interrupts == ["a"]
    rig.core(stop(run))
    assert rig.interrupts == ["a"]  # once
    rig.tick(0.39)
    assert rig.kills == []
    assert rig.slots.next_deadline() == pytest.approx(100.4)
    rig.tick(0.02)
    assert rig.kills == ["w1"]
    rig.forget()
    rig.die("w1", run)
    (end,) = rig.messages(TaskStopped)
    assert (end.task, end.why, end.ran) == ("a", "cancel", True)
    assert [(m.worker, m.task) for m in rig.messages(WorkerDied)] == [("w1", "")]  # no task is to blame
    (again,) = rig.commands(StartWorker)
    assert again.not_before == 0.0  # at once
    assert not rig.commands(Log)


def test_cancel_and_kill() -> None:
    rig = SlotsRig(1)
    run = rig.run("a")
    rig.core(stop(run))
    rig.core(stop(run, kill=True))
    assert rig.kills == ["w1"]


def test_a_result_that_came_before_the_interrupt_counts() -> None:
    rig = SlotsRig(1)
    run = rig.run("a")
    rig.core(stop(run))
    rig.finish(run)
    assert [m.task for m in rig.messages(TaskFinished)] == ["a"]
    assert not rig.messages(TaskStopped)
    rig.tick(1.0)
    assert rig.kills == []


def test_an_interrupted_attempt_is_told_as_stopped() -> None:
    rig = SlotsRig(1)
    run = rig.run("a")
    rig.core(stop(run))
    rig.stopped(run)
    assert rig.messages(TaskStopped) == [TaskStopped(task="a", attempt=1, why="cancel", ran=True, worker="w1")]


def test_recall_takes_only_what_has_not_begun() -> None:
    rig = SlotsRig(1)
    run = rig.run("a")
    rig.core(stop(run, why="recall"))
    assert not rig.done[1:]
    assert not rig.said


def test_recall_of_a_running_slice_returns_the_calls_that_it_has_not_begun() -> None:
    rig = SlotsRig(1)
    run = rig.run("a", items=5, split=True)
    rig.core(stop(run, why="recall"))
    assert [(c.worker, c.task) for c in rig.commands(HandBack)] == [("w1", "a")]
    end = TaskFinished(task="a", attempt=1, items=5, payload=RESULT, duration_s=2.0, left=3)
    rig.worker("w1", end)
    assert rig.messages(TaskFinished) == [end]
    again = rig.run("a", first=2, items=3, split=True, attempt=2)
    assert rig.holder(again) == "w1"


@pytest.mark.parametrize(("items", "split"), [(1, True), (4, False)])
def test_recall_of_a_running_slice_that_cannot_be_cut_changes_nothing(items: int, split: bool) -> None:
    rig = SlotsRig(1)
    run = rig.run("a", items=items, split=split)
    rig.core(stop(run, why="recall"))
    assert rig.commands(HandBack) == []


def test_cancel_of_one_that_waits_in_a_socket() -> None:
    rig = SlotsRig(1)
    rig.finish(rig.run("first"), duration_s=0.0001)
    a, b, c = rig.run("a"), rig.run("b"), rig.run("c")
    rig.core(stop(b))
    assert rig.taken_back == ["w1"]
    rig.stopped(b, ran=False)
    rig.stopped(c, ran=False)
    assert [(m.task, m.why, m.ran) for m in rig.messages(TaskStopped)] == [("b", "cancel", False)]
    rig.finish(a, duration_s=0.0001)
    assert rig.given[-1] == ("c", "w1")


def test_cancel_of_one_that_the_worker_took_just_then() -> None:
    rig = SlotsRig(1)
    rig.finish(rig.run("first"), duration_s=0.0001)
    a, b = rig.run("a"), rig.run("b")
    rig.core(stop(b))
    rig.finish(a, duration_s=0.0001)  # so the worker is at b, and nothing comes back
    assert rig.interrupts == ["b"]


def test_recall_of_one_that_the_worker_took_just_then_lets_it_go_on() -> None:
    """An interrupt would cost its work, and an at_most_once task its life."""
    rig = SlotsRig(1)
    rig.finish(rig.run("first"), duration_s=0.0001)
    a, b = rig.run("a"), rig.run("b")
    rig.core(stop(b, why="recall"))
    assert rig.taken_back == ["w1"]
    rig.finish(a, duration_s=0.0001)  # so the worker is at b, and nothing comes back
    assert rig.interrupts == []
    rig.finish(b, duration_s=0.0001)
    assert [m.task for m in rig.messages(TaskFinished)] == ["first", "a", "b"]
    assert rig.messages(TaskStopped) == []


def test_but_a_hub_that_leaves_waits_for_nothing_that_begins_just_then() -> None:
    rig = SlotsRig(1)
    rig.finish(rig.run("first"), duration_s=0.0001)
    a, _ = rig.run("a"), rig.run("b")
    rig.core(StopHub(reason="enough"))
    rig.stopped(a)
    assert rig.interrupts == ["a", "b"]


def test_a_stop_for_what_never_came_is_answered() -> None:
    rig = SlotsRig(1)
    rig.core(StopTask(task="x", attempt=3, first=2))
    assert rig.said == [TaskStopped(task="x", attempt=3, first=2, why="cancel", ran=False)]


def test_a_timeout_is_enforced_here() -> None:
    rig = SlotsRig(1, grace_s=0.4)
    run = rig.run("a", timeout_s=2.0)
    rig.tick(1.99)
    assert rig.interrupts == []
    rig.tick(0.01)
    assert rig.interrupts == ["a"]
    rig.finish(run)  # too late
    (end,) = rig.messages(TaskStopped)
    assert (end.why, end.ran) == ("timeout", True)
    assert not rig.messages(TaskFinished)


def test_a_timeout_kills_in_the_end() -> None:
    rig = SlotsRig(1, grace_s=0.4)
    run = rig.run("a", timeout_s=2.0)
    rig.tick(2.0)
    rig.tick(0.4)
    (kill,) = rig.commands(KillWorker)
    assert "did not stop within 0.4 s" in kill.why
    rig.die("w1", run)
    assert rig.messages(TaskStopped)[0].why == "timeout"


def test_the_timeout_counts_from_the_beginning_of_the_run() -> None:
    rig = SlotsRig(1)
    first = rig.run("first")
    rig.run("a", timeout_s=1.0)
    rig.tick(5.0)
    rig.finish(first)
    rig.tick(0.5)
    assert rig.interrupts == []
    rig.tick(0.5)
    assert rig.interrupts == ["a"]


def test_a_later_attempt_replaces_the_one_in_hand_in_silence() -> None:
    rig = SlotsRig(2)
    one = rig.run("a", attempt=1)
    two = rig.run("a", attempt=2)
    assert rig.interrupts == ["a"]
    assert rig.given == [("a", "w1"), ("a", "w2")]
    rig.stopped(one, worker="w1")
    assert not rig.messages(TaskStopped)
    rig.finish(two, worker="w2")
    assert [(m.task, m.attempt) for m in rig.messages(TaskFinished)] == [("a", 2)]


# ── death ──


def test_a_workers_death_blames_what_it_was_at() -> None:
    rig = SlotsRig(1)
    rig.finish(rig.run("first"), duration_s=0.0001)
    a, b = rig.run("a"), rig.run("b")
    rig.stopped(b, ran=False)
    rig.die("w1", a)
    (died,) = rig.messages(WorkerDied)
    assert (died.task, died.attempt, died.reason) == ("a", 1, "killed")
    assert rig.start_workers() == ["w2"]
    assert rig.given[-1] == ("b", "w2")


def test_an_idle_workers_death_blames_nobody() -> None:
    rig = SlotsRig(1)
    rig.die("w1")
    assert [(m.worker, m.task) for m in rig.messages(WorkerDied)] == [("w1", "")]
    rig.run("a")
    assert rig.given == []
    rig.start_workers()
    assert rig.given == [("a", "w2")]


def test_workers_that_die_at_once_come_back_later_and_later() -> None:
    rig = SlotsRig(1)
    delays = []
    worker = "w1"
    for _ in range(10):
        rig.forget()
        rig.die(worker)
        (start,) = rig.commands(StartWorker)
        delays.append(start.not_before - rig.now)
        rig.now = start.not_before
        (worker,) = rig.start_workers()
    assert delays[:3] == pytest.approx([0.05, 0.1, 0.2])
    assert delays[-1] == pytest.approx(10.0)
    rig.now += 60
    rig.forget()
    rig.die(worker)
    assert rig.commands(StartWorker)[0].not_before == 0.0


def test_tasks_that_kill_their_workers_do_not_delay_others() -> None:
    rig = SlotsRig(1)
    for n in range(20):
        rig.forget()
        run = rig.run(f"poison{n}")
        rig.die(rig.holder(run), run)
        (start,) = rig.commands(StartWorker)
        assert start.not_before - rig.now <= 0.05
        rig.start_workers()


def test_the_death_of_a_worker_that_could_not_start_is_for_the_log_only() -> None:
    rig = SlotsRig(1, welcome=False)
    rig.core(Welcome(core="c", epoch=1, name="lab"))
    rig.forget()
    rig.die("w1")
    assert not rig.messages(WorkerDied)
    assert "killed" in rig.commands(Log)[0].text


# ── scale, stop ──


def test_scale_up_and_down() -> None:
    rig = SlotsRig(2)
    rig.core(ScaleHub(hub="h", workers=3))
    assert rig.start_workers() == ["w3"]
    a, b, c = rig.run("a"), rig.run("b"), rig.run("c")
    rig.core(ScaleHub(hub="h", workers=1))
    assert rig.commands(RetireWorker) == []
    for run in (a, b, c):
        rig.finish(run)
    leaving = [command.worker for command in rig.commands(RetireWorker)]
    assert len(leaving) == 2
    for worker in leaving:
        rig.die(worker)
    assert rig.commands(StartWorker) == []
    assert sum(state == 100 for state in rig.slots.states().values()) == 1
    assert [m.worker for m in rig.messages(WorkerDied)] == leaving


def test_all_groups_share_what_a_hub_is_scaled_to() -> None:
    rig = SlotsRig(4, 2)
    rig.core(ScaleHub(hub="h", workers=12))
    assert len(rig.start_workers()) == 6
    assert [group.wanted for group in rig.slots._workers_table.groups] == [8, 4]
    rig.core(ScaleHub(hub="h", workers=0))
    assert [group.wanted for group in rig.slots._workers_table.groups] == [0, 0]
    rig.core(ScaleHub(hub="h", workers=3))
    assert [group.wanted for group in rig.slots._workers_table.groups] == [2, 1], "in proportion to what was configured"
    assert [group.workers for group in rig.slots._hello.groups] == [2, 1]


def test_a_group_gets_no_more_workers_than_it_has_cards_for() -> None:
    rig = SlotsRig(2, 2)
    rig.slots.most_workers = {0: 2}
    rig.core(ScaleHub(hub="h", workers=8))
    assert [group.wanted for group in rig.slots._workers_table.groups] == [2, 4]


def test_workers_of_a_lost_card_are_not_replaced() -> None:
    rig = SlotsRig(3)
    rig.slots.lose_workers(0, 2)
    rig.die("w1")
    assert rig.commands(StartWorker) == []
    assert [group.workers for group in rig.slots._hello.groups] == [2]
    rig.die("w2")
    assert len(rig.start_workers()) == 1
    rig.core(ScaleHub(hub="h", workers=9))
    assert [group.wanted for group in rig.slots._workers_table.groups] == [2]


def test_workers_of_a_card_that_others_use_rest_and_come_back() -> None:
    rig = SlotsRig(2)
    run = rig.run("a")
    busy = rig.holder(run)
    rig._take(rig.slots.rest_workers(0, 1, [busy], rig.now))
    assert rig.commands(RetireWorker) == []  # its task goes on
    rig.finish(run)
    assert [command.worker for command in rig.commands(RetireWorker)] == [busy]
    rig.die(busy)
    assert rig.commands(StartWorker) == []
    rig._take(rig.slots.rest_workers(0, 2, [], rig.now))
    assert len(rig.start_workers()) == 1


def test_idle_workers_go_first() -> None:
    rig = SlotsRig(2)
    rig.run("a")
    rig.core(ScaleHub(hub="h", workers=1))
    assert [command.worker for command in rig.commands(RetireWorker)] == ["w2"]


def test_the_states_in_the_seeds_words() -> None:
    rig = SlotsRig(2)
    rig.run("a")
    rig.core(ScaleHub(hub="h", workers=3))
    assert rig.slots.states() == {"w1": 0, "w2": 100, "w3": -1}


def test_a_hub_that_is_stopped_hands_everything_back() -> None:
    rig = SlotsRig(1)
    a = rig.run("a")
    rig.run("b")
    rig.core(StopHub(reason="enough"))
    assert rig.messages(HubLeaves) == [HubLeaves()]  # before the word that b is back: not to get it again
    assert rig.interrupts == ["a"]
    rig.tick()
    assert not rig.commands(Halt)
    rig.stopped(a)
    rig.tick()
    assert [(m.task, m.why, m.ran) for m in rig.messages(TaskStopped)] == [
        ("b", "recall", False),
        ("a", "recall", True),
    ]
    assert rig.messages(HubGone) == [HubGone(reason="enough")]
    assert rig.commands(Halt) == [Halt("enough")]
    rig.forget()
    rig.tick(0.1)
    assert not rig.commands(Halt)
    rig.run("c")
    assert rig.messages(TaskStopped)[0].why == "recall"


def test_a_refused_hub_says_why_and_goes() -> None:
    rig = SlotsRig(1)
    rig.core(Refused(reason="another version"))
    rig.tick()
    assert "another version" in rig.commands(Log)[0].text
    assert rig.commands(Halt)


def test_a_core_without_room_for_a_new_line_ends_no_hub() -> None:
    rig = SlotsRig(1)
    rig.core(Refused(reason="no file descriptor left", kind="LoadBalancerUnreachable"))
    rig.tick()
    assert not rig.commands(Halt)


def test_a_core_that_does_not_know_the_hub_hears_its_hello() -> None:
    rig = SlotsRig(1)
    rig.core(Refused(reason="say hello first", kind="UnknownParty"))
    rig.tick()
    assert len(rig.messages(HubHello)) == 1
    assert not rig.commands(Halt)
    rig.core(Refused(reason="say hello first", kind="UnknownParty"))
    rig.tick()
    assert len(rig.messages(HubHello)) == 1


# ── the core comes and goes ──


def test_the_first_word_and_the_welcome() -> None:
    rig = SlotsRig(2, welcome=False)
    assert [type(m) for m in rig.said] == []
    rig.slots.line_up(rig.now)
    rig.tick()
    (hello,) = rig.messages(HubHello)
    assert (hello.core, hello.workers, hello.running) == ("", (), ())
    rig.tick(0.5)
    assert len(rig.said) == 1
    rig.tick(1.6)
    assert len(rig.messages(HubHello)) == 2  # again, for nobody has answered
    rig.done = [StartWorker("w1", 0)]
    rig.start_workers()
    assert not rig.messages(WorkerStarted)  # the hello will say so
    rig.core(Welcome(core="c", epoch=1, name="lab", heartbeat_s=1.0))
    rig.tick()
    assert len(rig.messages(Heartbeat)) == 1


def test_heartbeats() -> None:
    rig = SlotsRig(1)
    rig.slots.load, rig.slots.memory = 0.5, 0.25
    for _ in range(13):
        rig.core(Heartbeat())
        rig.tick(0.25)
    beats = rig.messages(Heartbeat)
    assert len(beats) == 3
    assert beats[0] == Heartbeat(load=0.5, memory=0.25, at=101.0, wanted=(1,))
    rig.core(ScaleHub(hub="h", workers=3))
    rig.tick(1.0)
    assert rig.messages(Heartbeat)[-1].wanted == (3,)


def test_ends_are_kept_until_they_are_committed_and_told_to_a_new_core() -> None:
    rig = SlotsRig(3)
    a, b = rig.run("a"), rig.run("b")
    running = rig.run("c", first=4, items=2)
    rig.run("d")
    rig.finish(a)
    rig.finish(b)
    rig.core(committed(a))
    rig.slots.line_down(rig.now)
    rig.forget()
    rig.run("e")
    assert not rig.said
    rig.slots.line_up(rig.now)
    rig.tick()
    (hello,) = rig.said
    assert isinstance(hello, HubHello)
    assert hello.core == "c"
    assert set(hello.running) == {
        Running("b", 1),
        Running("c", 1, 4, 2, "w3"),
        Running("d", 1, 0, 1, "w1"),
        Running("e", 1),
    }
    rig.forget()
    rig.core(Welcome(core="c", epoch=2, name="lab"))
    assert [m.task for m in rig.messages(TaskFinished)] == ["b"]
    (back,) = rig.messages(TaskStopped)  # that order was older than our hello: others may have it
    assert (back.task, back.why, back.ran) == ("e", "recall", False)
    rig.tick(0.03)
    assert {m.task for m in rig.messages(TaskStarted)} >= {"c"}
    rig.finish(running, worker="w3")
    assert [m.task for m in rig.messages(TaskFinished)] == ["b", "c"]
    rig.core(committed(b))
    rig.core(committed(running))
    rig.forget()
    rig.core(Welcome(core="c", epoch=3, name="lab"))  # out of the blue: a core that was started anew
    rig.tick()
    assert len(rig.messages(HubHello)) == 1
    rig.core(Welcome(core="c", epoch=3, name="lab"))
    assert not rig.messages(TaskFinished)


def test_a_silent_core_is_greeted_again() -> None:
    rig = SlotsRig(1, suspect_s=5.0, lease_s=15.0)
    rig.tick(4.9)
    assert not rig.messages(HubHello)
    rig.tick(0.2)
    assert len(rig.messages(HubHello)) == 1
    rig.tick(1.0)
    assert len(rig.messages(HubHello)) == 1
    rig.tick(1.1)
    assert len(rig.messages(HubHello)) == 2


def test_when_the_lease_is_over_what_runs_is_stopped() -> None:
    rig = SlotsRig(1, suspect_s=5.0, lease_s=15.0, grace_s=0.4)
    run = rig.run("a")
    rig.run("b")
    rig.tick(13.8)
    assert rig.interrupts == []
    rig.tick(0.1)  # so that all is over before the core gives it to others
    assert rig.interrupts == ["a"]
    rig.stopped(run)
    rig.forget()
    rig.slots.line_up(rig.now)
    rig.core(Welcome(core="c", epoch=1, name="lab"))
    assert {(m.task, m.why, m.ran) for m in rig.messages(TaskStopped)} == {
        ("b", "recall", False),
        ("a", "recall", True),
    }
    rig.run("c")
    assert rig.given == [("c", "w1")]


def test_there_is_no_lease_of_a_dead_core() -> None:
    rig = SlotsRig(1, suspect_s=5.0, lease_s=15.0)
    run = rig.run("a")
    rig.slots.line_down(rig.now)
    rig.slots.core_ended()
    rig.tick(100.0)
    assert rig.interrupts == []
    assert rig.slots.next_deadline() is None
    rig.finish(run)
    rig.slots.line_up(rig.now)
    rig.tick()
    rig.core(Welcome(core="c", epoch=2, name="lab"))
    assert [m.task for m in rig.messages(TaskFinished)] == ["a"]


def test_another_cluster_gets_nothing_of_the_old_ones() -> None:
    rig = SlotsRig(2)
    rig.finish(rig.run("a"))
    rig.run("b")
    rig.slots.line_up(rig.now)
    rig.tick()
    rig.forget()
    rig.core(Welcome(core="another", epoch=1, name="lab"))
    assert rig.interrupts == ["b"]
    assert not rig.messages(TaskFinished)


def test_what_is_left_of_another_clusters_task_does_not_end_its_namesake() -> None:
    rig = SlotsRig(2)
    old = rig.run("a")
    rig.slots.line_up(rig.now)
    rig.tick()
    rig.core(Welcome(core="another", epoch=1, name="lab"))
    rig.core(HoldBlob(hash="f", payload=Payload((b"function",))))
    new = rig.run("a")  # the same name and attempt
    rig.worker("w1", ItemsFinished(task="a", attempt=1, first=0, offset=0, items=1, payload=RESULT))
    rig.stopped(old, worker="w1")
    assert not rig.messages(TaskStopped)
    assert not rig.messages(ItemsFinished)
    rig.finish(new, worker="w2")
    assert [(m.task, m.attempt) for m in rig.messages(TaskFinished)] == [("a", 1)]
    rig.run("a", attempt=2)  # which replaces nothing
    assert rig.interrupts == ["a"]


def test_late_events_of_workers_that_are_gone_change_nothing() -> None:
    rig = SlotsRig(1)
    run: Any = rig.run("a")
    rig.die("w1", run)
    rig.forget()
    rig.finish(run, worker="w1")
    assert (rig.said, rig.done) == ([], [])


def test_a_late_kill_is_never_blamed_on_the_next_slice() -> None:
    rig = SlotsRig(1, grace_s=0.4)
    rig.finish(rig.run("first"), duration_s=0.0001)
    a, b = rig.run("a"), rig.run("b")
    rig.core(stop(a))
    assert rig.taken_back == ["w1"]
    rig.stopped(b, ran=False)
    rig.tick(0.5)
    assert rig.kills == ["w1"]
    rig.finish(a, worker="w1")  # it was on its way when the kill was sent
    assert rig.given[-1] == ("b", "w1")
    assert len(rig.given) == 3
    rig.die("w1")
    assert [m.task for m in rig.messages(WorkerDied)] == [""]
    assert rig.start_workers() == ["w2"]
    assert rig.given[-1] == ("b", "w2")


# ── parts of a slice ──


def part(run: RunTask, offset: int, items: int) -> ItemsFinished:
    return ItemsFinished(task=run.task, attempt=run.attempt, first=run.first, offset=offset, items=items)


def test_what_is_over_of_a_long_slice_is_asked_for_until_its_last_item_runs() -> None:
    rig = SlotsRig(2)
    many = rig.run("many", items=4)
    rig.run("one")
    rig.tick(0.03)
    rig.tick(0.1)
    assert not rig.commands(AskForItems)
    rig.tick(0.08)
    assert [command.worker for command in rig.commands(AskForItems)] == [rig.holder(many)]
    rig.worker(rig.holder(many), part(many, 0, 1))
    rig.tick(0.21)
    assert len(rig.commands(AskForItems)) == 2
    rig.worker(rig.holder(many), part(many, 1, 2))
    rig.tick(0.21)
    assert len(rig.commands(AskForItems)) == 3
    rig.tick(0.21)
    assert len(rig.commands(AskForItems)) == 3  # only the last one runs
    rig.finish(many)
    rig.tick(0.5)
    assert len(rig.commands(AskForItems)) == 3


def test_a_short_slice_is_never_asked() -> None:
    rig = SlotsRig(1)
    for number in range(5):
        rig.finish(rig.run(f"t{number}", items=50))
        rig.tick(0.1)
    assert not rig.commands(AskForItems)


def test_a_part_is_said_again_before_its_end_until_it_is_committed() -> None:
    rig = SlotsRig(1)
    run = rig.run("t", items=4)
    rig.worker("w1", part(run, 0, 1))
    rig.worker("w1", part(run, 1, 2))
    rig.core(EndCommitted(task="t", attempt=1, offset=0))
    rig.finish(run)
    rig.forget()
    rig.slots.line_down(rig.now)
    rig.slots.line_up(rig.now)
    rig.tick()
    assert rig.messages(HubHello)[0].running == (Running(task="t", attempt=1, items=4),)
    rig.core(Welcome(core="c", epoch=2, name="lab"))
    told = [message for message in rig.said if isinstance(message, (ItemsFinished, TaskFinished))]
    assert [getattr(message, "offset", -1) for message in told] == [1, -1]
    rig.core(EndCommitted(task="t", attempt=1, offset=1))
    rig.core(EndCommitted(task="t", attempt=1))
    rig.forget()
    rig.core(Welcome(core="c", epoch=3, name="lab"))
    assert not rig.messages(ItemsFinished)


def test_an_item_of_a_told_part_is_tried_again_and_the_slice_goes_on() -> None:
    rig = SlotsRig(2)
    run = rig.run("t", items=4)
    rig.worker(rig.holder(run), part(run, 0, 1))
    again = rig.run("t", attempt=2, items=1)
    assert not rig.interrupts
    rig.forget()
    rig.worker("w1", TaskFinished(task="t", attempt=1, items=4, told=1))
    rig.worker("w2", TaskFinished(task="t", attempt=2))
    assert [(message.attempt, message.items) for message in rig.messages(TaskFinished)] == [(1, 4), (2, 1)]
    rig.core(committed(again))


def test_a_new_attempt_at_what_was_not_told_replaces_the_old_one() -> None:
    rig = SlotsRig(2)
    run = rig.run("t", items=4)
    rig.worker(rig.holder(run), part(run, 0, 1))
    rig.run("t", attempt=2, items=4)
    assert rig.interrupts == ["t"]


def test_functions_that_capture_much_go_sooner_than_constants(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nblb.hub.slots.blob_cache.FUNCTION_BYTES", 100)
    rig = SlotsRig(1)
    rig.core(HoldBlob(hash="constant", payload=Payload((bytes(500),))))
    for n in range(4):
        run = rig.run(f"t{n}", function=f"f{n}", constants=("constant",))
        rig.core(HoldBlob(hash=f"f{n}", payload=Payload((bytes(40),))))
        rig.finish(run)
        rig.core(committed(run))
    assert [command.hash for command in rig.commands(ForgetBlob)] == ["f0", "f1"]
    assert not rig.slots.wants(HoldBlob(hash="constant", payload=Payload((b"",))))


def test_a_hub_whose_core_is_gone_for_long_ends_itself() -> None:
    rig = SlotsRig(1, orphan_s=900.0)
    rig.slots.line_down(rig.now)
    deadline = rig.slots.next_deadline()
    assert deadline is not None
    assert deadline <= rig.now + 900.0
    rig.tick(899.0)
    assert not any(isinstance(command, Halt) for command in rig.done)
    assert rig.slots.next_deadline() == rig.now + 1.0
    rig.tick(1.0)
    (halt,) = (command for command in rig.done if isinstance(command, Halt))
    assert "no core has answered for 900 s (LB_ORPHAN_S)" in halt.reason


def test_a_hub_that_never_finds_a_core_ends_itself_too() -> None:
    rig = SlotsRig(1, welcome=False, orphan_s=900.0)
    rig.tick(900.0)
    assert any(isinstance(command, Halt) for command in rig.done)


def test_a_core_that_comes_back_ends_the_countdown() -> None:
    rig = SlotsRig(1, orphan_s=900.0)
    rig.slots.line_down(rig.now)
    rig.tick(800.0)
    rig.slots.line_up(rig.now)
    rig.tick()
    rig.core(Welcome(core="c", epoch=1, name="lab"))
    rig.slots.line_down(rig.now)
    rig.tick(800.0)
    assert not any(isinstance(command, Halt) for command in rig.done)
    rig.tick(100.0)
    assert any(isinstance(command, Halt) for command in rig.done)


def test_a_task_that_still_runs_puts_the_end_off() -> None:
    rig = SlotsRig(1, orphan_s=900.0)
    run = rig.run("t")
    rig.slots.line_down(rig.now)
    rig.slots.core_ended()  # so its lease does not stop it
    rig.tick(1000.0)
    deadline = rig.slots.next_deadline()
    assert deadline is None or deadline > rig.now
    assert not any(isinstance(command, Halt) for command in rig.done)
    rig.stopped(run)
    rig.tick()
    assert any(isinstance(command, Halt) for command in rig.done)


def test_results_that_no_core_has_yet_put_the_end_off() -> None:
    rig = SlotsRig(1, orphan_s=900.0, results_s=5000.0)
    run = rig.run("t")
    rig.slots.line_down(rig.now)
    rig.finish(run)
    rig.tick(4999.0)
    assert not rig.commands(Halt)
    rig.tick(1.0)
    assert rig.commands(Halt)


def test_a_hub_hands_back_what_runs_before_its_batch_job_ends() -> None:
    rig = SlotsRig(1, ends_at=102.0)  # the rig's clock starts at 100
    runs = [rig.run("t"), rig.run("u")]
    rig.tick(1.5)
    assert not rig.messages(HubLeaves)
    assert rig.slots.next_deadline() <= 102.0  # type: ignore[operator]
    rig.tick(0.5)
    assert rig.messages(HubLeaves)
    rig.stopped(runs[0])
    assert {(end.task, end.why) for end in rig.messages(TaskStopped)} == {("t", "recall"), ("u", "recall")}
    rig.tick()
    (halt,) = rig.commands(Halt)
    assert halt.reason == "the time of its batch job ends"


def test_each_hello_has_the_time_that_is_left() -> None:
    rig = SlotsRig(1, ends_at=160.0)
    rig.slots.line_down(rig.now)
    rig.tick(20.0)
    rig.slots.line_up(rig.now)
    rig.tick()
    (hello,) = rig.messages(HubHello)
    assert hello.left_s == 40.0
    assert SlotsRig(1, welcome=False).slots._hub_hello(1.0).left_s == 0.0


def test_without_the_setting_a_hub_waits_for_ever() -> None:
    rig = SlotsRig(1)
    rig.slots.line_down(rig.now)
    rig.tick(1e6)
    assert not any(isinstance(command, Halt) for command in rig.done)


def test_the_whole_output_is_said_again_before_the_end_until_that_is_committed() -> None:
    rig = SlotsRig(1)
    run = rig.run("t")
    kept = OutputKept(task="t", attempt=1, numbers=(0,), payload=Payload((b"segment",)))
    rig.worker(rig.holder(run), kept)
    rig.finish(run)
    assert [type(message) for message in rig.said if type(message) in (OutputKept, TaskFinished)] == [
        OutputKept, TaskFinished,
    ]  # fmt: skip
    rig.forget()
    rig.slots.line_down(rig.now)
    rig.slots.line_up(rig.now)
    rig.tick()
    rig.core(Welcome(core="c", epoch=2, name="lab"))
    again = [message for message in rig.said if type(message) in (OutputKept, TaskFinished)]
    assert again[0] is kept
    assert type(again[1]) is TaskFinished
    rig.core(committed(run))
    rig.forget()
    rig.slots.line_down(rig.now)
    rig.slots.line_up(rig.now)
    rig.tick()
    rig.core(Welcome(core="c", epoch=3, name="lab"))
    assert kept not in rig.said
