"""The bulk door over real connections: whole files both ways, tickets, marks, and cuts."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from nblb.access.connection_file import ConnectionFile
from nblb.access.key_file import KeyFile
from nblb.access.key_store import key_mark
from nblb.access.tickets import ticket
from nblb.transport.bulk import door as door_module
from nblb.transport.bulk.chunks import CHUNK, PUT, packed
from nblb.transport.bulk.door import BulkDoor
from nblb.transport.bulk.transfers import BulkLine, Transfer
from nblb.transport.curve.keys import KeyPair, new_key_pair, new_pair
from tests.waiting import wait_until

NAME = "0" * 36
CONTENT = os.urandom(3 * CHUNK + 12345)


class Served(NamedTuple):
    """A door in a thread, its folder, and the connection files of two users."""

    keys: KeyFile
    root: Path
    door: BulkDoor
    anna: ConnectionFile
    bob: ConnectionFile

    def ticket(self, file: ConnectionFile, name: str) -> str:
        return f"{name}.{ticket(self.keys.ticket_key(), file.public_key, name)}"


def enrolled(keys: KeyFile, name: str, server: str) -> ConnectionFile:
    invitation, pair = new_key_pair(), new_key_pair()
    keys.store.invite(invitation.public, name, "user", 0.0, 1e12)
    keys.store.enrol(invitation.public, pair.public, 1.0)
    keys.save()
    return connection(pair, name, server)


def connection(pair: KeyPair, name: str, server: str) -> ConnectionFile:
    return ConnectionFile("lab", "user", name, "127.0.0.1", 1, 1, server, pair.public, pair.secret)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    keys = KeyFile(tmp_path)
    server, _ = keys.server_pair(new_pair)
    files = enrolled(keys, "anna", server), enrolled(keys, "bob", server)
    for folder in ("incoming", "blobs"):
        (tmp_path / folder).mkdir()
    door = BulkDoor(tmp_path, "127.0.0.1", 0)
    read, write = os.pipe()
    thread = threading.Thread(target=door.serve, args=(read,))
    thread.start()
    yield Served(keys, tmp_path, door, *files)
    os.close(write)
    thread.join(10)
    assert not thread.is_alive()
    door.close()
    os.close(read)


@pytest.fixture
def line(served: Served) -> Iterator[BulkLine]:
    line = BulkLine(served.anna, served.door.port)
    yield line
    line.close()


def ended(line: BulkLine) -> Transfer:
    wait_until(lambda: line.turn() or line.done, 20.0, "a transfer has ended", every_s=0.001)
    return line.done.pop()


def put(line: BulkLine, name: str, content: bytes, tmp_path: Path) -> Transfer:
    (tmp_path / "source").write_bytes(content)
    line.put(name, os.open(tmp_path / "source", os.O_RDONLY))
    return ended(line)


def get(line: BulkLine, name: str, tmp_path: Path) -> tuple[Transfer, bytes]:
    line.get(name, os.open(tmp_path / "target", os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600))
    return ended(line), (tmp_path / "target").read_bytes()


@pytest.mark.parametrize("size", [0, 1, CHUNK, len(CONTENT)])
def test_there_and_back(
    served: Served, line: BulkLine, tmp_path: Path, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(door_module, "DROP_AFTER_S", 0.01)
    name = key_mark(served.anna.public_key) + NAME
    if size:
        assert put(line, name, CONTENT[:size], tmp_path).problem == ""
    else:
        (served.root / "incoming" / name).touch()
    assert (served.root / "incoming" / name).read_bytes() == CONTENT[:size]
    transfer, content = get(line, served.ticket(served.anna, name), tmp_path)
    assert (transfer.problem, content) == ("", CONTENT[:size])
    line.drop(name)
    wait_until(lambda: line.turn() or not (served.root / "incoming" / name).exists(), 10.0)


def test_a_ticket_is_for_one_party(served: Served, line: BulkLine, tmp_path: Path) -> None:
    name = "f" * 44
    (served.root / "blobs" / name).write_bytes(b"bytes of bob")
    for said in (served.ticket(served.bob, name), f"{name}.", name, f"../{'f' * 41}", "../access/server.key"):
        assert "no ticket" in get(line, said, tmp_path)[0].problem
    assert get(line, served.ticket(served.anna, name), tmp_path)[1] == b"bytes of bob"
    assert "removed" in get(line, served.ticket(served.anna, "e" * 44), tmp_path)[0].problem


def test_a_party_writes_its_own_names_only(served: Served, line: BulkLine, tmp_path: Path) -> None:
    for name in (key_mark(served.bob.public_key) + NAME, "token", key_mark(served.anna.public_key) + "/../x"):
        assert "begin with the mark" in put(line, name, b"x", tmp_path).problem
    assert list((served.root / "incoming").iterdir()) == []
    name = key_mark(served.anna.public_key) + NAME
    assert put(line, name, b"first", tmp_path).problem == ""
    os.link(served.root / "incoming" / name, served.root / "blobs" / name)  # as the core does when it is named
    assert "has named" in put(line, name, b"other", tmp_path).problem
    assert (served.root / "blobs" / name).read_bytes() == b"first"
    (served.root / "incoming" / name).unlink()
    (served.root / "incoming" / name).symlink_to(served.root / "access" / "keys.json")
    assert put(line, name, b"x", tmp_path).problem


def test_strangers_and_the_revoked_get_nothing(served: Served, line: BulkLine, tmp_path: Path) -> None:
    stranger = BulkLine(connection(new_key_pair(), "eve", served.anna.server_key), served.door.port)
    wait_until(lambda: line.turn() or line.connected, 10.0)
    stranger.turn()
    assert not stranger.connected
    stranger.close()
    served.keys.store.revoke("anna", ["user"], "")
    served.keys.save()
    name = key_mark(served.anna.public_key) + NAME

    def is_cut() -> bool:
        line.socket.send(packed(PUT, name))
        line.turn()
        return not line.connected

    wait_until(is_cut, 2.0, "the connection of a revoked key is cut", every_s=0.05)
    assert list((served.root / "incoming").iterdir()) == []


def test_a_new_connection_goes_on_with_what_was_on_its_way(served: Served, line: BulkLine, tmp_path: Path) -> None:
    name = key_mark(served.anna.public_key) + NAME
    (tmp_path / "source").write_bytes(CONTENT)
    wait_until(lambda: line.turn() or line.connected, 10.0)
    line.put(name, os.open(tmp_path / "source", os.O_RDONLY))
    assert line.is_busy
    line._repeat()  # as if all of it had been lost
    assert ended(line).problem == ""
    assert (served.root / "incoming" / name).read_bytes() == CONTENT


def test_a_port_that_is_taken(served: Served, tmp_path: Path) -> None:
    from nblb.errors import NblbError

    with pytest.raises(NblbError, match="WKHUB_LBPORT"):
        BulkDoor(tmp_path, "127.0.0.1", served.door.port)
