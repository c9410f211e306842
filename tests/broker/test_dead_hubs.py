"""A restarted core checks whether the hubs that it waits for can still return."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from nblb.broker.dead_hubs import LOOK_S, DeadHubs


class Waiting:
    """A scheduler that waits for attempts of these hubs."""

    def __init__(self, *hubs: str, here: tuple[str, ...] = ()) -> None:
        self.state = SimpleNamespace(
            orphans={number: SimpleNamespace(hub=hub) for number, hub in enumerate(hubs)},
            hubs={name: SimpleNamespace(id=name) for name in here},
        )

    def hub_dead(self, hub: str, now: float) -> list[Any]:
        return [(hub, now)]


def look(scheduler: Any, dead: set[str]) -> DeadHubs:
    return DeadHubs(scheduler, dead.__contains__)


def test_each_dead_hub_is_told_once_and_living_ones_are_waited_for() -> None:
    hubs = look(Waiting("dead", "dead", "living"), {"dead"})
    assert hubs.check(1.0) == [("dead", 1.0)]


def test_a_hub_that_is_connected_speaks_for_itself() -> None:
    assert look(Waiting("h", here=("h",)), {"h"}).check(1.0) == []


def test_it_looks_now_and_then_while_anything_waits() -> None:
    scheduler = Waiting("h")
    hubs = look(scheduler, {"h"})
    assert hubs.check(1.0)
    assert hubs.check(1.0 + LOOK_S / 2) == []
    assert hubs.deadline() == 1.0 + LOOK_S
    assert hubs.check(1.0 + LOOK_S)
    scheduler.state.orphans.clear()
    assert hubs.deadline() is None
    assert hubs.check(9.0) == []
