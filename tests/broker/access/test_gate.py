"""The gate over real connections with keys: who gets in, as whom, and who is put out."""

from __future__ import annotations

import json
import socket
import time
from dataclasses import replace
from typing import Any

import msgspec
import pytest
import zmq

from nblb.access.connection_file import ConnectionFile
from nblb.access.key_store import key_mark
from nblb.errors import NotAllowed
from nblb.launch import one_shot
from nblb.protocol.blob_names import blob_name
from nblb.protocol.framing import Payload
from nblb.protocol.messages import (
    Answer,
    Ask,
    Group,
    Heartbeat,
    Hello,
    HubHello,
    OpenJob,
    Refused,
    RunTask,
    StopHub,
    SubmitTask,
    TaskAccepted,
    TaskEnded,
    TaskFinished,
    TaskRejected,
    Welcome,
    WorkerStarted,
)
from nblb.transport.curve.enrol import join
from nblb.transport.curve.keys import new_key_pair
from tests.broker.access.conftest import Guarded, ask
from tests.waiting import wait_until

HELLO = Hello(client="c", user="somebody-else", host="h")
HUB = HubHello(
    hub="0a0b0c0d-7-1234",
    name="any",
    host="h",
    pid=7,
    python=(3, 11),
    cloudpickle="3",
    groups=(Group(workers=1),),
    functions=("f",),
)


def task(name: str, **more: Any) -> SubmitTask:
    return SubmitTask(task=name, name="f", function="", payload=Payload((b"p",)), **more)


def test_the_user_is_the_keys_name(lab: Guarded) -> None:
    line = lab.dial(lab.join("anna"))
    (welcome,) = ask(line, HELLO, until=Welcome)
    assert welcome.user == "anna"
    ask(line, task("t1"), task("t2", user="anna"), until=TaskAccepted)
    (rejected,) = ask(line, task("t3", user="bob"), until=TaskRejected)
    assert (rejected.kind, rejected.task) == ("NotAllowed", "t3")
    assert "'anna' may not act for 'bob'" in rejected.reason
    assert {record.user for record in lab.scheduler.state.records.values()} == {"anna"}  # type: ignore[attr-defined]


def test_an_admin_may_act_for_others_and_that_is_recorded(lab: Guarded) -> None:
    line = lab.dial(lab.join("root", "admin"))
    ask(line, HELLO, until=Welcome)
    ask(line, task("t1", user="bob"), until=TaskAccepted)
    assert lab.scheduler.state.records["t1"].user == "bob"  # type: ignore[attr-defined]
    acted = [line for line in audit(lab) if line["event"] == "act-for"]
    assert [(line["by"], line["user"], line["id"]) for line in acted] == [("root", "bob", "t1")]


def test_an_unknown_key_is_refused_in_words(lab: Guarded) -> None:
    pair = new_key_pair()
    stranger = replace(lab.join("anna"), public_key=pair.public, secret_key=pair.secret)
    begun = time.monotonic()
    (refused,) = ask(lab.dial(stranger), HELLO, until=Refused)
    assert time.monotonic() - begun < 2.0
    assert "does not know the key" in refused.reason
    wait_until(lambda: any(line.get("what", "").startswith("unknown key") for line in audit(lab)))


def test_another_server_key_is_noticed(lab: Guarded) -> None:
    deceived = replace(lab.join("anna"), server_key=new_key_pair().public)
    (refused,) = ask(lab.dial(deceived), HELLO, until=Refused)
    assert "has another key than" in refused.reason


def test_a_party_without_a_key_gets_nothing(lab: Guarded) -> None:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    plain = context.socket(zmq.DEALER)
    events = plain.get_monitor_socket(zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL | zmq.EVENT_HANDSHAKE_SUCCEEDED)
    plain.connect(lab.balancer.doors.addresses["clients_remote"])
    plain.send(b'{"toLB": "GETTASK", "taskid": "x"}')
    assert events.poll(5000)
    assert int.from_bytes(events.recv_multipart()[0][:2], "little") == zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    assert not plain.poll(100)
    plain.close(0)
    context.destroy(0)


