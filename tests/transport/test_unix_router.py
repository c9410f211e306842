"""A ROUTER on a Unix socket, with peers that are ZeroMQ's own."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zmq

from nblb.transport import unix_router
from nblb.transport.unix_router import UnixRouter
from tests.waiting import wait_until

Sockets = Callable[..., "zmq.Socket[bytes]"]


@pytest.fixture
def router(runtime_base: Path) -> Iterator[UnixRouter]:
    router = UnixRouter(max_message_mb=8)
    router.bind(runtime_base / "router")
    yield router
    router.close()


@pytest.fixture
def address(router: UnixRouter) -> str:
    assert router.file is not None
    return f"ipc://{router.file.path}"


def taken(router: UnixRouter, number: int = 1) -> list[list[bytes]]:
    found = list[list[bytes]]()

    def look() -> bool:
        with contextlib.suppress(BlockingIOError):
            router.next()
            found.append([bytes(frame) for frame in router.rest()])
        return len(found) >= number

    wait_until(look, 20, "messages")
    return found


@pytest.mark.parametrize("kind", [zmq.REQ, zmq.DEALER])
def test_each_kind_of_peer_gets_its_answer(
    router: UnixRouter, address: str, request_socket: Sockets, kind: int
) -> None:
    peer = request_socket(address, kind)
    peer.send(b"asked")
    ((identity, *frames),) = taken(router)
    assert frames[-1] == b"asked"
    assert len(identity) == 9
    router.send([identity, *frames[:-1], b"answer", b"L" * 100_000])
    assert peer.recv_multipart() == [b"answer", b"L" * 100_000]


def test_peers_take_turns_and_keep_their_identities(router: UnixRouter, address: str, request_socket: Sockets) -> None:
    flood, other = request_socket(address, zmq.DEALER, SNDHWM=0), request_socket(address, zmq.DEALER)
    other.setsockopt(zmq.LINGER, 0)
    for _ in range(500):
        flood.send(b"f")
    taken(router, 2)
    other.send(b"o")
    seen = taken(router, 100)
    wait_until(lambda: any(frames[-1] == b"o" for frames in seen) or bool(seen.extend(taken(router))), 20, "a turn")
    assert len({identity for identity, *_ in seen}) == 2


def test_who_is_unknown_or_gone_raises(router: UnixRouter, address: str, request_socket: Sockets) -> None:
    with pytest.raises(ConnectionError):
        router.send([b"nobody", b"x"])
    peer = request_socket(address, zmq.DEALER)
    peer.send(b"m")
    ((identity, _),) = taken(router)
    peer.close(0)

    def is_gone() -> bool:
        with contextlib.suppress(BlockingIOError):
            router.next()
        return identity not in router.peers

    wait_until(is_gone, 20, "the end")
    with pytest.raises(ConnectionError):
        router.send([identity, b"x"])


def test_one_identity_belongs_to_one_living_peer(router: UnixRouter, address: str) -> None:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    try:
        peers = [context.socket(zmq.DEALER) for _ in range(2)]
        for peer in peers:
            peer.setsockopt(zmq.ROUTING_ID, b"same")
            peer.setsockopt(zmq.LINGER, 0)
        peers[0].connect(address)
        peers[0].send(b"first")
        assert taken(router) == [[b"same", b"first"]]
        peers[1].connect(address)
        peers[1].send(b"second")
        peers[0].send(b"again")
        assert taken(router) == [[b"same", b"again"]]
        router.send([b"same", b"for the first"])
        assert peers[0].recv() == b"for the first"
        peers[0].close()
        assert taken(router) == [[b"same", b"second"]]
        peers[1].close()
    finally:
        context.destroy(0)


def test_idle_peers_make_room_where_descriptors_are_few(
    router: UnixRouter, address: str, request_socket: Sockets, monkeypatch: pytest.MonkeyPatch
) -> None:
    peers = [request_socket(address, zmq.DEALER) for _ in range(3)]

    def has_two(_fd: int = 0) -> bool:
        return len(router.peers) + len(router._unnamed) >= 2

    monkeypatch.setattr(unix_router, "is_spare", has_two)
    monkeypatch.setattr(unix_router, "are_few", has_two)
    for peer in peers:
        peer.send(b"m")
    answered = {identity for identity, _ in taken(router, 2)}
    wait_until(lambda: router.has_input() or router.is_full, 20, "the third")
    assert router.is_full
    router.go_on()
    assert router.is_full  # the two wait for their answers
    for identity in answered:
        router.send([identity, b"answer"])
    router.go_on()
    assert router.is_full  # they have just had one
    monkeypatch.setattr(unix_router, "IDLE_S", 0.0)
    router.go_on()
    assert not router.is_full
    monkeypatch.setattr(unix_router, "is_spare", lambda _fd: False)
    assert [frames[-1] for frames in taken(router)] == [b"m"]
    for peer in peers:
        peer.send(b"again")  # who was disconnected is connected again
    assert [frames[-1] for frames in taken(router, 3)] == [b"again"] * 3


CROWD = """
import os, resource, sys, time
from pathlib import Path
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
from nblb.transport import unix_router
unix_router.IDLE_S = 0.5
router = unix_router.UnixRouter(8)
router.bind(Path(sys.argv[1]))
print("bound", flush=True)
answered, until = 0, time.monotonic() + 30
while answered < 260 and time.monotonic() < until:
    router.go_on()
    try:
        identity = router.next()
    except BlockingIOError:
        time.sleep(0.001)
        continue
    router.send([*router.rest()[:-1], b"answer"])
    answered += 1
os.close(os.open(os.devnull, os.O_RDONLY))
print(answered, flush=True)
sys.stdin.read()
"""


def test_a_crowd_beyond_the_hard_limit_ends_nobody(runtime_base: Path) -> None:
    """ZeroMQ's own ROUTER ends its process here."""
    path = runtime_base / "crowd"
    words = [sys.executable, "-c", CROWD, str(path)]
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    context.set(zmq.MAX_SOCKETS, 4096)
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "bound\n"
            peers = [context.socket(zmq.REQ) for _ in range(260)]
            for peer in peers:
                peer.setsockopt(zmq.LINGER, 0)
                peer.connect(f"ipc://{path}")
                peer.send(b"{}")
            assert process.stdout.readline() == "260\n"
        finally:
            for peer in peers:
                peer.close()
            process.stdin.close()  # type: ignore[union-attr]
            assert process.wait(20) == 0
            path.unlink()
    context.destroy(0)
