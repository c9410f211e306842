"""Anything may be sent to a socket, the documented JSON or nonsense: core and hub still serve others."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
import zmq

import nblb as lb
from nblb import launch
from nblb.system.core_file import read_core_file
from tests.noise import throw_bytes
from tests.waiting import wait_until

if TYPE_CHECKING:
    from nblb.client.cluster import Cluster
    from nblb.parameters import Parameters


def twice(task: Any, **_: Any) -> Any:
    return 2 * task


@pytest.fixture
def open_cluster(settings: dict[str, Any]) -> Iterator[Cluster]:
    """One that also listens on TCP, on loopback."""
    settings["LB_SECURITY"] = "none"
    with lb.start(settings, monitor=False) as cluster:
        yield cluster


def addresses_of(parameters: Parameters) -> dict[str, str]:
    core = read_core_file(parameters.connection_file)
    assert core is not None
    return core.addresses


class JsonDoor:
    """Any language's client: a plain REQ socket and JSON."""

    def __init__(self, address: str) -> None:
        self.socket = zmq.Context.instance().socket(zmq.REQ)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.connect(address)

    def ask(self, request: Any) -> Any:
        self.socket.send(request if isinstance(request, bytes) else json.dumps(request).encode())
        assert self.socket.poll(10_000), f"no answer to {request!r}"
        return json.loads(self.socket.recv())

    def close(self) -> None:
        self.socket.close(0)


@pytest.fixture
def doors(open_cluster: Cluster, settings: dict[str, Any]) -> Iterator[dict[str, JsonDoor]]:
    addresses = addresses_of(launch.settle(settings))
    doors = {name: JsonDoor(addresses[name]) for name in ("clients", "clients_tcp", "health", "health_tcp")}
    yield doors
    for door in doors.values():
        door.close()


def test_the_json_door(doors: dict[str, JsonDoor]) -> None:
    lb.publish(lb.task(twice))
    for name in ("clients", "clients_tcp"):
        ask = doors[name].ask
        new = {"toLB": "NEWTASK", "taskname": "twice", "taskdict": 21, "priority": 0, "userid": "u"}
        task = ask(new)["taskid"]
        wait_until(lambda ask=ask, task=task: ask({"toLB": "GETTASK", "taskid": task})["progress"] == 100, 20, "it")  # type: ignore[misc]
        assert ask({"toLB": "GETTASK", "taskid": task})["result"] == 42
        assert ask({"toLB": "GETTASKS", "tasksid": [task, "x"]})[task]["result"] == 42
        assert ask({"toLB": "GETTASK", "taskid": "x"})["progress"] is None
        assert ask({"toLB": "CANCELTASK", "taskid": "x"}) == {"deleted": False, "from": None}
        assert ask({"toLB": "CANCELTASK", "taskid": task}) == {"deleted": True, "from": "done"}
    for name in ("health", "health_tcp"):
        ask = doors[name].ask
        workers = ask({"HEALTH": "GIVEMEWORKERSLIST"})
        assert len(workers) == 2
        assert {"workerip", "workerhealthport", "lasttasktime", "taskname"} <= set(next(iter(workers.values())))
        monitor = ask({"MONITOR": "WORKERS"})
        assert set(monitor) >= {"workers", "commandqueue", "priorityqueue"}
        assert ask({"MONITOR": "STATS"})["twice"]["totaltasks"] >= 1


BAD = [
    b"{", b"", b"\xff\xfe", b"[]", b"{}", b"null", b'{"toLB": 7}', b'{"toLB": "FLY"}', b'{"toLB": "NEWTASK"}',
    b'{"toLB": "NEWTASK", "taskname": 1, "taskdict": {}, "userid": "u"}', b'{"toLB": "GETTASKS", "tasksid": 1}',
    b'{"HEALTH": "FLY"}', b'{"MONITOR": []}', b"[" * 100_000, b'{"toLB": "GETTASK"}',
]  # fmt: skip


def test_every_bad_request_gets_one_sentence(doors: dict[str, JsonDoor]) -> None:
    for door in doors.values():
        for request in BAD:
            said = door.ask(request)
            assert set(said) == {"error"}
            assert isinstance(said["error"], str)


def test_noise_on_every_door(open_cluster: Cluster, settings: dict[str, Any], doors: dict[str, JsonDoor]) -> None:
    parameters = launch.settle(settings)
    chance = random.Random(1)
    addresses = addresses_of(parameters) | {
        path.name: f"ipc://{path}" for path in parameters.runtime_dir.glob("hub-*.health")
    }
    assert len(addresses) >= 5
    for address in addresses.values():
        throw_bytes(address, chance.randbytes(100_000))
        if not address.startswith("unix://"):  # where no ZeroMQ is spoken
            _frames_of_noise(address, chance)
    assert doors["health"].ask({"HEALTH": "GIVEMEWORKERSLIST"})
    assert lb.task(abs).submit(-3).result(60) == 3
    wait_until(lambda: len(open_cluster.workers()) == 2, 10, "both workers")


def _frames_of_noise(address: str, chance: random.Random) -> None:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    dealer = context.socket(zmq.DEALER)
    dealer.setsockopt(zmq.LINGER, 1000)
    dealer.connect(address)
    dealer.send(chance.randbytes(100_000))
    dealer.send_multipart([b"nblb1", b'[{"type":"Nonsense"}]'])
    dealer.send_multipart([b"nblb1", chance.randbytes(1000), b"", b"x"])
    dealer.send_multipart([b"", *[chance.randbytes(10) for _ in range(100)]])
    for bad in BAD:
        dealer.send_multipart([b"", bad])
    dealer.close()
    context.term()


def test_bad_parameters_are_refused_before_anything_starts(settings: dict[str, Any]) -> None:
    for key, value in (("LB_IPP", "x"), ("LB_HCREPPORT", "x"), ("WKHUB_WORKERS", [{"nWorkers": -1}])):
        with pytest.raises(lb.ParametersError, match=key):
            lb.start(settings | {key: value})


def test_a_core_does_not_listen_beyond_this_computer(settings: dict[str, Any]) -> None:
    with pytest.raises(lb.NblbError, match="LB_IP"):
        lb.start(settings | {"LB_SECURITY": "none", "LB_IP": "0.0.0.0"})


def test_sockets_are_private(cluster: Cluster, parameters: Parameters) -> None:
    assert parameters.runtime_dir.stat().st_mode & 0o777 == 0o700
    assert parameters.runtime_dir.stat().st_uid == os.getuid()
    assert parameters.connection_file.stat().st_mode & 0o777 == 0o600
