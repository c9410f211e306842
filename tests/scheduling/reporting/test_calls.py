"""Counting what hubs have, at a pace that stays cheap on large clusters."""

from __future__ import annotations

from nblb.protocol.messages import Group, JobChanged, OpenJob
from nblb.scheduling.reporting.calls import COUNT_S, OF_A_HUB, counting_pace_s
from nblb.scheduling.state import Policy
from tests.scheduling.world import ANNA, World, submit


def test_the_pace_follows_what_hubs_have_and_notices_keep_to_it() -> None:
    world = World(Policy(core="c", notice_s=0.1))
    world.client(ANNA, "anna")
    world.say(ANNA, OpenJob(job="j", name="j", items=300))
    hub = world.hub("lab", (Group(200),))
    world.hub("idle", (Group(2),))
    for n in range(200):
        submit(world, f"t{n}", job="j", index=n)
    state = world.scheduler.state
    here = sum(len(each.in_flight) for each in state.hubs.values())
    busy = sum(bool(each.in_flight) for each in state.hubs.values())
    assert counting_pace_s(state) == COUNT_S * (here + OF_A_HUB * busy) > 0.0
    world.now += 1.0
    world.tick()
    world.heard[ANNA].clear()
    for step in range(400):  # 2 s of changes, each noticed at most once in 0.1 s
        fence = next(iter(hub.hands), None)
        if fence is not None and step % 4 == 0:
            world.fact(hub, hub.finish(fence))
        world.now += 0.005
        world.tick()
    notices = sum(isinstance(said, JobChanged) for said in world.heard[ANNA])
    assert 5 <= notices <= 21


def test_counts_of_a_large_cluster_are_rarer() -> None:
    world = World(Policy(core="c", notice_s=0.001))
    world.client(ANNA, "anna")
    world.say(ANNA, OpenJob(job="j", name="j", items=400))
    hub = world.hub("lab", (Group(400),))
    for n in range(400):
        submit(world, f"t{n}", job="j", index=n)
    world.now += 1.0
    world.tick()
    world.heard[ANNA].clear()
    for _ in range(100):  # 0.1 s; a count may follow another after 0.02 s
        world.fact(hub, hub.finish(next(iter(hub.hands))))
        world.now += 0.001
        world.tick()
    assert 3 <= sum(isinstance(said, JobChanged) for said in world.heard[ANNA]) <= 8
