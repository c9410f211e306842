"""What every launcher and every engine must do, run for real on each: one hub with two workers.

A capability that an engine does not have is refused in a sentence; the tests check that, too. nblb.engines.dask_engine,
nblb.engines.executor_engine and nblb.hub.engine_pool are tested here.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

import nblb as lb
from nblb import launch
from nblb.errors import TaskFailed, TaskLost
from nblb.parameters import load
from tests.conformance.places import PLACES, WORKERS, Place
from tests.end_to_end.test_ssh_hubs import copied, there  # noqa: F401  # fixtures
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nblb.client.cluster import Cluster
    from nblb.parameters import Parameters

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module", params=PLACES, ids=str)
def place(request: pytest.FixtureRequest) -> Place:
    found: Place = request.param
    if reason := found.missing():
        pytest.skip(reason)
    return found


@pytest.fixture(scope="module")
def running(
    place: Place, request: pytest.FixtureRequest, runtime_base: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Parameters, Path]]:
    """The parameters of a core with one such hub, and the log of the process that keeps the hub."""
    options = dict(place.options)
    if place.name == "ssh":
        options["python"] = request.getfixturevalue("there").python
    patch = pytest.MonkeyPatch()
    patch.setenv("NBLB_RUNTIME_DIR", tempfile.mkdtemp(dir=runtime_base))
    patch.syspath_prepend(str(ROOT))  # an engine's callable is found on the caller's path
    before = {process.pid for process in psutil.Process().children(recursive=True)}
    mine = {"LB_NAME": "t", "LB_STATE_DIR": str(tmp_path_factory.mktemp("state"))}
    ports = ("LB_WKPULLPORT", "LB_HCREPPORT", "LB_CLIENTPULLPORT", "WKHUB_LBPORT", "WKHUB_HCPORT", "MONITOR_PORT")
    with place.around(load(mine | dict.fromkeys(ports, 0))) as parameters:
        try:
            cluster = lb.start(parameters, workers=0, monitor=False)
            kept = cluster.add_hub(workers=WORKERS, **options)
            wait_until(lambda: len(cluster.workers()) == WORKERS, 90, "two workers")
            cluster.close()
            yield parameters, kept.log
        finally:
            launch.stop(parameters)
    patch.undo()
    wait_until(lambda: {p.pid for p in _living()} <= before, 30, "the end of all that was started")


def _living() -> list[psutil.Process]:
    found = psutil.Process().children(recursive=True)
    return [process for process in found if process.status() != psutil.STATUS_ZOMBIE]


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder that every account can use: the hub over ssh is another one's."""
    folder = Path(tempfile.mkdtemp(prefix="nblb-conformance-"))
    folder.chmod(0o777)
    yield folder
    shutil.rmtree(folder)


def _are_idle(cluster: Cluster) -> bool:
    """Return True if the hub has its two workers, and both are idle; an AssertionError shows what there is instead."""
    states = [worker.state for worker in cluster.workers()]
    assert states == ["idle"] * WORKERS, cluster.workers()
    return True


@pytest.fixture
def cluster(running: tuple[Parameters, Path]) -> Iterator[Cluster]:
    cluster = lb.connect(running[0])
    wait_until(lambda: _are_idle(cluster), 150, "two idle workers")
    yield cluster
    cluster.close()


def hold(begun: Path, end: Path) -> str:
    """A call that goes on until a file is there, or for a minute."""
    begun.touch()
    until = time.monotonic() + 60
    while not end.exists() and time.monotonic() < until:
        time.sleep(0.01)
    return "done"


@pytest.fixture
def busy(cluster: Cluster, shared: Path) -> Iterator[list[Any]]:
    """Both workers are in a call that `end` ends."""
    futures = [lb.task(hold).submit(shared / f"begun{n}", shared / "end") for n in range(WORKERS)]
    wait_until(lambda: all((shared / f"begun{n}").exists() for n in range(WORKERS)), 60, "two calls that run")
    yield futures
    (shared / "end").touch()
    wait_until(lambda: all(held.done() for held in futures), 60, "the end of both: they look for the file in a folder")


def test_submit_and_map_in_order(cluster: Cluster, place: Place) -> None:
    assert lb.task(abs).submit(-3).result(60) == 3
    assert lb.task(abs).map(range(-500, 0)).results() == list(range(500, 0, -1))
    (hub,) = cluster.hubs()
    assert hub.engine == place.options.get("engine", "processes")
    assert hub.workers == WORKERS


