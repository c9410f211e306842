"""The real scheduler under any order of events: Hypothesis searches for an order that breaks it.

After each step the invariants hold, and a core that reads the journal has the same state (I9). At the end of each
history all hubs heal, and every task that was accepted ends. NBLB_DEEP=1 looks longer.
"""

from __future__ import annotations

import os
import random
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from nblb.protocol.framing import Payload
from nblb.protocol.messages import (
    CancelTask,
    CollectTask,
    FetchTask,
    ForgetJob,
    Group,
    Heartbeat,
    HubGone,
    OpenJob,
    Publish,
    PutBlob,
    RetryFailed,
    SubmitTask,
    TaskFinished,
    TaskProgressed,
    TaskState,
)
from nblb.scheduling.invariants import story
from nblb.scheduling.state import Policy
from tests.scheduling.world import ModelHub, World, picture, unsure

DEEP = bool(os.environ.get("NBLB_DEEP"))
CLIENTS = {"client:a": "anna", "client:b": "bob"}
PRIORITIES = (0.0, 5.0, 50.0, 2000.0)
BANDS = ((0.0, 10.0), (5.0, 100.0), (0.0, 1000.0), (-1e6, 1e6))
POLICY = Policy(max_queued=12, result_ttl_s=5.0, job_ttl_s=400.0, core="c", lease_s=6.0, suspect_s=3.0, adopt_s=8.0)

pick = st.integers(min_value=0, max_value=10_000)


