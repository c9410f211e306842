"""The simulated hub process: the loop of hub/worker_hub.py around the real Slots."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from nblb.hub.slots.slots import Slots, SlotSettings
from nblb.protocol.commands import (
    AskForItems,
    Command,
    Drop,
    GiveTask,
    Halt,
    HandBack,
    Interrupt,
    KillWorker,
    RefuseWait,
    ResumeWorker,
    RetireWorker,
    Send,
    StartWorker,
    Steer,
    TakeBack,
)
from nblb.protocol.messages import Group, HubHello, LendSlot, Message, ScaleHub, StopHub, Welcome, split_workers
from nblb.simulation.network import Network
from nblb.simulation.simulated_pool import Bystander, SimulatedPool
from nblb.simulation.simulator import MOMENT_S, Simulator
from nblb.simulation.workload import NAMED

INFINITY = float("inf")
STOPS_S = 0.1  # maximum time from an interrupt or a kill to its effect
DISOWNS_S = 2.0  # within it after a welcome the core has sent which attempts it no longer wants

Make = Callable[[HubHello, SlotSettings, Callable[[], str]], Slots]


class SimulatedHub:
    """One incarnation of a hub and its workers."""

    def __init__(
        self,
        simulator: Simulator,
        network: Network,
        bystander: Bystander,
        name: str,
        groups: Sequence[Group],
        settings: SlotSettings,
        make: Make = Slots,
        drift: float = 0.0,
        named: bool = False,
    ) -> None:
        self.simulator, self.network, self.name = simulator, network, name
        self.address = f"hub:{name}"
        self.skew = simulator.random.random() * 5000.0
        self.rate = 1.0 + drift * (2.0 * simulator.random.random() - 1.0)  # rate of its clock
        self._grace_s = settings.grace_s
        self.pool = SimulatedPool(simulator, bystander, name, self._from_worker)
        self.alive = True
        self.ended_at = INFINITY
        self.is_asked = False  # it was asked to leave
        self.withdrawn = False  # its functions by name are withdrawn
        self.when_it_leaves: Callable[[], None] = lambda: None
        self._workers = 0
        self._wake_at = float("inf")
        self._paused_until = 0.0
        self._waiting: list[tuple[str, Message | None]] = []  # None: a new connection
        self.groups = tuple(groups)
        hello = HubHello(
            hub=name,
            name=name,
            host=name,
            pid=1,
            python=(3, 11),
            cloudpickle="3",
            groups=self.groups,
            functions=(),
        )
        self.slots = make(hello, settings, self._new_worker)
        self._perform(self.slots.start(self.clock()))
        if named:
            self.add_tasks(NAMED)
        network.dial(self.address, self)

    def _new_worker(self) -> str:
        self._workers += 1
        return f"{self.name}.w{self._workers}"

    def clock(self) -> float:
        return self.simulator.now * self.rate + self.skew

    # ── what its owner does ──

    def add_tasks(self, functions: Mapping[str, tuple[str, str]]) -> None:
        """Sets the functions that run here by name (addTask, rmvTask)."""
        self.withdrawn = not functions
        if self.alive:
            self.slots.set_functions(functions, self.clock())
            self._plan_wake()

    def stop(self, reason: str) -> None:
        """Stops the hub in good order, as SIGTERM or its own `stop` does."""
        self.is_asked = True
        if self.alive:
            self._perform([*self.slots.stop(reason, self.clock()), *self.slots.tick(self.clock())])

    # ── what comes in ──

    def core_ended(self) -> None:
        """Handles the end of the core's process, which a hub on the same machine observes."""
        if self.alive:
            self.pool.excused_until = INFINITY  # no lease runs before the next core's welcome
            self.slots.core_ended()
            self._plan_wake()

    def connected(self) -> None:
        """Handles a new connection: the core may be another process."""
        if self._paused_until > self.simulator.now:
            self._waiting.append(("line", None))
        elif self.alive:
            self.slots.line_up(self.clock())
            self._perform(self.slots.tick(self.clock()))

    def disconnected(self) -> None:
        if self.alive and self._paused_until <= self.simulator.now:
            self.slots.line_down(self.clock())
            self._plan_wake()

    def hear(self, sender: str, message: Message) -> None:
        if self._paused_until > self.simulator.now:
            self._waiting.append((sender, message))
        elif self.alive:
            if self.simulator.trace is not None and sender != "core":
                self.simulator.note(sender, f"> {message}")
            self.is_asked = self.is_asked or type(message) is StopHub
            if type(message) is LendSlot:
                self.pool.note_lent(message.task, message.attempt, message.first)
            if type(message) is ScaleHub and not self.is_asked:
                self.pool.limits = split_workers(message.workers, [group.workers for group in self.groups])
                self.pool.scaled_at = self.simulator.now
            if type(message) is Welcome and self.pool.excused_until == INFINITY:
                self._excuse(DISOWNS_S)
            self._perform(self.slots.handle(sender, message, self.clock()))

    def _from_worker(self, worker: str, message: Message) -> None:
        self.hear(worker, message)

    def pause(self, seconds: float) -> None:
        """Pauses the hub, but not its workers, as SIGSTOP does."""
        self._excuse(seconds)
        self._paused_until = self.simulator.now + seconds
        self.simulator.at(self._paused_until, self._resume)

    def _excuse(self, seconds: float) -> None:
        """Excuses the hub for `seconds` and the grace after it: it cannot know that it must stop its workers."""
        until = self.simulator.now + seconds + self._grace_s + STOPS_S
        if seconds == DISOWNS_S or self.pool.excused_until < until:
            self.pool.excused_until = until

    def _resume(self) -> None:
        waiting, self._waiting = self._waiting, []
        for sender, message in waiting:
            if message is None:
                self.connected()
            else:
                self.hear(sender, message)
        self._wake_at = self.simulator.now
        self._tick(self._wake_at)

    @property
    def open_ends(self) -> list[object]:
        """Ends without the core's receipt, and waiting slices."""
        hands = self.slots._in_flight
        return [*hands.ends, *hands.parts, *(slice_.fence for slice_ in hands.slices.values())]

    def crash(self) -> None:
        """Kills the process; its workers die with it."""
        self._end(orderly=False)

    def _end(self, orderly: bool) -> None:
        if self.alive:
            self.alive = False
            self.ended_at = self.simulator.now
            self.pool.close()
            self.network.hang_up(self.address, orderly)

    # ── the loop ──

    def _perform(self, commands: Sequence[Command]) -> None:
        for command in commands:
            kind = type(command)
            if kind is Send:
                if self.simulator.trace is not None:
                    self.simulator.note(self.name, f"> {command.message}")  # type: ignore[attr-defined]
                self.network.to_core(self.address, command.message)  # type: ignore[attr-defined]
            else:
                self._to_pool(command)
        self._plan_wake()

    def _to_pool(self, command: Command) -> None:
        workers, now = self.pool.workers, self.clock()
        if self.simulator.trace is not None:
            self.simulator.note(self.name, f"= {command}")
        match command:
            case StartWorker(worker=name, group=group, not_before=not_before):
                self.pool.start_worker(name, group, (not_before - now) / self.rate)
            case GiveTask(worker=name, run=run) if name in workers:
                workers[name].give(run)
            case Interrupt(worker=name, task=task, attempt=attempt, first=first) if name in workers:
                workers[name].interrupt(task, attempt, first)
            case TakeBack(worker=name) if name in workers:
                workers[name].take_back()
            case HandBack(worker=name, task=task, attempt=attempt, first=first) if name in workers:
                workers[name].hand_back(task, attempt, first)
            case AskForItems(worker=name) if name in workers:
                workers[name].say_items()
            case KillWorker(worker=name, why=why) if name in workers:
                workers[name].die(f"killed: {why}")
            case ResumeWorker(worker=name) if name in workers:
                workers[name].nested.resume()
            case RefuseWait(worker=name) if name in workers:
                workers[name].nested.refuse()
            case RetireWorker(worker=name) if name in workers:
                workers[name].die("it is not needed any more")
            case Drop():
                self.network.unsay(self.address)
            case Steer(worker=name) if name in workers:
                workers[name].steer(command)
            case Halt():
                self._end(orderly=True)
                self.when_it_leaves()

    def _plan_wake(self) -> None:
        deadline: float | None = self.slots.next_deadline()
        if deadline is None:
            return
        at = (deadline - self.skew) / self.rate + MOMENT_S
        if at < self._wake_at:
            self._wake_at = max(self.simulator.now, at)
            self.simulator.at(self._wake_at, self._tick, self._wake_at)

    def _tick(self, planned: float) -> None:
        if not self.alive or planned != self._wake_at:
            return
        if self._paused_until > self.simulator.now:
            return
        self._wake_at = float("inf")
        self._perform(self.slots.tick(self.clock()))
