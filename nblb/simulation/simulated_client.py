"""A simulated notebook kernel: the real Session, and a user who submits and cancels tasks and drops jobs.

The futures of a kernel die with it; its user's next kernel asks for the ends of earlier submissions.
"""

from __future__ import annotations

from typing import Protocol

from nblb.client.session.open_tasks import Expect
from nblb.client.session.session import Session
from nblb.protocol.commands import BlobReceived, Command, Reject, Send, Settle
from nblb.protocol.messages import CancelTask, Failure, Hello, Message, RetryFailed, SubmitTask, TaskEnded, TaskReopened
from nblb.simulation.network import Network
from nblb.simulation.simulator import MOMENT_S, Simulator


class Observer(Protocol):
    """Compares what users see with the journal."""

    def submitted(self, client: SimulatedClient, spec: SubmitTask) -> None: ...

    def asked(self, client: SimulatedClient, message: Message) -> None: ...

    def saw_end(self, client: SimulatedClient, ended: TaskEnded, fresh: tuple[tuple[int, int], ...]) -> None: ...

    def saw_reopened(self, client: SimulatedClient, message: TaskReopened) -> None: ...

    def saw_rejection(self, client: SimulatedClient, task: str, failure: Failure, first: int) -> None: ...


class SimulatedClient:
    """One client process of a user."""

    def __init__(self, simulator: Simulator, network: Network, observer: Observer, name: str, user: str) -> None:
        self.simulator, self.network, self.observer = simulator, network, observer
        self.name, self.user = name, user
        self.address = f"client:{name}"
        self.skew = simulator.random.random() * 5000.0
        self.session = Session(Hello(client=name, user=user))
        self.alive = True
        self._wake_at = float("inf")
        self._paused_until = 0.0
        self._waiting: list[Message | None] = []  # None: a new connection
        network.dial(self.address, self)

    def clock(self) -> float:
        return self.simulator.now + self.skew

    # ── the user ──

    def say(self, message: Message) -> None:
        """Performs a user's action in this kernel."""
        if not self.alive:
            return
        if isinstance(message, SubmitTask):
            self.observer.submitted(self, message)
        else:
            self.observer.asked(self, message)
        if isinstance(message, RetryFailed):  # sent once, as by a tool that does not wait for an answer; it may be lost
            self.network.to_core(self.address, message)
            return
        self._perform(self.session.handle("user", message, self.clock()))

    def expect(self, task: str, items: int, job: str) -> None:
        """Attaches a new kernel to a submission of an earlier one."""
        self._perform(self.session.handle("user", Expect(task=task, items=items, job=job), self.clock()))

    # ── the connection ──

    def connected(self) -> None:
        if not self.alive:
            return
        if self._paused_until > self.simulator.now:
            self._waiting.append(None)
            return
        now = self.clock()
        self._perform([*self.session.line_down(now), *self.session.line_up(now)])

    def disconnected(self) -> None:
        if self.alive and self._paused_until <= self.simulator.now:
            self._perform(self.session.line_down(self.clock()))

    def hear(self, sender: str, message: Message) -> None:
        if not self.alive:
            return
        if self._paused_until > self.simulator.now:
            self._waiting.append(message)
            return
        self._perform(self.session.handle(sender, message, self.clock()))

    def pause(self, seconds: float) -> None:
        """Pauses the process, as when a laptop is closed."""
        self._paused_until = self.simulator.now + seconds
        self.simulator.at(self._paused_until, self._resume)

    def _resume(self) -> None:
        waiting, self._waiting = self._waiting, []
        for message in waiting:
            if message is None:
                self.connected()
            else:
                self.hear("core", message)
        self._tick(self._wake_at)

    def crash(self) -> None:
        self.alive = False
        self.network.hang_up(self.address)

    # ── the loop ──

    def _perform(self, commands: list[Command]) -> None:
        for command in commands:
            if type(command) is Send:
                if self.simulator.trace is not None:
                    self.simulator.note(self.name, f"> {command.message}")
                if type(command.message) is CancelTask and command.message.request < 0:
                    self.observer.asked(self, command.message)  # sent by the session itself, after a refusal
                self.network.to_core(self.address, command.message)
            elif type(command) is Settle:
                self.observer.saw_end(self, command.ended, command.fresh)
            elif type(command) is Reject:
                self.observer.saw_rejection(self, command.task, command.failure, command.first)
            elif type(command) is BlobReceived and type(command.message) is TaskReopened:
                self.observer.saw_reopened(self, command.message)
        deadline = self.session.next_deadline()
        if deadline is not None and deadline - self.skew + MOMENT_S < self._wake_at:
            self._wake_at = max(self.simulator.now, deadline - self.skew + MOMENT_S)
            self.simulator.at(self._wake_at, self._tick, self._wake_at)

    def _tick(self, planned: float) -> None:
        if not self.alive or planned != self._wake_at:
            return
        self._wake_at = float("inf")
        if self._paused_until <= self.simulator.now:
            self._perform(self.session.tick(self.clock()))