def test_an_invitation_works_once_and_for_nothing_else(lab: Guarded) -> None:
    line = lab.invite("anna")
    join(line, "one")
    begun = time.monotonic()
    with pytest.raises(NotAllowed, match="used already"):
        join(line, "two")
    assert time.monotonic() - begun < 2.0
    assert line.rpartition("/")[2] not in (lab.parameters.state_dir / "access" / "keys.json").read_text()
    late = lab.invite("bob", lives_s=0.001)
    wait_until(lambda: lab.administer("parties", of="users")[-1]["name"] != "bob", 5.0, "the invitation is over")
    with pytest.raises(NotAllowed, match="expired"):
        join(late, "three")


def test_a_revoked_key_is_put_out_and_told_why(lab: Guarded) -> None:
    line = lab.dial(lab.join("anna"))
    ask(line, HELLO, until=Welcome)
    begun = time.monotonic()
    assert lab.administer("revoke", name="anna", of="users", reason="laptop lost") == 1
    wait_until(lambda: not (line.receive(0.05) or line.connected), 2.0, "the connection is cut")
    connections = line.connections
    wait_until(lambda: line.receive(0.05) or line.connections > connections, 5.0, "it has dialled again")
    (refused,) = ask(line, HELLO, until=Refused)
    assert time.monotonic() - begun < 4.0
    assert "'anna' was revoked (laptop lost)" in refused.reason
    assert not lab.scheduler.state.clients  # type: ignore[attr-defined]


def test_an_expired_key_is_told_so(lab: Guarded) -> None:
    line = lab.dial(lab.join("anna"))
    ask(line, HELLO, until=Welcome)
    lab.administer("set", name="anna", lives_s=0.01)
    wait_until(lambda: not (line.receive(0.05) or line.connected), 3.0)
    (refused,) = ask(line, HELLO, until=Refused)
    assert "has expired" in refused.reason


def test_a_viewer_looks_and_changes_nothing(lab: Guarded) -> None:
    line = lab.dial(lab.join("eve", "viewer"))
    ask(line, HELLO, until=Welcome)
    (answer,) = ask(line, Ask(request=1, topic="status"), until=Answer)
    assert answer.value["name"] == "lab"
    (rejected,) = ask(line, task("t"), until=TaskRejected)
    assert "viewer's, which may look and change nothing" in rejected.reason


def test_the_task_of_another_user_is_out_of_reach(lab: Guarded) -> None:
    anna, bob = lab.dial(lab.join("anna")), lab.dial(lab.join("bob"))
    ask(anna, HELLO, until=Welcome)
    ask(bob, HELLO, until=Welcome)
    ask(anna, OpenJob(job="j", name="sweep", items=0), task("t1", job="j"), until=TaskAccepted)
    from nblb.protocol.messages import CancelTask, FetchCall, FetchTask, ForgetJob, RetryFailed, StopAndKeep, TurnKnob

    asked = [
        CancelTask(request=1, task="t1"),
        CancelTask(request=2, job="j"),
        RetryFailed(request=3, task="t1"),
        FetchCall(request=4, task="t1"),
        ForgetJob(request=5, job="j"),
        StopAndKeep(request=6, task="t1"),
        TurnKnob(request=7, name="k", job="j"),
    ]
    answers = ask(bob, *asked, until=Answer, number=7)
    assert {answer.kind for answer in answers} == {"NotAllowed"}
    assert all("'anna'" in answer.error for answer in answers)
    stolen = [FetchTask(task="t1"), task("t1"), task("t2", depends=("t1",)), task("t3", job="j"),
              task("t4", parent="t1")]  # fmt: skip
    assert {message.kind for message in ask(bob, *stolen, until=TaskRejected, number=5)} == {"NotAllowed"}
    assert list(lab.scheduler.state.records) == ["t1"]  # type: ignore[attr-defined]


