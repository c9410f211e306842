"""The history of a core: bins, gaps, bounds, and its file."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from nblb.broker.history import EVERY_S, FILE, LEVELS, MOST_USERS, UsageHistory
from nblb.protocol.framing import Payload
from nblb.protocol.messages import Group, Heartbeat, SubmitTask
from nblb.scheduling.state import Policy
from tests.scheduling.world import ANNA, ModelHub, World


@pytest.fixture
def world() -> World:
    world = World(Policy(core="c"))
    world.client(ANNA, "anna")
    world.now = 1000.0
    return world


def run_one(world: World, hub: ModelHub, task: str, duration_s: float = 2.0) -> None:
    world.say(hub.address, Heartbeat(at=world.now))  # it has not been silent
    world.say(ANNA, SubmitTask(task=task, name="work", function="f", payload=Payload((b"x",))))
    world.tick()
    world.fact(hub, hub.finish((task, 0, 1), duration_s=duration_s))


def bins(history: UsageHistory, world: World, seconds: float = 3600.0) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = history.answer({"seconds": seconds}, world.scheduler.state.wall(world.now))["bins"]
    return rows


def test_sums_and_means(world: World) -> None:
    history, hub = UsageHistory(None), world.hub("lab", (Group(2),))
    history.sample(world.scheduler.state, world.now)
    for n in range(3):
        run_one(world, hub, f"t{n}")
        world.now += EVERY_S
        history.sample(world.scheduler.state, world.now)
    rows = bins(history, world)
    assert sum(row["done"] for row in rows) == 3
    assert sum(row["used_s"].get("anna", 0.0) for row in rows) == pytest.approx(6.0)
    assert {row["workers"] for row in rows} == {2.0}
    assert rows[-1]["done_per_s"] == pytest.approx(0.1)


def test_a_look_before_its_time_is_nothing(world: World) -> None:
    history = UsageHistory(None)
    history.sample(world.scheduler.state, world.now)
    before = history.deadline()
    history.sample(world.scheduler.state, world.now + 1.0)
    assert history.deadline() == before == world.now + EVERY_S
    assert len(bins(history, world)) == 1


def test_a_gap_is_a_gap_and_a_week_is_bounded(world: World) -> None:
    history = UsageHistory(None)
    for _ in range(3):
        history.sample(world.scheduler.state, world.now)
        world.now += EVERY_S
    world.now += 600.0
    history.sample(world.scheduler.state, world.now)
    times = [row["at"] for row in bins(history, world)]
    assert max(b - a for a, b in pairwise(times)) > 500.0
    for _ in range(500):
        world.now += 3000.0
        history.sample(world.scheduler.state, world.now)
    week = history.answer({"seconds": 7 * 86400}, world.scheduler.state.wall(world.now))
    assert week["width_s"] == 600.0
    assert len(week["bins"]) <= LEVELS[-1][1]
    assert min(row["at"] for row in week["bins"]) >= world.scheduler.state.wall(world.now) - 7 * 86400 - 600


def test_it_survives_a_restart_and_a_damaged_file_costs_only_itself(world: World, tmp_path: Path) -> None:
    history, hub = UsageHistory(tmp_path), world.hub("lab", (Group(1),))
    history.sample(world.scheduler.state, world.now)
    run_one(world, hub, "t", 3.0)
    world.now += EVERY_S
    history.sample(world.scheduler.state, world.now)
    history.save(world.scheduler.state)
    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o600
    later = World(Policy(core="c"))
    again = UsageHistory(tmp_path)
    again.load(later.scheduler.state)
    assert sum(row["done"] for row in bins(again, world)) == 1
    assert later.scheduler.state.observations.run["work"].percentile(0.5) == pytest.approx(3.0, rel=0.2)
    (tmp_path / FILE).write_bytes(b"\xff not it")
    fresh = UsageHistory(tmp_path)
    fresh.load(later.scheduler.state)
    assert bins(fresh, world) == []


def test_a_restart_counts_nothing_twice(world: World) -> None:
    """The sums that a new core has from the journal are not what has happened since."""
    hub = world.hub("lab", (Group(1),))
    run_one(world, hub, "t")
    world.restart(False)
    history = UsageHistory(None)
    history.sample(world.scheduler.state, world.now)
    assert [row["done"] for row in bins(history, world)] == [0]


def test_users_of_a_bin_are_few(world: World) -> None:
    history, state = UsageHistory(None), world.scheduler.state
    history.sample(state, world.now)
    for n in range(3 * MOST_USERS):
        state.share.charge(state.share.user(f"u{n}"), 1.0 + n, world.now)
    world.now += EVERY_S
    history.sample(state, world.now)
    used = bins(history, world)[-1]["used_s"]
    assert len(used) == MOST_USERS
    assert f"u{3 * MOST_USERS - 1}" in used
