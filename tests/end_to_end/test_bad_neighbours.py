"""A task that harms its fork server, its hub or the whole container: the tasks beside it still succeed."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

import nblb as lb
from nblb import launch
from tests.waiting import wait_until

if TYPE_CHECKING:
    from nblb.client.cluster import Cluster
    from nblb.parameters import Parameters


@pytest.fixture
def own(parameters: Parameters) -> Iterator[Cluster]:
    try:
        cluster = launch.start(parameters, monitor=False)
        wait_until(lambda: len(cluster.workers()) == 2, 20, "two workers")
        yield cluster
    finally:
        launch.stop(parameters)


def lingers(seconds: float) -> str:
    time.sleep(seconds)
    return "well"


def kills_its_fork_server() -> None:
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(30)


def leaves_a_daemon_and_kills_its_fork_server() -> None:
    subprocess.Popen(["sleep", "3163"], start_new_session=True)
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(30)


def test_a_daemon_does_not_outlive_the_fork_server_it_was_left_to(own: Cluster) -> None:
    task = lb.task(leaves_a_daemon_and_kills_its_fork_server).submit()
    assert isinstance(task.exception(60), lb.TaskLost)
    wait_until(lambda: not [p for p in psutil.process_iter(["cmdline"]) if p.info["cmdline"] == ["sleep", "3163"]])


def kills_its_group() -> None:
    os.killpg(0, signal.SIGKILL)


def writes_nothing_everywhere() -> None:
    for fd in range(3, 256):
        with contextlib.suppress(OSError):
            os.write(fd, b"")
    time.sleep(30)


def closes_everything() -> None:
    os.closerange(0, 4096)


def writes_garbage_everywhere() -> None:
    for fd in range(3, 256):
        with contextlib.suppress(OSError):
            os.set_blocking(fd, False)
            os.write(fd, b"garbage")
    time.sleep(30)


@pytest.mark.slow
@pytest.mark.parametrize(
    "bad",
    [
        kills_its_fork_server,
        kills_its_group,
        writes_nothing_everywhere,
        closes_everything,
        writes_garbage_everywhere,
    ],
)
def test_it_is_lost_and_its_neighbour_ends_well(own: Cluster, bad: Callable[[], None]) -> None:
    neighbour = lb.task(lingers).submit(2.0)
    wait_until(neighbour.running, 20)
    error = lb.task(bad).submit().exception(60)
    assert isinstance(error, lb.TaskLost), error
    assert neighbour.result(60) == "well"
    assert lb.task(lingers).submit(0.0).result(60) == "well"


def test_a_stopped_fork_server_goes_on_and_nothing_outlives_the_stop(own: Cluster, tmp_path: Path) -> None:
    def stops(file: str) -> None:
        with open(f"{file}~", "w") as opened:
            opened.write(f"{os.getppid()} {os.getpid()}")
        Path(f"{file}~").rename(file)
        os.kill(os.getppid(), signal.SIGSTOP)
        time.sleep(100)

    pids = tmp_path / "pids"
    task = lb.task(stops).submit(str(pids))
    wait_until(pids.exists, 20)
    task.cancel()
    wait_until(lambda: not own.status()["busy"], 20, "the worker to be free")
    assert lb.task(lingers).submit(0.0).result(60) == "well"
    again = lb.task(stops).submit(str(tmp_path / "again"))
    wait_until((tmp_path / "again").exists, 20)
    assert not again.done()
    processes = [int(pid) for pid in f"{pids.read_text()} {(tmp_path / 'again').read_text()}".split()]
    own.stop()
    wait_until(lambda: not any(map(is_there, processes)), 10, "the processes to end")


def is_there(pid: int) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


def wait_for_an_end(core: int, tasks: list[Any]) -> bool:
    """Of the core or of all tasks; whether it was the tasks'."""
    wait_until(lambda: not is_there(core) or all(task.done() for task in tasks), 60, "an end")
    return all(task.done() for task in tasks)


@pytest.mark.slow
def test_what_takes_the_container_down_six_times_is_lost_and_its_neighbour_is_not(
    parameters: Parameters, tmp_path: Path
) -> None:
    """SIGKILL to core, hub, fork server and workers at once, as an out-of-memory killer of a container does."""

    def takes_all_down(file: str, pids: str) -> None:
        with open(file, "a") as opened:
            opened.write("x")
        while not Path(pids).exists():
            time.sleep(0.01)
        for pid in Path(pids).read_text().split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        time.sleep(30)

    runs, pids = tmp_path / "runs", tmp_path / "pids"
    tasks: list[Any] = []
    try:
        for _ in range(6):
            pids.unlink(missing_ok=True)
            cluster = launch.start(parameters, monitor=False)
            if not tasks:
                tasks += [lb.task(lingers).submit(1.5), lb.task(takes_all_down).submit(str(runs), str(pids))]
                wait_until(tasks[0].running, 20, "the neighbour to run")
                wait_until(runs.exists, 20, "the bad one to run")
            everybody = [cluster.status().core.pid, *(hub["pid"] for hub in cluster.hubs())]
            pids.with_suffix(".new").write_text(" ".join(map(str, everybody)), encoding="utf-8")
            pids.with_suffix(".new").rename(pids)
            if wait_for_an_end(everybody[0], tasks):
                break
        assert tasks[0].result(60) == "well"
        assert isinstance(tasks[1].exception(30), lb.TaskLost)
        assert runs.stat().st_size <= 4
    finally:
        launch.stop(parameters)