def test_a_hubs_key_cannot_submit_and_a_users_is_no_hub(lab: Guarded) -> None:
    hub, user = lab.join("gpu1", "hub"), lab.join("anna")
    (refused,) = ask(lab.dial(replace(hub, role="user"), hub=False), HELLO, until=Refused)
    assert "a hub's, with which only the tasks on that hub" in refused.reason
    as_hub = replace(user, role="hub")
    (refused,) = ask(lab.dial(as_hub), HUB, until=Refused)
    assert "no hub's" in refused.reason


def test_a_hubs_key_submits_only_what_a_task_on_it_submits(lab: Guarded) -> None:
    anna, bob, file = lab.dial(lab.join("anna")), lab.dial(lab.join("bob")), lab.join("gpu1", "hub")
    ask(anna, HELLO, until=Welcome)
    ask(bob, HELLO, until=Welcome)
    ask(lab.dial(file), HUB, WorkerStarted(worker="w"), until=Welcome)
    ask(anna, task("t1"), until=TaskAccepted)
    wait_until(lambda: any(hub.in_flight for hub in hubs(lab)), 10.0, "the hub has anna's task")
    ask(bob, task("b1"), until=TaskAccepted)
    nested = lab.dial(replace(file, role="user"), hub=False)
    (refused,) = ask(nested, Hello(client="n", user="bob"), until=Refused)
    assert "only the tasks on that hub" in refused.reason
    (welcome,) = ask(nested, Hello(client="n", user="anna"), until=Welcome)
    assert welcome.user == "anna"
    said = [task("n1"), task("n2", parent="b1", parent_attempt=1), task("n3", parent="t1", user="bob")]
    assert {message.kind for message in ask(nested, *said, until=TaskRejected, number=3)} == {"NotAllowed"}
    ask(nested, task("n4", parent="t1", parent_attempt=1), until=TaskAccepted)
    assert lab.scheduler.state.records["n4"].user == "anna"  # type: ignore[attr-defined]
    from nblb.protocol.messages import FetchTask

    ask(nested, FetchTask(task="b1"), until=TaskRejected)


def test_a_hub_gets_no_blobs_and_results_but_those_of_its_orders(lab: Guarded) -> None:
    from nblb.protocol.messages import BlobMissing, BlobWanted, HoldBlob, PutBlob

    anna, bob, hub = lab.dial(lab.join("anna")), lab.dial(lab.join("bob")), lab.dial(lab.join("gpu1", "hub"))
    ask(anna, HELLO, until=Welcome)
    ask(bob, HELLO, until=Welcome)
    secret, code = blob_name([b"of anna"]), blob_name([b"of bob"])
    ask(anna, PutBlob(hash=secret, payload=Payload((b"of anna",))), task("a1"), until=TaskAccepted)
    ask(bob, PutBlob(hash=code, payload=Payload((b"of bob",))), until=object, number=0)
    ask(bob, task("b1", constants=(code,)), until=TaskAccepted)
    said = ask(hub, HUB, WorkerStarted(worker="w"), WorkerStarted(worker="v"), until=RunTask, number=2)
    orders = {order.task: order for order in said}
    hub.send([BlobWanted(hash=secret), BlobWanted(hash=code)])
    (held,) = ask(hub, until=HoldBlob)
    assert held.hash == code
    assert not [m for m in hub.receive(0.2) if isinstance(m, (HoldBlob, BlobMissing))]
    stolen = TaskFinished(task="b1", attempt=orders["b1"].attempt, follows=((0, "a1"),))
    hub.send([TaskFinished(task="a1", attempt=orders["a1"].attempt, payload=Payload((b"of anna",))), stolen])
    (ended,) = ask(anna, until=TaskEnded)
    assert ended.task == "a1"
    wait_until(lambda: any("follows a task" in str(line.get("reason")) for line in audit(lab)), 10.0)
    assert not [m for m in bob.receive(0.2) if isinstance(m, TaskEnded)]


