"""Connected parties: hubs that come, fall silent, move and return; clients that leave."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from nblb.protocol.messages import (
    Group,
    Heartbeat,
    Hello,
    HubHello,
    HubLeaves,
    Refused,
    Running,
    StopTask,
    SubmitTask,
    TaskFinished,
    TaskState,
    TaskStopped,
    Welcome,
)
from nblb.scheduling.scheduler import Scheduler
from nblb.scheduling.state import Policy
from tests.scheduling.world import ANNA, ModelHub, World, submit

POLICY = Policy(core="c", suspect_s=5.0, lease_s=15.0, heartbeat_s=1.0, adopt_s=30.0, epoch=3)


@pytest.fixture
def world() -> World:
    world = World(POLICY)
    world.client(ANNA, "anna")
    return world


def state(world: World, task: str) -> TaskState:
    return world.scheduler.state.records[task].slices[0].state


def sent(commands: list[Any]) -> list[tuple[str, Any]]:
    return [(c.to, c.message) for c in commands if hasattr(c, "message")]


def test_a_client_is_welcomed_by_name_and_core() -> None:
    scheduler = Scheduler(POLICY)
    (answer,) = scheduler.handle(ANNA, Hello(client="x", user="anna"), 1.0)
    welcome = Welcome(core="c", epoch=3, name="nblb", user="anna", lease_s=POLICY.lease_s, suspect_s=POLICY.suspect_s)
    assert answer.message == welcome  # type: ignore[attr-defined]


def test_a_core_that_stood_still_takes_no_hub_for_silent(world: World) -> None:
    hub = world.hub("lab", (Group(1),))
    submit(world, "t", function="")
    world.say(hub.address, Heartbeat(at=world.now))
    world.now += 20.0
    world.scheduler.stood_still(20.0)
    world.tick()
    assert hub.address in world.scheduler.state.hubs
    world.now += 15.5
    world.tick()  # it was silent for 15.5 s of the core's own time
    assert hub.address not in world.scheduler.state.hubs


def test_strangers_are_asked_to_say_hello() -> None:
    scheduler = Scheduler(POLICY)
    for message in (Heartbeat(), SubmitTask(task="t", name="f"), TaskFinished(task="t", attempt=1)):
        (answer,) = scheduler.handle("hub:unknown", message, 1.0)
        assert type(answer.message) is Refused  # type: ignore[attr-defined]
        assert answer.message.kind == "UnknownParty"  # type: ignore[attr-defined]


def test_heartbeats_go_to_hubs_and_are_answered_to_clients(world: World) -> None:
    world.hub("lab")
    world.now += 1.0
    beats = [to for to, message in sent(world.scheduler.tick(world.now)) if type(message) is Heartbeat]
    assert beats == ["hub:lab"]
    assert [type(m) for _, m in sent(world.scheduler.handle(ANNA, Heartbeat(), world.now))] == [Heartbeat]


def test_the_deadline_is_when_something_is_due_and_a_tick_then_moves_it_on(world: World) -> None:
    world.hub("lab", (Group(1),))
    submit(world, "t")
    for _ in range(60):
        deadline = world.scheduler.next_deadline()
        if deadline is None:  # nobody is left
            break
        assert deadline > world.now, "a deadline that a tick does not move is a loop without end"
        world.now = deadline
        world.tick()
    assert not world.scheduler.state.hubs


def test_a_silent_hub_is_suspect_then_gone(world: World) -> None:
    world.hub("lab", (Group(1),))
    submit(world, "t")
    hub = world.scheduler.state.hubs["hub:lab"]
    world.now += 5.0
    world.tick()
    assert hub.suspect
    assert state(world, "t") is TaskState.ASSIGNED
    world.say("hub:lab", Heartbeat())
    assert not hub.suspect
    world.now += 15.0
    world.tick()
    assert not world.scheduler.state.hubs
    assert state(world, "t") is TaskState.QUEUED
    world.check(ticked=True)


def test_what_cannot_be_reached_gets_nothing_until_it_speaks(world: World) -> None:
    hub = world.hub("lab", (Group(2),))
    world.perform(world.scheduler.gone("hub:lab", world.now))
    submit(world, "t")
    assert not hub.hands
    world.say("hub:lab", Heartbeat())
    world.tick()
    assert ("t", 0, 1) in hub.hands


def test_a_dead_hub_needs_no_patience(world: World) -> None:
    world.hub("lab")
    submit(world, "t")
    world.perform(world.scheduler.gone("hub:lab", world.now, dead=True))
    assert state(world, "t") is TaskState.QUEUED
    world.check()


def move(world: World, hub: ModelHub, to: str) -> None:
    del world.hubs[hub.address]
    hub.address = to
    world.hubs[to] = hub


def test_a_hub_returns_under_another_address_and_keeps_its_work(world: World) -> None:
    hub = world.hub("lab", (Group(2),))
    submit(world, "t1", "t2")
    world.fact(hub, hub.start(("t1", 0, 1)))
    move(world, hub, "hub:elsewhere")
    world.connect(hub)
    world.check()
    assert list(world.scheduler.state.hubs) == ["hub:elsewhere"]
    world.fact(hub, hub.finish(("t1", 0, 1)))
    assert state(world, "t1") is TaskState.DONE


def test_what_a_returning_hub_does_not_name_is_waited_for_a_moment(world: World) -> None:
    hub = world.hub("lab", (Group(2),))
    submit(world, "told", "forgotten", at_most_once=True)
    hub.connected = False
    end = hub.finish(("told", 0, 1))
    assert end is not None
    hub.hands.clear()
    world.connect(hub)  # says hello without either; the end of `told` comes behind it
    assert state(world, "told") is TaskState.DONE
    assert state(world, "forgotten") is TaskState.ASSIGNED
    world.now += 1.0
    world.tick()  # the hub is asked, and says that it never had it: so it may be given once more
    world.tick()
    assert world.scheduler.state.records["forgotten"].slices[0].attempt == 2
    world.check(ticked=True)


def test_what_a_hub_has_from_another_core_is_void_when_it_returns(world: World) -> None:
    """It got our order before our welcome, names it as the other core's, and drops it when it is welcomed."""
    hub = world.hub("lab", (Group(1),))
    submit(world, "t")
    before = hub.hello
    hub.hello = lambda: msgspec.structs.replace(before(), core="another")  # type: ignore[method-assign]
    world.connect(hub)
    hub.hands.clear()
    world.now += 1.0
    world.tick()  # it is asked for what it has dropped
    world.tick()
    assert world.scheduler.state.records["t"].slices[0].attempt == 2
    world.check(ticked=True)


