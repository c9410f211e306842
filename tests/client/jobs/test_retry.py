"""Retried items: in the kernel that submitted them, in another one, and across a restart of the core."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import nblb as lb
from nblb.client import task_decorator
from nblb.client.cluster import Cluster
from nblb.protocol.messages import Answer, RetryFailed, SubmitTask
from tests.client.fake_core import FakeCore, FakeLine
from tests.waiting import wait_until


@task_decorator.task
def moody(x: int, lucky: str) -> int:
    """Multiples of 3 fail until the file is there."""
    if x % 3 == 0 and not Path(lucky).exists():
        raise OSError(f"{x} is out of luck")
    return x * x


@pytest.fixture
def lucky(tmp_path: Path) -> Path:
    return tmp_path / "lucky"


def luckless(lucky: Path, core: FakeCore, **how: int) -> lb.Job:
    """A job of 10 of which 0, 3, 6 and 9 have failed."""
    job = moody.map(range(10), lucky=str(lucky), job="moods", **how)
    assert job.wait(60)
    assert job.counts() == {"DONE": 6, "FAILED": 4}
    core.hold = True
    return job


def test_only_what_failed_runs_again(cluster: Cluster, core: FakeCore, lucky: Path) -> None:
    job = luckless(lucky, core)
    failed = job[3]
    assert isinstance(failed.exception(), lb.TaskFailed)
    assert job.retry_failed() == 4
    assert not job.done()
    assert job.counts() == {"DONE": 6, "QUEUED": 4}
    wait_until(lambda: core.again)
    assert list(core.again.values()) == [{0, 3, 6, 9}]
    again = job[3]
    assert again is not failed
    assert not again.done()
    lucky.touch()
    core.run()
    assert job.results(60) == [n * n for n in range(10)]
    assert again.result(0) == 9
    assert job.snapshot().failures == ()
    assert len(core.said(SubmitTask)) == 1
    assert job.retry_failed() == 0
    assert len(core.said(RetryFailed)) == 1


def test_one_item_of_those_that_failed_runs_again(cluster: Cluster, core: FakeCore, lucky: Path) -> None:
    job = luckless(lucky, core)
    assert job.retry_failed(items=[3, 4]) == 1, "4 has a result"
    assert job.counts() == {"DONE": 6, "QUEUED": 1, "FAILED": 3}
    wait_until(lambda: core.again)
    assert list(core.again.values()) == [{3}]
    lucky.touch()
    core.run()
    assert job[3].result(60) == 9
    assert job.retry_failed(items=[]) == 0
    assert job.retry_failed(items=-1) == 1
    with pytest.raises(IndexError, match="10 items, and 10 is not one of them"):
        job.retry_failed(items=10)
    wait_until(lambda: {9} in core.again.values())
    core.run()
    assert job[9].result(60) == 81
    assert job.counts() == {"DONE": 8, "FAILED": 2}
    assert [message.items for message in core.said(RetryFailed)] == [(3,), (9,)]


def test_what_fails_again_can_be_tried_again(cluster: Cluster, core: FakeCore, lucky: Path) -> None:
    job = luckless(lucky, core, chunksize=4)
    core.hold = False
    for _ in range(2):
        assert job.retry_failed() == 4
        assert job.wait(60)
        assert job.counts() == {"DONE": 6, "FAILED": 4}
    lucky.touch()
    assert job.retry_failed() == 4
    assert job.results(60) == [n * n for n in range(10)]


def test_as_completed_tells_each_item_once(cluster: Cluster, core: FakeCore, lucky: Path) -> None:
    job = luckless(lucky, core)
    before = job.as_completed(10)
    told = [next(before).task_id for _ in range(8)]  # two of the ends at least were failures
    assert job.retry_failed() == 4
    after = job.as_completed(10)
    wait_until(lambda: core.again)
    lucky.touch()
    core.run()
    told += [future.task_id for future in before]
    assert sorted(told) == sorted(future.task_id for future in after)
    assert len(set(told)) == 10


def test_after_attach_from_another_process(make_cluster: Callable[[], Cluster], core: FakeCore, lucky: Path) -> None:
    make_cluster()
    luckless(lucky, core)
    make_cluster()
    job = lb.attach("moods")
    assert job.counts() == {"DONE": 6, "FAILED": 4}, "all that has ended is there when attach returns"
    assert job.retry_failed() == 4
    wait_until(lambda: core.again)
    lucky.touch()
    core.run()
    assert job.results(60) == [n * n for n in range(10)]


def test_while_the_core_is_away(cluster: Cluster, core: FakeCore, lucky: Path) -> None:
    job = luckless(lucky, core)
    core.hang_up()
    wait_until(lambda: not cluster.connected)
    assert job.retry_failed() == 4
    lucky.touch()
    core.hold = False
    core.come_back()
    assert job.results(60) == [n * n for n in range(10)]


def test_the_answer_is_lost_with_the_connection(cluster: Cluster, core: FakeCore, lucky: Path) -> None:
    job = luckless(lucky, core)
    core.deaf = True
    assert job.retry_failed() == 4
    wait_until(lambda: core.said(RetryFailed))
    nowhere = FakeLine(core, "")
    core._retry(nowhere, core.said(RetryFailed)[0])  # it was heard, but nobody hears the answer
    nowhere.close()
    core.hang_up()
    lucky.touch()
    core.run()
    core.deaf = False
    core.come_back()
    assert job.results(60) == [n * n for n in range(10)]
    assert len(core.said(RetryFailed)) == 2


def test_what_failed_meanwhile_runs_again_too(cluster: Cluster, core: FakeCore, lucky: Path) -> None:
    core.hold = True
    job = moody.map(range(10), lucky=str(lucky), chunksize=5)
    wait_until(lambda: len(core.specs) == 2)
    first, second = core.specs
    core.run(first)
    wait_until(lambda: job.counts() == {"DONE": 3, "FAILED": 2, "QUEUED": 5})
    with core._lock:  # the core hears of both ends before it is asked, and the client of one
        core.ends[second] = core._call(core.specs[second])
        assert job.retry_failed() == 2
    wait_until(lambda: len(core.again) == 2)
    lucky.touch()
    core.run()
    core.tell(*[end for end in core.ends[second] if end.state is lb.TaskState.DONE])
    assert job.results(60) == [n * n for n in range(10)]


def test_what_the_core_refused_is_said_again(cluster: Cluster, core: FakeCore) -> None:
    core.refuse = lambda spec: "JournalFull" if spec.index else ""
    job = moody.map([1, 2, 4, 5], lucky="", chunksize=2)
    assert job.wait(60)
    assert job.counts() == {"DONE": 2, "FAILED": 2}
    with pytest.raises(lb.NblbError, match="refused: JournalFull"):
        job[3].result()
    core.refuse = lambda spec: ""
    assert job.retry_failed() == 2
    assert job.results(60) == [1, 4, 16, 25]
    said = core.said(SubmitTask)
    assert said[-1] == said[-2], "the same record, not another one"
    assert core.said(RetryFailed) == []


def test_a_core_that_knows_nothing_of_it(cluster: Cluster, core: FakeCore, lucky: Path) -> None:
    job = luckless(lucky, core)
    core.hang_up(forget=True)
    core.come_back()
    assert job.retry_failed() == 4
    assert job.wait(60)
    with pytest.raises(lb.UnknownTask):
        job.results()


def test_what_was_never_submitted_stays_lost(cluster: Cluster, core: FakeCore, lucky: Path) -> None:
    job = luckless(lucky, core)
    job._ledger.grow(12)
    job._port.lose(job, [10, 11], "it was never submitted")
    assert job.retry_failed() == 4
    lucky.touch()
    core.run()
    assert job.counts()["LOST"] == 2


# ── several kernels ──


def test_another_kernel_follows_what_one_retries(
    make_cluster: Callable[[], Cluster], core: FakeCore, lucky: Path
) -> None:
    make_cluster()
    job = moody.map(range(10), lucky=str(lucky), job="moods")
    assert job.wait(60)
    other = make_cluster()
    theirs = lb.attach("moods")
    assert theirs is not job
    wait_until(lambda: theirs.counts() == {"DONE": 6, "FAILED": 4})
    core.hold = True
    assert theirs.retry_failed() == 4
    for each in (job, theirs):
        wait_until(lambda each=each: each.counts() == {"DONE": 6, "QUEUED": 4}, what="both to be open again")
        assert not each.done()
    lucky.touch()
    core.run()
    for each in (job, theirs):
        assert each.results(60) == [n * n for n in range(10)]
        assert each.snapshot().failures == ()
    assert other.connected


def test_a_kernel_that_was_away_learns_what_another_has_retried(cluster: Cluster, core: FakeCore, lucky: Path) -> None:
    job = luckless(lucky, core)
    core.hang_up()
    wait_until(lambda: not cluster.connected)
    nowhere = FakeLine(core, "")
    core._retry(nowhere, RetryFailed(request=1, job=job.job_id))
    nowhere.close()
    lucky.touch()
    core.run()  # nobody hears of it
    core.come_back()
    assert job.wait(60)
    wait_until(lambda: job.counts() == {"DONE": 10})
    assert job.results(60) == [n * n for n in range(10)]


def test_retry_cancel_retry_in_quick_succession_ends(cluster: Cluster, core: FakeCore, lucky: Path) -> None:
    for _ in range(20):
        core.hold = False
        job = moody.map(range(10), lucky=str(lucky))
        assert job.wait(60)
        core.hold = True
        for word in "RRCRRC":
            (job.retry_failed if word == "R" else job.cancel)()
        wait_until(lambda: core.again)
        core.run()
        assert job.wait(60)


# ── with the mended function ──


@task_decorator.task
def mended(x: int, lucky: str) -> int:
    """Does what `moody` should have done."""
    return x * x


def test_only_what_failed_runs_with_the_new_function(cluster: Cluster, core: FakeCore, lucky: Path) -> None:
    pytest.importorskip("pandas")
    job = luckless(lucky, core)
    core.hold = False
    assert job.retry_failed(with_=mended) == 4
    assert job.results(60) == [n * n for n in range(10)]
    frame = job.dataframe()
    old, new = frame["code"][1], frame["code"][0]
    assert old != new
    assert list(frame["code"]) == [new if n % 3 == 0 else old for n in range(10)]
    assert (job[0]._function, job[0].snapshot().function) == (core.said(RetryFailed)[-1].function,) * 2
    assert job[1]._function == ""
    with pytest.raises(TypeError, match="must be a function or a task"):
        job.retry_failed(with_=3)  # type: ignore[arg-type]


def test_what_the_core_refused_is_said_again_with_the_new_function(
    cluster: Cluster, core: FakeCore, lucky: Path
) -> None:
    core.refuse = lambda spec: "JournalFull"
    job = moody.map(range(4), lucky=str(lucky))
    assert job.wait(60)
    core.refuse = lambda spec: ""
    assert job.retry_failed(with_=mended.function) == 4
    assert job.results(60) == [0, 1, 4, 9]
    assert {job[n]._function for n in range(4)} == {core.said(SubmitTask)[-1].function}


def test_a_new_function_that_the_core_cannot_run_leaves_the_failures(
    cluster: Cluster, core: FakeCore, lucky: Path, caplog: pytest.LogCaptureFixture
) -> None:
    job = luckless(lucky, core)

    def refuse(line: FakeLine, message: RetryFailed) -> None:
        line.tell(Answer(request=message.request, error="another Python", kind="TaskRejected"))

    core._on[RetryFailed] = refuse
    assert job.retry_failed(with_=mended) == 4
    assert job.wait(60)
    assert job.counts() == {"DONE": 6, "FAILED": 4}
    with pytest.raises(lb.TaskFailed, match="out of luck"):
        job[3].result()
    assert "no item runs again: another Python" in caplog.text
