"""Long work survives failures: retries that wait, of the errors that a user has named; a limit of a job's failures."""

from __future__ import annotations

import os
import signal
import time
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
