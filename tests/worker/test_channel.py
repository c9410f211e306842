"""The channel between hub and worker: whole messages, large ones through memory, ProtocolError for garbage."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nblb.errors import ProtocolError
from nblb.protocol.framing import Payload
from nblb.protocol.messages import (
    Failure,
    HoldBlob,
    KnobOffered,
    Message,
    RunTask,
    TaskEmitted,
    TaskFinished,
    TaskPrinted,
    TaskProgressed,
    TaskStopped,
    WorkerStarted,
)
from nblb.worker.channel import (
    MAP_BYTES,
    Channel,
    DropBlob,
    from_worker,
    pack,
    peek_number,
    receive_datagram,
    to_worker,
    unpack,
)
from tests.strategies import fill, spoilt


@pytest.fixture
def ends() -> Iterator[tuple[Channel, Channel]]:
    """(the hub's, the worker's)"""
    near, far = Channel.pair()
    worker = Channel.of_worker(os.dup(far.fileno()))
    far.close()
    yield near, worker
    near.close()
    worker.close()


def run(payload: Payload) -> RunTask:
    return RunTask(task="t", attempt=1, name="f", function="h", payload=payload, items=max(1, len(payload.sizes)))


SIZES = [0, 1, 65_535, 65_536, 200_000, MAP_BYTES - 1, MAP_BYTES, 3 * MAP_BYTES]


@pytest.mark.parametrize("size", SIZES)
def test_payloads_of_all_sizes_arrive_whole(ends: tuple[Channel, Channel], size: int) -> None:
    near, worker = ends
    data = os.urandom(size)
    for payload in (Payload((data,)), Payload((b"small", data, b"", data)), Payload((data,), [size])):
        parcel = pack(to_worker, 3, run(payload))
        near.post(parcel)
        parcel.close()
        number, message = worker.receive() or (0, None)
        assert number == 3
        assert message == run(payload)


def test_large_buffers_can_be_written_into_and_are_ones_own(ends: tuple[Channel, Channel]) -> None:
    near, worker = ends
    for size in (100_000, 2 * MAP_BYTES):
        parcel = pack(to_worker, 1, run(Payload((b"", bytes(size)))))
        firsts = []
        for _ in range(2):
            near.post(parcel)
            buffer = (worker.receive() or (0, None))[1].payload.buffers[1]
            firsts.append(buffer[0])
            buffer[0] = 7
        parcel.close()
        assert firsts == [0, 0]


def test_both_vocabularies(ends: tuple[Channel, Channel]) -> None:
    near, worker = ends
    for message in (HoldBlob(hash="h", payload=Payload((b"x",))), DropBlob(hash="h")):
        parcel = pack(to_worker, 0, message)
        near.post(parcel)
        assert worker.receive() == (0, message)
    failure = Failure(offset=1, kind="E", traceback="t" * 100_000)
    for said in (WorkerStarted(worker="w", pid=3), TaskFinished(task="t", attempt=1, failures=(failure,))):
        worker.send(9, said)
        assert near.receive() == (9, said)


def test_what_was_not_taken_can_be_read_back() -> None:
    near, far = Channel.pair()
    with contextlib.closing(near), far:
        for number in (1, 2, 3):
            parcel = pack(to_worker, number, run(Payload((bytes(number * 50_000),))))
            near.post(parcel)
            parcel.close()
        taken, fd = receive_datagram(far)
        assert peek_number(taken) == 1
        assert fd == -1
        back = [receive_datagram(far, socket.MSG_DONTWAIT) for _ in range(2)]
        assert [unpack(to_worker, *one)[0] for one in back] == [2, 3]
        with pytest.raises(BlockingIOError):
            receive_datagram(far, socket.MSG_DONTWAIT)


def test_the_other_ends_death_is_an_end(ends: tuple[Channel, Channel]) -> None:
    near, worker = ends
    near.close()
    assert worker.receive() is None


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208


def test_no_descriptor_is_left(ends: tuple[Channel, Channel]) -> None:
    near, worker = ends
    before = descriptors()
    for _ in range(50):
        parcel = pack(to_worker, 1, run(Payload((bytes(200_000),))))
        near.post(parcel)
        parcel.close()
        worker.receive()
    assert descriptors() <= before  # the collector may close others' meanwhile


CODECS = {"from a worker": from_worker, "to a worker": to_worker}
VOCABULARIES: dict[str, Any] = {
    "from a worker": (
        WorkerStarted, TaskFinished, TaskStopped, TaskPrinted, TaskProgressed, TaskEmitted, KnobOffered
    ),
    "to a worker": (RunTask, HoldBlob, DropBlob),
}  # fmt: skip


@pytest.mark.decoder
@pytest.mark.parametrize("name", CODECS)
@settings(deadline=None)
@given(data=st.binary(max_size=200))
def test_garbage_is_a_protocol_error(name: str, data: bytes) -> None:
    with pytest.raises(ProtocolError):
        unpack(CODECS[name], data, -1)


def unsealed(fd: int) -> int:
    """A copy of the memory that can be spoilt, since that of a message to a worker is sealed."""
    if fd < 0:
        return fd
    copy = os.memfd_create("copy")
    os.write(copy, os.pread(fd, os.fstat(fd).st_size, 0))
    os.close(fd)
    return copy


@pytest.mark.decoder
@pytest.mark.parametrize("name", CODECS)
@settings(deadline=None)
@given(data=st.data())
def test_spoilt_messages_are_a_protocol_error_or_a_message(name: str, data: st.DataObject) -> None:
    """In the datagram, or in the memory that comes with a large one."""
    parcel = pack(CODECS[name], 5, data.draw(st.one_of(*map(fill, VOCABULARIES[name]))))
    bad, fd = parcel.datagram, unsealed(parcel.fd)
    if fd >= 0 and data.draw(st.booleans()):
        where = data.draw(st.integers(0, os.fstat(fd).st_size - 1))
        os.pwrite(fd, data.draw(st.binary(max_size=3)), where)
        if data.draw(st.booleans()):
            os.ftruncate(fd, where)
    else:
        bad = spoilt(data, bad)
    try:
        _, message = unpack(CODECS[name], bad, fd)
    except ProtocolError:
        return
    assert isinstance(message, Message)


def test_a_memory_that_lies_is_a_protocol_error() -> None:
    parcel = pack(to_worker, 1, run(Payload((bytes(200_000),))))
    fd = unsealed(parcel.fd)
    os.ftruncate(fd, 1000)
    with pytest.raises(ProtocolError):
        unpack(to_worker, parcel.datagram, fd)
    with pytest.raises(ProtocolError):
        unpack(to_worker, parcel.datagram, -1)


def test_threads_decode_at_the_same_time() -> None:
    datagrams = [pack(from_worker, n, TaskFinished(task=str(n), attempt=1, payload=Payload((bytes([n]),)))).datagram for n in range(8)]  # fmt: skip  # noqa: E501
    wrong: list[object] = []

    def decode(n: int) -> None:
        for _ in range(300):
            number, message = unpack(from_worker, datagrams[n], -1)
            if (number, message.payload.buffers) != (n, (bytes([n]),)):
                wrong.append(message)

    threads = [threading.Thread(target=decode, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
