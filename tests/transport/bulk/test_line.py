"""The whole connection of a party; arrays both ways are in tests/end_to_end/test_several_computers.py."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

from nblb.access.key_store import key_mark
from nblb.protocol.messages import Welcome, client_to_core, core_to_client
from nblb.transport.bulk.line import RemoteLine
from nblb.transport.bulk.mirror import Mirror
from tests.transport.bulk.test_door import NAME, Served, served
from tests.waiting import wait_until

__all__ = ["served"]


@pytest.fixture
def line(served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RemoteLine]:
    """A line to nowhere, with a bulk door that answers."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "home"))
    line = RemoteLine(served.anna, client_to_core, core_to_client)
    yield line
    line.close()


def test_a_reply_that_a_send_has_noticed_ends_the_wait(served: Served, line: RemoteLine, tmp_path: Path) -> None:
    """ZeroMQ reports a message on its descriptor once, and each call on the socket takes the report away.

    Then a transfer stood still for AGAIN_S, several times in a large one.
    """
    name = key_mark(served.anna.public_key) + NAME
    (served.root / "blobs" / name).write_bytes(b"result")
    assert line._wait_for_bulk(Welcome(core="c", epoch=1, name="lab", files=str(served.root), bulk=served.door.port))
    bulk = line._bulk
    assert bulk is not None
    wait_until(lambda: line.receive(0.01) == [] and bulk.connected, 10.0, "the bulk door is connected")
    bulk.get(served.ticket(served.anna, name), os.open(tmp_path / "target", os.O_WRONLY | os.O_CREAT, 0o600))
    wait_until(lambda: int(bulk.socket.getsockopt(zmq.EVENTS)) & zmq.POLLIN, 10.0, "the reply has been noticed")
    begun = time.monotonic()
    line.receive(10.0)
    assert time.monotonic() - begun < 5.0
    assert not bulk.is_busy
    assert (tmp_path / "target").read_bytes() == b"result"


def test_what_an_ended_door_did_not_give_is_fetched_from_the_next(
    served: Served, line: RemoteLine, tmp_path: Path
) -> None:
    name = key_mark(served.anna.public_key) + NAME
    (served.root / "blobs" / name).write_bytes(b"result")
    line._mirror = Mirror(tmp_path / "mirror")
    said = served.ticket(served.anna, name)
    with socket.socket() as nobody:  # its port leads nowhere
        nobody.bind(("127.0.0.1", 0))
        line._wait_for_bulk(Welcome(core="c", epoch=1, name="lab", files="/f", bulk=nobody.getsockname()[1]))
        line._fetch(name, said, line._mirror.expect(0, 6))
        line._wait_for_bulk(Welcome(core="c", epoch=2, name="lab", files="/f", bulk=served.door.port))
    part = line._mirror.expect(0, 6)
    line._fetch(name, said, part)
    wait_until(lambda: line.receive(0.01) == [] and line._mirror is not None and line._mirror.is_there(part.name), 20.0)
    assert bytes(part.read()) == b"result"
