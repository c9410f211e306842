"""A Load Balancer in a thread, with a minimal scheduler."""

from __future__ import annotations

import contextlib
import io
import json
import threading
from collections.abc import Callable, Iterator
from time import monotonic
from typing import Any

import zmq

from nblb.broker.load_balancer import LoadBalancer
from nblb.protocol.framing import Payload
from nblb.protocol.messages import (
    Hello,
    HubHello,
    RunTask,
    SubmitTask,
    TaskFinished,
    Welcome,
    client_to_core,
    core_to_client,
    core_to_hub,
    hub_to_core,
)
from nblb.system.console import Console
from nblb.transport.line import Line
from tests.broker.fakes import FakeScheduler

DEADLINE_S = 60.0


class Running:
    """A Load Balancer in a thread of its own, with parties to talk to it."""

    def __init__(self, parameters: Any) -> None:
        self.balancer = LoadBalancer(parameters)
        self.said = io.StringIO()
        self.balancer.console = Console(self.said)
        self.error: BaseException | None = None
        self.lines: list[Line] = []
        self.thread = threading.Thread(target=self._serve)
        self.thread.start()
        assert self.balancer.ready.wait(DEADLINE_S) or self.error

    def _serve(self) -> None:
        try:
            self.balancer.startLB()
        except BaseException as error:
            self.error = error
            self.balancer.ready.set()

    @property
    def scheduler(self) -> FakeScheduler:
        return self.balancer.scheduler  # type: ignore[return-value]

    def client(self) -> Line:
        self.lines.append(Line(self.balancer.doors.addresses["clients"], client_to_core, core_to_client))
        self.lines[-1].send([Hello(client="c", user="u")])
        assert isinstance(hear(self.lines[-1])[0], Welcome)
        return self.lines[-1]

    def hub(self, pid: int = 1, host: str = "elsewhere", mark: str = "elsewhere") -> Line:
        self.lines.append(Line(self.balancer.doors.addresses["hubs"], hub_to_core, core_to_hub))
        hello = HubHello(
            hub=f"{mark}-{pid}-1", name="lab", host=host, pid=pid, python=(3, 11), cloudpickle="3", groups=()
        )
        self.lines[-1].send([hello])
        assert isinstance(hear(self.lines[-1])[0], Welcome)
        return self.lines[-1]

    def end(self) -> None:
        for line in self.lines:
            line.close()
        if self.thread.is_alive():
            self.balancer.stop()
        self.thread.join(DEADLINE_S)
        assert not self.thread.is_alive()


def hear(line: Line, number: int = 1) -> list[Any]:
    end, found = monotonic() + DEADLINE_S, list[Any]()
    while len(found) < number:
        assert monotonic() < end, f"only heard {found}"
        found += line.receive(1)
    return found


def task(name: str, payload: bytes = b"p") -> SubmitTask:
    return SubmitTask(task=name, name="f", payload=Payload((payload,)))


def done(order: RunTask, payload: bytes = b"r") -> TaskFinished:
    return TaskFinished(task=order.task, attempt=order.attempt, payload=Payload((payload,)))


@contextlib.contextmanager
def asking(address: str) -> Iterator[Callable[[Any], Any]]:
    """A plain REQ socket that speaks JSON."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    asker = context.socket(zmq.REQ)
    asker.connect(address)

    def ask(request: Any) -> Any:
        asker.send(request if isinstance(request, bytes) else json.dumps(request).encode())
        assert asker.poll(int(DEADLINE_S * 1000)), f"no answer to {request!r}"
        return json.loads(asker.recv())

    yield ask
    asker.close(0)
    context.term()
