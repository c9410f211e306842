"""The forecast: the real scheduler under a load, without faults."""

from __future__ import annotations

from itertools import count

import pytest

from nblb.scheduling.hubs import Hub
from nblb.simulation.what_if import Load, what_if


def _watch() -> float:
    return next(_seconds)


_seconds = count(0.0, 0.001)


def test_workers_are_used_and_users_share_them() -> None:
    answer = what_if(Load(users=2, hubs=2, workers=4, tasks=400, seconds=0.5, spread=0.2), _watch)
    assert answer.utilisation > 0.9
    assert answer.makespan_s == pytest.approx(answer.ideal_s, rel=0.1)
    assert answer.makespan_s == pytest.approx(400 * 0.5 / 8, rel=0.1)
    one, other = answer.users
    assert one.done_after_s == pytest.approx(other.done_after_s, rel=0.1)
    assert one.mean_wait_s == pytest.approx(other.mean_wait_s, rel=0.1)
    assert answer.decisions <= 400


def test_who_comes_later_does_not_wait_for_who_came_first() -> None:
    answer = what_if(Load(users=2, hubs=1, workers=8, tasks=2000, seconds=0.2, stagger_s=5.0), _watch)
    first, later = answer.users
    assert first.tasks == later.tasks == 1000
    assert later.came_at == 5.0
    assert later.first_start_s < 1.0


def test_short_tasks_travel_in_batches() -> None:
    answer = what_if(Load(users=1, hubs=1, workers=4, tasks=20_000, seconds=0.0005, spread=0.0), _watch)
    assert answer.decisions < 5000
    assert answer.utilisation > 0.7


def test_the_same_load_gives_the_same_answer() -> None:
    load = Load(users=3, hubs=2, workers=2, tasks=100, seconds=0.3, seed=4)
    assert what_if(load, lambda: 0.0) == what_if(load, lambda: 0.0)


@pytest.mark.parametrize(("seconds", "least"), [(0.005, 0.9), (0.05, 0.9), (0.2, 0.9), (1.0, 0.9)])
def test_workers_20_ms_away_are_as_busy_as_others(seconds: float, least: float) -> None:
    load = Load(users=2, hubs=2, workers=4, tasks=int(40 / seconds), seconds=seconds, spread=0.2, way_s=0.02)
    assert what_if(load, lambda: 0.0).utilisation > least


def test_without_the_measured_way_they_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Hub, "way_measured", lambda _hub, _way_s: False)
    load = Load(users=1, hubs=1, workers=2, tasks=400, seconds=0.05, spread=0.0, way_s=0.02)
    assert what_if(load, lambda: 0.0).utilisation < 0.8


def test_who_comes_later_does_not_wait_for_work_that_was_sent_far_ahead() -> None:
    load = Load(users=2, hubs=1, workers=4, tasks=2000, seconds=0.05, stagger_s=2.0, way_s=0.02)
    answer = what_if(load, lambda: 0.0)
    assert answer.utilisation > 0.9
    assert answer.users[1].first_start_s < 0.2


def test_shares_divide_the_workers_while_users_wait() -> None:
    load = Load(users=3, hubs=2, workers=8, tasks=3000, seconds=0.5, shares=(2.0, 1.0, 1.0))
    answer = what_if(load, lambda: 0.0)
    assert answer.jain is not None
    assert answer.jain > 0.98
    first, *others = sorted(answer.users, key=lambda user: user.user)
    assert first.share == 2.0
    assert all(first.mean_wait_s < other.mean_wait_s for other in others)


def test_waits_of_later_jobs_count_from_their_own_start() -> None:
    load = Load(users=2, hubs=1, workers=8, tasks=400, seconds=1.0, jobs=20, pattern="poisson", load=0.3)
    answer = what_if(load, lambda: 0.0)
    assert answer.waits_s["50"] < 2.0
    assert answer.waits_s["50"] <= answer.waits_s["90"] <= answer.waits_s["99"] <= answer.waits_s["100"]
    assert answer.makespan_s > 100.0
    assert sum(user.jobs for user in answer.users) == 40
