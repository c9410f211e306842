"""The latest definition of a job's function, and whether its code has changed."""

from __future__ import annotations

from collections.abc import Callable

import pytest

import nblb as lb
from nblb.client import task_decorator
from nblb.client.cluster import Cluster
from nblb.client.redefined import newer_task
from nblb.client.task_decorator import Task
from nblb.protocol.messages import RetryFailed
from tests.client.fake_core import FakeCore
from tests.waiting import wait_until


def cell(text: str) -> Task:
    """The task `step` as a cell with this body makes it."""
    namespace: dict[str, Callable[..., int]] = {}
    exec(f"def step(x):\n    {text}", namespace)
    return task_decorator.task(namespace["step"])


@pytest.mark.parametrize("name", ["steps", ""])
def test_the_code_of_a_name_has_changed(
    cluster: Cluster, core: FakeCore, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    step = cell("return 1 // x")
    job = step.map(range(3), job=name)
    assert job.wait(60)
    assert newer_task(job) is None
    same = cell("return 1 // x  # a comment, and the cell was run again")
    assert newer_task(job) is None
    assert job.retry_failed() == 1
    assert job.wait(60)
    assert "was redefined" not in caplog.text
    mended = cell("return 1 // x if x else 0")
    assert newer_task(job) is mended
    assert job.retry_failed() == 1
    assert "retry_failed() runs the old code; use retry_failed(with_=step) to run the new one" in caplog.text
    assert job.wait(60)
    assert job.retry_failed(with_=mended) == 1
    assert job.results(60) == [0, 1, 0]
    assert newer_task(job) is None, "it has run with it"
    assert cell("return x + 1") is newer_task(job)
    assert same is not step


def test_a_task_that_is_gone_is_not_offered(cluster: Cluster, core: FakeCore) -> None:
    job = cell("return 1 // x").map(range(3))
    assert job.wait(60)
    assert newer_task(job) is None
    cell("return x")
    assert newer_task(job) is None


@pytest.mark.parametrize("name", ["steps", ""])
def test_in_another_kernel(make_cluster: Callable[[], Cluster], core: FakeCore, name: str) -> None:
    make_cluster()
    first = cell("return 1 // x").map(range(3), job=name)
    assert first.wait(60)
    make_cluster()
    job = lb.attach(first.name)
    assert job is not first
    same = cell("return 1 // x")
    assert newer_task(job) is None
    mended = cell("return x")
    assert newer_task(job) is mended
    assert job.retry_failed(with_=mended) == 1
    wait_until(lambda: core.said(RetryFailed))
    assert job.results(60) == [0, 1, 0]
    assert same is not mended
