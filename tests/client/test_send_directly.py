"""A caller sends a single task itself while the I/O thread sleeps, whatever happens to the caller then."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from nblb.client.connection.connection import Connection
from nblb.client.connection.locate import hello
from nblb.client.futures.task_future import TaskFuture
from nblb.parameters import Parameters
from nblb.protocol.blob_names import blob_name
from nblb.protocol.framing import Payload
from nblb.protocol.messages import Message, PutBlob, SubmitTask
from nblb.transport.local_line import LocalLine
from tests.broker.running import Running
from tests.waiting import wait_until

CODE = Payload((b"code",))
BLOB = PutBlob(hash=blob_name(CODE.buffers), payload=CODE)


@pytest.fixture
def core(parameters: Parameters) -> Iterator[Running]:
    running = Running(parameters)
    yield running
    running.end()


@pytest.fixture
def senders(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, threading.Thread]]:
    """Which task was sent by which thread."""
    senders: list[tuple[str, threading.Thread]] = []
    send = LocalLine.send

    def noting(line: LocalLine, messages: Sequence[Message]) -> None:
        senders.extend((m.task, threading.current_thread()) for m in messages if isinstance(m, SubmitTask))
        send(line, messages)

    monkeypatch.setattr(LocalLine, "send", noting)
    return senders


@pytest.fixture
def connection(core: Running) -> Iterator[Connection]:
    connection = Connection(lambda: core.balancer.doors.addresses["clients_local"], hello("me"))
    assert connection.wait_connected(10)
    wait_until(lambda: connection._io_thread.fast_path.asleep.now)
    yield connection
    connection.close(0.5)


def submit(connection: Connection, task: str) -> TaskFuture:
    future = TaskFuture(connection, task, "f")
    connection.submit(SubmitTask(task=task, name="f", function=BLOB.hash, payload=Payload((b"x",))), BLOB, future)
    return future


def is_known(core: Running, *tasks: str) -> Any:
    return lambda: all(task in core.scheduler.state.records for task in tasks)  # type: ignore[attr-defined]


def test_only_the_first_is_sent_by_its_caller(
    core: Running, connection: Connection, senders: list[tuple[str, threading.Thread]]
) -> None:
    for task in "abc":
        submit(connection, task)
    wait_until(is_known(core, *"abc"))
    assert senders[0] == ("a", threading.current_thread())
    assert {task for task, thread in senders if thread is connection._thread} == {"b", "c"}
    wait_until(lambda: not connection.session.unaccepted)


def test_a_caller_that_is_interrupted_in_the_midst_leaves_nothing_torn(
    core: Running, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    send = LocalLine.send

    def torn(line: LocalLine, messages: Sequence[Message]) -> None:
        if threading.current_thread() is connection._thread:
            send(line, messages)
            return
        assert line._socket is not None
        line._socket.send(b"\0\0\0\0\xff")  # the beginning of a packet
        raise KeyboardInterrupt

    monkeypatch.setattr(LocalLine, "send", torn)
    with pytest.raises(KeyboardInterrupt):
        submit(connection, "a")
    wait_until(is_known(core, "a"))  # said again, whole, on another connection
    monkeypatch.setattr(LocalLine, "send", send)
    wait_until(lambda: connection.connected and not connection.session.unaccepted)
    submit(connection, "b")
    wait_until(is_known(core, "b"))


def test_a_closed_connection_is_not_spoken_on(
    connection: Connection, senders: list[tuple[str, threading.Thread]]
) -> None:
    connection.close()
    assert not connection._io_thread.fast_path.send(SubmitTask(task="a", name="f"), BLOB)
    assert senders == []
