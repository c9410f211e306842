"""Tasks that submit tasks: on their own cluster, as their own user, without deadlock, and at no other user's cost."""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import nblb as lb
from nblb import launch
from tests.waiting import wait_until


@lb.task
def add(a: int, b: int) -> int:
    return a + b


@lb.task
def fib(n: int) -> int:
    if n < 2:
        return n
    one, two = fib.submit(n - 1), fib.submit(n - 2)
    return int(one.result()) + int(two.result())


@lb.task
def down(n: int) -> int:
    return 0 if n == 0 else 1 + int(down.submit(n - 1).result())


@lb.task
def sleeps(path: str, seconds: float) -> None:
    with open(path, "a") as file:
        file.write(f"begun {os.getpid()}\n")
    time.sleep(seconds)
    with open(path, "a") as file:
        file.write("ended\n")


@lb.task
def waits_for_a_sleeper(path: str, seconds: float) -> None:
    sleeps.submit(path, seconds).result()


def text(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def is_idle(cluster: lb.Cluster) -> bool:
    status = cluster.status()
    return status.running == status.queued == status.busy == 0


def users(cluster: lb.Cluster) -> dict[str, int]:
    return {str(user["user"]): int(user["done"]) for user in cluster.users()}


def test_a_task_submits_to_the_cluster_that_runs_it_as_its_own_user(cluster: lb.Cluster) -> None:
    @lb.task
    def outer(n: int) -> tuple[int, list[int], str]:
        job = add.map([1, 2, 3], [n] * 3)
        stranger = lb.task(abs).options(user="mallory").submit(-n)
        return add.submit(n, 1).result(60), job.results(60), str(stranger.result(60))

    assert outer.options(user="alice").submit(5).result(60) == (6, [6, 7, 8], "5")
    assert users(cluster) == {"alice": 6}


def test_it_may_connect_to_its_own_cluster_by_its_parameters(cluster: lb.Cluster, parameters: Any) -> None:
    @lb.task
    def outer(settings: dict[str, Any]) -> bool:
        with lb.connect(settings):
            one = add.submit(1, 2).result(60) == 3
        return one and add.submit(2, 2).result(60) == 4

    assert outer.submit(parameters.as_dict()).result(60)


def test_recursion_ends_and_strangers_have_their_turn(cluster: lb.Cluster) -> None:
    deep = down.options(user="alice").submit(25)
    wide = fib.options(user="alice").submit(9)
    assert lb.task(abs).options(user="bob").submit(-1).result(60) == 1
    assert deep.result(60) == 25
    assert wide.result(60) == 34
    wait_until(lambda: [hub.busy for hub in cluster.hubs()] == [0], 10, "idle workers")
    assert [hub.workers for hub in cluster.hubs()] == [2]  # stand-ins are no slots


def test_no_more_run_at_once_than_there_are_slots(cluster: lb.Cluster, tmp_path: Path) -> None:
    @lb.task
    def outer(path: str) -> None:
        for _ in range(2):
            lb.gather(*(timed.submit(path) for _ in range(3)))
            timed(path)

    @lb.task
    def timed(path: str) -> None:
        began = time.monotonic()
        while time.monotonic() < began + 0.05:
            pass
        with open(path, "a") as file:
            file.write(f"{began} {time.monotonic()}\n")

    file = tmp_path / "times"
    lb.gather(*(outer.submit(str(file)) for _ in range(4)))
    spans = [tuple(map(float, line.split())) for line in text(file).splitlines()]
    assert len(spans) == 4 * 2 * 4
    most = max(sum(begin <= at < end for begin, end in spans) for at, _ in spans)
    assert most <= 2


def test_a_timeout_inside_a_task_is_a_timeout(cluster: lb.Cluster, tmp_path: Path) -> None:
    @lb.task
    def outer(path: str) -> str:
        future = sleeps.submit(path, 60)
        try:
            future.result(0.2)
        except TimeoutError:
            future.cancel()
            return "timeout"
        return "no timeout"

    assert outer.submit(str(tmp_path / "log")).result(60) == "timeout"


def test_children_are_cancelled_with_their_parent(cluster: lb.Cluster, tmp_path: Path) -> None:
    file = tmp_path / "log"
    parent = waits_for_a_sleeper.submit(str(file), 60)
    wait_until(lambda: "begun" in text(file), 20, "the child to run")
    parent.cancel()
    wait_until(lambda: is_idle(cluster), 10, "both to be cancelled")
    assert add.submit(1, 1).result(60) == 2
    assert "ended" not in text(file)


def test_children_are_cancelled_when_their_parent_fails(cluster: lb.Cluster, tmp_path: Path) -> None:
    @lb.task
    def outer(path: str) -> None:
        sleeps.submit(path, 60)
        raise ValueError("no more")

    with pytest.raises(lb.TaskFailed):
        outer.submit(str(tmp_path / "log")).result(60)
    wait_until(lambda: is_idle(cluster), 10, "the child to be cancelled")


def test_what_a_task_leaves_behind_when_it_succeeds_goes_on(cluster: lb.Cluster, tmp_path: Path) -> None:
    @lb.task
    def outer(path: str) -> str:
        sleeps.submit(path, 0.2)
        return "done"

    file = tmp_path / "log"
    assert outer.submit(str(file)).result(60) == "done"
    wait_until(lambda: "ended" in text(file), 20, "the child to end")


def test_a_parent_whose_worker_dies_runs_again_and_its_children_anew(cluster: lb.Cluster, tmp_path: Path) -> None:
    @lb.task
    def outer(path: str, once: str) -> str:
        sleeps.submit(path, 0.3 if Path(once).exists() else 60)
        if not Path(once).exists():
            lb.wait([add.submit(1, 1)])
            Path(once).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return "second"

    file = tmp_path / "log"
    assert outer.submit(str(file), str(tmp_path / "once")).result(60) == "second"
    wait_until(lambda: is_idle(cluster), 10, "the first child to be cancelled, and the second to end")


def test_where_no_more_stand_ins_can_be_had_the_wait_fails_with_a_sentence(settings: dict[str, Any]) -> None:
    settings["WKHUB_MAX_STANDINS"] = 3
    settings["WKHUB_WORKERS"] = [{"nWorkers": 1}]
    with lb.start(settings, monitor=False):
        assert down.submit(3).result(60) == 3
        with pytest.raises(lb.TaskFailed, match="WKHUB_MAX_STANDINS"):
            down.submit(9).result(60)
        assert down.submit(3).result(60) == 3
    launch.stop(settings)


def test_a_call_that_returns_futures_ends_as_they_do_and_needs_no_worker(settings: dict[str, Any]) -> None:
    @lb.task
    def one(n: int) -> Any:
        return add.submit(n, 1)

    @lb.task
    def chain(n: int) -> Any:
        return chain.submit(n - 1) if n else "end"

    @lb.task
    def several(n: int) -> Any:
        return {"sum": add.submit(n, 2), "job": add.map(range(3), [n] * 3), "n": n}

    @lb.task
    def bad() -> Any:
        return lb.task(int).submit("x")

    settings["WKHUB_WORKERS"] = [{"nWorkers": 1}]
    settings["WKHUB_MAX_STANDINS"] = 0
    with lb.start(settings, monitor=False):
        assert one.submit(4).result(60) == 5
        assert chain.submit(20).result(60) == "end"
        assert several.submit(4).result(60) == {"sum": 6, "job": [4, 5, 6], "n": 4}
        assert one.map(range(5)).results(60) == [1, 2, 3, 4, 5]
        with pytest.raises(lb.TaskFailed, match="invalid literal"):
            bad.submit().result(60)
    launch.stop(settings)


def test_joblib_in_joblib(settings: dict[str, Any]) -> None:
    def inner(n: int) -> list[int]:
        import joblib

        with joblib.parallel_config("nblb"):
            return list(joblib.Parallel()(joblib.delayed(abs)(-n - k) for k in range(3)))

    joblib = pytest.importorskip("joblib")
    settings["WKHUB_WORKERS"] = [{"nWorkers": 1}]
    with lb.start(settings, monitor=False):
        with joblib.parallel_config("nblb"):
            done = joblib.Parallel()(joblib.delayed(inner)(n) for n in range(4))
        assert done == [[n, n + 1, n + 2] for n in range(4)]
    launch.stop(settings)


def in_a_thread(future: Any) -> None:
    thread = threading.Thread(target=future.result)
    thread.start()
    thread.join()


def by_looking(future: Any) -> None:
    while not future.done():
        time.sleep(0.01)


def as_others_do(future: Any) -> None:
    concurrent.futures.wait([future])


def awaiting(future: Any) -> None:
    async def wait() -> None:
        await future

    asyncio.run(wait())


@pytest.mark.parametrize("wait", [in_a_thread, by_looking, as_others_do, awaiting])
def test_a_wait_that_tells_nobody_ends_too(settings: dict[str, Any], wait: Callable[[Any], None]) -> None:
    @lb.task
    def outer() -> int:
        future = add.submit(1, 2)
        wait(future)
        return int(future.result())

    settings["WKHUB_WORKERS"] = [{"nWorkers": 1}]
    with lb.start(settings, monitor=False):
        assert outer.submit().result(60) == 3
        assert add.submit(1, 1).result(60) == 2
    launch.stop(settings)
