"""Attaching to jobs: by name, by the same map, and after the core was away."""

from __future__ import annotations

import concurrent.futures
import threading
from collections.abc import Callable

import pytest

import nblb as lb
from nblb.client import task_decorator
from nblb.client.cluster import Cluster
from nblb.client.jobs.job import Job
from nblb.protocol.messages import FetchTask, OpenJob, SubmitTask
from tests.client.fake_core import FakeCore, FakeLine
from tests.waiting import wait_until


@task_decorator.task
def square(x: int) -> int:
    return x * x


@task_decorator.task
def picky(x: int) -> int:
    if x % 3 == 0:
        raise ValueError(f"{x} is divisible")
    return x


# ── found again ──


def test_the_same_map_again_attaches(make_cluster: Callable[[], Cluster], core: FakeCore) -> None:
    core.hold = True
    make_cluster()
    first = square.map(range(2000), job="sweep")
    wait_until(lambda: len(core.specs) == 2)
    core.run(next(iter(core.specs)))
    make_cluster()  # the kernel has restarted
    again = square.map(range(2000), job="sweep")
    assert again is not first
    assert again.job_id == first.job_id
    wait_until(lambda: again.counts().get("DONE") == 1024)
    core.run()
    assert again.results(60) == [n * n for n in range(2000)]
    assert len(core.specs) == 2
    assert len(core.said(SubmitTask)) == 2
    assert square.map(range(2000), job="sweep") is again, "in one kernel it is one object"


def test_another_map_takes_over_the_name(cluster: Cluster, core: FakeCore, caplog: pytest.LogCaptureFixture) -> None:
    first = square.map(range(10), job="sweep")
    second = square.map(range(11), job="sweep")
    assert first.job_id != second.job_id
    assert "takes over the name" in caplog.text
    assert lb.attach("sweep").job_id == second.job_id


def test_a_cancelled_job_is_not_taken_up(cluster: Cluster, core: FakeCore) -> None:
    core.hold = True
    first = square.map(range(10), job="sweep")
    wait_until(lambda: core.specs)
    first.cancel()
    assert first.wait(60)
    assert square.map(range(10), job="sweep").job_id != first.job_id


def test_a_name_that_another_kernel_has_opened_a_moment_before_is_joined(cluster: Cluster, core: FakeCore) -> None:
    theirs = square.map(range(10), job="sweep")
    opening = core.jobs.pop(theirs.job_id)
    asked = core._open_job

    def open_job(line: FakeLine, message: OpenJob) -> None:
        core.jobs.setdefault(opening.job, opening)  # it comes just before ours
        asked(line, message)

    core._on[OpenJob] = open_job
    assert square.map(range(10), job="sweep") is theirs
    assert len(core.said(SubmitTask)) == 1
    changed = square.map(range(11), job="sweep")
    assert changed.earlier is not None
    assert changed.earlier.job_id == theirs.job_id
    assert changed.results(60) == [n * n for n in range(11)]


