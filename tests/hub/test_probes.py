"""The hub's answers to the Health Check, over the Unix socket and over TCP."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from typing import Any

import pytest
import zmq

from nblb.hub.probes import Probes
from nblb.parameters import load
from tests.waiting import wait_until


@pytest.fixture
def request_socket() -> Iterator[zmq.Socket[bytes]]:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    made = context.socket(zmq.REQ)
    made.setsockopt(zmq.LINGER, 0)
    made.setsockopt(zmq.IPV6, 1)
    yield made
    made.close()
    context.term()


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as one:
            one.bind(("::1", 0))
    except OSError:
        return False
    return True


def answered(probes: Probes, asker: zmq.Socket[bytes]) -> Any:
    asker.send(json.dumps({"HEALTH": "CHECKWORKERS", "workerid": ["w", "x"]}).encode())

    def look() -> int:
        probes.answer()
        return asker.poll(10)

    wait_until(look, 20, "an answer")
    return json.loads(asker.recv())


@pytest.mark.parametrize("ip", ["127.0.0.1", "::1"])
def test_over_tcp_at_either_kind_of_address(settings: dict[str, Any], request_socket: Any, ip: str) -> None:
    if ip == "::1" and not has_ipv6():
        pytest.skip("this computer has no ::1")
    probes = Probes(
        load({**settings, "LB_SECURITY": "none", "WKHUB_IP": ip, "WKHUB_HCPORT": 0}), "h", lambda: {"w": 100}
    )
    try:
        host = f"[{ip}]" if ":" in ip else ip
        request_socket.connect(f"tcp://{host}:{probes.port}")
        assert answered(probes, request_socket) == {"w": 100, "x": -1}
    finally:
        probes.close()


def test_a_socket_that_is_removed_is_made_again(settings: dict[str, Any], request_socket: Any) -> None:
    parameters = load(settings)
    parameters.state_dir.mkdir(parents=True, exist_ok=True)
    probes = Probes(parameters, "h", dict)
    try:
        path = parameters.runtime_dir / "hub-h.health"
        path.unlink()
        probes.keep(1e9)
        assert path.is_socket()
        request_socket.connect(probes.address)
        assert answered(probes, request_socket) == {"w": -1, "x": -1}
        assert probes.port == 0
    finally:
        probes.close()
    assert not path.exists()
