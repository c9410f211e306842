"""Fixtures of the transport's tests: listening sockets, and lines to them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import zmq

from nblb.parameters import Parameters, load
from nblb.protocol.messages import client_to_core, core_to_client, core_to_hub, hub_to_core
from nblb.transport import dialing
from nblb.transport.doors import Doors
from nblb.transport.local_line import SCHEME
from tests.transport.parties import AnyLine


@pytest.fixture
def doors(parameters: Parameters) -> Iterator[Doors]:
    doors = Doors(parameters)
    doors.open()
    yield doors
    doors.close()


@pytest.fixture
def open_doors(settings: dict[str, Any]) -> Iterator[Doors]:
    """With TCP, on loopback."""
    doors = Doors(load({**settings, "LB_SECURITY": "none"}))
    doors.open()
    yield doors
    doors.close()


@pytest.fixture(params=["zeromq", "local"])
def dial(request: pytest.FixtureRequest) -> Iterator[Callable[..., AnyLine]]:
    """A line to a Unix socket: over ZeroMQ, and then over the plain socket beside it."""
    lines: list[AnyLine] = []

    def dial(address: str, hub: bool = False) -> AnyLine:
        if request.param == "local" and address.startswith("ipc://"):
            address = f"{SCHEME}{address[6:]}.local"
        words = (hub_to_core, core_to_hub) if hub else (client_to_core, core_to_client)
        lines.append(dialing.dial(address, *words))  # type: ignore[arg-type]
        return lines[-1]

    yield dial
    for line in lines:
        line.close()


@pytest.fixture
def request_socket() -> Iterator[Callable[..., zmq.Socket[bytes]]]:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    made: list[zmq.Socket[bytes]] = []

    def make(address: str, kind: int = zmq.REQ, **options: int) -> zmq.Socket[bytes]:
        made.append(context.socket(kind))
        made[-1].setsockopt(zmq.LINGER, 500)
        for name, value in options.items():
            made[-1].setsockopt(getattr(zmq, name), value)
        made[-1].connect(address)
        return made[-1]

    yield make
    for one in made:
        one.close()
    context.term()
