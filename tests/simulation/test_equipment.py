"""The histories with tasks that need what only some workers have."""

from __future__ import annotations

from random import Random

from nblb.protocol.messages import Group, SubmitTask
from nblb.simulation.equipment import ALL, NEEDS, SOME, demand, equip
from nblb.simulation.workload import Act


def test_a_hub_of_each_history_can_run_each_task() -> None:
    groups = [[Group(1)], [Group(1), Group(2)]]
    equip(Random(1), groups, (0.0, 1000.0))
    assert groups[0] == [Group(1)]
    assert [group.has for group in groups[-1]] == [ALL]
    assert all(ALL.takes(needs) for needs in (*NEEDS, None))


def test_each_kind_of_need_divides_the_workers() -> None:
    for needs in NEEDS:
        assert {has.takes(needs) for has in (*SOME, ALL)} == {True, False}


def test_some_submissions_need_something_and_named_functions_nothing() -> None:
    acts = [Act(0.0, 0, SubmitTask(task=f"t{n}", name="f", function="f" if n % 2 else "")) for n in range(60)]
    found = [act.message for act in demand(Random(1), acts)]
    needs = [spec.needs for spec in found if isinstance(spec, SubmitTask) and spec.function]
    assert {each is None for each in needs} == {True, False}
    assert all(spec.needs is None for spec in found if isinstance(spec, SubmitTask) and not spec.function)
