"""Workers that make place for new ones between two tasks, because they have run or grown enough."""

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
