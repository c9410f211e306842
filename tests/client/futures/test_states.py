"""Waits for a state of a task, with a core that holds its tasks, and with a real one."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest

import nblb as lb
from nblb.client.futures import states
from nblb.protocol.messages import TaskState
from tests.waiting import wait_until

if TYPE_CHECKING:
    from nblb.client.cluster import Cluster
    from tests.client.fake_core import FakeCore

NAPS = lb.task(time.sleep, name="nap")


@pytest.mark.parametrize("name", ["running", "RUNNING", TaskState.RUNNING])
def test_names_of_states(name: str) -> None:
    assert states.named(name) is TaskState.RUNNING


@pytest.mark.parametrize("wrong", ["runing", "", 60, None])
def test_wrong_names(wrong: str) -> None:
    with pytest.raises(ValueError, match=r"the states are BLOCKED, QUEUED, .*timeout="):
        states.named(wrong)


def test_a_timeout_is_false_and_an_end_without_the_state_too(cluster: Cluster, core: FakeCore) -> None:
    core.hold = True
    future = lb.task(abs).submit(-1)
    assert not future.wait(timeout=0.05)
    assert not future.wait("running", timeout=0.05)
    assert not future.wait("done", timeout=0.05)
    core.run()
    assert future.wait()
    assert not future.wait("failed"), "it will not come any more"
    assert future.wait("done")


def test_a_closed_connection_ends_the_wait(cluster: Cluster, core: FakeCore) -> None:
    core.hold = True
    future = lb.task(abs).submit(-1)
    found: list[object] = []
    thread = threading.Thread(target=lambda: found.append(future.wait("running", timeout=60)))
    thread.start()
    wait_until(lambda: future._listeners, 10, "the wait")
    cluster.close()
    thread.join(30)
    assert found == [False]


def test_the_listener_leaves_with_the_wait(cluster: Cluster, core: FakeCore) -> None:
    core.hold = True
    future = lb.task(abs).submit(-1)
    future.wait("running", timeout=0.01)
    assert not future._listeners
