"""Long work survives failures: retries that wait, of the errors that a user has named; a limit of a job's failures."""

from __future__ import annotations

import os
import signal
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import nblb as lb
from nblb import launch
from nblb.launch.presence import present
from nblb.system import pids
from tests.waiting import wait_until

if TYPE_CHECKING:
    from nblb.client.cluster import Cluster
    from nblb.parameters import Parameters


class Busy(OSError):
    """An error of this module, which the worker gets by value."""


def note(path: str) -> int:
    """Write the time into a file, and return how often that was done."""
    with open(path, "a") as file:
        file.write(f"{time.time()}\n")
    return Path(path).read_text().count("\n")


@lb.task
def busy_twice(path: str) -> int:
    runs = note(path)
    if runs < 3:
        raise Busy("try later")
    return runs


@lb.task
def wrong(path: str) -> None:
    note(path)
    raise ValueError("never right")


@lb.task
def even(folder: str, n: int) -> int:
    """Fail for odd numbers until the folder has a file that mends them; of 4, wait for that file."""
    mended = Path(folder) / "mended"
    until = time.monotonic() + 60
    while n == 4 and not mended.exists() and time.monotonic() < until:
        time.sleep(0.02)
    if n % 2 and not mended.exists():
        raise ValueError(f"{n} is odd")
    return n


@lb.task
def counts(path: str, most: int, every_s: float = 0.02, dies_at: int = -1, raises_at: int = -1) -> tuple[int, int]:
    """Count from the saved state on; return the sum, and where this attempt began."""
    runs = note(path)
    n, total = began = lb.resume((0, 0))
    while n < most:
        n, total = n + 1, total + n
        lb.checkpoint((n, total))
        time.sleep(every_s)
        if runs == 1 and n == dies_at:
            time.sleep(1.2)  # until the latest state is on its way
            os.kill(os.getpid(), signal.SIGKILL)
        if runs == 1 and n == raises_at:
            raise Busy("try later")
    return total, began[0]


def kill_core(parameters: Parameters) -> None:
    [core] = present(parameters.runtime_dir, "core")
    os.kill(core.pid, signal.SIGKILL)
    assert pids.wait_gone([core.pid], 5) == []


@pytest.mark.parametrize("named", [OSError, (KeyError, Busy), "OSError"])
def test_a_call_is_retried_after_longer_and_longer_waits(cluster: Cluster, tmp_path: Path, named: object) -> None:
    path = tmp_path / "runs"
    future = busy_twice.options(retries=3, retry_wait=0.4, retry_on=named).submit(str(path))
    wait_until(lambda: "before its" in future.why(), 20, "the wait to show")
    assert "Busy: try later" in future.why()
    assert future.result(60) == 3
    first, second, third = map(float, path.read_text().split())
    assert second - first >= 0.4
    assert third - second >= 0.8


def test_only_named_errors_are_retried(cluster: Cluster, tmp_path: Path) -> None:
    future = wrong.options(retries=3, retry_on=(OSError, KeyError)).submit(str(tmp_path / "runs"))
    with pytest.raises(lb.TaskFailed, match="never right"):
        future.result(60)
    assert (tmp_path / "runs").read_text().count("\n") == 1


def test_a_wait_survives_a_restart_of_the_core_and_can_be_cancelled(
    cluster: Cluster, parameters: Parameters, tmp_path: Path
) -> None:
    path = tmp_path / "runs"
    future = busy_twice.options(retries=3, retry_wait=600).submit(str(path))
    wait_until(lambda: "before its 2nd attempt" in future.why(), 20, "the wait to show")
    kill_core(parameters)
    launch.start(parameters, monitor=False).close()
    wait_until(lambda: "before its 2nd attempt" in future.why(), 20, "the wait to go on")
    assert future.cancel()
    wait_until(future.cancelled, 20, "the cancel")
    assert path.read_text().count("\n") == 1


