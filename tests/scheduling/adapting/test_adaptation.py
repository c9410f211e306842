"""Hubs that are scaled by the load, and hubs of a batch system that are offered and end, by events to the scheduler."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from nblb.access.limits import Limits
from nblb.protocol.commands import Command, KeepSetting
from nblb.protocol.messages import (
    AdaptWorkers,
    Answer,
    DrainHub,
    Group,
    Heartbeat,
    HubHello,
    Message,
    OfferHubs,
    ScaleHub,
    StopHub,
    WorkerDied,
    WorkerStarted,
)
from nblb.scheduling.adapting.policy import Adapting
from nblb.scheduling.state import Policy
from tests.scheduling.world import ANNA, ModelHub, World, submit


class ElasticHub(ModelHub):
    """A hub that starts and ends workers as it is told, at once."""

    batch_job = ""
    stopped = ""
    number = 0

    def hello(self) -> HubHello:
        return msgspec.structs.replace(super().hello(), batch_job=self.batch_job, started_with=self.started)

    @property
    def started(self) -> int:
        return sum(group.workers for group in self.groups)

    def heard(self, message: Message) -> list[Message]:
        if isinstance(message, StopHub):
            self.stopped = message.reason
        if not isinstance(message, ScaleHub):
            return super().heard(message)
        found: list[Message] = []
        while len(self.workers) < message.workers:
            self.number += 1
            name = f"{self.name}-new{self.number}"
            self.workers[name] = 0
            found.append(WorkerStarted(worker=name))
        for name in [name for name in self.workers if name not in self.on.values()][
            : len(self.workers) - message.workers
        ]:
            del self.workers[name]
            found.append(WorkerDied(worker=name, reason="retired"))
        return found


class Lab(World):
    """A world of elastic hubs."""

    settings: list[KeepSetting]

    def perform(self, commands: Any) -> None:
        given: list[Command] = list(commands)
        self.settings = [*getattr(self, "settings", []), *(c for c in given if isinstance(c, KeepSetting))]
        super().perform(given)

    def join(self, name: str, workers: int, batch_job: str = "") -> ElasticHub:
        hub = ElasticHub(name, (Group(workers),), (), (3, 11), "")
        hub.batch_job, hub.connected = batch_job, True
        hub.workers = {f"{name}-w{n}": 0 for n in range(1, workers + 1)}
        self.hubs[hub.address] = hub
        self.say(hub.address, hub.hello())
        self.tick()
        return hub

    def ask(self, message: Message) -> Answer:
        self.say(ANNA, message)
        answers = [said for said in self.heard[ANNA] if isinstance(said, Answer)]
        self.tick()
        return answers[-1]

    def later(self, seconds: float) -> None:
        for _ in range(int(seconds)):
            self.now += 1.0
            for address, hub in self.hubs.items():
                if hub.connected:
                    self.say(address, Heartbeat())
            self.tick()

    def finish_all(self) -> None:
        self.tick()
        for hub in self.hubs.values():
            for fence in list(hub.hands):
                self.fact(hub, hub.finish(fence))
        self.tick()

    @property
    def sizes(self) -> dict[str, int]:
        return {hub.name: len(hub.workers) for hub in self.hubs.values() if hub.connected}

    @property
    def text(self) -> str:
        return str((self.scheduler.administration.adaptation.described() or {}).get("text"))


@pytest.fixture
def lab() -> Lab:
    world = Lab(Policy(core="c"))
    world.client(ANNA, "anna")
    return world


def offer(jobs: tuple[str, ...] = (), hubs: int = 3, request: int = 9) -> OfferHubs:
    return OfferHubs(place="slurm-1", hubs=hubs, workers=4, jobs=jobs, request=request)


def test_the_number_of_workers_follows_the_queue(lab: Lab) -> None:
    lab.join("one", 0)
    assert lab.ask(AdaptWorkers(minimum=0, maximum=8, request=1)).value["has_hubs"]
    for n in range(3):
        submit(lab, f"t{n}")
    lab.later(1)
    assert lab.sizes == {"one": 3}
    assert lab.text.startswith("adapts between 0 and 8 workers: 3 wanted, because")
    lab.finish_all()
    lab.later(29)
    assert lab.sizes == {"one": 3}
    lab.later(3)
    assert lab.sizes == {"one": 0}
    assert lab.scheduler.administration.adaptation.next_deadline() is None
    lab.check()


def test_hubs_give_up_to_what_they_were_started_with_and_the_first_gives_the_rest(lab: Lab) -> None:
    for name in ("one", "two"):
        lab.join(name, 4)
    lab.ask(AdaptWorkers(minimum=2, maximum=12, request=1))
    assert lab.sizes == {"one": 2, "two": 0}
    lab.ask(AdaptWorkers(minimum=6, maximum=12, request=2))
    assert lab.sizes == {"one": 4, "two": 2}
    lab.ask(AdaptWorkers(minimum=12, maximum=12, request=3))
    assert lab.sizes == {"one": 8, "two": 4}


def test_scaling_by_hand_ends_it_and_restarts_do_not(lab: Lab) -> None:
    lab.join("one", 2)
    lab.ask(AdaptWorkers(minimum=0, maximum=4, request=1))
    assert lab.settings[-1].value == {"minimum": 0, "maximum": 4, "idle_s": 30.0}
    lab.ask(ScaleHub(hub="one", workers=3, request=2))
    assert lab.settings[-1].value is None
    lab.later(60)
    assert lab.sizes == {"one": 3}
    again = Lab(Policy(core="c", adapting=Adapting(1, 4)))
    again.join("one", 3)
    again.later(1)
    assert again.sizes == {"one": 1}


def test_off_leaves_the_workers_as_they_are_and_wrong_limits_are_refused(lab: Lab) -> None:
    lab.join("one", 2)
    assert "the smaller one first" in lab.ask(AdaptWorkers(minimum=4, maximum=1, request=1)).error
    lab.ask(AdaptWorkers(minimum=5, maximum=5, request=2))
    assert lab.ask(AdaptWorkers(on=False, request=3)).value["adapts"] is None
    lab.later(60)
    assert lab.sizes == {"one": 5}


def test_a_drained_hub_is_left_alone(lab: Lab) -> None:
    lab.join("one", 4)
    lab.join("two", 4)
    lab.ask(DrainHub(hub="one", request=1))
    lab.ask(AdaptWorkers(minimum=6, maximum=6, request=2))
    assert lab.sizes == {"one": 4, "two": 6}


def test_a_limit_of_a_user_holds_back_workers_too(lab: Lab) -> None:
    lab.scheduler.limit([Limits("anna", max_running=2)])
    lab.join("one", 0)
    lab.ask(AdaptWorkers(minimum=0, maximum=8, request=1))
    for n in range(6):
        submit(lab, f"t{n}")
    lab.later(3)
    assert lab.sizes == {"one": 2}


def test_hubs_of_a_batch_system_come_and_go(lab: Lab) -> None:
    assert lab.ask(offer()).value is None  # the cluster does not adapt: the launcher keeps its own rule
    lab.join("one", 2)
    lab.ask(AdaptWorkers(minimum=0, maximum=10, request=1))
    for n in range(8):
        submit(lab, f"t{n}")
    lab.later(1)
    assert lab.sizes == {"one": 2}  # the rest is for the batch system
    assert lab.ask(offer()).value == 2
    jobs = ("slurm 17", "slurm 18")
    for job in jobs:
        lab.ask(offer(jobs))
        lab.join(job, 4, job)
    lab.later(2)
    lab.ask(offer(jobs))
    assert lab.sizes == {"one": 2, "slurm 17": 4, "slurm 18": 4}
    lab.finish_all()
    lab.finish_all()
    for _ in range(40):
        lab.later(1)
        lab.ask(offer(jobs))
    assert lab.ask(offer(jobs)).value == 0
    hubs = [hub for hub in lab.hubs.values() if isinstance(hub, ElasticHub) and hub.batch_job]
    assert {hub.stopped for hub in hubs} == {"the cluster adapts, and its workers are not needed"}
    assert lab.sizes["one"] == 0
    lab.check()


def test_a_hub_that_ends_is_kept_if_it_is_needed_again_before(lab: Lab) -> None:
    jobs = ("slurm 17",)
    lab.ask(AdaptWorkers(minimum=0, maximum=10, idle_s=0.0, request=1))
    lab.ask(offer(jobs))
    submit(lab, "long")
    hub = lab.join("slurm 17", 1, "slurm 17")
    lab.later(1)
    fence = next(iter(hub.hands))
    lab.fact(hub, hub.start(fence))
    state = next(iter(lab.scheduler.state.hubs.values()))
    adaptation = lab.scheduler.administration.adaptation
    adaptation._ending.add(state.id)
    lab.scheduler.administration.end_when_idle(state, "the cluster adapts, and its workers are not needed")
    assert state.draining
    lab.later(1)
    assert not state.draining
    lab.fact(hub, hub.finish(fence))
    lab.ask(offer(jobs))
    lab.later(2)
    assert hub.stopped


def test_an_offer_that_is_not_repeated_lapses(lab: Lab) -> None:
    lab.join("one", 1)
    lab.ask(offer())
    lab.ask(AdaptWorkers(minimum=6, maximum=6, request=1))
    assert lab.sizes == {"one": 1}
    lab.later(12)
    lab.say("hub:one", lab.hubs["hub:one"].hello())
    lab.later(2)
    assert lab.sizes == {"one": 6}