def test_what_a_returning_hub_does_not_name_is_given_to_no_other_before_it_has_answered(world: World) -> None:
    """The order may be on the way to it still."""
    hub = world.hub("lab", (Group(1),))
    submit(world, "t")
    hub.hands.clear()
    world.connect(hub)
    hub.connected = False
    world.hub("other", (Group(1),))
    received_at = world.now
    while world.now < received_at + POLICY.lease_s - 0.5:
        world.now += 0.5
        world.say("hub:other", Heartbeat())
        world.tick()
        assert world.scheduler.state.records["t"].slices[0].attempt == 1
    world.now += 1.0
    world.tick()
    assert world.scheduler.state.records["t"].slices[0].attempt == 2
    world.check(ticked=True)


def test_a_hub_that_leaves_is_given_no_more(world: World) -> None:
    hub = world.hub("lab", (Group(2),))
    submit(world, "runs", "waits")
    del hub.hands["waits", 0, 1]
    world.say(hub.address, HubLeaves())
    world.say(hub.address, TaskStopped(task="waits", attempt=1, first=0, why="recall"))
    world.tick()
    assert state(world, "waits") is TaskState.QUEUED
    world.connect(hub)  # also after another hello
    world.tick()
    assert state(world, "waits") is TaskState.QUEUED
    world.hub("other", (Group(1),))
    world.tick()
    assert state(world, "waits") is TaskState.ASSIGNED
    world.fact(hub, hub.finish(("runs", 0, 1)))
    assert state(world, "runs") is TaskState.DONE
    world.check(ticked=True)


def test_another_hub_at_the_same_address_replaces_the_first(world: World) -> None:
    world.hub("lab")
    submit(world, "t")
    hello = HubHello(hub="new", name="lab", host="x", pid=2, python=(3, 11), cloudpickle="3", groups=(Group(1),))
    world.perform(world.scheduler.handle("hub:lab", hello, world.now))
    assert state(world, "t") is TaskState.QUEUED
    assert [hub.id for hub in world.scheduler.state.hubs.values()] == ["new"]
    world.check()


