"""A history: a cluster of the real state machines, its users' actions, its faults, and the check of all promises.

The stormy part lasts STORM_S; then everything is repaired, and within RESOLVE_S every task must have ended, every
future must have its end, and core and hubs must have nothing left open.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import msgspec

from nblb.access.limits import Limits
from nblb.hub.slots.slots import SlotSettings
from nblb.protocol.messages import Group
from nblb.scheduling.slice import InvalidTransition
from nblb.scheduling.state import Policy
from nblb.simulation import faults
from nblb.simulation.disk import Disk
from nblb.simulation.equipment import EQUIPPED, demand, equip
from nblb.simulation.fairness import Shares, StartDelays
from nblb.simulation.final_checks import check_all, unresolved
from nblb.simulation.network import CALM, DISTANCES_S, JITTER, Network, Weather
from nblb.simulation.referee import Referee
from nblb.simulation.simulated_client import Observer, SimulatedClient
from nblb.simulation.simulated_core import SimulatedCore
from nblb.simulation.simulated_hub import SimulatedHub
from nblb.simulation.simulator import MAX_EVENTS, Simulator, Violation
from nblb.simulation.standing import AGEING_S, Standing, change_limits, draw_limits
from nblb.simulation.workload import CONSTANT, FUNCTIONS, LENGTHS, Act, Draw, blob, nest

STORM_S = 12.0
RESOLVE_S = 90.0  # without any change after everything was repaired: something is stuck …
MOST_S = 450.0  # … or repeats itself without end
LONGEST_S = 40_000.0  # the same where calls take hours
LOOK_EVERY_S = 0.5
OWNED = 0.15  # share of the further hubs that run tasks of one user only
NESTED = 0.3  # share of the histories with tasks that submit tasks
PEOPLE = 0.3  # share of the histories whose users have shares, groups and limits
SILENT = 0.15  # share of their waits that send no WaitBegan
FEW_WAITS = 2  # with no more stand-ins, a silent wait may never end
MOST_WAITS = (200, 200, 200, 2, 0)
DRIFT = 0.03  # relative rate error of a hub's clock; a lease tolerates a twentieth
ANY, LOW, HIGH = (0.0, 1000.0), (0.0, 9.0), (10.0, 1000.0)
WEATHERS = (
    CALM,
    Weather(delay_s=0.0005, jitter_s=0.03),
    Weather(drop=0.01, slow=0.02),
    Weather(drop=0.03, repeat=0.05, reorder=0.02, slow=0.05, unanswered=0.3),
    Weather(repeat=0.2, reorder=0.1, jitter_s=0.05),
)
MIXES = (
    faults.Mix(stop_hub=1, stop_core=1, withdraw=1),
    faults.Mix(core_crash=5, full_disk=2, bad_fsync=2),
    faults.Mix(cut=5, break_line=5, pause=3),
    faults.Mix(hub_crash=4, worker_kill=6),
    faults.Mix(client_crash=4, core_crash=3),
    faults.Mix(power_cut=3, stop_hub=2, scale=2),
)
ORDERLY = faults.Mix(
    core_crash=0, hub_crash=0, worker_kill=0, client_crash=0, cut=0, break_line=0, pause=0, full_disk=0, bad_fsync=0,
    scale=3, stop_hub=3, withdraw=1,
)  # fmt: skip
CORE_ONLY = faults.Mix(
    core_crash=4, hub_crash=0, worker_kill=0, client_crash=1, cut=0, break_line=0, pause=0, bad_fsync=1, wall_jump=1
)


class HistoryResult(msgspec.Struct):
    """The result of a history."""

    seed: int
    violation: str = ""  # "" when all promises held
    rule: str = ""
    events: int = 0
    tasks: int = 0
    seconds: float = 0.0  # virtual time
    trace: list[str] = []


class History:
    """The cluster, plan and faults of one seed."""

    FLOODED = 0.94, 1.0  # range of `kind` with loops of `submit` far beyond a small bound of queued tasks
    only_mixed = False  # True: every history of this class has calls of all lengths
    KINDS = 0.0, 1.0  # range from which `kind` is drawn
    nested_share = NESTED
    silent_share = SILENT
    people_share = PEOPLE
    equipped_share = EQUIPPED
    far_share = 0.4  # share of these with distant parties
    weathers: tuple[Weather, ...] = WEATHERS
    mixes: tuple[faults.Mix, ...] = MIXES
    durabilities = ("process", "process", "process", "full", "full", "none")

    def __init__(self, seed: int, tracing: bool = False) -> None:
        self.simulator = Simulator(seed, tracing)
        random = self.simulator.random
        kind = self.KINDS[0] + random.random() * (self.KINDS[1] - self.KINDS[0])
        self.mixed = self.only_mixed or 0.04 <= kind < 0.06 or 0.3 <= kind < 0.31  # calls from a millisecond to hours
        self.calm = kind < 0.1 or (self.only_mixed and kind > 0.6)
        self.gentle = 0.1 <= kind < 0.25  # only the core and clients fail, so running items are never run again
        self.orderly = 0.25 <= kind < 0.3  # nothing fails, but hubs are stopped and scaled
        self.crowded = kind < 0.04 and not self.mixed  # users with much to do share a few workers
        self.flooded = self.FLOODED[0] <= kind < self.FLOODED[1] and not self.mixed
        self.local = self.gentle or random.random() < 0.5  # hubs on the core's machine, which see its process end
        clients = random.choice((1, 2, 2, 3))
        users = random.choice((1, 2, 2, 3))
        if self.mixed:
            clients, users = random.choice(((2, 2), (2, 2), (3, 3), (3, 2)))
        records = 0 if self.crowded or self.mixed else random.choice((4, 7, 10))
        draw = Draw(random, clients, users, records, STORM_S * 0.8)
        if self.crowded:
            draw.crowd()
        elif self.flooded:
            draw.flood()
        elif self.mixed:
            draw.mix_lengths()
            self.simulator.max_events = 10 * MAX_EVENTS
        plan = draw.plan
        self.plan = plan
        self.settings = self._nest(seed)
        self._draw_people(seed)
        self._draw_needs(seed)
        self.draw_more(random)
        weather = CALM if self.calm or self.gentle or self.orderly else random.choice(self.weathers)
        self.network = Network(self.simulator, weather)
        self.referee = self._make_referee(weather)
        self.referee.hubs = self.hubs = []
        self.disk = Disk(self.simulator)
        if not (self.calm or self.gentle):
            self.disk.durability = random.choice(self.durabilities)
        self.disk.watch = self.referee.committed
        self.core = SimulatedCore(self.simulator, self.network, self.disk, self._policy(), self.referee)
        self.core.commit_s = random.choice((0.0, 0.0, 0.005, 0.1))
        self.core.when_it_ends = self._core_ended
        self.core.has_ended = self._has_ended
        self.referee.core = self.core
        self.core.start()
        self._hub_number = self._client_number = 0
        self.made = self.referee.made  # all incarnations
        self.groups = [self._draw_groups(place) for place in range(random.choice((1, 2, 2, 3)))]
        self._give_owners(seed)
        self.hubs += [self._make_hub(place) for place in range(len(self.groups))]
        self.clients = [self._make_client(place) for place in range(clients)]

    def draw_more(self, random: Random) -> None:
        """Changes the plan, in histories that are about one kind of fault."""

    def add_faults(self) -> None:
        """Schedules more than the drawn faults, in histories that are about one kind of fault."""

    def _nest(self, seed: int) -> SlotSettings:
        """Gives some histories tasks that submit tasks, and draws how many workers of a hub may wait."""
        nesting = Random(f"nesting {seed}")  # a separate generator: histories without nesting stay the same
        self.nested = not self.crowded and not self.mixed and nesting.random() < self.nested_share
        if self.nested:
            nest(self.plan, nesting)
        most_waits = nesting.choice(MOST_WAITS)
        return SlotSettings(heartbeat_s=1.0, suspect_s=2.5, lease_s=5.0, grace_s=0.4, most_waits=most_waits)

    def _make_referee(self, weather: Weather) -> Referee:
        """Makes the referee, and in some histories with shares and limits puts the parties far from the core."""
        slack_s = 0.0
        if self.limits and self._people.random() < self.far_share:
            self.network.far = Random(f"far {self.simulator.seed}")
            slack_s = 4.0 * (1.0 + JITTER) * max(DISTANCES_S)
        mirror = 0.002 if self.mixed else 0.02
        referee = Referee(self.simulator, self.plan.conduct, mirror, not weather.repeat and not weather.reorder)
        referee.standing, referee.slack_s = self.standing, slack_s
        referee.shares = Shares(self.standing, slack_s) if self.crowded else None
        referee.waits = StartDelays(self.standing, slack_s) if self.calm and not self.nested else None
        return referee

    def _draw_people(self, seed: int) -> None:
        """Gives some histories users with shares, groups and limits, and priorities that age within seconds."""
        people = self._people = Random(f"people {seed}")  # a separate generator: other histories stay the same
        self.ageing_s = Policy().ageing_s
        self.limits: tuple[Limits, ...] = ()
        if people.random() < self.people_share:
            if people.random() < 0.7:
                self.plan.users[:] = [f"user{n}" for n in range(len(self.plan.users))]
            self.ageing_s = people.choice(AGEING_S)
            self.limits = draw_limits(people, self.plan.users, self.crowded)
        self.standing = Standing(self.limits, self.ageing_s)

    def _draw_needs(self, seed: int) -> None:
        """Gives some histories tasks that need GPUs, memory or features, which only some workers have."""
        self._equipment = Random(f"equipment {seed}")  # a separate generator: other histories stay the same
        self.equipped = not self.crowded and self._equipment.random() < self.equipped_share
        if self.equipped:
            self.plan.acts = demand(self._equipment, self.plan.acts)

    def _change_people(self) -> None:
        """Changes a share or a limit, as `nblb users set` does."""
        self.limits = change_limits(self._people, self.limits)
        self.standing.limit(self.limits)
        self.core.limit(self.limits)
        if self.referee.waits is not None:
            self.referee.waits.begin_again()

    def _policy(self) -> Policy:
        return Policy(
            max_queued=self.simulator.random.choice((1, 3, 6, 6) if self.flooded else (1000, 1000, 1000, 6)),
            heartbeat_s=1.0,
            suspect_s=2.5,
            lease_s=5.0,
            adopt_s=6.0,
            result_ttl_s=3.0,
            job_ttl_s=1e6,
            notice_s=0.2,
            client_silence_s=8.0,
            core="sim",
            ageing_s=self.ageing_s,
            limits=self.limits,
        )

    def _draw_groups(self, place: int) -> list[Group]:
        random = self.simulator.random
        bands = [ANY] if place == 0 or self.crowded else [random.choice((ANY, LOW, HIGH))]
        if random.random() < 0.3 and not self.crowded:
            bands.append(random.choice((LOW, HIGH)))
        return [Group(workers=random.choice((1, 1, 2)), minP=low, maxP=high) for low, high in bands]

    def _give_owners(self, seed: int) -> None:
        """Lets some of the hubs behind the first run tasks of one user only, and gives some what tasks may need."""
        owners = Random(f"owners {seed}")  # a separate generator: histories without owners stay the same
        for place, groups in enumerate(self.groups):
            if place and not self.crowded and owners.random() < OWNED:
                only = (owners.choice(self.plan.users),)
                self.groups[place] = [msgspec.structs.replace(group, only=only) for group in groups]
        if self.equipped:
            equip(self._equipment, self.groups, ANY)

    def _make_hub(self, place: int) -> SimulatedHub:
        self._hub_number += 1
        name = f"h{self._hub_number}"
        named = place == 0 or self.simulator.random.random() < 0.5
        hub = SimulatedHub(
            self.simulator,
            self.network,
            self.referee,
            name,
            self.groups[place],
            self.settings,
            drift=DRIFT,
            named=named,
        )
        hub.when_it_leaves = lambda: self._left(hub, place)
        if self.nested:
            hub.pool.connect = self._connect
            hub.pool.silent_share = self.silent_share if self.settings.most_waits > FEW_WAITS else 0.0
        self.made.append(hub)
        return hub

    def _left(self, hub: SimulatedHub, place: int) -> None:
        """Starts another hub after one was stopped in good order."""
        if not hub.is_asked:
            raise Violation("left", f"{hub.name} ends, but no party has asked it to")
        self.simulator.after(0.2 + self.simulator.random.random() * 5.0, self.new_hub, place)

    def _has_ended(self, name: str) -> bool:
        """True if the process of this hub has ended, as the core observes on its own machine."""
        return self.local and any(hub.name == name and not hub.alive for hub in self.made)

    def new_hub(self, place: int) -> None:
        """Starts another incarnation in the place of one that died."""
        if not self.hubs[place].alive:
            self.hubs[place] = self._make_hub(place)

    def _core_ended(self) -> None:
        if self.disk.forgets:
            self.referee.all_is_void()
        for hub in self.hubs if self.local else ():
            hub.core_ended()

    def _make_client(self, place: int) -> SimulatedClient:
        return self._connect(self.plan.users[place], self.referee)

    def _connect(self, user: str, observer: Observer) -> SimulatedClient:
        self._client_number += 1
        client = SimulatedClient(self.simulator, self.network, observer, f"c{self._client_number}", user)
        for name in LENGTHS if self.mixed else (*FUNCTIONS, CONSTANT):
            client.session.handle("user", blob(name), client.clock())
        return client

    def new_client(self, place: int) -> None:
        """Starts the user's next kernel, which attaches to the accepted submissions of the dead one."""
        old = self.clients[place]
        if old.alive:
            return
        client = self.clients[place] = self._make_client(place)
        for task, submission in self.referee.submissions.items():
            if submission.client is old and not submission.resolved and task in self.referee.acknowledged:
                submission.client = client
                items = self.referee.ledger.tasks[task].spec.items  # as the core's list of tasks has it
                submission.ended = [None] * items
                client.expect(task, items, submission.spec.job)

    # ── the run ──

    def run(self) -> None:
        """Plays the history to its end.

        Raises
        ------
        Violation
            As soon as a promise is broken.
        """
        simulator = self.simulator
        for act in self.plan.acts:
            simulator.at(act.at, self._act, act)
        if not self.calm:
            mix = CORE_ONLY if self.gentle else ORDERLY if self.orderly else simulator.random.choice(self.mixes)
            if self.disk.forgets:  # each new core finds hubs with work from the one before
                mix = msgspec.structs.replace(mix, mute_hub=3)
            faults.plan(self, mix, STORM_S)
        self.add_faults()
        if self.limits and not self.crowded:
            for _ in range(self._people.randrange(3)):
                simulator.at(self._people.random() * STORM_S, self._change_people)
        simulator.run(STORM_S)
        faults.heal(self)
        mended, left = simulator.now, unresolved(self)
        resolve_s, most_s = (LONGEST_S, LONGEST_S) if self.mixed else (RESOLVE_S, MOST_S)
        end = mended + resolve_s
        while left and simulator.now < end:
            simulator.run(simulator.now + LOOK_EVERY_S)
            before, left = left, unresolved(self)
            if left != before:  # there is progress: long calls on the one worker left
                end = min(simulator.now + resolve_s, mended + most_s)
        if left:
            raise Violation("I5", f"{simulator.now - mended:.0f} s after everything was repaired: {left}")
        check_all(self)

    def _act(self, act: Act) -> None:
        self.clients[act.client].say(act.message)


