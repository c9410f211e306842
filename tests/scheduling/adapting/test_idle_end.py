"""The end of a core that nobody uses, by events to the scheduler."""

from __future__ import annotations

import pytest

from nblb.protocol.commands import Command, Halt, Log
from nblb.protocol.messages import Group, Heartbeat, Hello, StopHub
from nblb.scheduling.state import Policy
from tests.scheduling.world import ANNA, World, submit


class Core(World):
    """A world that keeps what the core has logged and ordered."""

    def perform(self, commands: object) -> None:
        given: list[Command] = list(commands)  # type: ignore[call-overload]
        self.logged = [*getattr(self, "logged", []), *(c.text for c in given if isinstance(c, Log))]
        self.halts = [*getattr(self, "halts", []), *(c.reason for c in given if isinstance(c, Halt))]
        super().perform(given)

    def later(self, seconds: float) -> None:
        until = self.now + seconds
        while self.now < until:
            self.now = min(until, self.now + 1.0)
            for address, hub in self.hubs.items():
                if hub.connected:
                    self.say(address, Heartbeat())
            self.tick()


@pytest.fixture
def core() -> Core:
    return Core(Policy(core="c", idle_timeout_s=100.0, client_silence_s=20.0, job_ttl_s=1e6))


def test_it_ends_with_its_hubs_after_an_announcement(core: Core) -> None:
    hub = core.hub("lab", (Group(1),))
    stops: list[str] = []
    heard = hub.heard
    hub.heard = lambda message: stops.append(message.reason) or [] if isinstance(message, StopHub) else heard(message)  # type: ignore[method-assign]
    core.later(45)
    assert not any("IDLE" in text for text in core.logged)
    core.later(10)
    assert [text for text in core.logged if "IDLE" in text] == [
        "LB - IDLE : ends in 50 s, because there is no client and no task (LB_IDLE_TIMEOUT_S is 1 min 40 s)"
    ]
    assert core.halts == []
    core.later(50)
    assert core.halts == ["nobody has used the cluster for 1 min 40 s (LB_IDLE_TIMEOUT_S)"] == stops
    assert core.scheduler.idle_end.next_deadline() is None


def test_a_client_that_submits_keeps_it_and_questions_do_not(core: Core) -> None:
    core.later(80)
    core.users["client:q"] = "anna"
    core.say("client:q", Hello(client="q", user="anna"))
    core.later(10)
    assert core.scheduler.idle_end.described(core.now)["ends_in_s"] < 15.0  # type: ignore[index]
    core.users[ANNA] = "anna"
    core.say(ANNA, Hello(client="a", user="anna", cloudpickle="3"))
    core.later(6)
    assert "LB - IN USE AGAIN : it does not end" in core.logged
    for _ in range(30):
        core.say(ANNA, Heartbeat())
        core.later(4)
    assert core.halts == []
    core.later(130)
    assert core.halts


def test_what_runs_or_waits_keeps_it(core: Core) -> None:
    core.client(ANNA, "anna")
    submit(core, "waits")
    core.later(300)
    assert core.halts == []
    hub = core.hub("lab", (Group(1),))
    core.tick()
    core.later(300)
    assert core.halts == []
    core.fact(hub, hub.finish(("waits", 0, 1)))
    core.later(90)
    assert core.halts == []
    core.later(20)
    assert core.halts


def test_without_the_setting_it_never_looks() -> None:
    core = Core(Policy(core="c"))
    core.later(20)
    assert core.scheduler.idle_end.next_deadline() is None
    assert core.scheduler.idle_end.described(core.now) is None
    assert core.halts == []
