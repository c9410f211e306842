"""A minimal scheduler for tests of the Load Balancer's loop alone."""

from __future__ import annotations

from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

from nblb.protocol.commands import Command, Halt, Log, Record, Send
from nblb.protocol.journal_entries import AnyEntry, AttemptKept, EndKept, TaskKept
from nblb.protocol.messages import (
    EndCommitted,
    FetchTask,
    Heartbeat,
    Hello,
    HubHello,
    Message,
    RunTask,
    StopCore,
    SubmitTask,
    TaskAccepted,
    TaskEnded,
    TaskFinished,
    TaskRejected,
    TaskState,
    TaskStopped,
    Welcome,
)
from nblb.scheduling.reporting.observations import Observations
from nblb.scheduling.reporting.wall_clock import WallClock


class FakeScheduler:
    """Accepts every task, gives each to the last hub that said hello, and passes results on to the submitter."""

    def __init__(self, policy: Any, answers: Any) -> None:
        self.policy, self.answers = policy, answers
        self.deadline: float | None = None
        clock = WallClock()
        share = SimpleNamespace(users={})
        self.state = SimpleNamespace(hubs={}, orphans={}, records={}, clock=clock, wall=clock.wall, share=share)
        self.state.observations = Observations()
        self.state.ended_jobs = []
        self.restored: list[AnyEntry] = []
        self.handled: list[tuple[str, Message]] = []
        self.refused: list[str] = []
        self.gone_ones: list[tuple[str, bool]] = []
        self.unreadable_ones: list[tuple[str, Message, str]] = []
        self.lost = ""
        self.still_s = 0.0
        self.ticks = 0
        self.held = False
        self.given_up: set[str] = set()
        self.clients: dict[str, str] = {}
        self.results: dict[str, TaskEnded] = {}

    def update_clocks(self, now: float, wall: float, slept_s: float) -> None:
        self.state.clock.update(now, wall, slept_s)

    def restore(self, entries: Iterable[AnyEntry], now: float) -> list[Command]:
        self.restored = list(entries)
        return []

    def unreadable(self, address: str, message: Message, reason: str, now: float) -> list[Command]:
        self.unreadable_ones.append((address, message, reason))
        return []

    def has_blob(self, _name: str) -> bool:
        return True

    def stood_still(self, seconds: float) -> None:
        self.still_s = seconds

    def lost_entries(self, reason: str, now: float) -> list[Command]:
        self.lost = reason
        return []

    def handle(self, sender: str, message: Message, now: float) -> list[Command]:
        self.handled.append((sender, message))
        match message:
            case HubHello():
                self.state.hubs = {sender: SimpleNamespace(hello=message)}
                return [Log("good", f"LB - HUB {message.name} IS HERE"), Send(sender, Welcome("c", 1, "t"))]
            case Hello():
                return [Send(sender, Welcome("c", self.policy.epoch, "t"))]
            case SubmitTask(name="boom"):
                raise RuntimeError("a bug that this message finds")
            case SubmitTask():
                return self._submit(sender, message)
            case TaskFinished():
                return self._finish(sender, message)
            case FetchTask():
                return [Send(sender, self.results[message.task])]
            case Heartbeat():
                return [Send(sender, Heartbeat(at=1.0))]
            case StopCore():
                return [Halt("it was asked for")]
        return []

    def _submit(self, sender: str, spec: SubmitTask) -> list[Command]:
        self.clients[spec.task] = sender
        commands: list[Command] = [Record(TaskKept(spec, 1.0)), Send(sender, TaskAccepted(task=spec.task))]
        for hub in self.state.hubs:
            commands.append(Record(AttemptKept(spec.task, 0, 1, 1, "hub")))
            order = RunTask(task=spec.task, attempt=1, name=spec.name, function="", payload=spec.payload)
            commands.append(Send(hub, order))
        return commands

    def _finish(self, hub: str, end: TaskFinished) -> list[Command]:
        ended = TaskEnded(task=end.task, state=TaskState.DONE, payload=end.payload, attempt=end.attempt)
        self.results[end.task] = ended
        return [
            Record(EndKept(end.task, 0, 1, end.attempt, TaskState.DONE, 2.0, payload=end.payload)),
            Send(self.clients[end.task], ended),
            Send(hub, EndCommitted(task=end.task, attempt=end.attempt)),
        ]

    def tick(self, now: float) -> list[Command]:
        self.ticks += 1
        self.deadline = None
        return []

    def next_deadline(self) -> float | None:
        return self.deadline

    def refuse(self, tasks: Iterable[str], kind: str, reason: str, now: float) -> list[Command]:
        self.refused += list(tasks)
        return [Send(self.clients[task], TaskRejected(task=task, kind=kind, reason=reason)) for task in tasks]

    def is_given(self, address: str, run: RunTask) -> bool:
        return run.task not in self.given_up

    def pause_starts(self, held: bool) -> None:
        self.held = held

    def gone(self, address: str, now: float, dead: bool = False) -> list[Command]:
        self.gone_ones.append((address, dead))
        return []

    def task_view(self, task_id: str) -> Any:
        return None

    def recalled(self) -> list[str]:
        """Tasks whose order never left, which the scheduler is told as if the hub had handed them back."""
        return [m.task for _, m in self.handled if isinstance(m, TaskStopped) and m.why == "recall"]