class MixedLengths(History):
    """A history in which calls take from a millisecond to hours; six in ten have no faults."""

    only_mixed = True


def play(seed: int, tracing: bool = False, make: Callable[[int, bool], History] = History) -> HistoryResult:
    """Plays the history of this seed; the result names the broken promise, if any."""
    outcome = HistoryResult(seed)
    history = make(seed, tracing)
    try:
        history.run()
    except Violation as violation:
        outcome.rule, outcome.violation = violation.rule, str(violation)
    except InvalidTransition as error:
        outcome.rule, outcome.violation = "table", f"table: {error}"
    except (AssertionError, LookupError, ValueError, TypeError, AttributeError) as error:
        outcome.rule, outcome.violation = "crash", f"crash: {type(error).__name__}: {error} {_where(error)}"
    outcome.events, outcome.tasks = history.simulator.events, len(history.plan.conduct)
    outcome.seconds = history.simulator.now
    outcome.trace = history.simulator.trace or []
    return outcome


def _where(error: BaseException) -> str:
    """The innermost line of a traceback in a state machine."""
    at = error.__traceback__
    place = ""
    while at is not None:
        place = f"({at.tb_frame.f_code.co_filename.rpartition('nblb/')[2]} line {at.tb_lineno})"
        at = at.tb_next
    return place
