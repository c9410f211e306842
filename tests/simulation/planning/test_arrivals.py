"""Jobs by pattern: all calls are there, at the times that the pattern says."""

from __future__ import annotations

import pytest

from nblb.simulation.planning.arrivals import DAY_S, Pattern, daily_rate, spread_out


@pytest.mark.parametrize("pattern", ["at-once", "poisson", "daily"])
def test_every_call_is_in_one_job(pattern: Pattern) -> None:
    jobs = spread_out([("a", 10, 1.0), ("b", 2, 5.0)], 4, pattern, 1000.0, seed=3)
    assert sum(job.items for job in jobs if job.user == "a") == 10
    assert [job.items for job in jobs if job.user == "b"] == [1, 1]  # no job without a call
    assert len(jobs) == 6
    assert [job.at for job in jobs] == sorted(job.at for job in jobs)
    assert jobs == spread_out([("a", 10, 1.0), ("b", 2, 5.0)], 4, pattern, 1000.0, seed=3)


def test_times_of_the_patterns() -> None:
    users = [("a", 2000, 1.0)]
    assert {job.at for job in spread_out(users, 2000, "at-once", 1000.0, 0)} == {0.0}
    poisson = [job.at for job in spread_out(users, 2000, "poisson", 1000.0, 0)]
    assert 480.0 < sum(poisson) / len(poisson) < 520.0
    daily = [job.at % DAY_S / 3600.0 for job in spread_out(users, 2000, "daily", 3 * DAY_S, 0)]
    assert sum(8.0 <= hour <= 20.0 for hour in daily) > 1800
    assert daily_rate(14 * 3600.0) == pytest.approx(1.0)
    assert daily_rate(3 * 3600.0) == 0.05