def test_priorities_are_the_cores(cluster: Cluster, busy: list[Any], shared: Path) -> None:
    order = shared / "order"

    def note(name: int) -> None:
        import time

        with order.open("a") as file:
            file.write(f"{name} ")
        time.sleep(0.2)

    waiting = [lb.task(note).options(priority=priority).submit(priority) for priority in (1, 5, 3, 9)]
    assert "in line" in waiting[0].why() or "waiting" in waiting[0].why()
    (shared / "end").touch()
    for future in waiting:
        future.result(60)
    ran = [int(word) for word in order.read_text().split()]
    assert set(ran[:2]) == {9, 5}
    assert set(ran[2:]) == {3, 1}


def test_an_error_has_its_traceback(cluster: Cluster) -> None:
    def inner(number: int) -> float:
        return number / 0

    def outer(number: int) -> float:
        return inner(number)

    future = lb.task(outer, retries=0).submit(7)
    with pytest.raises(TaskFailed, match="division by zero") as failed:
        future.result(60)
    assert "in inner" in str(failed.value)


def test_progress_and_output_are_live_or_come_with_the_end(cluster: Cluster, place: Place, shared: Path) -> None:
    def work(end: Path) -> str:
        import time

        print("it began")
        lb.progress(50.0, "half")
        until = time.monotonic() + 60
        while not end.exists() and time.monotonic() < until:
            time.sleep(0.01)
        return "done"

    future = lb.task(work).submit(shared / "end")
    if "output" in place.capabilities:
        wait_until(lambda: "it began" in future.output(), 30, "the output")
    if "progress" in place.capabilities:
        wait_until(lambda: future.progress == 50.0, 30, "the progress")
    (shared / "end").touch()
    assert future.result(60) == "done"
    wait_until(lambda: "it began" in future.output(), 30, "the output")


def test_a_queued_call_is_cancelled_and_never_runs(cluster: Cluster, busy: list[Any], shared: Path) -> None:
    future = lb.task(Path.touch).submit(shared / "ran")
    assert future.cancel()
    (shared / "end").touch()
    assert [held.result(60) for held in busy] == ["done"] * WORKERS
    assert lb.task(abs).map([-1, -2]).results() == [1, 2]
    assert not (shared / "ran").exists()


def test_a_running_call_is_killed_or_the_refusal_is_named(
    cluster: Cluster, place: Place, busy: list[Any], shared: Path, running: tuple[Parameters, Path]
) -> None:
    busy[0].cancel(kill=True)
    if {"kill", "interrupt"} & place.capabilities:  # its worker is free for the next
        assert lb.task(abs).submit(-3).result(60) == 3
    else:
        wait_until(lambda: "cannot kill the worker of a call that runs" in running[1].read_text(), 30, "the refusal")
    (shared / "end").touch()
    assert lb.task(abs).submit(-4).result(60) == 4


def test_a_dead_worker_costs_an_attempt_and_a_poisonous_call_is_given_up(cluster: Cluster, shared: Path) -> None:
    def die_once(flag: Path) -> str:
        if not flag.exists():
            flag.touch()
            os._exit(3)
        return "second"

    assert lb.task(die_once).submit(shared / "flag").result(180) == "second"
    with pytest.raises(TaskLost, match="killed 3 workers"):
        lb.task(os._exit).submit(3).result(240)
    assert lb.task(abs).map(range(-50, 0)).results() == list(range(50, 0, -1))


def test_scale(cluster: Cluster, place: Place, running: tuple[Parameters, Path]) -> None:
    cluster.scale(WORKERS + 1)
    wait_until(lambda: len(cluster.workers()) == WORKERS + 1, 60, "one more worker")
    cluster.scale(WORKERS)
    wait_until(lambda: len(cluster.workers()) == WORKERS, 60, "one worker less")
    assert lb.task(abs).submit(-3).result(60) == 3
    if "scale" not in place.capabilities:
        assert "cannot change its number of workers" in running[1].read_text()


def test_a_large_argument_goes_to_all_calls(cluster: Cluster) -> None:
    large = os.urandom(2 << 20)

    def size(data: bytes, number: int) -> tuple[int, int]:
        return len(data), number

    assert lb.task(size).map([large] * 6, range(6)).results() == [(len(large), number) for number in range(6)]
    assert lb.task(bytes).submit(3 << 20).result(60) == bytes(3 << 20)
