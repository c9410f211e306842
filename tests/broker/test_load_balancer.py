"""The loop of the core: commit before send, one fault costs one message, and a slow peer delays no other."""

from __future__ import annotations

import json
import os
import random
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
import zmq

from nblb.broker import load_balancer
from nblb.broker.load_balancer import LoadBalancer
from nblb.errors import JournalLocked, NblbError, ParametersError
from nblb.host import boot_mark
from nblb.parameters import Parameters
from nblb.protocol.messages import (
    EndCommitted,
    FetchTask,
    Heartbeat,
    StopCore,
    SubmitTask,
    TaskAccepted,
    TaskEnded,
    TaskState,
)
from nblb.transport.line import Line
from tests.broker.running import DEADLINE_S, Running, asking, done, hear, task
from tests.waiting import wait_until

# ── turns ──


def test_a_task_goes_there_and_back(core: Running) -> None:
    client, hub = core.client(), core.hub()
    client.send([task("a"), task("b")])
    assert hear(client) == [TaskAccepted(tasks=("a", "b"))]
    orders = hear(hub, 2)
    hub.send([done(order) for order in orders])
    assert [message.task for message in hear(client, 2)] == ["a", "b"]
    assert hear(hub, 2) == [EndCommitted(task="a", attempt=1), EndCommitted(task="b", attempt=1)]


