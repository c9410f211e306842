"""Doors over real sockets: nothing blocks, and nothing is dropped silently, however slow a peer is."""

from __future__ import annotations

import threading
from collections.abc import Callable
from time import monotonic
from typing import Any

from nblb.protocol.framing import LARGE, Payload
from nblb.protocol.messages import (
    EndCommitted,
    Heartbeat,
    Hello,
    HoldBlob,
    Message,
    SubmitTask,
    TaskAccepted,
    TaskEnded,
    TaskFinished,
    TaskRejected,
    TaskState,
)
from nblb.transport.door import Arrived
from nblb.transport.doors import OUTBOX_BYTES, Doors
from nblb.transport.sockets import BATCH_MESSAGES, HIGH_WATER, batches
from tests.transport.parties import DEADLINE_S, WELCOME, AnyLine, arrivals, greet, heard


def test_there_and_back(doors: Doors, dial: Callable[..., AnyLine]) -> None:
    client, hub = dial(doors.addresses["clients"]), dial(doors.addresses["hubs"], hub=True)
    asker = dial(doors.addresses["health"])
    client.send([Hello(client="c", user="u"), SubmitTask(task="t", name="f", payload=Payload((b"p",)))])
    (arrived,) = arrivals(doors)
    assert arrived.sender.startswith("client:")
    assert [type(message) for message in arrived.messages or []] == [Hello, SubmitTask]
    assert doors.send(arrived.sender, [WELCOME, TaskAccepted(task="t")])
    assert heard(client, 2) == [WELCOME, TaskAccepted(task="t")]
    assert greet(doors, hub, hub=True).startswith("hub:")
    assert greet(doors, asker).startswith("health:")


def test_each_incarnation_has_its_own_address(doors: Doors, dial: Callable[..., AnyLine]) -> None:
    addresses = {greet(doors, dial(doors.addresses["clients"])) for _ in range(3)}
    assert len(addresses) == 3


def test_large_buffers(open_doors: Doors, dial: Callable[..., AnyLine]) -> None:
    payload = Payload((b"small", b"L" * (3 * LARGE), b"s", b"M" * LARGE))
    for address in (open_doors.addresses["hubs"], open_doors.addresses["hubs_tcp"]):
        hub = dial(address, hub=True)
        hub.send([TaskFinished(task="t", attempt=1, payload=payload)])
        (arrived,) = arrivals(open_doors)
        assert (arrived.messages or [])[0].payload == payload
        assert open_doors.send(arrived.sender, [HoldBlob(hash="h", payload=payload)])
        assert heard(hub)[0].payload == payload


def test_it_sleeps_exactly_until_the_time(doors: Doors) -> None:
    begin = monotonic()
    assert doors.receive(0.05) == []
    assert 0.05 <= monotonic() - begin < DEADLINE_S
    assert doors.receive(0) == []
    assert doors.receive(-1) == []


def test_it_can_be_woken(doors: Doors) -> None:
    waker = threading.Thread(target=doors.wake)
    waker.start()
    assert doors.receive(None) == []
    waker.join()
    doors.wake()
    doors.wake()
    assert doors.receive(None) == []
    doors.close()
    doors.wake()  # nobody there: no harm


def test_fair_to_all_doors_and_bounded(doors: Doors, dial: Callable[..., AnyLine]) -> None:
    flood, hub = dial(doors.addresses["clients"]), dial(doors.addresses["hubs"], hub=True)
    greet(doors, flood)
    for _ in range(3000):
        flood.send([Heartbeat()])
    hub.send([Heartbeat()])
    end, turns = monotonic() + DEADLINE_S, list[list[Arrived]]()
    while not any(each.sender.startswith("hub:") for turn in turns for each in turn):
        assert monotonic() < end
        turns.append(doors.receive(1))
        assert len(turns[-1]) <= 1100
        flood.receive(0)


def test_batches() -> None:
    small: list[Message] = [TaskAccepted(task=str(n)) for n in range(2 * BATCH_MESSAGES + 5)]
    assert [len(batch) for batch in batches(small)] == [BATCH_MESSAGES, BATCH_MESSAGES, 5]
    large = [HoldBlob(hash="h", payload=Payload((b"x" * 700_000,))) for _ in range(3)]
    assert [len(batch) for batch in batches([small[0], *large, small[1]])] == [2, 1, 2]
    assert [len(batch) for batch in batches([HoldBlob(hash="h", payload=Payload((b"x" * 9_000_000,)))])] == [1]
    assert list(batches([])) == []


