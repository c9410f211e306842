"""A sender of garbage to the sockets of a core: `python -m tests.end_to_end.garbage ADDRESSES MESSAGES SEED`.

ADDRESSES is the JSON of door -> address. Most of it are multipart messages of ZeroMQ, some are bytes that are not even
that. Nothing of it is a greeting that could be taken for one: a peer that says hello as it should may do what it does.
Prints how much it has thrown.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable, Iterator

import zmq

from nblb.errors import ProtocolError
from nblb.protocol.framing import VERSION, Payload
from nblb.protocol.messages import (
    Ask,
    Heartbeat,
    Hello,
    HubHello,
    OpenJob,
    RunTask,
    SubmitTask,
    TaskFinished,
    WorkerStarted,
    client_to_core,
    hub_to_core,
)
from nblb.transport.local_line import SCHEME as LOCAL
from nblb.transport.packets import greeting
from tests.noise import throw_bytes

VARIANTS = 1500  # made at first, thrown again and again
A_CONNECTION = 500  # messages before the thrower comes as somebody else
RAW = 0.01  # this part are bytes that are no ZeroMQ
MOST_AT_ONCE_MS = 10_000

TRUE = [
    client_to_core.encode([Hello(client="c", user="u", host="h", pid=1)]),
    client_to_core.encode([SubmitTask(task="t", name="f", payload=Payload((b"x" * 100, b"L" * 70_000)), items=3)]),
    client_to_core.encode([OpenJob(job="j", name="sweep", items=10**6), Ask(request=1, topic="status")]),
    hub_to_core.encode([HubHello(hub="h", name="n", host="x", pid=1, python=(3, 11), cloudpickle="3", groups=())]),
    hub_to_core.encode([TaskFinished(task="t", attempt=1, payload=Payload((b"r",)))]),
    hub_to_core.encode([WorkerStarted(worker="w", group=0, pid=7), Heartbeat(load=0.5)]),
]
TASK = b'[{"type":"SubmitTask","task":"t","name":"f","%s":%d}]'
JSON = (b"{", b"[]", b"null", b'{"toLB":7}', b'{"toLB":"FLY"}', b"\xff\xfe", b"[" * 9999)


def spoilt(chance: random.Random) -> list[bytes]:
    """A true message with some bits turned, a frame cut short, or one lost."""
    frames = [bytearray(frame) for frame in chance.choice(TRUE)]
    for _ in range(chance.randint(1, 4)):
        frame = chance.choice(frames)
        if frame:
            frame[chance.randrange(len(frame))] ^= 1 << chance.randrange(8)
    if chance.random() < 0.3:
        frame = chance.choice(frames)
        del frame[chance.randrange(len(frame) + 1) :]
    if chance.random() < 0.1:
        del frames[chance.randrange(len(frames))]
    return [bytes(frame) for frame in frames]


WRONG: list[Callable[[random.Random], list[bytes]]] = [
    lambda chance: [chance.randbytes(chance.choice((0, 1, 16, 1000, 60_000)))],
    lambda chance: [VERSION, chance.randbytes(chance.choice((0, 10, 1000, 60_000)))],
    lambda chance: [VERSION, b"[" * chance.choice((10, 5_000, 100_000))],
    lambda chance: [VERSION, b'{"a":' * 50_000],
    lambda chance: [VERSION, TASK % (b"items", 10 ** chance.randint(20, 300))],
    lambda chance: [VERSION, TASK % (b"payload", 2 ** chance.randint(8, 80))],
    lambda chance: [VERSION, b'[{"type":"SubmitTask","task":7,"name":[],"payload":{"items":[1,"2"]}}]', b"12"],
    lambda chance: [VERSION, b'[{"type":"TaskFinished","task":"t","attempt":"1"}]'],
    lambda chance: [VERSION, b'[{"type":"%s"}]' % chance.choice((b"Nonsense", b"RunTask", b"Welcome", b""))],
    lambda chance: [VERSION, b"[]", *[chance.randbytes(8) for _ in range(3 if chance.random() < 0.98 else 5000)]],
    lambda chance: [b"nblb0", b"[]"],
    lambda chance: [b"", chance.choice(JSON)],
    lambda chance: [b"x" * 100, b"", b"{}"],
    lambda chance: [b"" for _ in range(chance.randint(1, 50))],
    *[spoilt] * 8,
]


def is_greeting(frames: list[bytes]) -> bool:
    """It would make its sender a party like any other."""
    for codec in (client_to_core, hub_to_core):
        try:
            if any(isinstance(message, (Hello, HubHello, RunTask)) for message in codec.decode(frames)):
                return True
        except ProtocolError:
            pass
    return False


def variants(chance: random.Random) -> list[list[bytes]]:
    made: list[list[bytes]] = []
    while len(made) < VARIANTS:
        frames = chance.choice(WRONG)(chance)
        if not is_greeting(frames):
            made.append(frames)
    return made


def shouters(addresses: list[str], context: zmq.Context[zmq.Socket[bytes]]) -> Iterator[zmq.Socket[bytes]]:
    """A new DEALER now and then, each at the next door."""
    while True:
        for address in addresses:
            dealer = context.socket(zmq.DEALER)
            dealer.setsockopt(zmq.LINGER, MOST_AT_ONCE_MS)
            dealer.setsockopt(zmq.SNDTIMEO, MOST_AT_ONCE_MS)
            dealer.connect(address)
            with dealer:
                yield dealer


def main(addresses: list[str], number: int, seed: int) -> None:
    chance = random.Random(seed)
    made = variants(chance)
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    dealers = shouters([address for address in addresses if not address.startswith(LOCAL)], context)
    print("throwing", flush=True)
    frames = connections = 0
    for message in range(number):
        if message % A_CONNECTION == 0:
            dealer = next(dealers)
        if chance.random() < RAW:
            address, noise = chance.choice(addresses), chance.randbytes(chance.choice((1, 64, 5000)))
            known = address.startswith(LOCAL) and chance.random() < 0.5  # says who it is, and nonsense only then
            throw_bytes(address, greeting() + noise if known else noise)
            connections += 1
        one = chance.choice(made)
        dealer.send_multipart(one)
        frames += len(one)
    dealers.close()  # type: ignore[attr-defined]
    context.term()
    print(json.dumps({"frames": frames, "connections": connections}), flush=True)


if __name__ == "__main__":
    main(list(json.loads(sys.argv[1]).values()), int(sys.argv[2]), int(sys.argv[3]))