def test_nothing_is_said_before_it_is_kept(core: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    client, hub = core.client(), core.hub()
    story: list[Any] = []
    commit, send = core.balancer.journal.commit, core.balancer.doors.send

    def committing() -> None:
        pending = list(core.balancer.journal._pending)  # type: ignore[union-attr]
        commit()
        story.extend(("kept", type(entry).__name__) for entry in pending)

    def sending(to: str, messages: Any) -> bool:
        story.extend(("said", type(message).__name__) for message in messages)
        return send(to, messages)

    monkeypatch.setattr(core.balancer.journal, "commit", committing)
    monkeypatch.setattr(core.balancer.doors, "send", sending)
    client.send([task("a")])
    hear(client)
    hub.send([done(order) for order in hear(hub)])
    hear(client)
    hear(hub)
    for record, word in (("TaskKept", "TaskAccepted"), ("AttemptKept", "RunTask"), ("EndKept", "TaskEnded")):
        assert story.index(("kept", record)) < story.index(("said", word))
    assert story.index(("kept", "EndKept")) < story.index(("said", "EndCommitted"))


def test_one_commit_serves_a_whole_turn(core: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    client = core.client()
    commits: list[int] = []
    commit = core.balancer.journal.commit

    def counting() -> None:
        commits.append(len(core.balancer.journal._pending))  # type: ignore[union-attr]
        commit()

    monkeypatch.setattr(core.balancer.journal, "commit", counting)
    client.send([task(str(n)) for n in range(500)])
    assert hear(client) == [TaskAccepted(tasks=tuple(str(n) for n in range(500)))]
    assert 500 in commits


def test_what_breaks_on_one_message_goes_on_with_the_next(core: Running) -> None:
    client = core.client()
    client.send([SubmitTask(task="a", name="boom"), task("b")])
    assert hear(client) == [TaskAccepted(task="b")]
    assert core.balancer.faults == 1
    assert "a bug that this message finds" in core.said.getvalue()


def test_it_waits_for_the_deadline_and_for_nothing_else(core: Running) -> None:
    client = core.client()
    before = core.scheduler.ticks
    core.scheduler.deadline = monotonic() + 0.05
    client.send([Heartbeat()])  # this turn learns of the deadline … and its tick forgets it
    hear(client)
    wait_until(lambda: core.balancer._wait_s(monotonic()) > 0.2)  # until its files are checked
    assert core.scheduler.ticks - before <= 4, "with one for the maintenance after the last message"
    core.scheduler.deadline = 0.0
    assert core.balancer._wait_s(monotonic()) == 0.0


# ── starting and stopping ──


def test_the_connection_file(core: Running, parameters: Parameters) -> None:
    path = parameters.connection_file
    about = json.loads(path.read_text())
    assert path.stat().st_mode & 0o777 == 0o600
    assert about["pid"] == os.getpid()
    assert (about["name"], about["epoch"], about["durability"], about["security"]) == ("t", 1, "process", "on")
    assert about["host"] == socket.gethostname()
    assert about["python"] == list(sys.version_info[:2])
    assert about["addresses"] == core.balancer.doors.addresses
    assert {"clients", "hubs", "health", "clients_local"} < set(about["addresses"])
    core.end()
    assert core.error is None
    assert not parameters.runtime_dir.exists()
    assert "EXITED Load Balancer" in core.said.getvalue()


def test_a_restart_is_a_new_epoch_with_the_old_tasks(run: Callable[..., Running], parameters: Parameters) -> None:
    first = run(parameters)
    client = first.client()
    client.send([task("a")])
    hear(client)
    first.end()
    second = run(parameters)
    assert second.scheduler.policy.epoch == 2
    assert second.scheduler.policy.core == first.scheduler.policy.core
    assert [type(entry).__name__ for entry in second.scheduler.restored] == ["TaskKept"]


def test_it_can_be_started_again(core: Running) -> None:
    core.end()
    again = threading.Thread(target=core.balancer.startLB)
    again.start()
    assert core.balancer.ready.wait(DEADLINE_S)
    core.balancer.stop()
    again.join(DEADLINE_S)
    assert not again.is_alive()


def test_a_client_ends_it(core: Running) -> None:
    client = core.client()
    client.send([StopCore()])
    core.thread.join(DEADLINE_S)
    assert not core.thread.is_alive()
    assert "LB - STOPPING : it was asked for" in core.said.getvalue()


def test_a_second_core_is_refused_and_harms_nothing(
    core: Running, run: Callable[..., Running], parameters: Parameters
) -> None:
    second = run(parameters)
    assert isinstance(second.error, JournalLocked)
    assert f"the core 't' (pid {os.getpid()})" in str(second.error)
    assert parameters.connection_file.exists()
    client = core.client()
    client.send([task("a")])
    assert hear(client) == [TaskAccepted(task="a")]


def test_a_taken_port_lets_go_of_the_folder(run: Callable[..., Running], settings: dict[str, Any]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        wrong = run({**settings, "LB_SECURITY": "none", "LB_HCREPPORT": port})
        assert isinstance(wrong.error, NblbError)
        assert f"LB_HCREPPORT: port {port}" in str(wrong.error)
    assert run({**settings, "LB_SECURITY": "none"}).error is None


def test_without_durability(run: Callable[..., Running], settings: dict[str, Any]) -> None:
    core = run({**settings, "LB_DURABILITY": "none"})
    client = core.client()
    client.send([task("a")])
    assert hear(client) == [TaskAccepted(task="a")]
    assert core.scheduler.policy.durability == "none"
    core.end()
    assert run({**settings, "LB_DURABILITY": "none"}).scheduler.restored == []


def test_wrong_parameters_are_an_error_at_once() -> None:
    with pytest.raises(ParametersError, match="did you mean LB_IP"):
        LoadBalancer({"LB_IPP": "x"})


def test_an_address_of_another_computer_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(NblbError, match=r"listening on 192\.0\.2\.77 port"):
        LoadBalancer({**settings, "LB_IP": "192.0.2.77"}).startLB()


def test_it_says_what_it_was_started_with(core: Running) -> None:
    said = core.said.getvalue()
    assert said.startswith("Starting Load Balancer with the following settings:\n")
    assert "    LB_DURABILITY: process\n" in said


def test_the_state_folder_is_closed_for_good(core: Running, parameters: Parameters) -> None:
    core.end()
    db = sqlite3.connect(parameters.state_dir / "journal.sqlite")
    assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    db.close()
    assert not Path(f"{parameters.state_dir / 'journal.sqlite'}-wal").exists()


# ── peers ──


def test_results_wait_for_a_slow_client(core: Running) -> None:
    slow, hub = core.client(), core.hub()
    size = 500_000
    number = 400  # beside what waits in our outbox, ZeroMQ has room at both ends
    names = [f"{n}" for n in range(number)]
    slow.send([task(name) for name in names])
    orders = hear(hub, number)
    for order in orders:
        hub.send([done(order, b"r" * size)])
        hub.receive(0)
    wait_until(lambda: hub.receive(0) is not None and "IS SLOW" in core.said.getvalue(), DEADLINE_S, "a slow client")
    ended, end = set[str](), monotonic() + DEADLINE_S
    while len(ended) < number:
        assert monotonic() < end, f"{len(ended)} of {number}"
        ended |= {m.task for m in slow.receive(0.05) if isinstance(m, TaskEnded)}
        hub.receive(0)
    assert ended == set(names)


def test_a_result_whose_file_is_gone_is_told_as_lost(core: Running, parameters: Parameters) -> None:
    client, hub = core.client(), core.hub()
    client.send([task("a")])
    hear(client)
    hub.send([done(hear(hub)[0], b"r" * 100_000)])
    hub.receive(0)
    assert hear(client)[0].state is TaskState.DONE
    wait_until(lambda: core.scheduler.results["a"].payload.is_away, DEADLINE_S, "the result to leave memory")
    for path in (parameters.state_dir / "blobs").iterdir():
        path.unlink()
    client.send([FetchTask(task="a")])
    (ended,) = hear(client)
    assert ended.state is TaskState.LOST
    assert "cannot be read" in ended.failure.message
    assert "CANNOT SEND TaskEnded" in core.said.getvalue()
    assert [type(message) for _, message, _ in core.scheduler.unreadable_ones] == [TaskEnded]


def test_a_hub_whose_process_has_ended_is_known_to_be_dead(core: Running) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    here = boot_mark()
    for pid, mark, dead in ((process.pid, here, True), (os.getpid(), here, False), (process.pid, "another", False)):
        core.hub(pid, socket.gethostname(), mark).close()  # another computer may have an equal name
        client = core.client()
        core.scheduler.gone_ones.clear()

        def noticed(client: Line = client) -> bool:
            client.send([task(f"{monotonic()}")])  # an order to the hub that is not there
            hear(client)
            return bool(core.scheduler.gone_ones)

        wait_until(noticed, DEADLINE_S, "the hub to be missed")
        assert core.scheduler.gone_ones[0][1] is dead


# ── noise and JSON ──

BAD = [b"{", b"", b"\xff", b"[]", b"{}", b"null", b"3", b'{"toLB":1}', b'{"toLB":"FLY"}', b'{"HEALTH":[]}',
       b'{"MONITOR":"x"}', b'{"toLB":"NEWTASK"}', b'{"toLB":"GETTASK"}', b"[" * 100_000, b'{"a":NaN}']  # fmt: skip


def zeromq_addresses(core: Running) -> list[str]:
    return [address for name, address in core.balancer.doors.addresses.items() if not name.endswith("_local")]


def test_every_bad_request_gets_one_sentence(run: Callable[..., Running], settings: dict[str, Any]) -> None:
    core = run({**settings, "LB_SECURITY": "none"})
    for address in zeromq_addresses(core):
        with asking(address) as ask:
            for request in BAD:
                said = ask(request)
                assert set(said) == {"error"}
                assert said["error"].endswith(".")
    assert core.balancer.faults == 0
    client = core.client()
    client.send([task("a")])
    assert hear(client) == [TaskAccepted(task="a")]


def test_a_bug_in_the_door_is_answered_too(core: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> Any:
        raise RuntimeError("a bug")

    monkeypatch.setattr(load_balancer, "handle_json", broken)
    with asking(core.balancer.doors.addresses["clients"]) as ask:
        assert "log" in ask({"toLB": "GETTASK", "taskid": "x"})["error"]
    assert core.balancer.faults == 1


def test_noise_between_good_messages(core: Running) -> None:
    chance = random.Random(3)
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    for address in zeromq_addresses(core):
        dealer = context.socket(zmq.DEALER)
        dealer.setsockopt(zmq.LINGER, 1000)
        dealer.connect(address)
        dealer.send_multipart([b"nblb9", b"[]"])  # another version is answered, in case it understands
        assert b"Refused" in dealer.recv_multipart()[1]
        for _ in range(20):
            dealer.send(chance.randbytes(100_000))
            dealer.send_multipart([b"nblb1", chance.randbytes(100)])
        dealer.close()
    client, hub = core.client(), core.hub()
    client.send([task("a")])
    assert hear(client) == [TaskAccepted(task="a")]
    assert len(hear(hub)) == 1
    context.term()
    assert core.balancer.faults == 0