def test_an_attempt_that_is_not_wanted_is_sent_away(world: World) -> None:
    hello = HubHello(
        hub="h", name="lab", host="x", pid=2, python=(3, 11), cloudpickle="3", groups=(),
        running=(Running(task="strange", attempt=4),),
    )  # fmt: skip
    said = sent(world.scheduler.handle("hub:lab", hello, world.now))
    assert StopTask(task="strange", attempt=4) in [message for _, message in said]


def test_a_stop_that_was_not_heard_is_said_again(world: World) -> None:
    from nblb.protocol.messages import CancelTask

    hub = world.hub("lab", (Group(1),))
    submit(world, "t")
    world.fact(hub, hub.start(("t", 0, 1)))
    hub.connected = False
    world.say(ANNA, CancelTask(request=1, task="t"))
    assert not hub.stops
    world.connect(hub)
    assert hub.stops == {("t", 0, 1): "cancel"}


def test_a_silent_client_is_not_told_any_more(world: World) -> None:
    world.hub("lab")
    world.now += 61.0
    world.tick()
    assert not world.scheduler.state.clients
    world.client(ANNA, "anna")
    assert list(world.scheduler.state.clients) == [ANNA]


def test_a_hub_that_does_not_hear_us_is_not_taken_for_alive() -> None:
    """Its hellos come again and again, since no welcome reaches it: a connection that is cut one way."""
    world = World(POLICY)
    world.client(ANNA, "anna")
    deaf, scheduler = world.hub("deaf", (Group(1),)), world.scheduler
    submit(world, "t")
    scheduler.handle(deaf.address, Heartbeat(), world.now)
    assert state(world, "t") is TaskState.ASSIGNED
    for _ in range(8):  # what the core says from here on goes nowhere
        world.now += 2.0
        scheduler.handle(ANNA, Heartbeat(), world.now)
        scheduler.handle(deaf.address, deaf.hello(), world.now)
        scheduler.tick(world.now)
    assert state(world, "t") is TaskState.QUEUED  # the lease is over, and though the hub greets again it gets nothing
    scheduler.handle(deaf.address, Heartbeat(), world.now)
    scheduler.tick(world.now)
    assert state(world, "t") is TaskState.ASSIGNED


# ── the lease ──


def echoes(commands: list[Any]) -> list[float]:
    return [message.echo for _, message in sent(commands) if isinstance(message, (Heartbeat, Welcome))]


def hello(said_at: float, leased_at: float = 0.0) -> HubHello:
    return HubHello(
        hub="h", name="lab", host="lab", pid=1, python=(3, 11), cloudpickle="3", groups=(Group(1),), said_at=said_at,
        leased_at=leased_at,
    )  # fmt: skip


def test_a_lease_counts_from_the_last_heartbeat_that_was_answered() -> None:
    scheduler = Scheduler(POLICY)
    assert echoes(scheduler.handle("hub:h", hello(7.0), 100.0)) == [7.0]
    assert echoes(scheduler.handle("hub:h", Heartbeat(at=8.0), 101.0)) == [8.0]
    for now in range(102, 116):  # other words, and hellos, extend nothing: the hub may not hear what we answer
        if now % 2:
            scheduler.handle("hub:h", TaskFinished(task="t", attempt=1), float(now))
        else:
            assert echoes(scheduler.handle("hub:h", hello(now - 93.0, 8.0), float(now))) == [8.0]
        scheduler.tick(float(now))
        assert ("hub:h" in scheduler.state.hubs) == (now < 116)
    scheduler.tick(116.0)
    assert not scheduler.state.hubs


def test_a_hello_tells_from_when_the_hub_counts() -> None:
    """Heartbeats came, and their answers did not: the hub's lease ends sooner than ours would have."""
    scheduler = Scheduler(POLICY)
    scheduler.handle("hub:h", hello(7.0), 100.0)
    for n in range(1, 5):
        scheduler.handle("hub:h", Heartbeat(at=7.0 + n), 100.0 + n)
    scheduler.handle("hub:h", hello(12.0, 7.0), 105.0)
    scheduler.tick(114.9)
    assert scheduler.state.hubs
    scheduler.tick(115.0)
    assert not scheduler.state.hubs


def test_a_hub_that_does_not_tell_the_time_has_a_lease_all_the_same() -> None:
    scheduler = Scheduler(POLICY)
    scheduler.handle("hub:h", hello(0.0), 100.0)
    assert echoes(scheduler.handle("hub:h", Heartbeat(), 110.0)) == []
    scheduler.tick(124.0)
    assert scheduler.state.hubs
    scheduler.tick(125.0)
    assert not scheduler.state.hubs
