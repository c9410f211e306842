"""The core's process in the simulation: the loop of broker/load_balancer.py around the objects that ship.

Scheduler, FullDisk, Outgoing and DeadHubs are the real ones; disk, network and clock are simulated.

A turn handles all arrived messages, runs one tick, commits, which takes time, and then sends its messages. A crash may
come anywhere between: before the entries are written, with a torn batch, or with half of the messages sent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import msgspec

from nblb.access.limits import Limits
from nblb.broker.dead_hubs import DeadHubs
from nblb.broker.full_disk import FullDisk
from nblb.broker.outgoing import Outgoing
from nblb.errors import JournalError
from nblb.protocol.commands import Command, Halt, Record, Send
from nblb.protocol.messages import Message
from nblb.scheduling.scheduler import Scheduler
from nblb.scheduling.state import Policy
from nblb.simulation.disk import Disk
from nblb.simulation.network import Network
from nblb.simulation.simulator import MOMENT_S, Simulator

BORN = 1_700_000_000.0  # the wall clock at the beginning of time


class Witness(Protocol):
    """Observes the core from outside."""

    def said(self, to: str, message: Message) -> None: ...

    def decided(self, scheduler: Scheduler, commands: Sequence[Command]) -> None: ...

    def settled_down(self, scheduler: Scheduler) -> None: ...

    def restarted(self, scheduler: Scheduler) -> None: ...


class FlushedMessages:
    """Collects what a flush sends, one by one, so that a crash may come between any two (a Sender)."""

    def __init__(self) -> None:
        self.messages: list[tuple[str, Message]] = []

    def send(self, to: str, messages: Sequence[Message]) -> None:
        self.messages += [(to, message) for message in messages]

    def answer_json(self, to: str, value: object) -> None:
        raise AssertionError(f"the simulation has no JSON door, and {to} is answered {value!r}")


class SimulatedCore:
    """The core process, which starts, crashes and starts again; its clock starts at 0 each time."""

    def __init__(
        self,
        simulator: Simulator,
        network: Network,
        disk: Disk,
        policy: Policy,
        witness: Witness,
        make: Callable[[Policy], Scheduler] = Scheduler,
    ) -> None:
        self.simulator, self.network, self.disk, self.policy, self.witness = simulator, network, disk, policy, witness
        self.make = make
        self.scheduler: Scheduler | None = None
        self.life = 0  # raised at each start and crash: events planned in an earlier life are ignored
        self.when_it_ends: Callable[[], None] = lambda: None
        self.has_ended: Callable[[str], bool] = lambda _hub: False  # of the process of a hub on this machine
        self.started_at = 0.0
        self.wall_jump = 0.0
        self.commit_s = 0.0  # maximum; a slow disk needs more
        self.crash_in_mid_word = False  # the next crash comes while it sends
        self._skew = 0.0
        self._inbox: list[tuple[str, Message]] = []
        self._gone: list[str] = []
        self._out = Outgoing()
        self._full_disk: FullDisk
        self._is_halting = False
        self._turn_planned = self._busy = False
        self._wake_at = float("inf")
        self._paused_until = 0.0

    # ── life ──

    def start(self) -> None:
        """Starts a new process on the old disk."""
        if self.scheduler is not None:
            return
        self.life += 1
        self.disk.epoch += 1
        self._skew = self.simulator.random.random() * 5000.0
        self._inbox, self._gone = [], []
        self._is_halting = False
        self.started_at = self.simulator.now
        self._turn_planned = self._busy = False
        self._wake_at = float("inf")
        name = f"{self.policy.core}-{self.life}" if self.disk.forgets else self.policy.core
        scheduler = self.make(msgspec.structs.replace(self.policy, epoch=self.disk.epoch, core=name))
        self._dead_hubs = DeadHubs(scheduler, self.has_ended)
        scheduler.wall_offset = BORN + self.wall_jump - self._skew
        self.scheduler = scheduler
        self._out = Outgoing()
        self._full_disk = FullDisk(self.disk, scheduler, self._out, self._log, _unsafely, lambda: False)
        entries = self.disk.replay(in_tables=self.simulator.random.random() < 0.5)
        self.simulator.note("core", f"starts, epoch {self.disk.epoch}, {len(entries)} entries")
        self._perform(scheduler.restore(entries, self.clock()))
        self.witness.restarted(scheduler)
        self.network.listen(self)
        self._plan_turn()

    def limit(self, limits: tuple[Limits, ...]) -> None:
        """Replaces the shares and limits, which also the next process reads."""
        self.policy = msgspec.structs.replace(self.policy, limits=limits)
        if self.scheduler is not None:
            self.simulator.note("core", f"limits are {limits}")
            self.scheduler.limit(limits)
            self._plan_turn()

    def crash(self, back_in: float | None = None) -> None:
        """Kills the process; it starts again after `back_in` seconds, or after a random time."""
        if self.scheduler is None:
            return
        self.simulator.note("core", "crashes")
        self.life += 1
        self.scheduler = None
        self.disk.crash()
        self.network.close()
        self.when_it_ends()
        if back_in is None:
            back_in = 0.1 + self.simulator.random.random() ** 2 * 6.0
        self.simulator.after(back_in, self.start)

    def pause(self, seconds: float) -> None:
        """Pauses the process, as SIGSTOP or swapping does."""
        self._paused_until = self.simulator.now + seconds

    def clock(self) -> float:
        """The monotonic clock of this process, unrelated to other clocks."""
        return self.simulator.now + self._skew

    @property
    def takes_disk_for_full(self) -> bool:
        """True if the core refuses new tasks because there was no space for them."""
        return self.scheduler is not None and bool(self._full_disk.reason)

    # ── the loop ──

    def hear(self, sender: str, message: Message) -> None:
        self._inbox.append((sender, message))
        self._plan_turn()

    def unreachable(self, address: str) -> None:
        self._gone.append(address)
        self._plan_turn()

    def _plan_turn(self) -> None:
        if not self._turn_planned and not self._busy and self.scheduler is not None:
            self._turn_planned = True
            start = max(self.simulator.now + self.simulator.random.random() * 0.002, self._paused_until)
            self.simulator.at(start, self._turn, self.life)

    def _turn(self, life: int) -> None:
        scheduler = self.scheduler
        if life != self.life or scheduler is None:
            return
        if self.simulator.now < self._paused_until:
            self.simulator.at(self._paused_until, self._turn, life)
            return
        self._turn_planned = False
        now = self.clock()
        scheduler.update_clocks(now, self.simulator.now + BORN + self.wall_jump)
        heard, self._inbox = self._inbox, []
        gone, self._gone = self._gone, []
        commands: list[Command] = []
        for sender, message in heard:
            if self.simulator.trace is not None:
                self.simulator.note("core", f"< {sender} {message}")
            if not self._full_disk.reason or not self._full_disk.refuse(sender, message):
                commands += scheduler.handle(sender, message, now)
        for address in gone:
            self._out.forget(address)
            hub = scheduler.state.hubs.get(address)
            commands += scheduler.gone(address, now, hub is not None and self.has_ended(hub.id))
        commands += self._dead_hubs.check(now)
        commands += scheduler.tick(now)
        self.witness.decided(scheduler, commands)
        self._perform(commands)

    def _perform(self, commands: Iterable[Command]) -> None:
        """Writes and commits, which takes time, and then sends."""
        for command in commands:
            if type(command) is Record:
                self.disk.append(command.entry)
            elif type(command) is Send:
                self._out.add(command.to, command.message)
            elif type(command) is Halt:
                self._is_halting = True
        self._busy = True
        if self.disk.pending and self.commit_s:
            self.simulator.after(self.simulator.random.random() * self.commit_s, self._commit, self.life)
        else:
            self._commit(self.life)

    def _commit(self, life: int) -> None:
        scheduler = self.scheduler
        if life != self.life or scheduler is None:
            return
        try:
            kept = self._full_disk.keep(self.clock())
        except JournalError:
            self.crash()
            return
        flushed = FlushedMessages()
        if kept:
            self._out.flush(flushed, None if self._is_halting else self.clock())
        else:
            self._out.flush_unbound(flushed)
        self._speak(flushed.messages)
        if life == self.life and self._is_halting:
            self.crash()
        if life == self.life:
            self._busy = False
            if kept:
                self.witness.settled_down(scheduler)
            self._plan_wake(scheduler)

    # ── speaking and waking ──

    def _speak(self, messages: Sequence[tuple[str, Message]]) -> None:
        life = self.life
        if self.crash_in_mid_word and messages:
            self.crash_in_mid_word = False
            messages = messages[: self.simulator.random.randrange(len(messages))]
            self.simulator.after(0.0, self._crash_of, life)
        for to, message in messages:
            self.witness.said(to, message)
            if self.simulator.trace is not None:
                self.simulator.note("core", f"> {to} {message}")
            self.network.to_party(to, message)

    def _log(self, _level: str, text: str) -> None:
        self.simulator.note("core", text)

    def _crash_of(self, life: int) -> None:
        if life == self.life:
            self.crash()

    def _plan_wake(self, scheduler: Scheduler) -> None:
        if self._inbox or self._gone:
            self._plan_turn()
            return
        deadlines = (
            scheduler.next_deadline(),
            self._dead_hubs.deadline(),
            self._full_disk.deadline(),
            self._out.deadline(),
        )
        deadline = min((at for at in deadlines if at is not None), default=None)
        if deadline is None:
            return
        at = max(deadline - self._skew + MOMENT_S, self.simulator.now)
        if at < self._wake_at or self._wake_at <= self.simulator.now:
            self._wake_at = at
            self.simulator.at(at, self._wake, self.life, at)

    def _wake(self, life: int, planned: float) -> None:
        if life == self.life and planned == self._wake_at:
            self._wake_at = float("inf")
            self._plan_turn()


def _unsafely(decide: Callable[..., list[Command]], *event: object) -> list[Command]:
    """Let a bug end the history: the shipping core logs it and goes on."""
    return decide(*event)
