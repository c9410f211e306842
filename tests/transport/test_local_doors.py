"""The plain Unix sockets: greeting, dialling again, and peers that have gone."""

from __future__ import annotations

import socket
from pathlib import Path
from time import monotonic

import pytest

from nblb.protocol.framing import VERSION
from nblb.protocol.messages import Ask, Heartbeat, client_to_core, core_to_client
from nblb.transport.dialing import best_address, dial, local_address
from nblb.transport.doors import Doors
from nblb.transport.line import Line
from nblb.transport.local_line import LocalLine
from nblb.transport.packets import GREETING_BYTES, Inflow, Outflow
from nblb.transport.sockets import TURN_WORDS
from tests.transport.parties import DEADLINE_S, WELCOME, arrivals, greet, heard
from tests.waiting import wait_until

IDENTITY = b"i" * (GREETING_BYTES - len(VERSION))


def connected(doors: Doors, said: bytes) -> socket.socket:
    """A connection to the clients' door that begins with these bytes."""
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(DEADLINE_S)
    sock.connect(doors.addresses["clients_local"].removeprefix("unix://"))
    sock.send(said)
    return sock


def say(sock: socket.socket, at: float) -> None:
    Outflow().write(sock, client_to_core.encode([Heartbeat(at=at)]))


def until_gone(doors: Doors) -> list[str]:
    end = monotonic() + DEADLINE_S
    while not doors.gone:
        assert monotonic() < end
        doors.receive(0.1)
    return doors.gone


def test_who_hangs_up_is_gone_at_once(doors: Doors) -> None:
    line = dial(doors.addresses["clients_local"], client_to_core, core_to_client)
    assert isinstance(line, LocalLine)
    address = greet(doors, line)
    line.send([Heartbeat(at=5)])
    line.close()
    assert [(each.sender, (each.messages or [])[0].at) for each in arrivals(doors)] == [(address, 5)]
    assert until_gone(doors) == [address]


def test_a_party_that_dials_again_is_the_same_and_not_gone(doors: Doors) -> None:
    first = connected(doors, VERSION + IDENTITY)
    say(first, 1)
    address = arrivals(doors)[0].sender
    again = connected(doors, VERSION + IDENTITY)
    say(again, 2)
    assert arrivals(doors)[0].sender == address
    doors.receive(0)
    assert doors.gone == []
    assert doors.send(address, [WELCOME])
    header = Inflow(1 << 20).read(again, 1)[0].header
    assert core_to_client.decode([VERSION, header]) == [WELCOME]
    assert first.recv(1) == b""
    first.close()
    again.close()


def test_a_slow_greeting_is_a_greeting(doors: Doors) -> None:
    sock = connected(doors, b"")
    for byte in VERSION + IDENTITY:
        sock.send(bytes([byte]))
        assert doors.receive(0.01) == []
    say(sock, 3)
    assert (arrivals(doors)[0].messages or [])[0].at == 3
    sock.close()


@pytest.mark.parametrize("noise", [b"GET / HTTP/1.1\r\n\r\n", b"\xff\0\0\0\0\0\0\0\x01\x7f", b"n", b""])
def test_who_greets_otherwise_is_shown_out(doors: Doors, noise: bytes) -> None:
    sock = connected(doors, noise)
    if len(noise) < 2:
        sock.shutdown(socket.SHUT_WR)
    end = monotonic() + DEADLINE_S
    while doors.receive(0.01) == [] and sock.fileno() >= 0:
        assert monotonic() < end
        sock.setblocking(False)
        try:
            assert sock.recv(1) == b""
            break
        except BlockingIOError:
            continue
        except ConnectionResetError:  # it left with our words unread
            break
    assert doors.gone == []
    sock.close()


def test_another_version_is_told_so(doors: Doors) -> None:
    sock = connected(doors, b"nblb9" + IDENTITY)
    (arrived,) = arrivals(doors)
    assert arrived.sender == f"client:{IDENTITY.hex()}"
    assert "another version" in str(arrived.error)
    sock.close()


def test_a_packet_that_is_none_costs_its_sender_the_connection(doors: Doors) -> None:
    sock = connected(doors, VERSION + IDENTITY + b"\xff" * 100)
    assert until_gone(doors) == [f"client:{IDENTITY.hex()}"]
    assert doors.garbage == 1
    sock.close()