def test_two_kernels_that_complete_one_job_submit_the_same_records(
    make_cluster: Callable[[], Cluster], core: FakeCore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nblb.client.jobs.attach.STILL_SUBMITTING_S", 0.0)
    core.hold = True
    make_cluster()
    square.map(range(3000), job="sweep")
    wait_until(lambda: len(core.specs) == 3)
    kept = dict(core.specs)
    core.specs.clear()  # none has come by the time that the others look
    for _ in range(2):
        make_cluster()
        square.map(range(3000), job="sweep")
    wait_until(lambda: core.specs.keys() == kept.keys())


def test_a_name_is_given_back_by_whoever_does_not_come_to_submit(cluster: Cluster, core: FakeCore) -> None:
    def interrupted(_line: FakeLine, message: OpenJob) -> None:
        core.jobs[message.job] = message
        raise_in_caller.set()

    raise_in_caller = threading.Event()
    core._on[OpenJob] = interrupted
    with pytest.MonkeyPatch.context() as patched:

        def wait_for(_pending: object, _timeout_s: float = 10.0) -> None:
            assert raise_in_caller.wait(60)
            raise KeyboardInterrupt

        patched.setattr(cluster.connection, "wait_for", wait_for)
        with pytest.raises(KeyboardInterrupt):
            square.map(range(10), job="sweep")
    wait_until(lambda: not core.jobs)
    assert not cluster.connection.session.questions
    assert not cluster.connection.session.jobs


def test_a_job_that_is_forgotten_while_it_is_taken_up_ends(make_cluster: Callable[[], Cluster], core: FakeCore) -> None:
    core.hold = True
    make_cluster()
    job = square.map(range(10), job="sweep")
    wait_until(lambda: core.specs)
    make_cluster()
    fetch = core._fetch

    def forgotten(line: FakeLine, message: FetchTask) -> None:
        core.jobs.clear()
        core.specs.clear()
        fetch(line, message)

    core._on[FetchTask] = forgotten
    found = lb.attach("sweep")
    assert found.job_id == job.job_id
    assert found.wait(60), "not for ever"
    with pytest.raises(lb.UnknownTask):
        found.results()


# ── anew ──


def test_a_fresh_map_computes_everything(cluster: Cluster, core: FakeCore, caplog: pytest.LogCaptureFixture) -> None:
    first = square.map(range(10), job="sweep")
    assert first.wait(60)
    fresh = square.map(range(10), job="sweep", fresh=True)
    assert fresh.job_id != first.job_id
    assert fresh.results(60) == first.results(60)
    assert [spec.items for spec in core.said(SubmitTask)] == [10, 10]
    assert fresh.earlier is not None
    assert "the same, computed anew" in repr(fresh.earlier)
    assert square.map(range(10), job="sweep") is fresh
    assert not square.map(range(10), fresh=True).earlier
    cached = square.options(cache=True)
    assert cached.map(range(3), fresh=True).wait(60)
    assert [spec.fresh for spec in core.said(SubmitTask)[-3:]] == [True] * 3
    with pytest.raises(TypeError, match="True or False"):
        square.map(range(3), fresh=3)  # type: ignore[arg-type]


def test_a_forgotten_job_is_computed_anew(cluster: Cluster, core: FakeCore) -> None:
    first = square.map(range(10), job="sweep")
    assert first.wait(60)
    first.forget()
    assert first.job_id not in core.jobs, "when it returns the core has done it"
    again = square.map(range(10), job="sweep")
    assert again.job_id != first.job_id
    assert again.results(60) == first.results()


def test_a_callback_may_forget_its_job(cluster: Cluster, core: FakeCore) -> None:
    core.hold = True
    job = square.map(range(3), job="sweep")
    job[0].add_done_callback(lambda _: job.forget())
    wait_until(lambda: core.specs)
    core.run()
    wait_until(lambda: not core.jobs)


def test_attach_from_a_fresh_process(make_cluster: Callable[[], Cluster], core: FakeCore) -> None:
    make_cluster()
    job = picky.map(range(10), job="sweep")
    assert job.wait(60)
    make_cluster()
    found = lb.attach("sweep")
    assert isinstance(found, Job)
    assert found is not job
    assert found.wait(60)
    assert found.counts() == {"DONE": 6, "FAILED": 4}
    assert (found.snapshot().before, job.snapshot().before) == (10, 0)
    assert found.results(errors="skip") == [1, 2, 4, 5, 7, 8]
    assert len(found.snapshot().failures) == 1
    assert (found.name, found._task_name) == ("sweep", "picky")
    assert core.said(FetchTask)[-1].job == job.job_id
    assert picky.map(range(10), job="sweep") is found
    with pytest.raises(lb.UnknownTask, match="did you mean sweep"):
        lb.attach("swep")


def test_every_map_says_which_code_it_was_also_when_it_is_attached(
    make_cluster: Callable[[], Cluster], core: FakeCore
) -> None:
    make_cluster()
    named, unnamed = square.map(range(3), job="sweep"), square.map(range(3))
    single = square.submit(3)
    assert (len(named.snapshot().code), named.snapshot().function) == (32, "")
    assert (unnamed.snapshot().code, unnamed.snapshot().function) == ("", single.snapshot().function)
    again = square.map(range(3))
    assert again.job_id != unnamed.job_id, "without a name each map is a job of its own"
    make_cluster()
    assert lb.attach(unnamed.name).snapshot().function == unnamed.snapshot().function != ""


@pytest.mark.parametrize("in_another_kernel", [False, True])
def test_attach_completes_what_its_submitter_could_not(
    make_cluster: Callable[[], Cluster], core: FakeCore, monkeypatch: pytest.MonkeyPatch, in_another_kernel: bool
) -> None:
    monkeypatch.setattr("nblb.client.jobs.attach.STILL_SUBMITTING_S", 0.0)
    core.hold = True
    make_cluster()
    square.map(range(3000), job="sweep")
    wait_until(lambda: len(core.specs) == 3)
    last = list(core.specs)[-1]
    del core.specs[last]  # the kernel died before it was sent
    make_cluster()
    found = lb.attach("sweep")
    assert found.counts() == {"QUEUED": 2048, "LOST": 952}
    with pytest.raises(lb.TaskLost, match="never submitted"):
        found[2999].result(60)
    if in_another_kernel:
        make_cluster()
    again = square.map(range(3000), job="sweep")
    assert (again is found) is not in_another_kernel
    wait_until(lambda: len(core.specs) == 3 or sum(spec.items for spec in core.specs.values()) == 3000)
    assert again.counts() == {"QUEUED": 3000}
    core.run()
    assert again.results(60) == [n * n for n in range(3000)]
    assert again[2999].result(0) == 2999 * 2999


def test_changed_code_is_another_job(cluster: Cluster) -> None:
    ids = set()
    for text in ("x + 1", "x + 1  # the same", "x + 2"):
        namespace: dict[str, Callable[..., int]] = {}
        exec(f"\n\ndef step(x):\n    return {text}", namespace)
        ids.add(task_decorator.task(namespace["step"]).map(range(3), job="steps").job_id)
    assert len(ids) == 2


# ── the core goes and comes ──


def test_a_job_goes_on_when_the_core_returns(cluster: Cluster, core: FakeCore) -> None:
    core.hold = True
    core.hang_up()
    wait_until(lambda: not cluster.connected)
    job = square.map(range(9000))
    assert job.snapshot().connected is False
    core.come_back()
    wait_until(lambda: len(core.specs) == 3)
    core.hang_up()
    core.run()  # and nobody hears of it
    core.come_back()
    assert job.results(60) == [n * n for n in range(9000)]
    assert cluster.connected
    assert job.snapshot().connected


def test_a_core_without_memory_is_told_again_only_what_it_had_not_accepted(cluster: Cluster, core: FakeCore) -> None:
    core.hold = True
    future = square.submit(1)
    wait_until(lambda: future.task_id in core.specs)
    wait_until(lambda: not cluster.connection.session.unaccepted)
    core.hang_up(forget=True)
    core.come_back()
    with pytest.raises(lb.UnknownTask, match="does not know task"):
        future.result(60)
    core.hold = False
    assert square.submit(2).result(60) == 4


def test_waiting_says_once_that_the_core_is_away(
    cluster: Cluster, core: FakeCore, caplog: pytest.LogCaptureFixture
) -> None:
    core.hang_up()
    wait_until(lambda: not cluster.connected)
    assert "closed the connection" in cluster.warning
    future = square.submit(5)
    for _ in range(3):
        with pytest.raises(concurrent.futures.TimeoutError):
            future.result(0.01)
    assert caplog.text.count("wait for its return") == 1
    core.come_back()
    assert future.result(60) == 25
    assert cluster.warning == ""
