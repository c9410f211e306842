"""The simulated core process: the loop of broker/load_balancer.py around the real Scheduler.

A turn handles all arrived messages, runs one tick, commits, which takes time, and then sends its messages. A crash may
come anywhere between: before the entries are written, with a torn batch, or with half of the messages sent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import msgspec

from nblb.broker.dead_hubs import DeadHubs
from nblb.broker.outgoing import DelayedAcks, is_unbound
from nblb.errors import JournalError, JournalFull
from nblb.protocol.commands import Command, Halt, Log, Record, Send
from nblb.protocol.journal_entries import TaskKept
from nblb.protocol.messages import Message, PutBlob, RunTask, SubmitTask, TaskRejected, TaskStopped
from nblb.scheduling.scheduler import Scheduler
from nblb.scheduling.state import Policy
from nblb.simulation.disk import Disk
from nblb.simulation.network import Network
from nblb.simulation.simulator import MOMENT_S, Simulator

RETRY_COMMIT_S = 0.5
BORN = 1_700_000_000.0  # the wall clock at the beginning of time


class Witness(Protocol):
    """Observes the core from outside."""

    def said(self, to: str, message: Message) -> None: ...

    def decided(self, scheduler: Scheduler, commands: Sequence[Command]) -> None: ...

    def settled_down(self, scheduler: Scheduler) -> None: ...

    def restarted(self, scheduler: Scheduler) -> None: ...


class SimulatedCore:
    """The core process, which starts, crashes and starts again; its clock begins anew each time."""

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
        self._out: list[Command] = []  # commands to send after the next commit
        self._delayed_acks = DelayedAcks()
        self._full = ""  # why new tasks are refused; "" if they are not
        self._stuck = False  # not even entries of running tasks could be written
        self._retry_at = 0.0
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
        self._inbox, self._gone, self._out = [], [], []
        self._delayed_acks = DelayedAcks()
        self._full, self._stuck = "", False
        self.started_at = self.simulator.now
        self._turn_planned = self._busy = False
        self._wake_at = float("inf")
        name = f"{self.policy.core}-{self.life}" if self.disk.forgets else self.policy.core
        scheduler = self.make(msgspec.structs.replace(self.policy, epoch=self.disk.epoch, core=name))
        self._dead_hubs = DeadHubs(scheduler, self.has_ended)
        scheduler.wall_offset = BORN + self.wall_jump - self._skew
        self.scheduler = scheduler
        entries = self.disk.replay(in_tables=self.simulator.random.random() < 0.5)
        self.simulator.note("core", f"starts, epoch {self.disk.epoch}, {len(entries)} entries")
        self._perform(scheduler.restore(entries, self.clock()))
        self.witness.restarted(scheduler)
        self.network.listen(self)
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
        scheduler.look_at_clocks(now, self.simulator.now + BORN + self.wall_jump)
        heard, self._inbox = self._inbox, []
        gone, self._gone = self._gone, []
        commands: list[Command] = []
        for sender, message in heard:
            if self.simulator.trace is not None:
                self.simulator.note("core", f"< {sender} {message}")
            if not self._full or not self._refuses(scheduler, sender, message):
                commands += scheduler.handle(sender, message, now)
        for address in gone:
            if self._delayed_acks.forget(address):
                self._out = [c for c in self._out if not (type(c) is Send and c.to == address)]
            hub = scheduler.state.hubs.get(address)
            commands += scheduler.gone(address, now, hub is not None and self.has_ended(hub.id))
        commands += self._dead_hubs.look(now)
        commands += scheduler.tick(now)
        self.witness.decided(scheduler, commands)
        self._perform(commands)

    def _perform(self, commands: Iterable[Command]) -> None:
        """Writes and commits, which takes time, and then sends."""
        for command in commands:
            if type(command) is Record:
                self.disk.append(command.entry)
            elif type(command) is not Log:
                self._out.append(command)
        self._busy = True
        if self.disk.buffer and self.commit_s:
            self.simulator.after(self.simulator.random.random() * self.commit_s, self._commit, self.life)
        else:
            self._commit(self.life)

    def _commit(self, life: int) -> None:
        scheduler = self.scheduler
        if life != self.life or scheduler is None:
            return
        try:
            kept = self._kept(scheduler)
        except JournalError:
            self.crash()
            return
        said, self._out = self._out, []
        if not kept:
            self._delayed_acks.clear()
            self._out = [c for c in said if not _may_pass(c)]
            said = [c for c in said if _may_pass(c)]
        elif not any(type(c) is Halt for c in said):  # at the end everything is sent
            said = self._without_patient(said)
        self._speak(said)
        if life == self.life:
            self._busy = False
            if kept:
                self.witness.settled_down(scheduler)
            self._plan_wake(scheduler)

    def _without_patient(self, said: Sequence[Command]) -> list[Command]:
        """Returns the commands to send now; keeps delayed acknowledgements for later (broker/outgoing.py)."""
        messages: dict[str, list[Message]] = {}
        for command in said:
            if type(command) is Send:
                messages.setdefault(command.to, []).append(command.message)
        now = self.clock()
        held = {to for to, those in messages.items() if self._delayed_acks.holds(to, those, now)}
        self._out = [c for c in said if type(c) is Send and c.to in held]
        return [c for c in said if not (type(c) is Send and c.to in held)]

    # ── a full disk, as in broker/full_disk.py ──

    def _kept(self, scheduler: Scheduler) -> bool:
        """Commits; returns True if every entry is on the disk."""
        now = self.clock()
        if self._stuck and now < self._retry_at:
            return False
        was_stuck = self._stuck
        try:
            self.disk.commit()
            self._stuck = False
        except JournalFull as error:
            self._stuck = not self._make_do(scheduler, str(error), now)
        if was_stuck and not self._stuck:
            self._out = [command for command in self._out if _is_meant(scheduler, command)]
        if self._full or self.disk.is_tight:
            self._look(scheduler, now)
        return not self._stuck

    def _look(self, scheduler: Scheduler, now: float) -> None:
        """Checks whether the disk has room again."""
        if not self._full:  # entries of running tasks have just taken the reserve
            self._full, self._retry_at = "the disk is full", now + RETRY_COMMIT_S
        elif not self._stuck and now >= self._retry_at:
            if self.disk.has_room():
                self._full = ""
            else:
                self._retry_at = now + RETRY_COMMIT_S
        scheduler.hold(self.disk.is_tight)

    def _make_do(self, scheduler: Scheduler, reason: str, now: float) -> bool:
        """Refuses new tasks, and tries to write the entries of running ones."""
        self._full, self._retry_at = reason, now + RETRY_COMMIT_S
        refused = {entry.spec.task for entry in self.disk.buffer if isinstance(entry, TaskKept)}
        for command in self._out:
            if type(command) is Send and isinstance(command.message, RunTask) and command.message.task in refused:
                run = command.message
                back = TaskStopped(task=run.task, attempt=run.attempt, first=run.first, why="recall")
                scheduler.handle(command.to, back, now)
        said = scheduler.refuse(refused, "JournalFull", reason, now) if refused else []
        self._out = [c for c in self._out if not (type(c) is Send and getattr(c.message, "task", None) in refused)]
        self._out += [c for c in said if type(c) is Send and isinstance(c.message, TaskRejected)]
        if not self.disk.withdraw(refused):
            return False
        try:
            self.disk.commit()
        except JournalFull:
            return False
        return True

    def _refuses(self, scheduler: Scheduler, sender: str, message: Message) -> bool:
        """Refuses new tasks and blobs unread while the disk is full; True if it did."""
        if isinstance(message, SubmitTask) and scheduler.task_view(message.task) is None:
            self._out.append(Send(sender, TaskRejected(task=message.task, kind="JournalFull", reason=self._full)))
            return True
        return isinstance(message, PutBlob)

    # ── speaking and waking ──

    def _speak(self, commands: Sequence[Command]) -> None:
        life = self.life
        if self.crash_in_mid_word and commands:
            self.crash_in_mid_word = False
            commands = commands[: self.simulator.random.randrange(len(commands))]
            self.simulator.after(0.0, self._crash_of, life)
        for command in commands:
            if type(command) is Send:
                self.witness.said(command.to, command.message)
                if self.simulator.trace is not None:
                    self.simulator.note("core", f"> {command.to} {command.message}")
                self.network.to_party(command.to, command.message)
            elif type(command) is Halt:
                self.crash()
                return

    def _crash_of(self, life: int) -> None:
        if life == self.life:
            self.crash()

    def _plan_wake(self, scheduler: Scheduler) -> None:
        if self._inbox or self._gone:
            self._plan_turn()
            return
        deadlines = scheduler.next_deadline(), self._delayed_acks.deadline(), self._dead_hubs.deadline()
        deadline = min((at for at in deadlines if at is not None), default=None)
        if self._full:
            deadline = self._retry_at if deadline is None else min(deadline, self._retry_at)
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


def _is_meant(scheduler: Scheduler, command: Command) -> bool:
    """False for an order to run a slice that was given to another hub since."""
    run = command.message if type(command) is Send else None
    return not isinstance(run, RunTask) or scheduler.is_given(command.to, run)  # type: ignore[attr-defined]


def _may_pass(command: Command) -> bool:
    """True for what is sent before the commit, also while the disk is full."""
    return type(command) is Send and is_unbound(command.message)