# ── peers that are gone or slow ──


def test_a_peer_that_is_gone_is_said_so(doors: Doors, dial: Callable[..., AnyLine]) -> None:
    line = dial(doors.addresses["clients"])
    address = greet(doors, line)
    line.close()
    end = monotonic() + DEADLINE_S
    while doors.send(address, [Heartbeat()]):  # until ZeroMQ has noticed
        assert monotonic() < end
        doors.receive(0.01)
    assert doors.gone == [address]
    assert doors.untaken == [(address, Heartbeat())]
    assert not doors.send("client:" + "00" * 16, [Heartbeat()])


def test_a_slow_client_blocks_nobody_and_loses_nothing(doors: Doors, dial: Callable[..., AnyLine]) -> None:
    slow, quick = dial(doors.addresses["clients"]), dial(doors.addresses["clients"])
    slow_address, quick_address = greet(doors, slow), greet(doors, quick)
    payload = Payload((b"r" * 1_000_000,))
    results = [TaskEnded(task=str(n), state=TaskState.DONE, payload=payload) for n in range(8 * HIGH_WATER)]
    begin = monotonic()
    taken = [doors.send(slow_address, [result]) for result in results]
    assert monotonic() - begin < DEADLINE_S
    withheld = [message for _, message in doors.untaken]
    assert withheld
    assert not all(taken)
    assert withheld == results[-len(withheld) :]  # what was taken is in order, without a hole
    assert doors._outboxes[slow_address].nbytes <= OUTBOX_BYTES + 2_000_000
    assert doors.send(slow_address, [TaskAccepted(task="x")])  # a small word still gets its place in the line
    assert doors.send(quick_address, [WELCOME])
    assert heard(quick) == [WELCOME]
    expected = len(results) - len(withheld) + 1
    said, end = list[Any](), monotonic() + DEADLINE_S
    while len(said) < expected:
        assert monotonic() < end
        doors.receive(0.001)
        said += slow.receive(0.001)
    assert said == [*results[: expected - 1], TaskAccepted(task="x")]
    assert doors.drained == [slow_address]
    assert doors._outboxes == {}


def test_a_hub_is_sent_all_of_it_however_slow(doors: Doors, dial: Callable[..., AnyLine]) -> None:
    hub = dial(doors.addresses["hubs"], hub=True)
    address = greet(doors, hub, hub=True)
    blob = HoldBlob(hash="h", payload=Payload((b"b" * (OUTBOX_BYTES // 2),)))
    orders = [blob, *(EndCommitted(task=str(n), attempt=1) for n in range(5)), blob, blob, blob]
    for _ in range(HIGH_WATER):
        doors.send(address, [Heartbeat()])
    assert all(doors.send(address, [order]) for order in orders)
    said, end = list[Any](), monotonic() + DEADLINE_S
    while len(said) < HIGH_WATER + len(orders):
        assert monotonic() < end
        doors.receive(0.001)
        said += hub.receive(0.001)
    assert said[HIGH_WATER:] == orders


def test_a_client_that_takes_nothing_at_all_is_given_up(doors: Doors, dial: Callable[..., AnyLine]) -> None:
    line = dial(doors.addresses["clients"])
    address = greet(doors, line)
    words = [TaskRejected(task="t", kind="TaskRejected", reason="r" * 100_000)] * 10
    end = monotonic() + DEADLINE_S
    while not doors.gone:
        assert monotonic() < end
        doors.send(address, words)
    assert doors.gone == [address]
    assert doors._outboxes == {}
    line.send([Heartbeat()])
    assert arrivals(doors)[0].sender == address  # it is still heard


def test_a_dropped_peer_has_nothing_waiting(doors: Doors, dial: Callable[..., AnyLine]) -> None:
    address = greet(doors, dial(doors.addresses["clients"]))
    while address not in doors._outboxes:
        doors.send(address, [TaskEnded(task="t", state=TaskState.DONE, payload=Payload((b"r" * 100_000,)))])
    doors.drop(address)
    assert doors._outboxes == {}


def test_what_cannot_be_said_costs_only_itself(doors: Doors, dial: Callable[..., AnyLine]) -> None:
    line = dial(doors.addresses["clients"])
    address = greet(doors, line)
    bad = Hello(client=object(), user="u")  # type: ignore[arg-type]
    assert not doors.send(address, [WELCOME, bad, WELCOME])
    assert heard(line, 2) == [WELCOME, WELCOME]
    assert [(to, message) for to, message, _ in doors.unsayable] == [(address, bad)]
