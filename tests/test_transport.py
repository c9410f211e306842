"""Doors and lines over real sockets: nothing blocks, nothing is dropped in silence, no noise deafens a door."""

from __future__ import annotations

import json
import os
import random
import socket as sockets
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
import zmq

from nblb.errors import NblbError
from nblb.framing import LARGE, VERSION, Payload
from nblb.messages import (
    EndCommitted,
    Heartbeat,
    Hello,
    HoldBlob,
    Message,
    SubmitTask,
    TaskAccepted,
    TaskEnded,
    TaskFinished,
    TaskRejected,
    TaskState,
    Welcome,
    client_to_core,
    core_to_client,
    core_to_hub,
    hub_to_core,
)
from nblb.parameters import Parameters, load
from nblb.security import loopback_address, private_folder, socket_address
from nblb.transport import Arrived, Doors, Line
from nblb.transport.doors import OUTBOX_BYTES
from nblb.transport.sockets import BATCH_MESSAGES, HIGH_WATER, batches

DEADLINE_S = 10.0
WELCOME = Welcome(core="c", epoch=1, name="t")


@pytest.fixture
def doors(parameters: Parameters) -> Iterator[Doors]:
    doors = Doors(parameters)
    doors.open()
    yield doors
    doors.close()


@pytest.fixture
def open_doors(settings: dict[str, Any]) -> Iterator[Doors]:
    """With TCP, on loopback."""
    doors = Doors(load({**settings, "LB_SECURITY": "none"}))
    doors.open()
    yield doors
    doors.close()


@pytest.fixture
def dial() -> Iterator[Callable[..., Line]]:
    lines: list[Line] = []

    def dial(address: str, hub: bool = False) -> Line:
        lines.append(Line(address, hub_to_core, core_to_hub) if hub else Line(address, client_to_core, core_to_client))
        return lines[-1]

    yield dial
    for line in lines:
        line.close()


@pytest.fixture
def request_socket() -> Iterator[Callable[..., zmq.Socket[bytes]]]:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    made: list[zmq.Socket[bytes]] = []

    def make(address: str, kind: int = zmq.REQ, **options: int) -> zmq.Socket[bytes]:
        made.append(context.socket(kind))
        made[-1].setsockopt(zmq.LINGER, 500)
        for name, value in options.items():
            made[-1].setsockopt(getattr(zmq, name), value)
        made[-1].connect(address)
        return made[-1]

    yield make
    for one in made:
        one.close()
    context.term()


def arrivals(doors: Doors, number: int = 1) -> list[Arrived]:
    """The next so many arrivals."""
    end, found = monotonic() + DEADLINE_S, list[Arrived]()
    while len(found) < number:
        assert monotonic() < end, f"only {len(found)} of {number} arrived"
        found += doors.receive(1)
    return found


def heard(line: Line, number: int = 1) -> list[Any]:
    end, found = monotonic() + DEADLINE_S, list[Any]()
    while len(found) < number:
        assert monotonic() < end, f"only {len(found)} of {number} were heard"
        found += line.receive(1)
    return found


def greet(doors: Doors, line: Line, hub: bool = False) -> str:
    """The address under which the doors know this line."""
    line.send([Heartbeat()] if hub else [Hello(client="c", user="u")])
    return arrivals(doors)[0].sender


def test_there_and_back(doors: Doors, dial: Callable[..., Line]) -> None:
    client, hub = dial(doors.addresses["clients"]), dial(doors.addresses["hubs"], hub=True)
    asker = dial(doors.addresses["health"])
    client.send([Hello(client="c", user="u"), SubmitTask(task="t", name="f", payload=Payload((b"p",)))])
    (arrived,) = arrivals(doors)
    assert arrived.sender.startswith("client:")
    assert [type(message) for message in arrived.messages or []] == [Hello, SubmitTask]
    assert doors.send(arrived.sender, [WELCOME, TaskAccepted(task="t")])
    assert heard(client, 2) == [WELCOME, TaskAccepted(task="t")]
    assert greet(doors, hub, hub=True).startswith("hub:")
    assert greet(doors, asker).startswith("health:")