def test_nobody_puts_code_under_the_hash_of_anothers(lab: Guarded) -> None:
    from nblb.protocol.messages import PutBlob

    anna, bob = lab.dial(lab.join("anna")), lab.dial(lab.join("bob"))
    ask(anna, HELLO, until=Welcome)
    ask(bob, HELLO, until=Welcome)
    name = blob_name([b"of anna"])
    begun = time.monotonic()
    (rejected,) = ask(
        bob,
        replace_function(task("b1"), name),
        PutBlob(hash=name, payload=Payload((b"of bob",)), name="fit"),
        until=TaskRejected,
    )
    assert time.monotonic() - begun < 2.0
    assert rejected.task == "b1"
    assert f"the bytes of fit do not have the hash '{name}'" in rejected.reason
    (accepted,) = ask(
        anna,
        replace_function(task("a1"), name),
        PutBlob(hash=name, payload=Payload((b"of anna",))),
        until=TaskAccepted,
    )
    assert accepted.task == "a1"
    assert lab.scheduler.state.blobs[name].payload.buffers == (b"of anna",)  # type: ignore[attr-defined]
    refused = [line for line in audit(lab) if line.get("what") == "bob PutBlob"]
    assert "do not have the hash" in refused[0]["reason"]
    assert "refused from bob : the bytes of fit" in lab.said.getvalue()


def replace_function(message: SubmitTask, name: str) -> SubmitTask:
    return msgspec.structs.replace(message, function=name)


def test_nobody_puts_a_result_under_the_key_of_anothers_call(lab: Guarded) -> None:
    anna, bob = lab.dial(lab.join("anna")), lab.dial(lab.join("bob"))
    hub = lab.dial(lab.join("gpu1", "hub"))
    ask(anna, HELLO, until=Welcome)
    ask(bob, HELLO, until=Welcome)
    (order,) = ask(hub, HUB, WorkerStarted(worker="w"), task_is_next(bob, "b1"), until=RunTask)
    hub.send([TaskFinished(task="b1", attempt=order.attempt, payload=Payload((b"planted",)))])
    ask(bob, until=TaskEnded)
    (order,) = ask(hub, task_is_next(anna, "a1"), until=RunTask)
    assert order.task == "a1", "anna's call is computed, with the same key"


def task_is_next(line: Any, name: str) -> Heartbeat:
    """Submit a task with a cache key; returns a message for the hub to go on with."""
    ask(line, task(name, cache="the key of a call"), until=TaskAccepted)
    return Heartbeat()


def test_a_party_names_no_file_but_its_own(lab: Guarded) -> None:
    from nblb.shared_files.transfer import FilePart

    line = lab.dial(lab.join("anna"))
    ask(line, HELLO, until=Welcome)
    root = lab.parameters.state_dir
    (root / "incoming" / ("f" * 44)).write_bytes(b"somebody else's")
    line.share(None, lambda _part: True)
    part = FilePart(str(root), "f" * 44, 0, 15)
    line.send([SubmitTask(task="t1", name="f", payload=Payload.of([part]))])
    line.share(None, None)
    ask(line, task("t2"), until=TaskAccepted)
    assert list(lab.scheduler.state.records) == ["t2"]  # type: ignore[attr-defined]


def hubs(lab: Guarded) -> list[Any]:
    return list(lab.scheduler.state.hubs.values())  # type: ignore[attr-defined]


def test_a_hub_has_the_name_of_its_key_and_an_id_of_its_own(lab: Guarded) -> None:
    file = lab.join("gpu1", "hub")
    ask(lab.dial(file), HUB, until=Welcome)
    (hub,) = lab.scheduler.state.hubs.values()  # type: ignore[attr-defined]
    assert (hub.name, hub.id) == ("gpu1", f"{HUB.hub}-{key_mark(file.public_key)}")
    other = lab.join("gpu2", "hub")
    ask(lab.dial(other), HUB, until=Welcome)  # it claims the same id
    assert {hub.name for hub in lab.scheduler.state.hubs.values()} == {"gpu1", "gpu2"}  # type: ignore[attr-defined]


