"""The next task of a user: by priority, then by order of acceptance, whatever returned or was cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nblb.protocol.messages import SubmitTask, TaskState
from nblb.scheduling.backlog import FEW_LEVELS, UserQueue
from nblb.scheduling.fair_share import FairShare
from nblb.scheduling.invariants import right_order
from nblb.scheduling.slice import Slice
from nblb.scheduling.submission import Submission

ALL = FairShare(600.0).band(0.0, 1000.0)


@pytest.fixture
def user() -> UserQueue:
    return UserQueue("anna")


def task(number: int, priority: float = 0.0, items: int = 1, name: str = "", python: tuple[int, int] = (0, 0)) -> Slice:
    spec = SubmitTask(
        task=f"t{number}", name=name or "f", function="" if name else "h", items=items, priority=priority, python=python
    )
    return Submission(spec, "anna", number, 0.0, None).begin(TaskState.QUEUED, 0.0)


def drain(user: UserQueue, low: float = 0.0, high: float = 1000.0) -> list[str]:
    order, band = [], FairShare(600.0).band(low, high)
    while (best := user.best(low, high)) is not None:
        user.drop(best, band)
        best.move("RunTask", 0.0)
        order.append(best.id)
    return order


def test_higher_priority_first_then_first_in(user: UserQueue) -> None:
    for number, priority in enumerate([5.0, 50.0, 5.0, 0.0, 50.0]):
        user.add(task(number, priority))
    assert [one.id for one in user.tasks()] == ["t1", "t4", "t0", "t2", "t3"]
    assert drain(user) == ["t1", "t4", "t0", "t2", "t3"]
    assert user.waiting == user.single == 0
    assert not user.levels
    assert not user.priorities


def test_only_priorities_of_the_band(user: UserQueue) -> None:
    for number, priority in enumerate([0.0, 10.0, 10.5, 100.0, 2000.0]):
        user.add(task(number, priority))
    assert drain(user, 10.0, 100.0) == ["t3", "t2", "t1"]
    assert user.best(10.0, 100.0) is None
    assert drain(user, 0.0, 1e9) == ["t4", "t0"]


def test_what_comes_back_stands_where_it_stood(user: UserQueue) -> None:
    tasks = [task(n) for n in range(5)]
    for one in tasks:
        user.add(one)
    for one in tasks[:3]:
        user.drop(one, ALL)
        one.move("RunTask", 0.0)
    for one in (tasks[1], tasks[2], tasks[0]):  # in whatever order their hub lost them
        one.move("HubSilent", 1.0)
        user.add(one)
    assert [one.id for one in user.tasks()] == ["t0", "t1", "t2", "t3", "t4"]
    assert drain(user) == ["t0", "t1", "t2", "t3", "t4"]


def test_a_cancelled_task_is_passed_over(user: UserQueue) -> None:
    tasks = [task(n) for n in range(3)]
    for one in tasks:
        user.add(one)
    tasks[0].move("CancelTask", 0.0)
    user.cancelled(tasks[0])
    assert user.waiting == 2
    assert drain(user) == ["t1", "t2"]


def test_cancelled_tasks_do_not_pile_up_behind_one_that_waits_for_ever(user: UserQueue) -> None:
    user.add(task(0))
    for number in range(1, 5000):
        one = task(number)
        user.add(one)
        one.move("CancelTask", 0.0)
        user.cancelled(one)
    (line,) = user.levels[0.0].values()
    assert len(line.tasks) + len(line.late) < 100
    assert user.waiting == 1


def test_pieces_of_a_split_task_keep_its_place(user: UserQueue) -> None:
    first, second = task(1, items=10), task(2)
    user.add(first)
    user.add(second)
    user.taken(first, 4)
    taken = first.record.take(first, 4)
    taken.move("RunTask", 0.0)
    assert user.waiting == 7
    assert [(one.id, one.items) for one in user.tasks()] == [("t1.4", 6), ("t2", 1)]
    taken.move("WorkerDied", 1.0)
    user.add(taken)
    assert [(one.id, one.items) for one in user.tasks()] == [("t1.0", 4), ("t1.4", 6), ("t2", 1)]


def test_a_kind_that_no_hub_runs_hides_nobody(user: UserQueue) -> None:
    user.add(task(1, name="unknown"))
    user.add(task(2, python=(3, 10)))
    user.add(task(3))
    user.add(task(4))
    user.add(task(5, priority=7.0, name="unknown"))
    best = user.best(0, 1000)
    assert best is not None
    assert best.id == "t5"
    assert [one.id for one in user.others(0, 1000)] == ["t5", "t2", "t3"]
    assert [one.id for one in user.others(0, 5)] == ["t1", "t2", "t3"]


def look(user: UserQueue, low: float, high: float) -> tuple[str, str]:
    found = user.next_and_oldest(FairShare(100.0).band(low, high))
    assert found is not None
    return found[0].id, found[1].id


def test_oldest_is_the_oldest_of_the_band(user: UserQueue) -> None:
    assert user.next_and_oldest(FairShare(100.0).band(0, 1000)) is None
    user.add(task(3, priority=9.0))
    user.add(task(4, priority=1.0))
    user.add(task(2, priority=500.0))
    assert look(user, 0, 10) == ("t3", "t3")
    assert look(user, 0, 1000) == ("t2", "t2")
    user.add(task(1, priority=1.0))
    assert look(user, 0, 10) == ("t3", "t1")


def test_with_a_priority_for_each_task_the_next_stands_for_all(user: UserQueue) -> None:
    for number in range(FEW_LEVELS + 5):
        user.add(task(number, priority=float(number)))
    best = user.best(0, 1000)
    assert best is not None
    assert look(user, 0, 1000) == (best.id, best.id)


# ── ageing ──


def aged(number: int, priority: float, at: float, python: tuple[int, int] = (0, 0)) -> Slice:
    one = task(number, priority, python=python)
    one.record.since = at
    return one


def test_a_task_gains_one_priority_in_each_step_of_waiting() -> None:
    user = UserQueue("anna", ages=1.0 / 300.0)
    user.add(aged(0, 0.0, 0.0))
    user.add(aged(1, 10.0, 2999.0))  # the first has gained 9.99 by then
    user.add(aged(2, 10.0, 3001.0))
    user.add(aged(3, 5.0, 1600.0))
    assert [one.id for one in user.tasks()] == drain(user) == ["t1", "t0", "t2", "t3"]


def test_a_flood_of_urgent_tasks_does_not_starve_the_others_for_ever() -> None:
    user, at, band = UserQueue("anna", ages=1.0), 0.0, FairShare(600.0).band(0.0, 100.0)
    user.add(aged(0, 0.0, at))
    for number in range(1, 100):
        at += 1.0
        user.add(aged(number, 20.0, at))
        best = user.best(0.0, 100.0)
        assert best is not None
        user.drop(best, band)
        best.move("RunTask", at)
        if best.id == "t0":
            break
    assert best.id == "t0"
    assert at == pytest.approx(21.0, abs=1.0)


def test_without_ageing_priorities_stay_as_they_are() -> None:
    user = UserQueue("anna")
    user.add(aged(0, 0.0, 0.0))
    user.add(aged(1, 0.5, 1e9))
    assert drain(user) == ["t1", "t0"]


def test_others_come_by_rank_too() -> None:
    user = UserQueue("anna", ages=1.0)
    user.add(aged(0, 0.0, 0.0, python=(3, 10)))
    user.add(aged(1, 5.0, 9.0, python=(3, 11)))
    user.add(aged(2, 5.0, 10.0, python=(3, 12)))
    assert [one.id for one in user.others(0.0, 10.0)] == ["t0", "t1", "t2"]


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans(), st.sampled_from([(3, 10), (3, 11)])), max_size=60),
       st.sampled_from([0.0, 0.2, 1.0, 4.0]))  # fmt: skip
def test_the_next_is_always_the_one_that_the_rule_names(
    acts: list[tuple[int, bool, tuple[int, int]]], ages: float
) -> None:
    user, band = UserQueue("anna", ages=ages), FairShare(600.0).band(1.0, 4.0)
    waiting: list[Slice] = []
    for number, (priority, takes, python) in enumerate(acts):
        if takes and (best := user.best(1.0, 4.0)) is not None:
            user.drop(best, band)
            best.move("RunTask", 0.0)
            waiting.remove(best)
        else:
            waiting.append(aged(number, float(priority), float(number), python))
            user.add(waiting[-1])
        order = right_order(waiting, ages)
        assert list(user.tasks()) == order
        fitting = right_order([one for one in waiting if 1.0 <= one.record.spec.priority <= 4.0], ages)
        assert user.best(1.0, 4.0) is (fitting[0] if fitting else None)