def test_each_incarnation_has_its_own_address(doors: Doors, dial: Callable[..., Line]) -> None:
    addresses = {greet(doors, dial(doors.addresses["clients"])) for _ in range(3)}
    assert len(addresses) == 3


def test_large_buffers(open_doors: Doors, dial: Callable[..., Line]) -> None:
    payload = Payload((b"small", b"L" * (3 * LARGE), b"s", b"M" * LARGE))
    for address in (open_doors.addresses["hubs"], open_doors.addresses["hubs_tcp"]):
        hub = dial(address, hub=True)
        hub.send([TaskFinished(task="t", attempt=1, payload=payload)])
        (arrived,) = arrivals(open_doors)
        assert (arrived.messages or [])[0].payload == payload
        assert open_doors.send(arrived.sender, [HoldBlob(hash="h", payload=payload)])
        assert heard(hub)[0].payload == payload


def test_it_sleeps_exactly_until_the_time(doors: Doors) -> None:
    begin = monotonic()
    assert doors.receive(0.05) == []
    assert 0.05 <= monotonic() - begin < 2
    assert doors.receive(0) == []
    assert doors.receive(-1) == []


def test_it_can_be_woken(doors: Doors) -> None:
    waker = threading.Thread(target=doors.wake)
    waker.start()
    assert doors.receive(None) == []
    waker.join()
    doors.wake()
    doors.wake()
    assert doors.receive(None) == []
    doors.close()
    doors.wake()  # nobody there: no harm


def test_fair_to_all_doors_and_bounded(doors: Doors, dial: Callable[..., Line]) -> None:
    flood, hub = dial(doors.addresses["clients"]), dial(doors.addresses["hubs"], hub=True)
    greet(doors, flood)
    for _ in range(3000):
        flood.send([Heartbeat()])
    hub.send([Heartbeat()])
    end, turns = monotonic() + DEADLINE_S, list[list[Arrived]]()
    while not any(each.sender.startswith("hub:") for turn in turns for each in turn):
        assert monotonic() < end
        turns.append(doors.receive(1))
        assert len(turns[-1]) <= 1100
        flood.receive(0)


def test_batches() -> None:
    small: list[Message] = [TaskAccepted(task=str(n)) for n in range(2 * BATCH_MESSAGES + 5)]
    assert [len(batch) for batch in batches(small)] == [BATCH_MESSAGES, BATCH_MESSAGES, 5]
    large = [HoldBlob(hash="h", payload=Payload((b"x" * 700_000,))) for _ in range(3)]
    assert [len(batch) for batch in batches([small[0], *large, small[1]])] == [2, 1, 2]
    assert [len(batch) for batch in batches([HoldBlob(hash="h", payload=Payload((b"x" * 9_000_000,)))])] == [1]
    assert list(batches([])) == []


# ── peers that are gone or slow ──


def test_a_peer_that_is_gone_is_said_so(doors: Doors, dial: Callable[..., Line]) -> None:
    line = dial(doors.addresses["clients"])
    address = greet(doors, line)
    line.close()
    end = monotonic() + DEADLINE_S
    while doors.send(address, [Heartbeat()]):  # until ZeroMQ has noticed
        assert monotonic() < end
        doors.receive(0.01)
    assert doors.gone == [address]
    assert doors.untaken == [(address, Heartbeat())]
    assert not doors.send("client:" + "00" * 16, [Heartbeat()])


