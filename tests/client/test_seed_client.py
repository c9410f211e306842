"""The seed's Client, against a socket with scripted answers."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq

from nblb import Client


class Door:
    """A ROUTER that answers each request with what `answer` makes of it."""

    def __init__(self, address: str) -> None:
        self.heard: list[Any] = []
        self.answer: Callable[[Any], Any] = lambda request: {"taskid": "t1"}
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.ROUTER)
        self._socket.bind(address)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while not self._stop.is_set():
            if self._socket.poll(20):
                sender, empty, body = self._socket.recv_multipart()
                self.heard.append(json.loads(body))
                said = self.answer(self.heard[-1])
                if said is not None:
                    self._socket.send_multipart([sender, empty, json.dumps(said).encode()])
        self._socket.close(0)
        self._context.term()

    def close(self) -> None:
        self._stop.set()
        self._thread.join(10)


@pytest.fixture
def door(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Door]:
    address = f"ipc://{tmp_path}/door"
    monkeypatch.setattr("nblb.client.seed_client.find_core", lambda parameters, zeromq: address)
    made = Door(address)
    yield made
    made.close()


@pytest.fixture
def client(door: Door) -> Iterator[Client]:
    made = Client()
    yield made
    made.close()


def test_send(client: Client, door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nblb.client.seed_client.account", lambda: "anna")
    assert client.sendTask("HELLO", {"x": 1}, 100, "bob") == {"taskid": "t1"}
    assert client.sendTask("HELLO", {"x": 1}).get("taskid") == "t1"
    assert door.heard == [
        {"toLB": "NEWTASK", "taskname": "HELLO", "taskdict": {"x": 1}, "priority": 100, "userid": "bob"},
        {"toLB": "NEWTASK", "taskname": "HELLO", "taskdict": {"x": 1}, "priority": 0, "userid": "anna"},
    ]
    door.answer = lambda request: {"error": "User has too many pending task (1000)"}
    assert client.sendTask("HELLO", {}) == {"error": "User has too many pending task (1000)"}
    for value in (object(), {1, 2}, b"bytes", float("nan")):  # which JSON has no form for
        assert "cannot be sent as JSON" in client.sendTask("HELLO", {"x": value})["error"]
    assert len(door.heard) == 3


def test_get_and_cancel(client: Client, door: Door) -> None:
    door.answer = lambda request: {"progress": 100, "result": "Hello John Doe !"}
    assert client.getTask("t1") == {"progress": 100, "result": "Hello John Doe !"}
    door.answer = lambda request: {name: {"progress": 0, "result": None} for name in request["tasksid"]}
    assert client.getTask(["t1", "t2"]) == {
        "t1": {"progress": 0, "result": None},
        "t2": {"progress": 0, "result": None},
    }
    assert client.getTask([]) == {}
    door.answer = lambda request: {"deleted": True, "from": "queue"}
    assert client.cancelTask("t1") == {"deleted": True, "from": "queue"}
    door.answer = lambda request: {"error": "'taskid' must be a text."}
    assert client.getTask(3) == {"progress": None, "result": None, "error": "'taskid' must be a text."}
    assert client.cancelTask(3) == {"deleted": False, "from": None, "error": "'taskid' must be a text."}  # type: ignore[arg-type]


def test_a_core_that_does_not_answer(client: Client, door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nblb.client.seed_client.LEAST_PATIENCE_MS", 10)
    client._parameters = client._parameters.changed(SOCKET_TIMEOUT=10)
    door.answer = lambda request: None
    answer = client.sendTask("HELLO", {})
    assert "No core answers at ipc://" in answer["error"]
    assert client.getTask("t1")["progress"] is None
    door.answer = lambda request: {"taskid": "late"}
    monkeypatch.setattr("nblb.client.seed_client.LEAST_PATIENCE_MS", 5000)
    assert client.sendTask("HELLO", {}) == {"taskid": "late"}
    asked = [request for request in door.heard if request["toLB"] == "NEWTASK"]
    assert len(asked) <= 2, "never asked twice"  # the first may have been given up before it was sent


def test_no_core(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NBLB_RUNTIME_DIR", str(tmp_path))
    assert "no core" in Client({"LB_NAME": "nowhere"}).sendTask("HELLO", {})["error"]
