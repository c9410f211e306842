"""Histories about one kind of fault each, in which planted faults show that are rare in histories of all kinds."""

from __future__ import annotations

from random import Random

import msgspec

from nblb.protocol.framing import Payload
from nblb.protocol.messages import CancelTask, ForgetJob, OpenJob, SubmitTask
from nblb.simulation import faults
from nblb.simulation.network import CALM, Weather
from nblb.simulation.story import STORM_S, History
from nblb.simulation.workload import Act, Conduct

STORMY = 0.31, 0.93  # the range of `kind` with all faults, and no crowd, flood or mixed lengths
ORDERLY = 0.25, 0.3
NO_FAULTS = faults.Mix(**dict.fromkeys(faults.Mix.__struct_fields__, 0))


class Nested(History):
    """Tasks submit tasks; hubs come and go."""

    KINDS = STORMY
    nested_share = 1.0
    silent_share = 0.4
    weathers = (CALM, Weather(delay_s=0.0005, jitter_s=0.03))
    mixes = (
        faults.Mix(),
        msgspec.structs.replace(NO_FAULTS, break_line=6, core_crash=2),
        NO_FAULTS,
    )


class SilentWaits(Nested):
    """Long calls wait for their tasks without a word."""

    silent_share = 0.9
    weathers = (CALM,)
    mixes = (NO_FAULTS,)

    def draw_more(self, random: Random) -> None:
        for task, conduct in self.plan.conduct.items():
            if conduct.nests:
                self.plan.conduct[task] = msgspec.structs.replace(conduct, seconds=3.0)


class LongAbsences(History):
    """Hubs stand still or are cut off for longer than a lease, with orders on their way to them."""

    KINDS = STORMY
    nested_share = 0.0
    weathers = (CALM,)
    mixes = (NO_FAULTS,)

    def add_faults(self) -> None:
        random, simulator = self.simulator.random, self.simulator
        for number in range(4):
            at = 0.5 + number * 2.7 + random.random()
            simulator.at(at, self._be_absent)
            for late in range(3):
                self._long_task(at - 0.2 + random.random() * 1.5, f"x{number}.{late}")

    def _be_absent(self) -> None:
        random, network = self.simulator.random, self.network
        hub, seconds = random.choice(self.hubs), 5.3 + random.random() * 2.5
        self.referee.interruptions += 1
        if random.random() < 0.4:
            hub.pause(seconds)
        else:
            network.cut(hub.address, *random.choice(((True, True), (True, False), (False, True))))
            self.simulator.after(seconds, network.mend, hub.address, random.random() < 0.2)

    def _long_task(self, at: float, name: str) -> None:
        task = name.replace(".", "y")
        self.plan.conduct[task] = Conduct(self.simulator.random.choice((3.0, 8.0)))
        spec = SubmitTask(task=task, name="long", function="slow", payload=Payload((b"\0",)))
        client = self.simulator.random.randrange(len(self.clients))
        self.simulator.at(at, self._say, client, spec)

    def _say(self, client: int, spec: SubmitTask) -> None:
        self.clients[client].say(spec)


class ForgottenJobs(History):
    """Users forget their jobs, and the core crashes."""

    KINDS = STORMY
    nested_share = 0.0
    mixes = (msgspec.structs.replace(NO_FAULTS, core_crash=4),)
    weathers = (CALM, Weather(delay_s=0.0005, jitter_s=0.03))

    def draw_more(self, random: Random) -> None:
        self._request = 10_000
        for job, client, at in [
            (act.message.job, act.client, act.at) for act in self.plan.acts if isinstance(act.message, OpenJob)
        ]:
            self._request += 1
            forget = ForgetJob(job=job, request=self._request)
            self.plan.acts.append(Act(at + random.random() * 6.0, client, forget))


class FullDisks(ForgottenJobs):
    """The disk has no room for anything again and again, while users cancel tasks and forget jobs."""

    mixes = (faults.Mix(full_disk=3), msgspec.structs.replace(NO_FAULTS, full_disk=4, core_crash=1))

    def add_faults(self) -> None:
        random = self.simulator.random
        for number in range(4):
            self.simulator.at(0.5 + number * 2.5 + random.random() * 2.0, self._fill)

    def _fill(self) -> None:
        random = self.simulator.random
        self.disk.full = self.disk.brimful = True
        seconds = 0.5 + random.random() * 1.5
        self.simulator.after(seconds, faults.make_room, self)
        for _ in range(3):
            self.simulator.after(random.random() * seconds, self._cancel)

    def _cancel(self) -> None:
        random = self.simulator.random
        tasks = [task for task, one in self.referee.submissions.items() if one.client.alive and not one.resolved]
        if tasks:
            task = random.choice(tasks)
            self._request += 1
            self.referee.submissions[task].client.say(CancelTask(request=self._request, task=task))


class Scaled(History):
    """Nothing fails, but the numbers of workers change, and hubs are stopped."""

    KINDS = ORDERLY
    nested_share = 0.0

    def add_faults(self) -> None:
        for _ in range(4):
            self.simulator.at(self.simulator.random.random() * STORM_S, faults.scale, self)
            self.simulator.at(self.simulator.random.random() * STORM_S, faults.stop_hub, self)


class Forgetful(History):
    """With LB_DURABILITY "none" each new core meets hubs that have work from the one before."""

    KINDS = STORMY
    durabilities = ("none",)
    nested_share = 0.0


class Powerless(History):
    """Machines lose their power."""

    KINDS = STORMY
    durabilities = ("full",)
    mixes = (faults.Mix(power_cut=4),)
    nested_share = 0.0


class People(History):
    """Users have shares, groups and limits, and their priorities age within seconds."""

    people_share = 1.0


class PeopleWhoNest(Nested):
    """Users with limits have tasks that submit tasks; most calls wait without a word."""

    people_share = 1.0
    silent_share = 0.9
    weathers = (CALM,)
    mixes = (NO_FAULTS,)


class Flooded(History):
    """Users submit more in loops than may compete at once."""

    KINDS = History.FLOODED
    nested_share = 0.0


class Equipped(History):
    """Tasks need GPUs, memory or features, which only some of the workers have."""

    equipped_share = 1.0
    nested_share = 0.1
