"""A line: it dials until it is closed, keeps the order, and reports when everything is sent."""

from __future__ import annotations

import os
from collections.abc import Callable
from time import monotonic

import pytest
import zmq

from nblb.errors import NblbError
from nblb.parameters import Parameters
from nblb.protocol.framing import VERSION, Payload
from nblb.protocol.messages import Heartbeat, Hello, SubmitTask, client_to_core, core_to_client
from nblb.system.private_folder import private_folder
from nblb.transport.doors import Doors
from nblb.transport.line import Line
from tests.transport.parties import DEADLINE_S, WELCOME, AnyLine, arrivals, greet, heard


def test_a_line_dials_for_ever_and_says_when_it_is_through(
    parameters: Parameters, dial: Callable[..., AnyLine]
) -> None:
    doors = Doors(parameters)
    doors.open()
    address = doors.addresses["clients"]
    doors.close()
    line = dial(address)
    line.send([Hello(client="c", user="u")])
    assert line.receive(0.05) == []
    assert line.connections == 0
    for connections in (1, 2):
        doors.open()
        end = monotonic() + DEADLINE_S
        while line.connections < connections:
            assert monotonic() < end
            doors.receive(0.01)  # answers the handshake of ZeroMQ
            line.receive(0.01)
        line.send([Heartbeat()])
        sender = arrivals(doors)[0].sender
        doors.send(sender, [WELCOME])
        assert heard(line) == [WELCOME]
        doors.close()
        while line.connected:
            assert monotonic() < end
            line.receive(0.2)


def test_a_line_waits_for_other_descriptors_too(doors: Doors, dial: Callable[..., AnyLine]) -> None:
    line = dial(doors.addresses["clients"])
    greet(doors, line)
    read, write = os.pipe()
    try:
        assert line.receive(0.01, [read]) == []
        os.write(write, b"x")
        end = monotonic() + DEADLINE_S
        while not line.ready:
            assert monotonic() < end
            assert line.receive(DEADLINE_S, [read]) == []
        assert line.ready == [read]
        assert line.receive(0) == []
        assert line.ready == []
        assert line.fileno() >= 0
    finally:
        os.close(read)
        os.close(write)


def test_a_line_never_blocks_and_keeps_the_order(doors: Doors, dial: Callable[..., AnyLine]) -> None:
    line = dial(doors.addresses["clients"])
    begin = monotonic()
    for n in range(3000):
        line.send([SubmitTask(task=str(n), name="f", payload=Payload((b"x" * 1000,)))])
    assert monotonic() - begin < DEADLINE_S
    assert line.unsent_bytes > 0
    tasks, end = list[str](), monotonic() + DEADLINE_S
    while len(tasks) < 3000:
        assert monotonic() < end
        line.receive(0)
        tasks += [message.task for each in doors.receive(0.01) for message in each.messages or []]
    assert tasks == [str(n) for n in range(3000)]
    assert line.unsent_bytes == 0


def test_the_last_words_of_a_closing_line_arrive(doors: Doors, dial: Callable[..., AnyLine]) -> None:
    line = dial(doors.addresses["clients"])
    greet(doors, line)
    line.send([Heartbeat(at=7)])
    line.close()
    line.close()  # once more does nothing
    assert (arrivals(doors)[0].messages or [])[0].at == 7


def test_a_line_over_zeromq_survives_noise(parameters: Parameters) -> None:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    router = context.socket(zmq.ROUTER)
    path = private_folder(parameters.runtime_dir) / "noise"
    router.bind(f"ipc://{path}")
    line = Line(f"ipc://{path}", client_to_core, core_to_client)
    line.send([Heartbeat()])
    identity = router.recv_multipart()[0]
    for frames in ([b"x"], [VERSION, b"{"], [VERSION], [b"x" * 100_000] * 9):
        router.send_multipart([identity, *frames])
    router.send_multipart([identity, *core_to_client.encode([WELCOME])])
    assert heard(line) == [WELCOME]
    assert line.garbage == 4
    line.close()
    router.close(0)
    context.term()
    path.unlink(missing_ok=True)
    path.parent.rmdir()


def test_a_line_to_nowhere() -> None:
    with pytest.raises(NblbError, match="not an address"):
        Line("nonsense", client_to_core, core_to_client)
