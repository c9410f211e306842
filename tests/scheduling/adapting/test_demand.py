"""What counts as load: calls that a new worker could start, with their measured run time."""

from __future__ import annotations

from nblb.protocol.messages import Group
from nblb.scheduling.adapting.demand import demand
from nblb.scheduling.state import Policy
from tests.scheduling.world import ANNA, World, submit


def test_busy_waiting_and_dependent_calls() -> None:
    world = World(Policy(core="c"))
    world.client(ANNA, "anna")
    hub = world.hub("one", (Group(1),))
    for name in ("a", "b", "c"):
        submit(world, name)
    submit(world, "after", depends=("b",))
    world.tick()
    seen = demand(world.scheduler.state, world.now)
    assert (seen.workers, seen.busy, seen.calls, seen.unmeasured) == (1, 1, 2, 2)
    fence = next(iter(hub.hands))
    world.fact(hub, hub.start(fence))
    world.fact(hub, hub.finish(fence, duration_s=0.5))
    world.tick()
    seen = demand(world.scheduler.state, world.now)
    assert (seen.busy, seen.soon, seen.measured, seen.seconds) == (1, 1, 1, 0.5)
