"""The Cluster object: its queries, its end, and the current cluster."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

import nblb as lb
from nblb.client import current, front_end, open_clusters, task_decorator
from nblb.client.cluster import Cluster
from nblb.client.scaling import shared_out
from nblb.errors import LoadBalancerUnreachable
from nblb.protocol.messages import ScaleHub
from tests.client.fake_core import FakeCore
from tests.waiting import wait_until


def test_rows_and_status(cluster: Cluster) -> None:
    status = cluster.status()
    assert (status.core.pid, status.name, status["name"], status.counts) == (1, "fake", "fake", {})
    (hub,) = cluster.hubs()
    assert (hub.name, hub["name"], hub.workers) == ("lab1", "lab1", 2)
    with pytest.raises(AttributeError, match="did you mean name"):
        _ = hub.names
    assert "lab1" in repr(hub)
    assert cluster.user == "me"
    assert repr(cluster) == "<Cluster fake: up, fake://core>"


def test_jobs(cluster: Cluster) -> None:
    task_decorator.task(abs).map([1, 2], job="mine").results(60)
    (row,) = lb.jobs()
    assert (row.name, row["items"], row.counts) == ("mine", 2, {"DONE": 2})


def test_snapshot(cluster: Cluster, core: FakeCore) -> None:
    first = cluster.snapshot()
    assert (first.connected, first.core_pid, first.owner, first.address) == (True, 1, "me", "fake://core")
    assert [(row.name, row.workers, row.busy) for row in first.hubs] == [("lab1", 2, 1)]
    core.hang_up()
    wait_until(lambda: not cluster.snapshot().connected)
    assert "closed the connection" in cluster.snapshot().warning
    heard: list[int] = []
    cluster._port.add_listener(cluster, lambda: heard.append(1))
    core.come_back()
    wait_until(lambda: heard and cluster.snapshot().connected)


def test_scale(cluster: Cluster, core: FakeCore) -> None:
    cluster.scale(3)
    cluster.scale(0, hub="other")
    assert [(message.hub, message.workers) for message in core.said(ScaleHub)] == [("h1", 3), ("other", 0)]
    for wrong in (-1, 1.5, True, "4"):
        with pytest.raises(ValueError, match="number of workers"):
            cluster.scale(wrong)  # type: ignore[arg-type]


def test_several_hubs_are_scaled_as_one() -> None:
    sizes = {"first": 2, "second": 1, "third": 3}
    assert shared_out(9, sizes) == {"first": 5}
    assert shared_out(4, sizes) == {"third": 1}
    assert shared_out(1, sizes) == {"third": 0, "second": 0, "first": 1}
    assert shared_out(6, sizes) == {}


class Launcher:
    def __init__(self) -> None:
        self.done: list[str] = []

    def stop(self) -> None:
        self.done.append("stop")

    def leave(self) -> None:
        self.done.append("leave")

    def add_hub(self, **options: Any) -> Any:
        return options

    def monitor_url(self) -> str:
        return "http://127.0.0.1:9000"


def test_with_and_stop(make_cluster: Callable[[], Cluster]) -> None:
    outer, inner = make_cluster(), make_cluster()
    open_clusters.use(outer)
    launcher = Launcher()
    inner._launcher = launcher
    with inner as entered:
        assert entered is inner is current.get()
        assert inner.monitor_url == inner.snapshot().monitor_url == "http://127.0.0.1:9000"
        assert inner.add_hub(workers=2) == {"workers": 2}
    assert current.get() is outer
    assert (launcher.done, inner.stopped) == (["leave"], True)
    outer._launcher = launcher
    outer.stop()
    outer.stop()
    assert launcher.done == ["leave", "stop"]
    assert outer.stopped
    assert open_clusters.known() is None
    assert "stopped" in repr(outer)
    with pytest.raises(lb.LoadBalancerUnreachable):
        outer.status()


def test_without_a_launcher(cluster: Cluster) -> None:
    assert cluster.monitor_url == ""
    with pytest.raises(lb.NblbError, match="nblb hub"):
        cluster.add_hub()


def test_pictures(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(front_end, "_pictures", {})
    future = task_decorator.task(abs).submit(-1)
    bundle = future._repr_mimebundle_(include=None, exclude=None)
    assert bundle["text/plain"].startswith("<TaskFuture abs")
    assert bundle["text/html"].startswith("<code>&lt;TaskFuture")
    for kind in ("task", "job", "cluster"):
        front_end.register(kind, lambda thing, kind=kind: {"text/plain": kind})
    assert future._repr_mimebundle_() == {"text/plain": "task"}
    assert task_decorator.task(abs).map([1])._repr_mimebundle_() == {"text/plain": "job"}
    assert cluster._repr_mimebundle_() == {"text/plain": "cluster"}
    front_end.register("task", None)
    assert "text/html" in future._repr_mimebundle_()


def test_buttons_work_while_the_main_thread_waits(
    cluster: Cluster, core: FakeCore, monkeypatch: pytest.MonkeyPatch
) -> None:
    core.hold = True
    monkeypatch.setattr(front_end, "_pictures", {})
    future = task_decorator.task(abs).submit(-5)
    wait_until(lambda: core.specs)
    front_end.register("pump", core.run)  # a click that lets the task run
    assert future.result(60) == 5
    job = task_decorator.task(abs).map([-1, -2])
    assert job.results(60) == [1, 2]
    assert [f.result() for f in lb.as_completed([task_decorator.task(abs).submit(3)], timeout=10)] == [3]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_makes_its_own_connection(cluster: Cluster) -> None:
    assert task_decorator.task(abs).submit(-1).result(60) == 1
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            code = 0 if task_decorator.task(abs).submit(-7).result(60) == 7 else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert task_decorator.task(abs).submit(-2).result(60) == 2


def test_when_a_cluster_closes_the_one_before_it_is_in_use_again(make_cluster: Callable[[], Cluster]) -> None:
    first, second, third = make_cluster(), make_cluster(), make_cluster()
    assert open_clusters.known() is third
    second.close()  # one in between changes nothing
    assert open_clusters.known() is third
    third.close()
    assert open_clusters.known() is first
    first.close()
    assert open_clusters.known() is None


def test_status_is_asked_anew_and_the_picture_follows_it(cluster: Cluster, core: FakeCore) -> None:
    cluster.snapshot()
    for workers in (3, 5, 2):
        core.status = {"workers": workers, "queued": 34}
        assert cluster.status().workers == workers
        assert (cluster.snapshot().workers, cluster.snapshot().queued) == (workers, 34)


def test_the_status_of_a_core_that_goes_away_is_an_error_at_once(cluster: Cluster, core: FakeCore) -> None:
    core.status = {"workers": 3, "queued": 34}
    cluster.status()
    core.hang_up()
    begun = time.monotonic()
    with pytest.raises(LoadBalancerUnreachable, match="closed the connection"):
        cluster.status()
    assert time.monotonic() - begun < 5.0  # not the ten seconds of a question
    gone = cluster.snapshot()
    assert (gone.connected, gone.known, gone.workers, gone.queued) == (False, True, 3, 34)


def test_after_a_stop_tasks_go_to_no_other_cluster(cluster: Cluster, core: FakeCore) -> None:
    cluster._launcher = SimpleNamespace(stop=lambda: None)  # type: ignore[assignment]
    cluster.stop()
    for use in (lambda: lb.task(abs).submit(-1), lambda: lb.task(abs).map([1]), lb.jobs, lb.executor):
        with pytest.raises(lb.LoadBalancerUnreachable, match="'fake', which this process used, was stopped"):
            use()


def test_where_another_cluster_is_open_tasks_go_to_that(make_cluster: Callable[[], Cluster]) -> None:
    first, second = make_cluster(), make_cluster()
    second._launcher = SimpleNamespace(stop=lambda: None)  # type: ignore[assignment]
    second.stop()
    assert current.get() is first