def test_max_failures_ends_the_rest_and_a_retry_runs_all(
    cluster: Cluster, parameters: Parameters, tmp_path: Path
) -> None:
    numbers = [4, 1, 3, 5, *range(6, 40)]
    job = even.map([str(tmp_path)] * len(numbers), numbers, chunksize=1, max_failures=3)
    wait_until(lambda: job.snapshot().state == "failed", 30, "the job to end")
    counts = job.counts()
    assert counts["FAILED"] == 3
    assert counts["CANCELLED"] == len(numbers) - 3 - counts.get("DONE", 0)
    with pytest.raises(lb.TaskCancelled, match=r"3 calls of job even-\d+ failed \(max_failures=3\)"):
        job[0].result(5)
    assert "by max_failures" in job.summary()
    assert "max_failures=3" in job[len(job) - 1].why()
    assert "max_failures=3" in job.snapshot().limit
    assert job.dataframe()["error"].str.contains("TooManyFailures").sum() == counts["CANCELLED"]
    [group] = job.snapshot().failures
    assert (group.kind, group.count) == ("ValueError", 3)
    kill_core(parameters)
    launch.start(parameters, monitor=False).close()
    (tmp_path / "mended").touch()
    assert job.retry_failed() == len(numbers) - counts.get("DONE", 0)
    assert job.results(60) == numbers
    assert not job.snapshot().limit


def test_another_kernel_sees_why_a_job_was_ended(cluster: Cluster, tmp_path: Path) -> None:
    numbers = [1, 3, *range(6, 20)]
    job = even.map([str(tmp_path)] * len(numbers), numbers, chunksize=1, job="odd", max_failures=1)
    wait_until(lambda: job.snapshot().state == "failed", 30, "the job to end")
    cluster.connection.jobs.pop(job.job_id)  # as in another kernel
    again = cluster.attach("odd")
    assert again is not job
    with pytest.raises(lb.TaskCancelled, match="max_failures=1"):
        again[len(numbers) - 1].result(5)


def test_a_call_goes_on_from_its_state_after_its_worker_was_killed(cluster: Cluster, tmp_path: Path) -> None:
    future = counts.submit(str(tmp_path / "runs"), 30, 0.01, 20)
    assert future.result(60) == (sum(range(30)), 20)


def test_a_retry_has_the_last_state_even_if_it_was_saved_just_before(cluster: Cluster, tmp_path: Path) -> None:
    future = counts.options(retries=1, retry_wait=0.1).submit(str(tmp_path / "runs"), 10, 0.0, -1, 7)
    assert future.result(60) == (sum(range(10)), 7)


def test_each_call_of_a_job_has_its_own_state(cluster: Cluster, tmp_path: Path) -> None:
    paths = [str(tmp_path / f"runs{n}") for n in range(6)]
    job = counts.options(retries=1).map(paths, range(10, 16), every_s=0.0, raises_at=8)
    assert job.results(60) == [(sum(range(most)), 8) for most in range(10, 16)]


def test_a_state_survives_the_core_and_the_hub(cluster: Cluster, parameters: Parameters, tmp_path: Path) -> None:
    path = tmp_path / "runs"
    future = counts.submit(str(path), 200, 0.02)
    wait_until(path.exists, 20, "the call to begin")
    time.sleep(1.5)  # at least one state was sent after the first
    [hub] = present(parameters.runtime_dir, "hub")
    kill_core(parameters)
    os.kill(hub.pid, signal.SIGKILL)
    assert pids.wait_gone([hub.pid], 5) == []
    launch.start(parameters, monitor=False).close()
    launch.add_hub(parameters)
    total, began = future.result(60)
    assert total == sum(range(200))
    assert began > 0


@pytest.mark.parametrize("deadline", [1.5, timedelta(seconds=1.5)])
def test_a_running_call_ends_at_its_deadline(cluster: Cluster, deadline: float | timedelta) -> None:
    when = datetime.now(timezone.utc) + deadline if isinstance(deadline, timedelta) else deadline
    began = time.monotonic()
    future = lb.task(time.sleep).options(deadline=when, retries=2).submit(60)
    with pytest.raises(lb.DeadlineExceeded, match="had not ended by its deadline"):
        future.result(30)
    assert time.monotonic() - began >= 1.4
    assert lb.task(abs).submit(-1).result(30) == 1
    wait_until(lambda: all(worker.state == "idle" for worker in cluster.workers()), 30, "the call to be stopped")


def test_a_state_that_is_too_large_is_refused_where_it_is_saved(cluster: Cluster) -> None:
    future = lb.task(lambda: lb.checkpoint(b"x" * 9_000_000)).submit()
    with pytest.raises(lb.TaskFailed, match=r"of 8\.0 MB that are allowed"):
        future.result(60)
