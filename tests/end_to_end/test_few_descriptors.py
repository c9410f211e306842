"""A core and a hub that may open 256 files, and a crowd of other programs that connect within a second."""

from __future__ import annotations

import contextlib
import json
import resource
import socket
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import psutil
import pytest
import zmq

import nblb as lb
from nblb import launch
from nblb.client.cluster import Cluster
from nblb.protocol.messages import Hello, Refused, client_to_core, core_to_client
from nblb.transport.local_line import LocalLine
from tests.waiting import wait_until

if TYPE_CHECKING:
    from nblb.parameters import Parameters

LIMIT = 256
CROWD = 260


@pytest.fixture
def cluster(parameters: Parameters) -> Iterator[Cluster]:
    """Its processes inherit a hard limit of 256 descriptors; this process keeps its own."""
    cluster = launch.start(parameters, monitor=False)
    try:
        wait_until(lambda: len(cluster.workers()) == 2, 20, "two workers")
        for pid in (cluster.status().core.pid, cluster.hubs()[0]["pid"]):
            psutil.Process(pid).rlimit(resource.RLIMIT_NOFILE, (LIMIT, LIMIT))
        yield cluster
    finally:
        launch.stop(parameters)


@contextlib.contextmanager
def crowd(address: str, request: dict[str, Any]) -> Iterator[list[zmq.Socket[bytes]]]:
    """So many ZeroMQ sockets, each with a request on its way."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    context.set(zmq.MAX_SOCKETS, 4 * CROWD)
    peers = [context.socket(zmq.REQ) for _ in range(CROWD)]
    try:
        for peer in peers:
            peer.setsockopt(zmq.LINGER, 0)
            peer.connect(address)
            peer.send(json.dumps(request).encode())
        yield peers
    finally:
        for peer in peers:
            peer.close()
        context.term()


def addresses_of(parameters: Parameters) -> dict[str, str]:
    addresses: dict[str, str] = json.loads(parameters.connection_file.read_text())["addresses"]
    return addresses


def answered(peers: list[zmq.Socket[bytes]]) -> int:
    return sum(1 for peer in peers if peer.poll(0))


def test_the_core_outlives_a_crowd(cluster: Cluster, parameters: Parameters) -> None:
    core = cluster.status().core
    addresses = addresses_of(parameters)
    with crowd(addresses["clients"], {"MONITOR": "STATS"}) as peers:
        wait_until(lambda: answered(peers) > 100, 20, "answers for those that are connected")
        assert lb.task(abs).map(range(-50, 0)).results(60) == list(range(50, 0, -1))
        with lb.connect(parameters) as another:  # nblb's own parties have descriptors of their own
            assert another.status().core.pid == core.pid
        wait_until(lambda: answered(peers) == CROWD, 60, "the others to get their turns", every_s=0.2)
    assert cluster.status().core.pid == core.pid
    log = (parameters.state_dir / "logs" / "core.log").read_text()
    assert f"its limit is {LIMIT}" in log


def test_the_hub_outlives_a_crowd(cluster: Cluster, parameters: Parameters) -> None:
    hub = cluster.hubs()[0]
    (path,) = parameters.runtime_dir.glob("hub-*.health")
    with crowd(f"ipc://{path}", {"HEALTH": "CHECKWORKERS", "workerid": []}) as peers:
        wait_until(lambda: answered(peers) == CROWD, 60, "all answers", every_s=0.2)
        assert lb.task(abs).map(range(-50, 0)).results(60) == list(range(50, 0, -1))
    assert [each["pid"] for each in cluster.hubs()] == [hub["pid"]]


def test_nblbs_own_parties_are_refused_with_a_sentence_and_come_in_later(
    cluster: Cluster, parameters: Parameters
) -> None:
    addresses = addresses_of(parameters)
    with contextlib.ExitStack() as stack:
        lines = []
        for number in range(CROWD):
            line = LocalLine(addresses["clients_local"], client_to_core, core_to_client)
            stack.callback(line.close)
            line.send([Hello(client=f"crowd-{number}", user="u")])
            lines.append(line)
        said: list[Any] = []

        def look() -> bool:
            for line in lines:
                said.extend(line.receive(0.0))
            return any(isinstance(one, Refused) for one in said)

        wait_until(look, 30, "a refusal")
        refused = next(one for one in said if isinstance(one, Refused))
        assert f"its limit is {LIMIT} (`ulimit -n`)" in refused.reason
        assert refused.is_for_now
        with pytest.raises(lb.LoadBalancerUnreachable, match="no file descriptor left"):
            lb.connect(parameters)
        assert lb.task(abs).map(range(-50, 0)).results(60) == list(range(50, 0, -1))
    wait_until(lambda: connects(parameters), 30, "room")


def test_silent_connections_make_room(cluster: Cluster, parameters: Parameters) -> None:
    """They greet nobody, as a port scanner does."""
    addresses = addresses_of(parameters)
    with contextlib.ExitStack() as stack:
        for name in ("clients", "clients_local"):
            for _ in range(CROWD):
                one = stack.enter_context(socket.socket(socket.AF_UNIX))
                one.setblocking(False)
                with contextlib.suppress(OSError):
                    one.connect(addresses[name].partition("://")[2])
        assert lb.task(abs).map(range(-50, 0)).results(60) == list(range(50, 0, -1))
        wait_until(lambda: connects(parameters), 30, "room")


def connects(parameters: Parameters) -> bool:
    with lb.connect(parameters) as another:
        return another.status().core.pid > 0