class Machine(RuleBasedStateMachine):
    """The steps. Choices are numbers taken modulo what there is, so that each step does something."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World(POLICY)
        self.serial = 0
        self.steps = 0
        self.names: list[str] = []
        self.specs: dict[str, tuple[str, SubmitTask]] = {}
        self.jobs: list[str] = []

    # ── helpers ──

    def done(self) -> None:
        """The end of each step: mostly of a turn of the shell, too, but some turns hold several events."""
        self.steps += 1
        self.world.check()
        if self.steps % 4:
            self.world.tick()
            self.world.check(ticked=True)
        doubt = unsure(self.world.scheduler)
        live = picture(self.world.scheduler, doubt)
        for grouped in (False, True):
            twin = picture(self.world.twin(grouped), doubt)
            for key, value in live.items():
                other = twin.get(key)
                if isinstance(value, dict) and isinstance(other, dict):  # say only what differs
                    value = {name: one for name, one in value.items() if other.get(name) != one}
                    other = {name: other.get(name) for name in value}
                assert other == value, f"a restart (grouped={grouped}) changes {key} from {value} to {other}"

    def a_task(self, n: int) -> str:
        return self.names[n % len(self.names)]

    def a_hub(self, n: int) -> ModelHub | None:
        hubs = list(self.world.hubs.values())
        return hubs[n % len(hubs)] if hubs else None

    def in_flight(self, n: int) -> tuple[ModelHub, tuple[str, int, int]] | None:
        all_of_them = [(hub, fence) for hub in self.world.hubs.values() for fence in hub.hands]
        return all_of_them[n % len(all_of_them)] if all_of_them else None

    @initialize()
    def begin(self) -> None:
        for address, user in CLIENTS.items():
            self.world.client(address, user)
        self.world.say("client:a", PutBlob(hash="f", payload=Payload((b"f",))))
        self.world.hub("first", (Group(2, -1e6, 1e6), Group(1, 0.0, 10.0)), functions=("named",))

    # ── clients ──

    def submit(self, address: str, **fields: Any) -> None:
        self.serial += 1
        task = f"t{self.serial}"
        spec = SubmitTask(**{"task": task, "name": "work", "function": "f", "payload": Payload((b"x",)), **fields})
        self.names.append(task)
        self.specs[task] = address, spec
        self.world.say(address, spec)
        self.done()

    @rule(who=st.sampled_from(sorted(CLIENTS)), priority=st.sampled_from(PRIORITIES), retries=st.integers(0, 2),
          once=st.booleans(), shape=st.sampled_from(["one", "one", "named", "python", "chunk", "blob"]))  # fmt: skip
    def submit_one(self, who: str, priority: float, retries: int, once: bool, shape: str) -> None:
        more: dict[str, Any] = {}
        if shape == "named":
            more = {"name": "named", "function": ""}
        elif shape == "python":
            more = {"python": (3, 10)}
        elif shape == "chunk":
            more = {"items": 3}
        elif shape == "blob":
            more = {"constants": (f"c{self.serial % 3}",)}
        self.submit(who, priority=priority, retries=retries, at_most_once=once, **more)

    @rule(who=st.sampled_from(sorted(CLIENTS)), items=st.integers(2, 9), retries=st.integers(0, 1), old=pick)
    def submit_split(self, who: str, items: int, retries: int, old: int) -> None:
        job = f"j{old % 3}"
        if job not in self.world.scheduler.state.jobs:
            self.world.say(who, OpenJob(job=job, name=f"sweep{old % 2}", items=0))
            self.jobs.append(job)
        payload = Payload((b"x" * items,), [1] * items)
        self.submit(who, items=items, split=True, payload=payload, job=job if old % 4 else "", retries=retries)

    @precondition(lambda self: self.names)
    @rule(who=st.sampled_from(sorted(CLIENTS)), one=pick, two=pick, items=st.integers(1, 3), item=st.integers(-1, 8))
    def submit_dependent(self, who: str, one: int, two: int, items: int, item: int) -> None:
        known = self.world.scheduler.state.records
        needed = [name for name in (self.a_task(one), self.a_task(two)) if name in known]
        if needed and 0 <= item < known[needed[0]].items:
            needed[0] += f".{item}"
        self.submit(who, depends=tuple(needed), items=items)

    @rule(who=st.sampled_from(sorted(CLIENTS)), key=st.integers(0, 2))
    def submit_cached(self, who: str, key: int) -> None:
        self.submit(who, cache=f"k{key}")

    @precondition(lambda self: self.names)
    @rule(n=pick)
    def submit_again(self, n: int) -> None:
        address, spec = self.specs[self.a_task(n)]
        if spec.task in self.world.scheduler.state.records:
            self.world.say(address, spec)
            self.done()

    @precondition(lambda self: self.names)
    @rule(n=pick, first=st.integers(-1, 9), items=st.integers(-2, 4), kill=st.booleans())
    def cancel(self, n: int, first: int, items: int, kill: bool) -> None:
        task = self.a_task(n)
        record = self.world.scheduler.state.records.get(task)
        kept = record is not None and (record.job is not None or record.pins > 0)
        done = {i for i in range(record.items if record else 0) if record and record.at(i).state is TaskState.DONE}
        self.world.say("client:a", CancelTask(request=1, task=task, first=first, items=items, kill=kill))
        if record is not None and items >= 0 and 0 <= first < record.items:
            reach = range(record.items) if items == 0 else range(first, min(first + items, record.items))
            for item in reach:
                assert not kept or item not in done or record.at(item).state is TaskState.DONE
                self.world.was_cancelled(task, item, 1)
        self.done()

    @precondition(lambda self: self.jobs)
    @rule(n=pick, forget=st.booleans())
    def cancel_job(self, n: int, forget: bool) -> None:
        job = self.jobs[n % len(self.jobs)]
        self.world.say("client:a", ForgetJob(job=job) if forget else CancelTask(request=2, job=job))
        self.done()

    @precondition(lambda self: self.names)
    @rule(n=pick, whole_job=st.booleans())
    def retry(self, n: int, whole_job: bool) -> None:
        ask = RetryFailed(request=3, task=self.a_task(n))
        if whole_job and self.jobs:
            ask = RetryFailed(request=3, job=self.jobs[n % len(self.jobs)])
        self.world.say("client:b", ask)
        self.done()

    @precondition(lambda self: self.names)
    @rule(n=pick, who=st.sampled_from(sorted(CLIENTS)), collect=st.booleans())
    def fetch(self, n: int, who: str, collect: bool) -> None:
        task = self.a_task(n)
        self.world.say(who, CollectTask(task=task) if collect else FetchTask(task=task))
        self.done()

    @rule(n=pick, back=st.booleans())
    def publish(self, n: int, back: bool) -> None:
        self.world.say("client:a", Publish(name=f"public{n % 2}", hash="" if back else "f"))
        self.done()

    # ── hubs ──

    @rule(band=st.sampled_from(BANDS), workers=st.integers(0, 3), named=st.booleans(), old=st.booleans())
    def hub_comes(self, band: tuple[float, float], workers: int, named: bool, old: bool) -> None:
        if len(self.world.hubs) < 4:
            self.serial += 1
            self.world.hub(
                f"h{self.serial}",
                (Group(workers, *band), Group(1, 0.0, 1000.0)),
                functions=("named",) if named else (),
                python=(3, 10) if old else (3, 11),
            )
            self.done()

    @rule(n=pick, how=st.sampled_from(["cut", "cut", "leave", "dead", "unreachable"]))
    def hub_goes(self, n: int, how: str) -> None:
        hub = self.a_hub(n)
        if hub is None or not hub.connected:
            return
        if how == "leave":
            self.world.say(hub.address, HubGone(reason="stopped"))
        hub.connected = how == "unreachable"
        if how in ("dead", "unreachable"):
            self.world.perform(self.world.scheduler.gone(hub.address, self.world.now, dead=how == "dead"))
        if how in ("leave", "dead"):
            del self.world.hubs[hub.address]
        self.done()

    @rule(n=pick, moved=st.booleans())
    def hub_returns(self, n: int, moved: bool) -> None:
        hub = self.a_hub(n)
        if hub is None or (hub.connected and not moved):
            return
        if moved:
            del self.world.hubs[hub.address]
            self.serial += 1
            hub.address = f"hub:{hub.name}~{self.serial}"
            self.world.hubs[hub.address] = hub
        self.world.connect(hub)
        self.done()

    @rule(n=pick, reason=st.sampled_from(["killed by signal 9 (SIGKILL)", "exit code 3"]))
    def worker_dies(self, n: int, reason: str) -> None:
        hub = self.a_hub(n)
        if hub is not None and hub.workers:
            workers = sorted(hub.workers)
            for message in hub.die(workers[n % len(workers)], reason):
                self.world.fact(hub, message)
            self.done()

    @rule(n=pick, progress=st.booleans())
    def task_starts(self, n: int, progress: bool) -> None:
        found = self.in_flight(n)
        if found is not None:
            hub, fence = found
            self.world.fact(hub, hub.start(fence))
            if progress:
                told = TaskProgressed(task=fence[0], first=fence[1], attempt=fence[2], progress=40.0, note="so far")
                self.world.fact(hub, told)
            self.done()

    @rule(n=pick, bad=st.sets(st.integers(0, 8)), fine=st.booleans(), duration=st.sampled_from([0.0, 1e-4, 0.002, 3.0]))
    def task_finishes(self, n: int, bad: set[int], fine: bool, duration: float) -> None:
        found = self.in_flight(n)
        if found is not None:
            hub, fence = found
            items = hub.hands[fence].items
            self.world.fact(hub, hub.finish(fence, () if fine else sorted({b % items for b in bad}), duration))
            self.done()

    @rule(n=pick, items=st.integers(1, 4), bad=st.sets(st.integers(0, 3)))
    def items_finish(self, n: int, items: int, bad: set[int]) -> None:
        found = self.in_flight(n)
        if found is not None:
            hub, fence = found
            self.world.fact(hub, hub.tell(fence, items, sorted(b for b in bad if b < items)))
            self.done()

    @rule(n=pick, why=st.sampled_from(["cancel", "timeout", "recall"]))
    def task_stops(self, n: int, why: str) -> None:
        found = self.in_flight(n)
        if found is not None:
            hub, fence = found
            self.world.fact(hub, hub.stopped(fence, hub.stops.get(fence, why)))
            self.done()

    @rule(n=pick, from_another=st.booleans())
    def fact_comes_again(self, n: int, from_another: bool) -> None:
        if not self.world.facts:
            return
        now_in_hand = {fence[:2]: fence[2] for hub in self.world.hubs.values() for fence in hub.hands}
        stale = [  # the most dangerous: of an attempt that another has replaced
            (address, fact)
            for address, fact in self.world.facts
            if now_in_hand.get((getattr(fact, "task", ""), getattr(fact, "first", 0)), 0) > getattr(fact, "attempt", 0)
        ]
        facts = stale or self.world.facts
        address, message = facts[n % len(facts)]
        if not isinstance(message, TaskFinished):
            from_another = False
        hub = self.a_hub(n) if from_another else self.world.hubs.get(address)
        fence = (getattr(message, "task", ""), getattr(message, "first", 0), getattr(message, "attempt", 0))
        if hub is not None and hub.connected and fence not in hub.hands:
            self.world.say(hub.address, message)
            self.done()

    # ── time, and the end of the core ──

    @rule(seconds=st.sampled_from([0.0, 0.001, 0.06, 0.5, 2.0, 9.0, 70.0]), beat=st.booleans())
    def time_passes(self, seconds: float, beat: bool) -> None:
        self.world.now += seconds
        if beat:
            for hub in list(self.world.hubs.values()):
                if hub.connected:
                    self.world.say(hub.address, Heartbeat())
            for address in CLIENTS:
                if address in self.world.scheduler.state.clients:
                    self.world.say(address, Heartbeat())
        self.world.tick()
        self.world.check(ticked=True)
        self.meet_clients()
        self.done()

    def meet_clients(self) -> None:
        for address, user in CLIENTS.items():
            if address not in self.world.scheduler.state.clients:
                self.world.client(address, user)

    @rule(grouped=st.booleans())
    def core_restarts(self, grouped: bool) -> None:
        self.world.restart(grouped)
        self.meet_clients()
        self.done()

    def teardown(self) -> None:
        """Heal: whatever has happened, each task that was accepted ends."""
        if self.world.users:
            heal(self.world)


def heal(world: World) -> None:
    for hub in list(world.hubs.values()):
        if not hub.connected:
            world.connect(hub)
    everything = Group(3, -1e6, 1e6)
    world.hub("healer", (everything,), functions=("named",))
    world.hub("elder", (everything,), functions=("named",), python=(3, 10))
    for _ in range(400):
        world.now += 0.2
        for hub in list(world.hubs.values()):
            for fence in list(hub.hands):
                if fence in hub.stops:
                    world.fact(hub, hub.stopped(fence, hub.stops[fence]))
                elif fence in hub.hands:
                    world.fact(hub, hub.finish(fence))
            world.say(hub.address, Heartbeat())
        world.tick()
        world.check(ticked=True)
        if all(record.unended == 0 for record in world.scheduler.state.records.values()):
            break
    open_ones = [t for r in world.scheduler.state.records.values() for t in r.slices if not t.state.ended]
    assert not open_ones, f"these never end: {[story(task) for task in open_ones]}"
    world.now += 2 * POLICY.job_ttl_s
    world.tick()
    world.check()
    assert not world.scheduler.state.jobs or all(not j.records for j in world.scheduler.state.jobs.values())
    assert not world.scheduler.state.records, "old results are never dropped"


STEPS: dict[str, tuple[int, dict[str, Any]]] = {  # name of a rule -> how often, and what its arguments may be
    "submit_one": (9, {"who": sorted(CLIENTS), "priority": PRIORITIES, "retries": range(3),
                       "once": (False, False, True), "shape": ("one", "one", "named", "python", "chunk", "blob")}),
    "submit_split": (7, {"who": sorted(CLIENTS), "items": range(2, 10), "retries": range(2), "old": range(12)}),
    "submit_dependent": (4, {"who": sorted(CLIENTS), "one": range(99), "two": range(99), "items": (1, 1, 3),
                             "item": (-1, -1, 0, 1, 4)}),
    "submit_cached": (3, {"who": sorted(CLIENTS), "key": range(3)}),
    "submit_again": (1, {"n": range(99)}),
    "cancel": (7, {"n": range(99), "first": range(-1, 9), "items": (-1, 0, 0, 1, 1, 2, 3), "kill": (False, True)}),
    "cancel_job": (2, {"n": range(9), "forget": (False, True)}),
    "retry": (4, {"n": range(99), "whole_job": (False, True)}),
    "fetch": (3, {"n": range(99), "who": sorted(CLIENTS), "collect": (False, True)}),
    "publish": (1, {"n": range(9), "back": (False, True)}),
    "hub_comes": (2, {"band": BANDS, "workers": range(4), "named": (False, True), "old": (False, True)}),
    "hub_goes": (2, {"n": range(9), "how": ("cut", "cut", "leave", "dead", "unreachable")}),
    "hub_returns": (4, {"n": range(9), "moved": (False, False, True)}),
    "worker_dies": (5, {"n": range(99), "reason": ("killed by signal 9 (SIGKILL)",)}),
    "task_starts": (16, {"n": range(99), "progress": (False, True)}),
    "task_finishes": (12, {"n": range(99), "bad": ({0}, {1}, set(range(9)), {2, 3}), "fine": (False, True),
                           "duration": (0.0, 1e-4, 0.002, 3.0)}),
    "items_finish": (10, {"n": range(99), "items": (1, 1, 2, 3), "bad": (set(), set(), {0}, {0, 1, 2}, {1})}),
    "task_stops": (4, {"n": range(99), "why": ("cancel", "timeout", "recall")}),
    "fact_comes_again": (3, {"n": range(999), "from_another": (False, True)}),
    "time_passes": (8, {"seconds": (0.0, 0.001, 0.06, 0.5, 0.5, 2.0, 9.0, 70.0), "beat": (False, True, True, True)}),
    "core_restarts": (1, {"grouped": (False, True)}),
}  # fmt: skip


def history(seed: int, length: int) -> None:
    """The same steps, drawn from a seed: longer histories than Hypothesis makes, in less time."""
    chance = random.Random(seed)
    names = list(STEPS)
    machine = Machine()
    machine.begin()
    for name in chance.choices(names, [STEPS[name][0] for name in names], k=length):
        arguments = {key: chance.choice(values) for key, values in STEPS[name][1].items()}
        if name in NEED_TASKS and not machine.names:
            continue
        if name == "cancel_job" and not machine.jobs:
            continue
        getattr(machine, name)(**arguments)
    machine.teardown()


NEED_TASKS = {"submit_dependent", "submit_again", "cancel", "retry", "fetch"}


@pytest.mark.parametrize("first", range(0, 4000 if DEEP else 30, 10))
def test_long_histories(first: int) -> None:
    for seed in range(first, first + 10):
        try:
            history(seed, 120)
        except Exception as error:
            raise AssertionError(f"history({seed}, 120) breaks it: {error}") from error


@pytest.mark.timeout(3600 if DEEP else 120)
def test_nothing_that_can_happen_breaks_it() -> None:
    profile = settings(
        max_examples=3000 if DEEP else 30,
        stateful_step_count=60 if DEEP else 30,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(Machine, settings=profile)  # type: ignore[no-untyped-call]
