"""The virtual clock."""

from __future__ import annotations

import pytest

from nblb.simulation.simulator import MAX_AT_ONCE, Simulator, Violation


def test_actions_happen_in_the_order_of_time_then_of_asking() -> None:
    simulator, seen = Simulator(1), []
    simulator.after(2.0, seen.append, "late")
    simulator.after(1.0, seen.append, "first")
    simulator.at(1.0, seen.append, "second")
    simulator.at(-5.0, seen.append, "at once")
    simulator.run(1.5)
    assert seen == ["at once", "first", "second"]
    assert simulator.now == 1.5
    simulator.run(9.0)
    assert seen[-1] == "late"


def test_it_stops_when_the_caller_is_content() -> None:
    simulator, seen = Simulator(1), []
    for n in range(5):
        simulator.at(float(n), seen.append, n)
    simulator.run(10.0, done=lambda: len(seen) == 2)
    assert seen == [0, 1]
    assert simulator.now == 1.0


def test_a_loop_without_headway_is_a_violation() -> None:
    simulator = Simulator(1)

    def again() -> None:
        simulator.after(0.0, again)

    again()
    with pytest.raises(Violation, match="livelock"):
        simulator.run(1.0)
    assert simulator.events > MAX_AT_ONCE


def test_the_same_seed_draws_the_same() -> None:
    assert [Simulator(7).random.random() for _ in range(2)] == [Simulator(7).random.random()] * 2
    assert not Simulator(7).chance(0.0)
