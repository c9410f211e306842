"""Percentiles, and fairness over time."""

from __future__ import annotations

import pytest

from nblb.simulation.planning.measures import Fairness, jain, percentile


def test_percentiles() -> None:
    values = [float(n) for n in range(1, 101)]
    assert (percentile(values, 50), percentile(values, 99), percentile(values, 100)) == (51.0, 100.0, 100.0)
    assert percentile([], 50) == 0.0


def test_jain() -> None:
    assert jain([3.0, 3.0, 3.0]) == 1.0
    assert jain([1.0, 0.0, 0.0, 0.0]) == 0.25
    assert jain([]) == jain([0.0]) == 1.0


@pytest.mark.parametrize(("shares", "expected"), [({}, 0.9), ({"a": 2.0}, 1.0)])
def test_worker_time_counts_by_share_while_both_wait(shares: dict[str, float], expected: float) -> None:
    fairness = Fairness(1.0, shares)
    fairness.came("a", 100, 0.0)
    fairness.came("b", 100, 0.0)
    for second in range(9):
        fairness.ran("a", 2, float(second), 1.0)
        fairness.ran("b", 1, float(second), 0.5)
    fairness.ran("a", 82, 9.0, 0.1)
    fairness.ran("b", 91, 9.0, 0.1)
    assert fairness.index() == pytest.approx(expected)


def test_nothing_to_compare() -> None:
    fairness = Fairness(1.0, {})
    fairness.came("a", 1, 0.0)
    fairness.ran("a", 1, 50.0, 3.0)
    assert fairness.index() is None
