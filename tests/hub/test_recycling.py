"""Workers that are replaced between two tasks, because of their number of tasks or their memory."""

from __future__ import annotations

from nblb.hub.slots.attempts import WorkerSpent
from nblb.protocol.commands import RetireWorker, StartWorker, TakeBack
from nblb.protocol.messages import Group, StopHub
from tests.hub.slots_rig import SlotsRig


def replaced(rig: SlotsRig) -> list[str]:
    return [command.worker for command in rig.commands(RetireWorker)]


def test_after_so_many_tasks_a_worker_is_replaced() -> None:
    rig = SlotsRig(groups=(Group(workers=1, max_tasks=3),))
    for name, items in (("a", 1), ("b", 2)):
        assert replaced(rig) == []
        rig.finish(rig.run(name, items=items))
    assert replaced(rig) == ["w1"]
    assert rig.commands(RetireWorker)[0].why == "it is replaced after 3 tasks"
    assert [command.worker for command in rig.commands(StartWorker)] == ["w2"]  # at once, beside the old one
    c = rig.run("c")
    assert ("c", "w1") not in rig.given
    rig.start_workers()
    assert rig.holder(c) == "w2"
    rig.die("w1")
    assert rig.commands(StartWorker) == []


def test_one_that_is_spent_gets_nothing_ahead() -> None:
    rig = SlotsRig(groups=(Group(workers=1, max_tasks=2),))
    rig.finish(rig.run("known"), 0.0001)
    a, b = rig.run("a"), rig.run("b")
    assert rig.given[-2:] == [("a", "w1"), ("b", "w1")]
    rig.finish(a, 0.0001)
    assert rig.commands(TakeBack)
    rig.stopped(b, ran=False)  # it was read back
    assert replaced(rig) == ["w1"]
    rig.start_workers()
    assert rig.given[-1] == ("b", "w2")


def test_one_that_has_grown_is_replaced_after_its_task() -> None:
    rig = SlotsRig(2)
    a = rig.run("a")
    rig.worker("w1", WorkerSpent(worker="w1"))
    assert replaced(rig) == []
    rig.finish(a)
    assert replaced(rig) == ["w1"]
    assert rig.start_workers() == ["w3"]


def test_a_hub_that_leaves_replaces_nobody() -> None:
    rig = SlotsRig(groups=(Group(workers=1, max_tasks=1),))
    a = rig.run("a")
    rig.core(StopHub())
    rig.finish(a)
    assert rig.commands(StartWorker) == []


# ── a worker serves one user ──


def test_a_worker_that_has_served_another_user_is_replaced_first() -> None:
    rig = SlotsRig(1)
    rig.finish(rig.run("a", user="ann"))
    rig.forget()
    b = rig.run("b", user="bob")
    assert rig.given == []
    assert replaced(rig) == ["w1"]
    assert rig.start_workers() == ["w2"]
    assert rig.holder(b) == "w2"


def test_one_user_s_tasks_go_on_in_the_same_workers() -> None:
    rig = SlotsRig(2)
    for number in range(6):
        rig.finish(rig.run(f"t{number}", user="ann"))
    assert replaced(rig) == []
    assert {worker for _, worker in rig.given} == {"w1", "w2"}


def test_the_free_worker_of_a_user_is_found_behind_another_s() -> None:
    rig = SlotsRig(2)
    a, b = rig.run("a", user="ann"), rig.run("b", user="bob")
    rig.finish(a)
    rig.finish(b)
    rig.run("b2", user="bob")
    rig.run("a2", user="ann")
    assert rig.given[-2:] == [("b2", "w2"), ("a2", "w1")]
    assert replaced(rig) == []


def test_as_many_workers_are_replaced_as_the_other_user_has_slices_and_no_more() -> None:
    rig = SlotsRig(4)
    for run in [rig.run(f"a{number}", user="ann") for number in range(4)]:
        rig.finish(run)
    rig.run("b1", user="bob")
    rig.tick(0.001)
    rig.run("b2", user="bob")
    rig.tick(0.001)
    assert replaced(rig) == ["w1", "w2"]
    rig.start_workers()
    assert rig.given[-2:] == [("b1", "w5"), ("b2", "w6")]
    rig.run("a4", user="ann")
    assert rig.given[-1] == ("a4", "w3")


def test_nothing_waits_in_the_socket_of_another_user_s_worker() -> None:
    rig = SlotsRig(1)
    rig.finish(rig.run("known", user="ann"), 0.0001)
    a = rig.run("a", user="ann")
    rig.run("a2", user="ann")
    rig.run("b", user="bob")
    assert rig.given[-2:] == [("a", "w1"), ("a2", "w1")]
    rig.finish(a, 0.0001)
    assert ("b", "w1") not in rig.given


def test_a_busy_worker_s_user_does_not_pass_the_one_who_waits_for_its_place() -> None:
    rig = SlotsRig(1)
    a = rig.run("a", user="ann")
    b = rig.run("b", user="bob")
    rig.run("a2", user="ann")
    rig.finish(a)
    rig.start_workers()
    assert rig.holder(b) == "w2"
    rig.finish(b)
    rig.start_workers()
    assert rig.given[-1] == ("a2", "w3")


def test_when_the_fresh_worker_does_not_start_another_takes_its_place() -> None:
    rig = SlotsRig(1)
    rig.finish(rig.run("a", user="ann"))
    b = rig.run("b", user="bob")
    rig.die("w1")
    rig.die("w2")  # before it was ready
    rig.start_workers()
    assert rig.holder(b) == "w3"
