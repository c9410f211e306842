"""A peer that sends nonsense gets a bounded part of a turn, and soon none."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

import pytest
import zmq

from nblb.protocol.framing import VERSION
from nblb.protocol.messages import Heartbeat, client_to_core, core_to_client, hub_to_core
from nblb.transport import routers
from nblb.transport.dialing import dial
from nblb.transport.doors import Doors
from nblb.transport.local_line import LocalLine
from nblb.transport.packets import GREETING_BYTES, Outflow
from nblb.transport.routers import (
    FRAMES_A_TURN,
    MOST_KNOWN,
    MOST_REFUSED,
    PAUSE_S,
    REFUSED_A_TURN,
    GarbageLimits,
)
from tests.transport.parties import DEADLINE_S, arrivals, greet
from tests.transport.test_local_doors import connected, until_gone

NONSENSE = [VERSION, b"nonsense"]
IDENTITY = b"n" * (GREETING_BYTES - len(VERSION))


def test_too_much_that_is_nothing_is_not_read_for_a_while() -> None:
    known = GarbageLimits()
    assert not known
    for _ in range(MOST_REFUSED - 1):
        known.refuse(b"a", 5.0)
        assert not known.is_ignored(b"a", 5.0)
    known.note_readable(b"a")
    known.refuse(b"a", 5.0)
    assert not known.is_ignored(b"a", 5.0)
    known.refuse(b"a", 5.0)
    assert known.is_ignored(b"a", 5.0)
    assert not known.is_ignored(b"b", 5.0)
    assert not known.is_ignored(b"a", 5.0 + PAUSE_S)
    known.refuse(b"a", 7.0)  # no better than before
    assert known.is_ignored(b"a", 7.0)
    for _ in range(MOST_REFUSED):
        known.note_readable(b"a")
    assert not known


def test_a_crowd_is_not_remembered_without_end() -> None:
    known = GarbageLimits()
    for number in range(2 * MOST_KNOWN):
        for _ in range(MOST_REFUSED):
            known.refuse(b"%d" % number, 1.0)
    assert sum(known.is_ignored(b"%d" % number, 1.0) for number in range(2 * MOST_KNOWN)) == MOST_KNOWN


def test_a_question_waits_for_a_bounded_part_of_a_flood(
    doors: Doors, request_socket: Callable[..., zmq.Socket[bytes]]
) -> None:
    asker = dial(doors.addresses["health_local"], client_to_core, core_to_client)
    assert isinstance(asker, LocalLine)
    asked = greet(doors, asker)
    flood = request_socket(doors.addresses["clients"], zmq.DEALER, SNDHWM=0, LINGER=0)
    for _ in range(10_000):
        flood.send_multipart(NONSENSE)
    arrivals(doors)  # the flood has come
    for _ in range(10):
        asker.send([Heartbeat()])
        before = doors.garbage
        assert asked in [each.sender for each in doors.receive(DEADLINE_S)]
        assert doors.garbage - before <= REFUSED_A_TURN
    assert doors.garbage <= 20 * REFUSED_A_TURN
    asker.close()


def test_after_some_of_a_flood_the_routers_rest_and_plain_sockets_do_not(
    doors: Doors, request_socket: Callable[..., zmq.Socket[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    asker = dial(doors.addresses["health_local"], client_to_core, core_to_client)
    assert isinstance(asker, LocalLine)
    asked = greet(doors, asker)
    flood = request_socket(doors.addresses["clients"], zmq.DEALER, SNDHWM=0, LINGER=0)
    monkeypatch.setattr(routers, "REST", 1e9)
    monkeypatch.setattr(routers, "MOST_REST_S", 3600.0)
    for _ in range(1000):
        flood.send_multipart(NONSENSE)
    arrivals(doors)  # the flood has come, and has had its part
    before = doors.garbage
    assert 0 < before <= REFUSED_A_TURN
    for _ in range(10):
        asker.send([Heartbeat()])
        assert [each.sender for each in doors.receive(DEADLINE_S)] == [asked]
    assert doors.garbage == before
    asker.close()


def test_a_rest_ends_and_what_waited_is_read(
    doors: Doors, request_socket: Callable[..., zmq.Socket[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routers, "REST", 1e9)
    flood = request_socket(doors.addresses["clients"], zmq.DEALER, LINGER=0)
    peer = request_socket(doors.addresses["hubs"], zmq.DEALER)
    flood.send_multipart(NONSENSE)
    arrivals(doors)
    begun = monotonic()
    peer.send_multipart(hub_to_core.encode([Heartbeat()]))
    (arrived,) = arrivals(doors)
    assert arrived.messages == [Heartbeat()]
    assert monotonic() - begun < DEADLINE_S


def test_a_flood_leaves_turns_short(doors: Doors, request_socket: Callable[..., zmq.Socket[bytes]]) -> None:
    flood = request_socket(doors.addresses["clients"], zmq.DEALER, SNDHWM=0, LINGER=0)
    for _ in range(1000):
        flood.send_multipart(NONSENSE)
    end = monotonic() + DEADLINE_S
    while doors.garbage < 1000:
        assert monotonic() < end
        before = doors.garbage
        doors.receive(1)
        assert doors.garbage - before <= REFUSED_A_TURN


def test_frames_of_nonsense_are_bounded_too(
    doors: Doors, request_socket: Callable[..., zmq.Socket[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routers, "PAUSE_S", 3600.0)
    flood = request_socket(doors.addresses["clients"], zmq.DEALER, SNDHWM=0, LINGER=0)
    number = MOST_REFUSED + 12
    for _ in range(number):
        flood.send_multipart([*NONSENSE, *[b"x"] * FRAMES_A_TURN])
    end, seen = monotonic() + DEADLINE_S, 0
    while doors.garbage < number:
        assert monotonic() < end
        before = doors.garbage
        seen += len(doors.receive(1))
        assert doors.garbage - before <= 1
    assert seen == MOST_REFUSED  # the rest was not even read


def test_who_is_not_read_is_heard_again_when_it_makes_sense(
    doors: Doors, request_socket: Callable[..., zmq.Socket[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routers, "PAUSE_S", 0.0)
    peer = request_socket(doors.addresses["clients"], zmq.DEALER)
    for _ in range(2 * MOST_REFUSED):
        peer.send_multipart(NONSENSE)
    assert all(each.error is not None for each in arrivals(doors, 2 * MOST_REFUSED))
    peer.send_multipart(client_to_core.encode([Heartbeat()]))
    (arrived,) = arrivals(doors)
    assert arrived.messages == [Heartbeat()]


def test_who_asks_in_bad_json_is_answered_however_often(
    doors: Doors, request_socket: Callable[..., zmq.Socket[bytes]]
) -> None:
    asker = request_socket(doors.addresses["clients"])
    for _ in range(2 * MOST_REFUSED):
        asker.send(b"{")
        (arrived,) = arrivals(doors)
        assert arrived.error is not None
        doors.answer_json(arrived.sender, {"error": "no"})
        assert asker.recv()


def test_a_plain_socket_is_hung_up_on(doors: Doors) -> None:
    sock = connected(doors, VERSION + IDENTITY)
    for _ in range(2 * MOST_REFUSED):
        Outflow().write(sock, NONSENSE)
    seen = arrivals(doors)
    assert len(until_gone(doors)) == 1
    assert len(seen) == doors.garbage == MOST_REFUSED
    sock.close()
