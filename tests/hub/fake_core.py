"""A core that serves a single hub, for tests of the hub's process without a scheduler."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable
from typing import Any, TypeVar

from nblb import payload
from nblb.parameters import Parameters
from nblb.protocol.messages import (
    EndCommitted,
    Heartbeat,
    HoldBlob,
    HubHello,
    Message,
    RunTask,
    TaskFinished,
    Welcome,
    WorkerDied,
    WorkerStarted,
)
from nblb.transport.doors import Doors

T = TypeVar("T", bound=Message)


class FakeCore:
    """Welcomes the hub, keeps what it says in `heard`, says what the test wants."""

    def __init__(self, parameters: Parameters, epoch: int = 1, core: str = "core") -> None:
        self._parameters = parameters
        self.epoch, self.core = epoch, core
        self.heard: list[Message] = []
        self.hub = ""
        self.hellos: list[HubHello] = []
        self.workers: set[str] = set()
        self.is_silent = False  # it neither hears nor speaks, like one that is stopped
        self.pid = os.getpid()
        self.process = ""  # its name, with a mark of this computer
        self.doors = Doors(parameters)
        self.doors.open()

    def say(self, *messages: Message) -> None:
        self.doors.send(self.hub, messages)

    def pump(self, wait_s: float = 0.02) -> None:
        """One turn of a core."""
        if self.is_silent:
            time.sleep(wait_s)
            return
        for arrived in self.doors.receive(wait_s):
            assert arrived.error is None, arrived.error
            for message in arrived.messages or ():
                self._hear(arrived.sender, message)

    def _hear(self, sender: str, message: Message) -> None:
        self.heard.append(message)
        if isinstance(message, HubHello):
            self.hub = sender
            self.hellos.append(message)
            self.workers = {worker for worker, _ in message.workers}
            self.say(
                Welcome(core=self.core, epoch=self.epoch, name="t", pid=self.pid, heartbeat_s=0.2, process=self.process)
            )
        elif isinstance(message, WorkerStarted):
            self.workers.add(message.worker)
        elif isinstance(message, WorkerDied):
            self.workers.discard(message.worker)
        elif isinstance(message, Heartbeat):
            self.say(Heartbeat(echo=message.at))

    def until(self, condition: Callable[[], Any], deadline_s: float = 60.0, what: str = "") -> Any:
        """Turns until the condition holds."""
        end = time.monotonic() + deadline_s
        while not (found := condition()):
            assert time.monotonic() < end, f"not within {deadline_s} s: {what or condition}; heard {self.heard[-20:]}"
            self.pump()
        return found

    def wait(self, kind: type[T], match: Callable[[T], bool] = lambda _: True, deadline_s: float = 60.0) -> T:
        """The first message of this kind that matches, heard already or to come."""

        def found() -> list[T]:
            return [message for message in self.heard if isinstance(message, kind) and match(message)]

        return self.until(found, deadline_s, kind.__name__)[0]  # type: ignore[no-any-return]

    def wait_workers(self, count: int) -> None:
        self.until(lambda: len(self.workers) == count, what=f"{count} workers")

    def run(self, function: Callable[..., Any] | str, *args: Any, **fields: Any) -> RunTask:
        """Send one call: of a function, or of a name that the hub knows (then args[0] is the task's dict)."""
        task = fields.pop("task", None) or uuid.uuid4().hex
        if isinstance(function, str):
            from nblb.protocol.framing import Payload

            run = RunTask(task=task, attempt=1, name=function, function="", payload=Payload((args[0],)), **fields)
        else:
            blob, packed = payload.dump_function(function)
            self.say(HoldBlob(hash=blob, payload=packed))
            call = payload.pack_call(args, {})
            fields = {"attempt": 1, "name": function.__name__} | fields
            run = RunTask(task=task, function=blob, payload=call.payload, **fields)
        self.say(run)
        return run

    def end_of(self, run: RunTask) -> TaskFinished:
        """The end of this slice, committed."""
        end = self.wait(TaskFinished, lambda m: m.task == run.task and m.first == run.first)
        self.say(EndCommitted(task=run.task, attempt=run.attempt, first=run.first))
        return end

    def result(self, function: Callable[..., Any], *args: Any) -> Any:
        end = self.end_of(self.run(function, *args))
        assert end.payload is not None, end.failures
        return payload.unpack_results(end.payload)[0]

    def close(self) -> None:
        self.doors.close()
