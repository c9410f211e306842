"""JSON and noise: each request is answered, and noise does not block a socket."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import zmq
from hypothesis import given, settings
from hypothesis import strategies as st

from nblb.parameters import load
from nblb.protocol.framing import VERSION, Payload
from nblb.protocol.messages import Heartbeat, SubmitTask
from nblb.transport.doors import Doors
from tests.noise import throw_bytes
from tests.transport.parties import AnyLine, arrivals, greet


@pytest.mark.parametrize("options", [{}, {"REQ_CORRELATE": 1, "REQ_RELAXED": 1}])
def test_a_json_request_gets_its_answer(
    open_doors: Doors, request_socket: Callable[..., zmq.Socket[bytes]], options: dict[str, int]
) -> None:
    for door in ("clients", "hubs", "health"):
        for name in (door, f"{door}_tcp"):
            asker = request_socket(open_doors.addresses[name], **options)
            for number in range(2):
                asker.send(json.dumps({"toLB": number}).encode())
                (arrived,) = arrivals(open_doors)
                assert arrived.sender.startswith(f"json-{door}:")
                assert arrived.json == {"toLB": number}
                open_doors.answer_json(arrived.sender, {"seen": number})
                assert json.loads(asker.recv()) == {"seen": number}


def test_a_bare_dealer_may_speak_json_too(doors: Doors, request_socket: Callable[..., zmq.Socket[bytes]]) -> None:
    dealer = request_socket(doors.addresses["health"], zmq.DEALER)
    dealer.send(b'{"MONITOR":"STATS"}')
    (arrived,) = arrivals(doors)
    doors.answer_json(arrived.sender, 1)
    assert dealer.recv_multipart() == [b"1"]


@pytest.mark.parametrize("request_bytes", [b"{", b"", b"\xff\xfe", b"[" * 100_000, b'{"a":NaN}', b"n" * 100_000])
def test_a_bad_json_request_has_somebody_to_answer(
    doors: Doors, request_socket: Callable[..., zmq.Socket[bytes]], request_bytes: bytes
) -> None:
    asker = request_socket(doors.addresses["clients"])
    asker.send(request_bytes)
    (arrived,) = arrivals(doors)
    assert arrived.json is None
    assert arrived.error is not None
    doors.answer_json(arrived.sender, {"error": str(arrived.error)})
    assert "JSON" in json.loads(asker.recv())["error"]


def test_an_answer_that_is_no_json_is_still_an_answer(
    doors: Doors, request_socket: Callable[..., zmq.Socket[bytes]]
) -> None:
    asker = request_socket(doors.addresses["clients"])
    asker.send(b"{}")
    doors.answer_json(arrivals(doors)[0].sender, object())
    assert "error" in json.loads(asker.recv())


# ── noise ──


def noise_frames(chance: random.Random) -> list[list[bytes]]:
    return [
        [chance.randbytes(100_000)],
        [b"\0" * 100_000],
        [b"", chance.randbytes(100_000)],
        [b"x" * 100, b"", b"{}"],
        [VERSION, b'[{"type":"Nonsense"}]'],
        [VERSION, chance.randbytes(1000), b"", b"x"],
        [VERSION],
        [b"nblb0", b"[]"],
        [b""],
        [b"", b""],
        [chance.randbytes(10) for _ in range(6000)],
    ]


def test_noise_deafens_no_door(
    open_doors: Doors, request_socket: Callable[..., zmq.Socket[bytes]], dial: Callable[..., AnyLine]
) -> None:
    chance = random.Random(5)
    for name, address in open_doors.addresses.items():
        throw_bytes(address, chance.randbytes(100_000))
        if name.endswith("_local"):  # for nblb's own parties, who speak no ZeroMQ there
            continue
        frames = noise_frames(chance)
        dealer = request_socket(address, zmq.DEALER)
        for each in frames:
            dealer.send_multipart(each)
        found = arrivals(open_doors, len(frames))
        dial(address, hub=name.startswith("hubs")).send([Heartbeat()])
        while not any(each.messages for each in found):
            found += arrivals(open_doors)
        assert [each.messages for each in found if each.error is None] == [[Heartbeat()]]
    assert open_doors.garbage >= 6 * len(noise_frames(chance)) + 3


def test_a_frame_beyond_the_limit_costs_its_sender(settings: dict[str, Any], dial: Callable[..., AnyLine]) -> None:
    doors = Doors(load({**settings, "LB_MAX_MESSAGE_MB": 1}))
    doors.open()
    try:
        big, other = dial(doors.addresses["clients"]), dial(doors.addresses["clients"])
        big.send([SubmitTask(task="t", name="f", payload=Payload((b"x" * 2_000_000,)))])
        greet(doors, other)
    finally:
        doors.close()


requests = st.binary(max_size=40) | st.sampled_from(
    [b"", b"{}", b"{", b'{"toLB":"GETTASK","taskid":"a"}', b"[1e999]", VERSION, b"nblb0", b"[]"]
)


@pytest.mark.decoder
@pytest.mark.parametrize("name", ["clients", "hubs", "health"])
@settings(deadline=None)
@given(frames=st.lists(requests, max_size=6))
def test_whatever_frames_a_door_reads_it_says_what_they_are(name: str, frames: list[bytes]) -> None:
    doors = Doors(load({}))  # never opened
    door = next(door for door in doors._doors if door.name == name)
    one = door.read([b"identity", *frames])
    assert (one.messages is not None) + (one.error is not None) <= 1
    assert one.sender.startswith(("client:", "hub:", "health:", f"json-{name}:"))


HANGS_UP = """
import sys, time, zmq
from nblb.parameters import load
from nblb.transport.doors import Doors
doors = Doors(load({"LB_STATE_DIR": sys.argv[1], "LB_SECURITY": "none", "LB_CLIENTPULLPORT": 0, "LB_WKPULLPORT": 0,
                    "LB_HCREPPORT": 0}))
doors.open()
context = zmq.Context()
peer = context.socket(zmq.DEALER)
peer.setsockopt(zmq.RCVHWM, 1)
peer.connect(doors.addresses["clients_tcp"])
peer.send(b"{}")
arrived = []
while not arrived:  # the handshake alone wakes it, too
    arrived = doors.receive(10)
(asked,) = arrived
for _ in range(30):
    doors.answer_json(asked.sender, "x" * 300_000)
    time.sleep(0.005)
until = time.monotonic() + 1
while time.monotonic() < until:
    try:
        peer.send(b"x" * 10_000, zmq.NOBLOCK)
    except zmq.Again:
        time.sleep(0.001)
peer.close(0)
context.term()
time.sleep(6)
while doors.receive(0.1):
    pass
doors.close()
print("alive")
"""


def test_a_peer_that_hangs_up_before_all_it_said_is_read_costs_nothing(settings: dict[str, Any]) -> None:
    """libzmq's own heartbeat, every 5 s, aborted the core at such a connection; so TCP's is used."""
    words = [sys.executable, "-c", HANGS_UP, settings["LB_STATE_DIR"]]
    said = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert (said.returncode, said.stdout, said.stderr) == (0, "alive\n", "")
