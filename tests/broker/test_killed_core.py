"""Repeated kill -9 of a real core: what it acknowledged ends once, and its client receives the end."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from nblb.parameters import Parameters
from nblb.protocol.blob_names import blob_name
from nblb.protocol.framing import Payload
from nblb.protocol.messages import (
    EndCommitted,
    FetchTask,
    Group,
    Heartbeat,
    Hello,
    HubHello,
    PutBlob,
    Running,
    RunTask,
    SubmitTask,
    TaskAccepted,
    TaskEnded,
    TaskFinished,
    Welcome,
    client_to_core,
    core_to_client,
    core_to_hub,
    hub_to_core,
)
from nblb.transport.line import Line

DEADLINE_S = 60.0
CORE = """
import json, sys
from nblb.broker.load_balancer import LoadBalancer
LoadBalancer(json.loads(sys.argv[1])).startLB()
"""


CODE = PutBlob(hash=blob_name([b"code"]), payload=Payload((b"code",)), name="f")


class Core:
    """The process, which may be killed and started again."""

    def __init__(self, parameters: Parameters, log: Path) -> None:
        self.parameters, self.log = parameters, log
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-c", CORE, json.dumps(self.parameters.as_dict())]
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        end = monotonic() + DEADLINE_S
        while self.about().get("pid") != self.process.pid:
            assert self.process.poll() is None, self.log.read_text()
            assert monotonic() < end

    def about(self) -> dict[str, Any]:
        try:
            about: dict[str, Any] = json.loads(self.parameters.connection_file.read_bytes())
        except (OSError, ValueError):
            return {}
        return about

    def kill(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


@pytest.fixture
def core(parameters: Parameters, tmp_path: Path) -> Iterator[Core]:
    core = Core(parameters, tmp_path / "log")
    core.start()
    yield core
    core.kill()
    for path in parameters.runtime_dir.iterdir():
        path.unlink()


class Hub:
    """Finishes what it is given, unless it is told to hold on to it; keeps each end until the core has it."""

    def __init__(self, core: Core) -> None:
        self.line = Line(core.about()["addresses"]["hubs"], hub_to_core, core_to_hub)
        self.held: dict[str, RunTask] = {}
        self.begun: list[str] = []
        self.finishing = False
        self._said: set[str] = set()  # ends that were said on this connection
        self._connections = 0

    def turn(self) -> None:
        messages = self.line.receive(0)
        for message in messages:  # first, for they may be the last words of a core that is gone
            match message:
                case RunTask(task=task):
                    self.begun.append(task)
                    self.held[task] = message
                case EndCommitted(task=task):
                    self.held.pop(task, None)
        if self.line.connections != self._connections:
            self._connections = self.line.connections
            self._said.clear()
            self._greet()
        ends = [self._end(order) for task, order in self.held.items() if self.finishing and task not in self._said]
        self._said.update(end.task for end in ends)
        if ends or not messages:
            self.line.send(ends or [Heartbeat()])

    def _end(self, order: RunTask) -> TaskFinished:
        result = Payload((f"result of {order.task}".encode(),))
        return TaskFinished(task=order.task, attempt=order.attempt, payload=result, worker="w", duration_s=0.001)

    def _greet(self) -> None:
        running = tuple(Running(task=o.task, attempt=o.attempt, worker="w") for o in self.held.values())
        hello = HubHello(
            hub="h",
            name="lab",
            host="elsewhere",
            pid=1,
            python=(3, 11),
            cloudpickle="3",
            groups=(Group(workers=1),),
            workers=(("w", 0),),
            running=running,
        )
        self.line.send([hello])


class Client:
    """Submits until it is acknowledged, and collects ends."""

    def __init__(self, core: Core) -> None:
        self.line = Line(core.about()["addresses"]["clients"], client_to_core, core_to_client)
        self.asked: dict[str, SubmitTask] = {}
        self.accepted: set[str] = set()
        self.ended: dict[str, TaskEnded] = {}
        self.epochs: list[int] = []
        self._connections = 0

    def submit(self, names: list[str]) -> None:
        for name in names:
            payload = Payload((name.encode() * (9000 if name.endswith("7") else 1),))
            self.asked[name] = SubmitTask(task=name, name="f", function=CODE.hash, payload=payload, python=(3, 11))
        self.line.send([self.asked[name] for name in names])

    def turn(self) -> None:
        for message in self.line.receive(0.01):
            match message:
                case Welcome(epoch=epoch):
                    self.epochs.append(epoch)
                    self.line.send([spec for name, spec in self.asked.items() if name not in self.accepted])
                    self.line.send([FetchTask(task=name) for name in self.accepted - self.ended.keys()])
                case TaskAccepted(task=task, tasks=tasks):
                    self.accepted |= set(tasks or [task])
                case TaskEnded(task=task):
                    assert self.ended.setdefault(task, message).payload == message.payload
        if self.line.connections != self._connections:
            self._connections = self.line.connections
            self.line.send([Hello(client="c", user="u"), CODE])


def turns(client: Client, hub: Hub, until: Any) -> None:
    end = monotonic() + DEADLINE_S
    while not until():
        assert monotonic() < end, f"{len(client.accepted)} accepted, {len(client.ended)} ended of {len(client.asked)}"
        hub.turn()
        client.turn()


def test_nothing_that_was_acknowledged_is_lost(core: Core) -> None:
    client, hub = Client(core), Hub(core)
    try:
        for life in range(4):
            turns(client, hub, lambda life=life: client.epochs[-1:] == [life + 1])
            client.submit([f"{life}-{n}" for n in range(150)])
            wanted = len(client.accepted) + 75
            hub.finishing = True
            turns(client, hub, lambda wanted=wanted: len(client.accepted) >= wanted)
            hub.finishing = False
            core.kill()
            core.start()
        hub.finishing = True
        turns(client, hub, lambda: len(client.ended) == len(client.asked) == 600)
    finally:
        client.line.close()
        hub.line.close()
    assert len(hub.begun) == len(set(hub.begun))
    for task, ended in client.ended.items():
        assert ended.payload is not None
        assert b"".join(ended.payload.buffers) == f"result of {task}".encode()


def test_what_a_hub_still_runs_is_not_run_again(core: Core) -> None:
    client, hub = Client(core), Hub(core)
    try:
        turns(client, hub, lambda: bool(client.epochs))
        client.submit(["a", "b"])
        turns(client, hub, lambda: bool(hub.held) and len(client.accepted) == 2)
        core.kill()
        core.start()
        turns(client, hub, lambda: client.epochs[-1:] == [2])
        hub.finishing = True
        turns(client, hub, lambda: len(client.ended) == 2)
        assert sorted(hub.begun) == ["a", "b"]
    finally:
        client.line.close()
        hub.line.close()
