"""Connections that name a role in their hello: the Monitor sends the orders of its viewers by them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from nblb.errors import NblbError, NotAllowed
from nblb.launch import one_shot
from nblb.protocol.framing import Payload
from nblb.protocol.messages import (
    Answer,
    Ask,
    CancelTask,
    DrainHub,
    ForgetJob,
    Hello,
    OpenJob,
    Refused,
    RemoveHub,
    RetryFailed,
    ScaleHub,
    SetPriority,
    StopCore,
    SubmitTask,
    TaskAccepted,
    TaskRejected,
    Welcome,
)
from tests.broker.access.conftest import Guarded, ask
from tests.broker.running import Running, hear

OF_TASKS = (
    CancelTask(request=1, task="t"),
    CancelTask(request=1, job="j"),
    RetryFailed(request=1, task="t"),
    SetPriority(request=1, priority=9.0, task="t"),
    ForgetJob(request=1, job="j"),
)
OF_HUBS = (
    ScaleHub(request=1, hub="h", workers=1),
    DrainHub(request=1, hub="h"),
    RemoveHub(request=1, hub="h"),
    StopCore(request=1),
)


@pytest.fixture
def address(parameters: Any) -> Iterator[str]:
    """A core of this computer alone, with a task and a job of the user "u"."""
    core = Running(parameters)
    try:
        line = core.client()
        line.send(
            [OpenJob(job="j", name="j", items=1), *(task(name, job=job) for name, job in (("t", ""), ("t2", "j")))]
        )
        assert hear(line) == [TaskAccepted(tasks=("t", "t2"))]
        yield core.balancer.doors.addresses["clients"]
    finally:
        core.end()


def task(name: str, **more: Any) -> SubmitTask:
    return SubmitTask(task=name, name="f", payload=Payload((b"p",)), **more)


def test_a_viewer_changes_nothing(address: str) -> None:
    for message in (*OF_TASKS, *OF_HUBS):
        with pytest.raises(NotAllowed, match="look and change nothing"):
            one_shot.order(address, message, "anna", "viewer")


def test_a_user_changes_its_own_and_no_hub(address: str) -> None:
    for message in OF_TASKS:
        with pytest.raises(NotAllowed, match="that belongs to 'u'"):
            one_shot.order(address, message, "bob", "user")
    for message in OF_HUBS:
        with pytest.raises(NotAllowed, match="only an administrator"):
            one_shot.order(address, message, "u", "user")
    assert one_shot.order(address, SetPriority(request=1, priority=9.0, task="t"), "u", "user") == 1
    assert one_shot.order(address, CancelTask(request=1, task="t"), "u", "user") == 1


def test_an_administrator_may_and_an_unknown_role_may_not(address: str) -> None:
    assert one_shot.order(address, CancelTask(request=1, job="j"), "bob", "admin") == 1
    with pytest.raises(NotAllowed, match="no role 'root'"):
        one_shot.order(address, CancelTask(request=1, task="t"), "anna", "root")
    with pytest.raises(NblbError, match="h"):
        one_shot.order(address, DrainHub(request=1, hub="h"), "bob", "admin")  # there is no such hub


def test_questions_are_free(address: str) -> None:
    assert one_shot.order(address, Ask(request=1, topic="status"), "eve", "viewer")["name"]


def test_of_keys_only_an_administrators_may_name_another_user(lab: Guarded) -> None:
    hello = Hello(client="c", user="bob", role="user")
    (refused,) = ask(lab.dial(lab.join("anna")), hello, until=Refused)
    assert "'anna' may not act for 'bob'" in refused.reason
    admin = lab.dial(lab.join("carl", "admin"))
    (welcome,) = ask(admin, hello, until=Welcome)
    assert welcome.user == "bob"
    (answer,) = ask(admin, StopCore(request=1), until=Answer)
    assert "only an administrator" in answer.error
    other = lab.dial(lab.join("dora", "admin"))
    ask(other, Hello(client="d", user="eve", role="viewer"), until=Welcome)
    (rejected,) = ask(other, task("t3"), until=TaskRejected)
    assert rejected.kind == "NotAllowed"
    log = (lab.parameters.state_dir / "access" / "audit.log").read_text()
    assert '"act-for"' in log
    assert '"bob"' in log
