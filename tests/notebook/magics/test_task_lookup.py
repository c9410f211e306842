from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from nblb.client.futures.task_future import TaskFuture
from nblb.errors import UnknownTask
from nblb.notebook.magics import task_lookup
from tests.notebook.fakes import FakeCluster

FUTURE = TaskFuture(None, "9" * 32, "fit", task_id=f"{'9' * 32}.3")  # type: ignore[arg-type]


@pytest.fixture
def cluster() -> FakeCluster:
    fake = FakeCluster()
    fake.tasks = [{"task": "aaaa11112222", "first": 0, "job": ""}, {"task": "bbbb11112222", "first": 5, "job": ""}]
    return fake


@pytest.mark.parametrize(
    ("spec", "task", "first"),
    [
        ("f", "9" * 32, 3),
        ("fs[-1]", "9" * 32, 3),
        ("aaaa11112222", "aaaa11112222", 0),
        ("bbbb11112222.5", "bbbb11112222", 5),
        ("a11112222", "aaaa11112222", 0),
        ("b11112222.5", "bbbb11112222", 5),
    ],
)
def test_variables_ids_and_their_ends(cluster: FakeCluster, spec: str, task: str, first: int) -> None:
    shell = SimpleNamespace(user_ns={"f": FUTURE, "fs": [1, FUTURE]})
    assert task_lookup.place(shell, cluster, spec) == {"task": task, "first": first}


@pytest.mark.parametrize(
    ("spec", "why"),
    [("11112222", "2 tasks end"), ("2222", "no task '2222'"), ("__import__('os')", "no task"), ("x", "no task")],
)
def test_what_is_no_task_or_several(cluster: FakeCluster, spec: str, why: str) -> None:
    with pytest.raises(UnknownTask, match=why):
        task_lookup.place(SimpleNamespace(user_ns={"x": 1}), cluster, spec)


def test_an_item_of_a_job_by_its_name(cluster: FakeCluster) -> None:
    cluster.attach = lambda name: {"sweep": [FUTURE]}[name]  # type: ignore[assignment, return-value]
    found: Any = task_lookup.future(SimpleNamespace(user_ns={}), cluster, "sweep[0]")
    assert found is FUTURE
    with pytest.raises(UnknownTask):
        task_lookup.future(SimpleNamespace(user_ns={}), cluster, "sweep[7]")
