"""The last descriptors stay free, however many connect over TCP; in a process of its own, whose limit is 128."""

from __future__ import annotations

import contextlib
import resource
import select
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest
import zmq

from tests.waiting import wait_until

CROWD = 200
MOST = 128 - 128 // 4  # connections that leave the last quarter free
SERVER = """
import os, resource, select, sys, time
import zmq
from nblb.transport.curve.keys import guard, new_key_pair
from nblb.transport.tcp_watch import TcpWatch
from nblb.transport.zmq_router import ZmqRouter

resource.setrlimit(resource.RLIMIT_NOFILE, (128, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
context = zmq.Context()
router = ZmqRouter(context, 64)
pair = new_key_pair()
if sys.argv[1] == "curve":
    guard(router.socket, pair)
watch = TcpWatch(router.socket)
router.socket.bind("tcp://127.0.0.1:*")
print(router.socket.getsockopt_string(zmq.LAST_ENDPOINT), pair.public, flush=True)
while not select.select([sys.stdin], [], [], 0)[0]:
    select.select([sys.stdin, router, watch], [], [], 0.1)
    watch.look()
    while router.has_input():
        name = router.next()
        router.rest()
        try:
            router.send([name, b"answer"])
        except zmq.ZMQError:
            pass
files, end = [], time.monotonic() + 30
while len(files) < 16 and time.monotonic() < end:
    watch.look()
    try:
        files.append(os.open(os.devnull, os.O_RDONLY))
    except OSError:  # the thread of ZeroMQ is about to close those that were cut
        select.select([watch], [], [], 0.05)
print(watch.cut > 0, watch.is_full, len(files), flush=True)
"""


@pytest.fixture(params=["plain", "curve"])
def server(request: pytest.FixtureRequest) -> Iterator[subprocess.Popen[str]]:
    words = [sys.executable, "-c", SERVER, request.param]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


@pytest.fixture(autouse=True)
def _many() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (before[1], before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def told(server: subprocess.Popen[str]) -> list[str]:
    assert server.stdout is not None
    return server.stdout.readline().split()


def end_of(server: subprocess.Popen[str]) -> list[str]:
    assert server.stdin is not None
    server.stdin.write("\n")
    server.stdin.flush()
    return told(server)


def test_it_outlives_a_crowd_of_raw_connections(server: subprocess.Popen[str]) -> None:
    address, _ = told(server)
    with contextlib.ExitStack() as crowd:
        connections = [
            crowd.enter_context(socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2]))))
            for _ in range(CROWD)
        ]
        wait_until(lambda: len(ended(connections)) >= CROWD - MOST, 30, "the connections that are too many to be cut")
        assert end_of(server) == ["True", "True", "16"], "the last descriptors are free"
        assert len(ended(connections)) < CROWD, "the others stay"


def ended(connections: list[socket.socket]) -> list[int]:
    poll = select.poll()
    for each in connections:
        poll.register(each, select.POLLRDHUP)
    return [fd for fd, events in poll.poll(0) if events & (select.POLLRDHUP | select.POLLHUP | select.POLLERR)]


def test_parties_that_are_cut_get_their_turn(server: subprocess.Popen[str]) -> None:
    address, key = told(server)
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    context.set(zmq.MAX_SOCKETS, 4 * CROWD)
    peers = [context.socket(zmq.DEALER) for _ in range(CROWD)]
    public, secret = zmq.curve_keypair()
    try:
        for peer in peers:
            peer.setsockopt(zmq.LINGER, 0)
            peer.setsockopt(zmq.RECONNECT_IVL, 50)
            peer.setsockopt(zmq.RECONNECT_IVL_MAX, 500)
            if "curve" in server.args:  # type: ignore[operator]
                peer.curve_serverkey, peer.curve_publickey, peer.curve_secretkey = key.encode(), public, secret
            peer.connect(address)
            peer.send(b"request")
        waiting = list(peers)

        def all_answered() -> bool:
            for peer in list(waiting):
                if peer.poll(0):
                    waiting.remove(peer)
                    peer.close(0)  # makes room for another
                else:  # as nblb's lines do after a cut: what was on its way is lost with the connection
                    with contextlib.suppress(zmq.Again):
                        peer.send(b"request", zmq.NOBLOCK)
            return not waiting

        wait_until(all_answered, 90, "all answers", every_s=1.0)
        assert end_of(server)[2] == "16"
    finally:
        context.destroy(0)