def test_a_header_that_is_none_costs_only_itself(doors: Doors) -> None:
    sock = connected(doors, VERSION + IDENTITY)
    Outflow().write(sock, [VERSION, b"{"])
    say(sock, 4)
    found = arrivals(doors, 2)
    assert found[0].error is not None
    assert (found[1].messages or [])[0].at == 4
    sock.close()


def test_which_line_leads_where() -> None:
    addresses = {"clients": "ipc:///f/clients", "clients_local": "unix:///f/clients.local", "hubs_tcp": "tcp://x:1"}
    assert best_address(addresses, "clients") == local_address("/f", "clients")  # type: ignore[arg-type]
    assert best_address(addresses, "clients", zeromq=True) == "ipc:///f/clients"
    assert best_address(addresses, "hubs") == "tcp://x:1"
    assert best_address(addresses, "health") == ""
    line = dial("tcp://127.0.0.1:1", client_to_core, core_to_client)
    assert isinstance(line, Line)
    line.close()


def test_a_turn_is_bounded_by_the_messages_in_it(doors: Doors) -> None:
    """Packets hold a thousand submits each: as many packets as one turn takes would keep everybody waiting."""
    lines = [dial(doors.addresses["clients_local"], client_to_core, core_to_client) for _ in range(12)]
    for line in lines:
        greet(doors, line)
    for line in lines:
        line.send([Heartbeat()] * 2048)
    sizes = []
    while sum(sizes) < 12 * 2048:
        sizes.append(sum(len(each.messages or []) for each in doors.receive(1)))
    assert max(sizes) < TURN_WORDS + 5000  # what one look at the last one's socket brings
    for line in lines:
        line.close()


def test_a_question_passes_by_what_waits_to_leave(doors: Doors) -> None:
    line = dial(doors.addresses["clients_local"], client_to_core, core_to_client)
    greet(doors, line)
    line.send([Heartbeat()] * 400_000)
    assert line.unsent_bytes > 1_000_000  # the core does not read
    line.send_ahead(Ask(request=1, topic="status"))
    kinds: list[type] = []
    end = monotonic() + 3 * DEADLINE_S
    while len(kinds) < 400_001:
        assert monotonic() < end
        kinds += [type(message) for each in doors.receive(0.01) for message in each.messages or []]
        line.receive(0)
    assert kinds.index(Ask) < 100_000
    assert line.unsent_bytes == 0
    line.close()


def test_a_flood_of_one_leaves_room_for_others(doors: Doors) -> None:
    flood, other = (LocalLine(doors.addresses["clients_local"], client_to_core, core_to_client) for _ in range(2))
    greet(doors, flood)
    address = greet(doors, other)
    for _ in range(2000):
        flood.send([Heartbeat()])
    other.send([Heartbeat()])
    assert address in {each.sender for each in doors.receive(1)}
    flood.close()
    other.close()


def test_lines_hear_each_other_again_after_the_core_was_another(doors: Doors) -> None:
    line = LocalLine(doors.addresses["clients_local"], client_to_core, core_to_client)
    greet(doors, line)
    doors.close()
    end = monotonic() + DEADLINE_S
    while line.connected:
        assert monotonic() < end
        line.receive(0.1)
    doors.open()
    line.send([Heartbeat(at=6)])
    while line.connections < 2:
        assert monotonic() < end
        line.receive(0.1)
    (arrived,) = arrivals(doors)
    doors.send(arrived.sender, [WELCOME])
    assert heard(line) == [WELCOME]
    line.close()


def test_a_silent_peer_is_dialled_again(tmp_path: Path) -> None:
    """The end of a dead tunnel still takes connections, and nothing comes out of it."""
    path = tmp_path / "dead"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
        dead.listen(8)
        line = LocalLine(f"unix://{path}", client_to_core, core_to_client)
        line.longest_silence_s = 0.05
        try:
            wait_until(lambda: line.receive(0.02) or line.connections >= 3, what="another connection")
        finally:
            line.close()


def test_a_line_without_a_limit_bears_silence(tmp_path: Path) -> None:
    path = tmp_path / "quiet"
    with socket.socket(socket.AF_UNIX) as quiet:
        quiet.bind(str(path))
        quiet.listen(8)
        line = LocalLine(f"unix://{path}", client_to_core, core_to_client)
        try:
            for _ in range(5):
                line.receive(0.02)
            assert (line.connected, line.connections) == (True, 1)
        finally:
            line.close()
