"""Every process may die at any moment: no future hangs, nothing accepted is lost, the cluster continues."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
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


@lb.task
def double(x: int) -> int:
    return 2 * x


@lb.task
def slow_double(x: int, seconds: float = 0.2) -> int:
    time.sleep(seconds)
    return 2 * x


@lb.task
def note_and_sleep(path: str, seconds: float) -> int:
    """Says its process's number in a file, sleeps the first time it runs, and returns how often it has run."""
    with open(path, "a") as file:
        file.write(f"{os.getpid()}\n")
    runs = Path(path).read_text().count("\n")
    if runs == 1:
        time.sleep(seconds)
    return runs


@lb.task
def kill_myself() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def kill(parameters: Parameters, role: str) -> int:
    [one] = present(parameters.runtime_dir, role)
    os.kill(one.pid, signal.SIGKILL)
    assert pids.wait_gone([one.pid], 5) == []
    return one.pid


def running_pid(path: Path) -> int:
    return int(wait_until(lambda: path.exists() and path.read_text().strip(), 20, "the task to run").split()[0])


def test_a_worker_killed_in_a_task_is_replaced_and_the_task_runs_again(cluster: Cluster, tmp_path: Path) -> None:
    future = note_and_sleep.submit(str(tmp_path / "runs"), 60)
    os.kill(running_pid(tmp_path / "runs"), signal.SIGKILL)
    assert future.result(60) == 2
    wait_until(lambda: len(cluster.workers()) == 2, 10, "the worker to be replaced")


def test_a_task_that_always_kills_its_worker_is_lost_with_the_reason(cluster: Cluster) -> None:
    others = slow_double.map(range(20))
    with pytest.raises(lb.TaskLost, match="SIGKILL"):
        kill_myself.submit().result(60)
    assert others.results() == [2 * x for x in range(20)]


def test_a_hub_killed_in_a_task_is_made_up_for_by_another(
    cluster: Cluster, parameters: Parameters, tmp_path: Path
) -> None:
    future = note_and_sleep.submit(str(tmp_path / "runs"), 60)
    worker = running_pid(tmp_path / "runs")
    job = slow_double.map(range(20))
    kill(parameters, "hub")
    assert pids.wait_gone([worker], 5) == []  # no orphan goes on computing
    launch.add_hub(parameters)
    assert future.result(60) == 2
    assert job.results() == [2 * x for x in range(20)]


def test_a_core_killed_with_queued_tasks_loses_none(cluster: Cluster, parameters: Parameters, tmp_path: Path) -> None:
    before = double.submit(1)
    assert before.result(60) == 2
    long = note_and_sleep.submit(str(tmp_path / "runs"), 3)
    job = slow_double.map(range(100), job="kept")
    running_pid(tmp_path / "runs")
    wait_until(lambda: job.snapshot().counts.get("DONE", 0) >= 5, 20, "some to be done")
    kill(parameters, "core")
    launch.start(parameters, monitor=False).close()
    assert job.results() == [2 * x for x in range(100)]
    assert long.result(60) == 1  # the hub went on with it, and the new core took its word
    assert cluster.attach("kept").results() == [2 * x for x in range(100)]


CLIENT = """
import json, sys, time
import nblb as lb
lb.connect(json.loads(sys.argv[1]))
def slow(x):
    time.sleep(0.05)
    return 3 * x
job = lb.task(slow).map(range(40), job="orphan")
while not job.snapshot().counts.get("DONE"):
    time.sleep(0.01)
print("some are done", flush=True)
time.sleep(60)
"""


def test_a_core_that_stands_still_costs_no_running_work(
    cluster: Cluster, parameters: Parameters, tmp_path: Path
) -> None:
    """The hub sees that the core's process lives, as on a disk that stalls: longer than the lease changes nothing."""
    note = tmp_path / "runs"
    future = note_and_sleep.submit(str(note), 3 * parameters.lease_s)
    running_pid(note)
    [core] = present(parameters.runtime_dir, "core")
    os.kill(core.pid, signal.SIGSTOP)
    try:
        time.sleep(2 * parameters.lease_s)  # what is tested is that nothing happens in this time
    finally:
        os.kill(core.pid, signal.SIGCONT)
    assert future.result(60) == 1
    assert note.read_text().count("\n") == 1


def test_a_client_killed_leaves_a_job_that_another_attaches_to(cluster: Cluster, parameters: Parameters) -> None:
    import json

    words = [sys.executable, "-c", CLIENT, json.dumps(parameters.as_dict())]
    client = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    assert client.stdout is not None
    assert client.stdout.readline() == "some are done\n"
    client.kill()
    client.wait()
    client.stdout.close()
    assert lb.attach("orphan").results() == [3 * x for x in range(40)]


def test_everything_killed_at_once(cluster: Cluster, parameters: Parameters) -> None:
    job = slow_double.map(range(30), job="survivor")
    wait_until(lambda: job.snapshot().counts.get("DONE", 0) >= 3, 20, "some to be done")
    kill(parameters, "hub")
    kill(parameters, "core")
    launch.start(parameters, monitor=False).close()
    assert job.results() == [2 * x for x in range(30)]


def test_what_a_hub_that_died_with_the_core_had_in_hand_runs_again_at_once(
    cluster: Cluster, parameters: Parameters, tmp_path: Path
) -> None:
    future = note_and_sleep.submit(str(tmp_path / "runs"), 60)
    running_pid(tmp_path / "runs")
    kill(parameters, "hub")
    kill(parameters, "core")
    launch.start(parameters, monitor=False).close()
    begun = time.monotonic()
    assert future.result(60) == 2
    assert time.monotonic() - begun < 25  # not the half minute for which a hub of another computer is waited for