def test_work_goes_through_and_a_drained_hub_stops(lab: Guarded) -> None:
    anna, hub = lab.dial(lab.join("anna")), lab.dial(lab.join("gpu1", "hub"))
    ask(anna, HELLO, until=Welcome)
    ask(hub, HUB, WorkerStarted(worker="w"), until=Welcome)
    ask(anna, task("t1"), until=TaskAccepted)
    (run,) = ask(hub, until=RunTask)
    assert (run.task, run.user) == ("t1", "anna")
    one_shot.retire_hub(lab.balancer.doors.addresses["clients_local"], "gpu1", "remove")
    ask(anna, task("t2"), until=TaskAccepted)
    hub.send([TaskFinished(task="t1", attempt=run.attempt, payload=Payload((b"r",)))])
    (ended,) = ask(anna, until=TaskEnded)
    assert bytes(ended.payload.buffers[0]) == b"r"
    (stop,) = ask(hub, until=StopHub)
    assert "removed" in stop.reason


def test_a_flood_of_handshakes_does_not_stop_the_core(lab: Guarded) -> None:
    host, _, port = lab.balancer.doors.addresses["clients_remote"].removeprefix("tcp://").rpartition(":")
    held = [socket.create_connection((host, int(port)), 5) for _ in range(200)]  # half open
    line = lab.dial(lab.join("anna"))
    ask(line, HELLO, until=Welcome)
    line.send([Heartbeat()])
    ask(line, until=Heartbeat)
    for each in held:
        each.close()


def test_json_requests_are_made_as_the_key(lab: Guarded) -> None:
    from nblb.transport.curve.keys import dial_plainly

    def request(file: ConnectionFile, said: dict[str, Any]) -> dict[str, Any]:
        socket = context.socket(zmq.REQ)
        socket.setsockopt(zmq.LINGER, 0)
        dial_plainly(socket, file.address())
        socket.send(json.dumps(said).encode())
        assert socket.poll(5000)
        answer: dict[str, Any] = json.loads(socket.recv())
        socket.close(0)
        return answer

    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    anna, bob, eve = lab.join("anna"), lab.join("bob"), lab.join("eve", "viewer")
    new = {"toLB": "NEWTASK", "taskname": "F", "taskdict": {}, "priority": 0}
    taskid = request(anna, new)["taskid"]
    assert lab.scheduler.state.records[taskid].user == "anna"  # type: ignore[attr-defined]
    assert "may not act for 'bob'" in request(anna, new | {"userid": "bob"})["error"]
    assert "belongs to 'anna'" in request(bob, {"toLB": "CANCELTASK", "taskid": taskid})["error"]
    assert "belongs to 'anna'" in request(bob, {"toLB": "GETTASKS", "tasksid": [taskid]})["error"]
    assert "viewer's" in request(eve, new)["error"]
    assert request(anna, {"toLB": "CANCELTASK", "taskid": taskid})["deleted"]
    context.destroy(0)


def audit(lab: Guarded) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (lab.parameters.state_dir / "access" / "audit.log").read_text().splitlines()]


def test_a_bug_in_judging_costs_one_message_and_not_the_core(lab: Guarded, monkeypatch: pytest.MonkeyPatch) -> None:
    from nblb.broker.access import rights

    line = lab.dial(lab.join("anna"))
    ask(line, HELLO, until=Welcome)
    judge = rights.of_client
    monkeypatch.setattr(rights, "of_client", lambda *_: 1 / 0)
    line.send([task("t1")])
    wait_until(lambda: lab.balancer.faults, 10.0, "the bug is met")
    monkeypatch.setattr(rights, "of_client", judge)
    ask(line, task("t2"), until=TaskAccepted)
    assert list(lab.scheduler.state.records) == ["t2"]  # type: ignore[attr-defined]