def test_a_slow_client_blocks_nobody_and_loses_nothing(doors: Doors, dial: Callable[..., Line]) -> None:
    slow, quick = dial(doors.addresses["clients"]), dial(doors.addresses["clients"])
    slow_address, quick_address = greet(doors, slow), greet(doors, quick)
    payload = Payload((b"r" * 1_000_000,))
    results = [TaskEnded(task=str(n), state=TaskState.DONE, payload=payload) for n in range(8 * HIGH_WATER)]
    begin = monotonic()
    taken = [doors.send(slow_address, [result]) for result in results]
    assert monotonic() - begin < DEADLINE_S
    withheld = [message for _, message in doors.untaken]
    assert withheld
    assert not all(taken)
    assert withheld == results[-len(withheld) :]  # what was taken is in order, without a hole
    assert doors._outboxes[slow_address].nbytes <= OUTBOX_BYTES + 2_000_000
    assert doors.send(slow_address, [TaskAccepted(task="x")])  # a small word still gets its place in the line
    assert doors.send(quick_address, [WELCOME])
    assert heard(quick) == [WELCOME]
    expected = len(results) - len(withheld) + 1
    said, end = list[Any](), monotonic() + DEADLINE_S
    while len(said) < expected:
        assert monotonic() < end
        doors.receive(0.001)
        said += slow.receive(0.001)
    assert said == [*results[: expected - 1], TaskAccepted(task="x")]
    assert doors.drained == [slow_address]
    assert doors._outboxes == {}


