"""Rate and time left of jobs and groups."""

from __future__ import annotations

import pytest

from nblb.client.throughput import Pace


def test_nothing_is_said_before_there_is_something_to_go_by() -> None:
    pace = Pace(0.0)
    assert pace.rate_per_s(1.0) == 0.0
    pace.note(1, 1.0)
    pace.note(2, 2.0)
    assert pace.eta_s(2, 98, 2.0) is None
    pace.note(3, 3.0)
    assert pace.eta_s(3, 97, 3.0) is not None
    assert pace.eta_s(100, 0, 3.0) is None


def test_a_steady_pace_gives_a_narrow_range_around_the_truth() -> None:
    pace = Pace(0.0)
    for second in range(1, 61):
        pace.note(10 * second, float(second))
    assert pace.rate_per_s(60.0) == pytest.approx(10.0, rel=0.15)
    eta = pace.eta_s(600, 400, 60.0)
    assert eta is not None
    low, high = eta
    assert low <= 40.0 <= high
    assert high - low < 20.0


def test_a_changing_pace_gives_a_wide_range() -> None:
    pace = Pace(0.0)
    for second in range(1, 31):
        pace.note(100 * min(second, 20) + max(0, second - 20), float(second))
    eta = pace.eta_s(2010, 1000, 30.0)
    assert eta is not None
    low, high = eta
    assert low < 20.0
    assert high > 500.0


def test_the_rate_falls_while_nothing_ends() -> None:
    pace = Pace(0.0)
    for n in range(1, 11):
        pace.note(n, n * 0.1)
    assert pace.rate_per_s(1.0) == pytest.approx(10.0, rel=0.2)
    assert pace.rate_per_s(5.0) == pytest.approx(2.0, rel=0.2)
    assert pace.rate_per_s(60.0) == 0.0


def test_many_ends_are_few_points() -> None:
    pace = Pace(0.0)
    for n in range(100_000):
        pace.note(n, n / 10_000)
    assert len(pace._points) < 60
    assert pace.rate_per_s(10.0) == pytest.approx(10_000, rel=0.1)


def test_the_progress_of_running_items_gives_an_estimate_before_the_first_one_ends() -> None:
    pace = Pace(0.0)
    assert pace.eta_s(0, 3, 0.2, 0.1) is None, "too early"
    eta = pace.eta_s(0, 3, 4.0, 0.5)  # half an item in 4 s: 2.5 items left
    assert eta is not None
    low, high = eta
    assert low < 20.0 < high < 30.0
