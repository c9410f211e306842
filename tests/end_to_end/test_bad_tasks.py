"""Tasks that crash, hang, fork, flood or use up memory: each hurts only itself, and 200 others succeed."""

from __future__ import annotations

import ctypes
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

import nblb as lb
from nblb import launch
from nblb.launch.presence import present
from tests.waiting import wait_until

if TYPE_CHECKING:
    from nblb.client.cluster import Cluster
    from nblb.parameters import Parameters

OTHERS = 200


@lb.task
def double(x: int) -> int:
    time.sleep(0.002)
    return 2 * x


@pytest.fixture
def settings(settings: dict[str, Any]) -> dict[str, Any]:
    """Two workers for everybody, and one with a limit of its memory for tasks of high priority."""
    plain = {"nWorkers": 2, "minP": 0, "maxP": 99}
    limited = {"nWorkers": 1, "minP": 100, "maxP": 1000, "memory_mb": 300, "max_tasks_per_worker": 50}
    return settings | {"WKHUB_WORKERS": [plain, limited], "LB_MAX_CRASHES": 2}


@pytest.fixture
def others(cluster: Cluster) -> Iterator[lb.Job]:
    """Good tasks, beside which the bad one runs; they all end well, and fast."""
    wait_until(lambda: len(cluster.workers()) == 3, 20, "three workers")
    job = double.map(range(OTHERS))
    yield job
    assert job.results(60) == [2 * x for x in range(OTHERS)]
    assert double.submit(21).result(60) == 42  # and the hub has workers for more


def exits() -> None:
    os._exit(3)


def crashes() -> None:
    ctypes.string_at(0)


def aborts() -> None:
    os.abort()


def kills_its_group() -> None:
    os.killpg(0, signal.SIGKILL)


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (exits, r"exit code 3"),
        (crashes, r"(?s)SIGSEGV\): a crash in compiled code; its last output: .*in crashes"),
        (aborts, r"(?s)SIGABRT\): a crash in compiled code; its last output: .*in aborts"),
        (kills_its_group, r"SIGKILL"),
    ],
)
def test_a_task_that_ends_its_process_is_lost_with_the_reason(
    others: lb.Job, bad: Callable[[], None], words: str
) -> None:
    with pytest.raises(lb.TaskLost, match=words):
        lb.task(bad).submit().result(60)


def stops(path: str) -> None:
    Path(path).write_text(str(os.getpid()))
    os.kill(os.getpid(), signal.SIGSTOP)


def test_a_stopped_worker_is_killed_when_its_timeout_is_over(others: lb.Job, tmp_path: Path) -> None:
    path = tmp_path / "pid"
    with pytest.raises(lb.TaskTimeout):
        lb.task(timeout=3)(stops).submit(str(path)).result(60)
    assert not psutil.pid_exists(int(path.read_text()))


def test_a_stopped_worker_without_a_timeout_waits_and_can_be_cancelled(others: lb.Job, tmp_path: Path) -> None:
    path = tmp_path / "pid"
    future = lb.task(stops).submit(str(path))
    pid = int(wait_until(lambda: path.exists() and path.read_text(), 20, "the task to begin"))
    wait_until(lambda: psutil.Process(pid).status() == psutil.STATUS_STOPPED, 10, "it to stop")
    os.kill(pid, signal.SIGCONT)
    assert future.result(60) is None
    future = lb.task(stops).submit(str(path))
    wait_until(lambda: future.state is lb.TaskState.RUNNING, 20, "it to run again")
    future.cancel()
    wait_until(lambda: future.state is lb.TaskState.CANCELLED, 20, "the hub to have killed it")


def multiplies(path: str) -> None:
    """A bounded fork bomb: whole generations, some of which leave their group and session."""
    Path(path).write_text(f"{os.getpid()}\n")
    for generation in range(6):
        if os.fork() == 0:
            with open(path, "a") as file:
                file.write(f"{os.getpid()}\n")
            if generation % 2:
                os.setsid()
    time.sleep(600)


def test_a_fork_bomb_ends_with_its_task_and_leaves_nobody(others: lb.Job, tmp_path: Path) -> None:
    pids: list[int] = []
    for timeout_s in (1.5, 6, 24):  # a busy machine forks slowly
        path = tmp_path / f"pids-{timeout_s}"
        future = lb.task(timeout=timeout_s)(multiplies).submit(str(path))
        with pytest.raises(lb.TaskTimeout):
            future.result(120)
        worker, *pids = map(int, path.read_text().split())
        if len(pids) >= 32:
            break
    assert len(pids) >= 32
    wait_until(lambda: not [pid for pid in pids if psutil.pid_exists(pid)], 10, "the bomb's processes to end")
    assert psutil.pid_exists(worker)


def leaves_a_daemon(path: str) -> None:
    """As a task may that starts a server: twice forked, in a session of its own. Then it crashes."""
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            Path(path).write_text(str(os.getpid()))
            time.sleep(600)
        os._exit(0)
    while not Path(path).exists():
        time.sleep(0.01)
    if Path(path).with_name("crash").exists():
        os._exit(1)


def test_the_children_of_a_dead_worker_are_killed_and_those_of_a_living_one_are_not(
    others: lb.Job, tmp_path: Path
) -> None:
    living, dead = tmp_path / "living", tmp_path / "dead" / "pid"
    dead.parent.mkdir()
    lb.task(leaves_a_daemon).submit(str(living)).result(60)
    (dead.parent / "crash").touch()
    with pytest.raises(lb.TaskLost):
        lb.task(at_most_once=True)(leaves_a_daemon).submit(str(dead)).result(60)
    wait_until(lambda: not psutil.pid_exists(int(dead.read_text())), 10, "the daemon to end")
    assert psutil.pid_exists(int(living.read_text()))


def floods() -> None:
    while True:
        print("x" * 10_000)


def test_endless_output_is_bounded_everywhere(others: lb.Job, cluster: Cluster, parameters: Parameters) -> None:
    pids = [present(parameters.runtime_dir, role)[0].pid for role in ("core", "hub")]
    before = [psutil.Process(pid).memory_info().rss for pid in pids]
    future = lb.task(timeout=2)(floods).submit()
    with pytest.raises(lb.TaskTimeout):
        future.result(60)
    after = [psutil.Process(pid).memory_info().rss for pid in pids]
    assert all(now - then < 64 * 2**20 for now, then in zip(after, before, strict=True))
    assert 0 < len(future.snapshot().stdout_tail) <= 64 * 1024
    assert 0 < len(future.stdout) <= parameters.LB_OUTPUT_MB << 20
    files = [path for path in (parameters.state_dir / "output").rglob("*") if path.is_file()]
    assert 0 < sum(path.stat().st_size for path in files) <= 2 * parameters.LB_OUTPUT_MB << 20


def swallows() -> None:
    data = [bytearray(10_000_000) for _ in range(45)]
    time.sleep(600)
    del data


def test_a_glutton_is_killed_and_told_how_much_it_had(others: lb.Job) -> None:
    with pytest.raises(lb.TaskLost, match=r"(?s)killed for memory: [34]\d\d MB of 300 MB, after .* in swallows"):
        lb.task(priority=200)(swallows).submit().result(60)


def test_workers_are_recycled_in_the_midst_of_a_job(cluster: Cluster) -> None:
    job = lb.task(priority=200)(lambda _: os.getpid()).map(range(220), chunksize=1)
    assert len(set(job.results(60))) >= 4
    wait_until(
        lambda: launch.connect(cluster.parameters).status().workers == 3, 20, "all workers, the replaced one too"
    )