def test_a_hub_is_sent_all_of_it_however_slow(doors: Doors, dial: Callable[..., Line]) -> None:
    hub = dial(doors.addresses["hubs"], hub=True)
    address = greet(doors, hub, hub=True)
    blob = HoldBlob(hash="h", payload=Payload((b"b" * (OUTBOX_BYTES // 2),)))
    orders = [blob, *(EndCommitted(task=str(n), attempt=1) for n in range(5)), blob, blob, blob]
    for _ in range(HIGH_WATER):
        doors.send(address, [Heartbeat()])
    assert all(doors.send(address, [order]) for order in orders)
    said, end = list[Any](), monotonic() + DEADLINE_S
    while len(said) < HIGH_WATER + len(orders):
        assert monotonic() < end
        doors.receive(0.001)
        said += hub.receive(0.001)
    assert said[HIGH_WATER:] == orders


def test_a_client_that_takes_nothing_at_all_is_given_up(doors: Doors, dial: Callable[..., Line]) -> None:
    line = dial(doors.addresses["clients"])
    address = greet(doors, line)
    words = [TaskRejected(task="t", kind="TaskRejected", reason="r" * 100_000)] * 10
    end = monotonic() + DEADLINE_S
    while not doors.gone:
        assert monotonic() < end
        doors.send(address, words)
    assert doors.gone == [address]
    assert doors._outboxes == {}
    line.send([Heartbeat()])
    assert arrivals(doors)[0].sender == address  # it is still heard


def test_a_dropped_peer_has_nothing_waiting(doors: Doors, dial: Callable[..., Line]) -> None:
    address = greet(doors, dial(doors.addresses["clients"]))
    while address not in doors._outboxes:
        doors.send(address, [TaskEnded(task="t", state=TaskState.DONE, payload=Payload((b"r" * 100_000,)))])
    doors.drop(address)
    assert doors._outboxes == {}


def test_what_cannot_be_said_costs_only_itself(doors: Doors, dial: Callable[..., Line]) -> None:
    line = dial(doors.addresses["clients"])
    address = greet(doors, line)
    bad = Hello(client=object(), user="u")  # type: ignore[arg-type]
    assert not doors.send(address, [WELCOME, bad, WELCOME])
    assert heard(line, 2) == [WELCOME, WELCOME]
    assert doors.untaken == [(address, bad)]


# ── lines ──


def test_a_line_dials_for_ever_and_says_when_it_is_through(parameters: Parameters, dial: Callable[..., Line]) -> None:
    doors = Doors(parameters)
    doors.open()
    address = doors.addresses["clients"]
    doors.close()
    line = dial(address)
    line.send([Hello(client="c", user="u")])
    assert line.receive(0.05) == []
    assert line.connections == 0
    for connections in (1, 2):
        doors.open()
        end = monotonic() + DEADLINE_S
        while line.connections < connections:
            assert monotonic() < end
            line.receive(0.2)
        line.send([Heartbeat()])
        sender = arrivals(doors)[0].sender
        doors.send(sender, [WELCOME])
        assert heard(line) == [WELCOME]
        doors.close()
        while line.connected:
            assert monotonic() < end
            line.receive(0.2)


def test_a_line_waits_for_other_descriptors_too(doors: Doors, dial: Callable[..., Line]) -> None:
    line = dial(doors.addresses["clients"])
    greet(doors, line)
    read, write = os.pipe()
    try:
        assert line.receive(0.01, [read]) == []
        os.write(write, b"x")
        end = monotonic() + DEADLINE_S
        while not line.ready:
            assert monotonic() < end
            assert line.receive(DEADLINE_S, [read]) == []
        assert line.ready == [read]
        assert line.receive(0) == []
        assert line.ready == []
        assert line.fileno() >= 0
    finally:
        os.close(read)
        os.close(write)


def test_a_line_never_blocks_and_keeps_the_order(doors: Doors, dial: Callable[..., Line]) -> None:
    line = dial(doors.addresses["clients"])
    begin = monotonic()
    for n in range(3000):
        line.send([SubmitTask(task=str(n), name="f", payload=Payload((b"x" * 1000,)))])
    assert monotonic() - begin < DEADLINE_S
    assert line.unsent_bytes > 0
    tasks, end = list[str](), monotonic() + DEADLINE_S
    while len(tasks) < 3000:
        assert monotonic() < end
        line.receive(0)
        tasks += [message.task for each in doors.receive(0.01) for message in each.messages or []]
    assert tasks == [str(n) for n in range(3000)]
    assert line.unsent_bytes == 0


def test_the_last_words_of_a_closing_line_arrive(doors: Doors, dial: Callable[..., Line]) -> None:
    line = dial(doors.addresses["clients"])
    greet(doors, line)
    line.send([Heartbeat(at=7)])
    line.close()
    line.close()  # once more does nothing
    assert (arrivals(doors)[0].messages or [])[0].at == 7


def test_a_line_survives_noise(parameters: Parameters, dial: Callable[..., Line]) -> None:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    router = context.socket(zmq.ROUTER)
    path = private_folder(parameters.runtime_dir) / "noise"
    router.bind(f"ipc://{path}")
    line = dial(f"ipc://{path}")
    line.send([Heartbeat()])
    identity = router.recv_multipart()[0]
    for frames in ([b"x"], [VERSION, b"{"], [VERSION], [b"x" * 100_000] * 9):
        router.send_multipart([identity, *frames])
    router.send_multipart([identity, *core_to_client.encode([WELCOME])])
    assert heard(line) == [WELCOME]
    assert line.garbage == 4
    line.close()
    router.close(0)
    context.term()
    path.unlink(missing_ok=True)
    path.parent.rmdir()


def test_a_line_to_nowhere() -> None:
    with pytest.raises(NblbError, match="not an address"):
        Line("nonsense", client_to_core, core_to_client)


# ── JSON ──


@pytest.mark.parametrize("options", [{}, {"REQ_CORRELATE": 1, "REQ_RELAXED": 1}])
def test_a_json_request_gets_its_answer(
    open_doors: Doors, request_socket: Callable[..., zmq.Socket[bytes]], options: dict[str, int]
) -> None:
    for door in ("clients", "hubs", "health"):
        for name in (door, f"{door}_tcp"):
            asker = request_socket(open_doors.addresses[name], **options)
            for number in range(2):
                asker.send(json.dumps({"toLB": number}).encode())
                (arrived,) = arrivals(open_doors)
                assert arrived.sender.startswith(f"json-{door}:")
                assert arrived.json == {"toLB": number}
                open_doors.answer_json(arrived.sender, {"seen": number})
                assert json.loads(asker.recv()) == {"seen": number}


def test_a_bare_dealer_may_speak_json_too(doors: Doors, request_socket: Callable[..., zmq.Socket[bytes]]) -> None:
    dealer = request_socket(doors.addresses["health"], zmq.DEALER)
    dealer.send(b'{"MONITOR":"STATS"}')
    (arrived,) = arrivals(doors)
    doors.answer_json(arrived.sender, 1)
    assert dealer.recv_multipart() == [b"1"]


@pytest.mark.parametrize("request_bytes", [b"{", b"", b"\xff\xfe", b"[" * 100_000, b'{"a":NaN}', b"n" * 100_000])
def test_a_bad_json_request_has_somebody_to_answer(
    doors: Doors, request_socket: Callable[..., zmq.Socket[bytes]], request_bytes: bytes
) -> None:
    asker = request_socket(doors.addresses["clients"])
    asker.send(request_bytes)
    (arrived,) = arrivals(doors)
    assert arrived.json is None
    assert arrived.error is not None
    doors.answer_json(arrived.sender, {"error": str(arrived.error)})
    assert "JSON" in json.loads(asker.recv())["error"]


def test_an_answer_that_is_no_json_is_still_an_answer(
    doors: Doors, request_socket: Callable[..., zmq.Socket[bytes]]
) -> None:
    asker = request_socket(doors.addresses["clients"])
    asker.send(b"{}")
    doors.answer_json(arrivals(doors)[0].sender, object())
    assert "error" in json.loads(asker.recv())


# ── noise ──


def noise_frames(chance: random.Random) -> list[list[bytes]]:
    return [
        [chance.randbytes(100_000)],
        [b"\0" * 100_000],
        [b"", chance.randbytes(100_000)],
        [b"x" * 100, b"", b"{}"],
        [VERSION, b'[{"type":"Nonsense"}]'],
        [VERSION, chance.randbytes(1000), b"", b"x"],
        [VERSION],
        [b"nblb0", b"[]"],
        [b""],
        [b"", b""],
        [chance.randbytes(10) for _ in range(6000)],
    ]


def test_noise_deafens_no_door(
    open_doors: Doors, request_socket: Callable[..., zmq.Socket[bytes]], dial: Callable[..., Line]
) -> None:
    chance = random.Random(5)
    for name, address in open_doors.addresses.items():
        frames = noise_frames(chance)
        dealer = request_socket(address, zmq.DEALER)
        for each in frames:
            dealer.send_multipart(each)
        raw_noise(address, chance.randbytes(100_000))
        found = arrivals(open_doors, len(frames))
        dial(address, hub=name.startswith("hubs")).send([Heartbeat()])
        while found[-1].messages is None:
            found += arrivals(open_doors)
        assert found[-1].messages == [Heartbeat()]
        assert all(each.error is not None for each in found[:-1])
    assert open_doors.garbage >= len(open_doors.addresses) * len(noise_frames(chance))


def raw_noise(address: str, noise: bytes) -> None:
    """Bytes that are not even ZeroMQ's."""
    if address.startswith("ipc://"):
        line = sockets.socket(sockets.AF_UNIX)
        line.connect(address.removeprefix("ipc://"))
    else:
        host, _, port = address.removeprefix("tcp://").rpartition(":")
        line = sockets.create_connection((host, int(port)))
    with line:
        line.settimeout(5)
        try:
            line.sendall(noise)
        except OSError:
            pass  # it hung up, as it may


def test_a_frame_beyond_the_limit_costs_its_sender(settings: dict[str, Any], dial: Callable[..., Line]) -> None:
    doors = Doors(load({**settings, "LB_MAX_MESSAGE_MB": 1}))
    doors.open()
    try:
        big, other = dial(doors.addresses["clients"]), dial(doors.addresses["clients"])
        big.send([SubmitTask(task="t", name="f", payload=Payload((b"x" * 2_000_000,)))])
        greet(doors, other)
    finally:
        doors.close()


# ── who may listen, and where ──


def test_sockets_stand_in_a_private_folder(doors: Doors, parameters: Parameters) -> None:
    folder = parameters.runtime_dir
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {path.name for path in folder.iterdir()} == {"clients", "hubs", "health"}
    assert all(address.startswith("ipc://") for address in doors.addresses.values())
    doors.close()
    assert not folder.exists()


def test_tcp_is_on_loopback_and_any_free_port_is_told(open_doors: Doors) -> None:
    for door in ("clients", "hubs", "health"):
        address = open_doors.addresses[f"{door}_tcp"]
        assert address.startswith("tcp://127.0.0.1:")
        assert int(address.rpartition(":")[2]) > 0


@pytest.mark.parametrize("ip", ["0.0.0.0", "8.8.8.8", "::", "no.such.host.invalid"])
def test_beyond_loopback_is_refused_with_the_reason(settings: dict[str, Any], ip: str) -> None:
    doors = Doors(load({**settings, "LB_SECURITY": "none", "LB_IP": ip}))
    with pytest.raises(NblbError, match="LB_IP"):
        doors.open()
    assert doors.addresses == {}


def test_loopback_has_many_names() -> None:
    assert loopback_address("127.0.0.2", "LB_IP") == "127.0.0.2"
    assert loopback_address("localhost", "LB_IP") in ("127.0.0.1", "::1")
    with pytest.raises(NblbError, match="other computers can reach"):
        loopback_address("0.0.0.0", "LB_IP")


def test_a_taken_port_names_its_holder(settings: dict[str, Any], open_doors: Doors) -> None:
    port = int(open_doors.addresses["clients_tcp"].rpartition(":")[2])
    other = Doors(load({**settings, "LB_SECURITY": "none", "LB_NAME": "other", "LB_CLIENTPULLPORT": port}))
    with pytest.raises(NblbError, match=rf"LB_CLIENTPULLPORT: port {port} .* \(pid {os.getpid()}\)"):
        other.open()
    assert not other.parameters.runtime_dir.exists()
    file = open_doors.parameters.connection_file
    file.write_text(json.dumps({"name": "t", "pid": 77, "addresses": open_doors.addresses}))
    with pytest.raises(NblbError, match=r"by the core 't' \(pid 77\)"):
        other.open()
    file.unlink()


def test_sockets_of_a_core_that_was_killed_are_no_obstacle(parameters: Parameters, dial: Callable[..., Line]) -> None:
    code = (
        "import os, sys; from nblb.parameters import load; from nblb.transport import Doors\n"
        "doors = Doors(load(eval(sys.argv[1]))); doors.open(); os._exit(9)"
    )
    settings = parameters.as_dict()
    assert subprocess.run([sys.executable, "-c", code, repr(settings)], timeout=60).returncode == 9
    doors = Doors(parameters)
    doors.open()
    try:
        greet(doors, dial(doors.addresses["clients"]))
    finally:
        doors.close()


def test_private_folders(tmp_path: Path) -> None:
    wide = tmp_path / "wide"
    wide.mkdir(mode=0o777)
    wide.chmod(0o777)
    assert stat.S_IMODE(private_folder(wide).stat().st_mode) == 0o700
    link = tmp_path / "link"
    link.symlink_to(wide)
    with pytest.raises(NblbError, match="is a link or belongs to another account"):
        private_folder(link)
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(NblbError, match="cannot be made"):
        private_folder(file)


def test_a_path_too_long_for_a_socket(tmp_path: Path) -> None:
    with pytest.raises(NblbError, match="NBLB_RUNTIME_DIR"):
        socket_address(tmp_path / ("x" * 120))
