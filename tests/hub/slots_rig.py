"""Slots with a simulated clock and simulated workers, for tests of decisions."""

from __future__ import annotations

import itertools
from typing import Any

from nblb.hub.slots.slots import CORE, Slots, SlotSettings
from nblb.protocol.commands import Command, GiveTask, Interrupt, KillWorker, Send, StartWorker, TakeBack
from nblb.protocol.framing import Payload
from nblb.protocol.messages import (
    Group,
    HoldBlob,
    HubHello,
    Message,
    RunTask,
    TaskFinished,
    TaskStopped,
    Welcome,
    WorkerDied,
    WorkerStarted,
)

CALL = Payload((b"call",))
RESULT = Payload((b"result",))


class SlotsRig:
    """Drives Slots by hand: `said` is what went to the core, `done` the other commands."""

    def __init__(self, *workers: int, welcome: bool = True, groups: tuple[Group, ...] = (), **settings: Any) -> None:
        hello = HubHello(
            hub="h",
            name="hub",
            host="lab",
            pid=1,
            python=(3, 11),
            cloudpickle="3",
            groups=groups or tuple(Group(workers=n) for n in workers or (1,)),
        )
        numbers = itertools.count(1)
        self.now = 100.0
        self.slots = Slots(hello, SlotSettings(**settings), lambda: f"w{next(numbers)}")
        self.said: list[Message] = []
        self.done: list[Command] = []
        self._take(self.slots.start(self.now))
        self.slots.line_up(self.now)
        self.tick()
        if welcome:
            self.core(Welcome(core="c", epoch=1, name="lab"))
            self.start_workers()
            self.core(HoldBlob(hash="f", payload=Payload((b"function",))))
            self.tick()  # the first heartbeat
        self.forget()

    def _take(self, commands: list[Command]) -> list[Command]:
        for command in commands:
            if isinstance(command, Send):
                assert command.to == CORE
                self.said.append(command.message)
            else:
                self.done.append(command)
        return commands

    def forget(self) -> None:
        self.said, self.done = [], []

    def tick(self, seconds: float = 0.0) -> list[Command]:
        self.now += seconds
        return self._take(self.slots.tick(self.now))

    def core(self, message: Message) -> list[Command]:
        return self._take(self.slots.handle(CORE, message, self.now))

    def worker(self, worker: str, message: Message) -> list[Command]:
        return self._take(self.slots.handle(worker, message, self.now))

    def start_workers(self) -> list[str]:
        """All workers that were to be started report."""
        started = [command for command in self.done if isinstance(command, StartWorker)]
        self.done = [command for command in self.done if not isinstance(command, StartWorker)]
        for command in started:
            self.worker(command.worker, WorkerStarted(worker=command.worker, group=command.group, pid=7))
        return [command.worker for command in started]

    def run(self, task: str, attempt: int = 1, **fields: Any) -> RunTask:
        fields = {"name": "f", "function": "f", "payload": CALL} | fields
        run = RunTask(task=task, attempt=attempt, **fields)
        self.core(run)
        return run

    def finish(self, run: RunTask, duration_s: float = 1.0, worker: str = "") -> None:
        self.worker(
            worker or self.holder(run),
            TaskFinished(
                task=run.task,
                attempt=run.attempt,
                first=run.first,
                items=run.items,
                payload=RESULT,
                duration_s=duration_s,
            ),
        )

    def stopped(self, run: RunTask, ran: bool = True, worker: str = "") -> None:
        end = TaskStopped(task=run.task, attempt=run.attempt, first=run.first, why="recall", ran=ran)
        self.worker(worker or self.holder(run), end)

    def die(self, worker: str, run: RunTask | None = None) -> None:
        died = WorkerDied(worker=worker, reason="killed")
        if run is not None:
            died = WorkerDied(worker=worker, reason="killed", task=run.task, attempt=run.attempt, first=run.first)
        self.worker(worker, died)

    def holder(self, run: RunTask) -> str:
        """The worker that was given this slice last."""
        given = [command for command in self.commands(GiveTask) if command.run.task == run.task]
        return next(command.worker for command in reversed(given) if command.run.attempt == run.attempt)

    @property
    def given(self) -> list[tuple[str, str]]:
        """(task, worker) of each GiveTask, in order."""
        return [(command.run.task, command.worker) for command in self.done if isinstance(command, GiveTask)]

    def commands(self, kind: type[Command]) -> list[Any]:
        return [command for command in self.done if isinstance(command, kind)]

    def messages(self, kind: type[Message]) -> list[Any]:
        return [message for message in self.said if isinstance(message, kind)]

    @property
    def interrupts(self) -> list[str]:
        return [command.task for command in self.commands(Interrupt)]

    @property
    def kills(self) -> list[str]:
        return [command.worker for command in self.commands(KillWorker)]

    @property
    def taken_back(self) -> list[str]:
        return [command.worker for command in self.commands(TakeBack)]
