"""The Health Check against a core and hubs that the test scripts."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import zmq

from nblb.monitoring.health_check import HealthCheck
from nblb.system.private_folder import runtime_folder
from tests.waiting import wait_until

if TYPE_CHECKING:
    from nblb.parameters import Parameters

Answer = Callable[[dict[str, Any]], Any]


class Door:
    """A REP socket on a Unix socket of the test, which answers with the function it was given."""

    def __init__(self, path: str, answer: Answer) -> None:
        self.asked: list[dict[str, Any]] = []
        self._answer = answer
        self._socket = zmq.Context.instance().socket(zmq.REP)
        self._socket.bind(path)
        self._path = Path(path.removeprefix("ipc://"))
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while not self._end.is_set():
            if self._socket.poll(10):
                request = json.loads(self._socket.recv())
                self.asked.append(request)
                answer = self._answer(request)
                self._socket.send(answer if isinstance(answer, bytes) else json.dumps(answer).encode())
        self._socket.close(0)

    def close(self) -> None:
        self._end.set()
        self._thread.join()
        self._path.unlink(missing_ok=True)


class World:
    """A core that lists `workers`, a hub that knows `states`, and a clock that the test moves."""

    def __init__(self, parameters: Parameters) -> None:
        self.workers: dict[str, Any] = {}
        self.states: dict[str, Any] = {}
        self.now = 0.0
        self.output = io.StringIO()
        folder = runtime_folder(parameters)
        self.hub_door = f"ipc://{folder}/hub-1.health"
        self.core = Door(f"ipc://{folder}/health", self._core)
        self.hub = Door(self.hub_door, lambda request: {w: self.states.get(w, -1) for w in request["workerid"]})
        self.core_file = parameters.connection_file
        self.core_file.write_text(json.dumps({"addresses": {"health": f"ipc://{folder}/health"}}))
        quick = parameters.changed(SOCKET_TIMEOUT=200)
        self.check = HealthCheck(quick, self.output, clock=lambda: self.now)

    def _core(self, request: dict[str, Any]) -> Any:
        return {"LB": "OK"} if request["HEALTH"] == "DOWNWORKER" else self.workers

    def add(self, worker: str, **more: Any) -> None:
        self.workers[worker] = {"workerip": "127.0.0.1", "workerhealthport": 0, "lasttasktime": 0, "taskname": None}
        self.workers[worker] |= more

    def said(self) -> list[str]:
        lines = self.output.getvalue().splitlines()
        self.output.seek(0)
        self.output.truncate()
        return lines


@pytest.fixture
def world(parameters: Parameters) -> Iterator[World]:
    world = World(parameters)
    yield world
    world.core.close()
    world.hub.close()


def test_no_workers_is_the_documented_warning(world: World) -> None:
    assert not world.check.doHealthCheckTasks()
    assert world.said() == ["HC - WARNING : LB HAS NO WORKERS"]


def test_a_warning_is_repeated_ever_more_seldom_and_its_end_is_said_once(world: World) -> None:
    said = []
    for second in range(130):
        world.now = float(second)
        world.check.doHealthCheckTasks()
        said += [second for _ in world.said()]
    assert said == [0, 1, 3, 7, 15, 31, 63, 123]
    world.add("w1")
    world.states = {"w1": 100}
    assert world.check.doHealthCheckTasks()
    assert world.said() == ["HC - OK : 1 workers"]
    assert world.check.doHealthCheckTasks()
    assert world.said() == []


def test_states_come_from_the_hubs_themselves(world: World) -> None:
    world.add("free")
    world.add("busy", address=world.hub_door)
    world.add("unknown", address=world.hub_door)
    world.states = {"free": 100, "busy": 0}
    world.check.doHealthCheckTasks()
    assert world.check.checkWorkers() == {"free": -1, "busy": 0, "unknown": -1}  # 'free' names no door
    del world.workers["busy"], world.workers["unknown"]
    assert world.check.doHealthCheckTasks()  # then the private folder's doors are asked
    assert world.check.checkWorkers() == {"free": 100}


def test_a_silent_worker_is_declared_down_after_a_while(world: World) -> None:
    world.add("w1", address=f"{world.hub_door}-gone")
    assert not world.check.doHealthCheckTasks()
    assert world.said() == []
    world.now = 11.0
    assert not world.check.doHealthCheckTasks()
    assert world.said() == ["HC - w1 SEEMS DOWN (11s and state=-1)"]
    assert {"HEALTH": "DOWNWORKER", "workerid": "w1"} in world.core.asked


def test_a_worker_that_answers_again_is_not_declared_down(world: World) -> None:
    world.add("w1", address=world.hub_door)
    world.check.doHealthCheckTasks()
    world.now, world.states = 9.0, {"w1": 100}
    world.check.doHealthCheckTasks()
    world.now, world.states = 15.0, {}
    world.check.doHealthCheckTasks()
    assert world.said() == []


def test_no_core(world: World) -> None:
    world.core_file.unlink()
    assert not world.check.doHealthCheckTasks()
    assert world.said() == ["HC - CAN'T GET WORKER LIST : LB DOWN ??"]
    assert not world.check.downWorker("w1")
    assert world.said() == ["HC - CAN'T SEND DOWN WORKER TO LB: LB DOWN ??"]


def test_a_core_that_does_not_answer_or_answers_nonsense(world: World) -> None:
    world.core_file.write_text(json.dumps({"addresses": {"health": f"{world.hub_door}-nobody"}}))
    assert not world.check.doHealthCheckTasks()
    for nonsense in (b"\xff", b"[]", b'{"error": "no"}'):
        world.core_file.write_text(json.dumps({"addresses": {"health": "ipc://" + str(world.core_file) + ".x"}}))
        door = Door(f"ipc://{world.core_file}.x", lambda _, said=nonsense: said)  # type: ignore[misc]
        assert not world.check.doHealthCheckTasks()
        door.close()
    assert world.said() == ["HC - CAN'T GET WORKER LIST : LB DOWN ??"]


def test_colour_is_for_terminals_only(world: World) -> None:
    world.check.doHealthCheckTasks()
    assert "\x1b" not in world.output.getvalue()
    world.output.isatty = lambda: True  # type: ignore[method-assign]
    world.now = 5.0
    world.check.doHealthCheckTasks()
    assert "\x1b[33mHC - WARNING : LB HAS NO WORKERS\x1b[0m" in world.output.getvalue()


def test_startHC_blocks_until_stop(world: World) -> None:
    thread = threading.Thread(target=world.check.startHC, args=(0.01,))
    thread.start()
    wait_until(lambda: len(world.core.asked) > 3, 5, "some rounds")
    assert thread.is_alive()
    world.check.stop()
    thread.join(5)
    assert not thread.is_alive()
    assert world.said()[-1] == "EXITED Health Check"
