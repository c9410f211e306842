"""Futures of single tasks on a fake core."""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import signal
import sys
import threading
import time
import traceback

import pytest

import nblb as lb
from nblb.client import task_decorator
from nblb.client.cluster import Cluster
from nblb.client.connection import waiting
from nblb.protocol.messages import (
    CancelTask,
    CollectTask,
    Failure,
    PutBlob,
    SubmitTask,
    TaskChanged,
    TaskEnded,
    TaskState,
)
from tests.client.fake_core import FakeCore
from tests.waiting import wait_until


@task_decorator.task
def double(x: int) -> int:
    return 2 * x


@task_decorator.task
def broken(x: object) -> None:
    raise KeyError(x)


def test_result_and_what_is_known_of_it(cluster: Cluster, core: FakeCore) -> None:
    future = double.submit(21)
    assert future.result(60) == 42
    assert (future.state, future.progress, future.host, future.attempt) == (TaskState.DONE, 100.0, "lab1", 1)
    assert future.exception() is None
    assert future.done()
    assert not future.cancelled()
    assert not future.running()
    assert future.stdout == "printed\n"
    assert future.why() == "it is the next one"
    assert future.story() == [(1.0, "SubmitTask", "", "QUEUED")]
    snapshot = future.snapshot()
    assert (snapshot.state, snapshot.name, snapshot.connected) == ("DONE", "double", True)


def test_a_task_is_still_a_function() -> None:
    assert double(4) == 8
    assert double.__name__ == "double"
    assert double.__wrapped__ is double.function


def test_failure_carries_the_remote_traceback_and_the_original(cluster: Cluster) -> None:
    future = broken.submit("why")
    with pytest.raises(lb.TaskFailed, match="raise KeyError") as caught:
        future.result(60)
    assert isinstance(caught.value.__cause__, KeyError)
    assert caught.value.task_id == future.task_id
    assert future.state is TaskState.FAILED
    assert isinstance(future.exception(), lb.TaskFailed)
    failure = future.snapshot().failure
    assert failure is not None
    assert failure.kind == "KeyError"
    assert failure.where.startswith("test_task_future.py line")


def test_core_may_refuse(cluster: Cluster, core: FakeCore) -> None:
    core.refuse = lambda spec: "TooManyQueuedTasks"
    with pytest.raises(lb.TooManyQueuedTasks, match="refused"):
        double.submit(1).result(60)


def test_progress_and_running(cluster: Cluster, core: FakeCore) -> None:
    core.hold = True
    future = double.submit(1)
    assert future.state is TaskState.QUEUED
    wait_until(lambda: future.task_id in core.specs)
    core.running(future.task_id, 40.0)
    wait_until(future.running)
    assert (future.progress, future.worker) == (40.0, "w1")
    assert "40 %" in repr(future)
    core.run()
    assert future.result(60) == 2


def test_cancel_returns_at_once_and_tells_the_core(cluster: Cluster, core: FakeCore) -> None:
    core.hold = True
    future = double.submit(1)
    wait_until(lambda: future.task_id in core.specs)
    core.deaf = True
    assert future.cancel()
    assert future.cancelled()
    assert future.done()
    assert not future.running()
    assert future.state is TaskState.CANCELLED  # of the future; its worker may still have to let go
    assert future.snapshot().state == "CANCELLING"
    with pytest.raises(lb.TaskCancelled):
        future.result()
    with pytest.raises(concurrent.futures.CancelledError):
        future.exception()
    assert future.cancel(), "asking twice is harmless"
    wait_until(lambda: len(core.said(CancelTask)) == 1)
    core.deaf = False
    core.run()
    assert concurrent.futures.wait([future], 10).done == {future}
    wait_until(lambda: future.snapshot().state == "CANCELLED")


@pytest.mark.parametrize("state", list(TaskState))
def test_the_state_says_of_a_future_that_it_is_done(cluster: Cluster, core: FakeCore, state: TaskState) -> None:
    core.hold = True
    future = double.submit(1)
    if state.ended:
        future._port.finish(
            future, TaskEnded(task=future.task_id, state=state, failure=Failure(kind="ValueError")), lambda: 2
        )
    else:
        future._port.show(future, TaskChanged(task=future.task_id, state=state))
    assert future.state is state
    assert future.done() is state.ended
    assert future.cancelled() is (state is TaskState.CANCELLED)
    assert future.running() is (state is TaskState.RUNNING)
    assert future.cancel() is (not state.ended or state is TaskState.CANCELLED)
    assert future.done()
    assert future.state.ended


def test_cancel_is_too_late_for_what_has_ended(cluster: Cluster) -> None:
    future = double.submit(1)
    assert future.result(60) == 2
    assert not future.cancel()


def test_the_stdlib_knows_our_futures(cluster: Cluster) -> None:
    futures = [double.submit(n) for n in range(20)]
    assert {f.result() for f in concurrent.futures.as_completed(futures, 10)} == {2 * n for n in range(20)}
    assert concurrent.futures.wait(futures, 10).not_done == set()
    called: list[int] = []
    futures[0].add_done_callback(lambda f: called.append(f.result()))
    assert called == [0]


def test_await(cluster: Cluster) -> None:
    async def both() -> list[int]:
        return await asyncio.gather(double.submit(1), double.submit(2))

    assert asyncio.run(both()) == [2, 4]


def test_a_stopped_coroutine_does_not_stop_the_task(cluster: Cluster, core: FakeCore) -> None:
    core.hold = True
    future = double.submit(1)

    async def impatient() -> None:
        await asyncio.wait_for(_as_coroutine(future), 0.05)

    with pytest.raises(asyncio.TimeoutError):
        asyncio.run(impatient())
    assert not future.cancelled()
    core.run()
    assert future.result(60) == 2


async def _as_coroutine(future: lb.TaskFuture) -> object:
    return await future


def test_timeout_says_what_the_task_does(cluster: Cluster, core: FakeCore) -> None:
    core.hold = True
    with pytest.raises(concurrent.futures.TimeoutError, match="still QUEUED"):
        double.submit(1).result(0.01)


def interrupt_once_it_waits() -> threading.Thread:
    """Send SIGINT to the main thread when it waits for a task; return the thread that does."""
    main = threading.main_thread().ident
    assert main is not None

    def waits() -> bool:
        frame = sys._current_frames().get(main)
        stack = [frame.f_code for frame, _ in traceback.walk_stack(frame)] if frame is not None else []
        return waiting.wait_on.__code__ in stack and stack[0] is threading.Condition.wait.__code__

    def interrupt() -> None:
        wait_until(waits, what="the main thread waits")
        signal.pthread_kill(main, signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    return thread


@pytest.mark.parametrize(("policy", "cancelled"), [("detach", False), ("cancel", True)])
def test_interrupt_frees_the_caller(
    cluster: Cluster, core: FakeCore, monkeypatch: pytest.MonkeyPatch, policy: str, cancelled: bool
) -> None:
    core.hold = True
    monkeypatch.setattr(waiting, "on_interrupt", policy)
    future = double.submit(1)
    stop = interrupt_once_it_waits()
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        future.result(120)
    assert time.monotonic() - began < 60
    assert future.cancelled() is cancelled
    stop.join()


def test_second_interrupt_cancels(cluster: Cluster, core: FakeCore, monkeypatch: pytest.MonkeyPatch) -> None:
    core.hold = True
    monkeypatch.setattr(waiting, "on_interrupt", "detach")
    future = double.submit(1)
    for _ in range(2):
        stop = interrupt_once_it_waits()
        with pytest.raises(KeyboardInterrupt):
            future.result(60)
        stop.join()
    assert future.cancelled()


def test_futures_as_arguments_are_dependencies(cluster: Cluster, core: FakeCore) -> None:
    core.hold = True

    @task_decorator.task
    def add(numbers: list[int], more: dict[str, int]) -> int:
        return sum(numbers) + more["x"]

    first, second = double.submit(1), double.submit(2)
    total = add.submit([first, 10, second], {"x": first})
    wait_until(lambda: total.task_id in core.specs)
    assert set(core.specs[total.task_id].depends) == {first.task_id, second.task_id}
    core.run()
    assert total.result(60) == 2 + 10 + 4 + 2


def test_a_result_that_is_here_travels_itself(cluster: Cluster, core: FakeCore) -> None:
    first = double.submit(5)
    assert first.result(60) == 10
    second = double.submit(first)
    assert second.result(60) == 20
    assert core.specs[second.task_id].depends == ()


def test_results_are_collected_a_moment_later_together(cluster: Cluster, core: FakeCore) -> None:
    futures = [double.submit(n) for n in range(50)]
    lb.gather(*futures)
    wait_until(lambda: sum(len(message.tasks) for message in core.said(CollectTask)) == 50)


def test_the_function_is_shipped_once_until_it_changes(cluster: Cluster, core: FakeCore) -> None:
    factor = [2]

    @task_decorator.task
    def scale(x: int) -> int:
        return x * factor[0]

    assert lb.gather(*[scale.submit(n) for n in range(100)]) == [2 * n for n in range(100)]
    assert len(core.said(PutBlob)) == 1
    factor[0] = 3
    assert scale.submit(5).result(60) == 15
    assert len(core.said(PutBlob)) == 2


def test_put_ships_a_value_once(cluster: Cluster, core: FakeCore) -> None:
    numpy = pytest.importorskip("numpy")
    array = numpy.arange(100_000)

    @task_decorator.task
    def total(a: object, n: int) -> int:
        return int(a.sum()) + n  # type: ignore[attr-defined]

    big = lb.put(array)
    expected = int(array.sum())
    array[:] = 0  # what was put is what it was
    assert lb.gather(*[total.submit(big, n) for n in range(20)]) == [expected + n for n in range(20)]
    assert total.map([big] * 3, n=1).results(60) == [expected + 1] * 3
    assert [len(blob.payload.buffers) for blob in core.said(PutBlob)].count(2) >= 1
    assert len([blob for blob in core.said(PutBlob) if blob.hash == big.hash]) == 1
    assert (big.value == numpy.arange(100_000)).all()


def test_a_captured_future_is_refused_with_a_hint(cluster: Cluster) -> None:
    future = double.submit(1)

    @task_decorator.task
    def wrong() -> object:
        return future

    with pytest.raises(lb.NotSerializable, match="pass it as an argument"):
        wrong.submit()


def test_unpicklable_arguments_are_named(cluster: Cluster) -> None:
    with pytest.raises(lb.NotSerializable, match=r"argument 1\['key'\]\[1\]"):
        double.submit({"key": [1, threading.Lock()]})


def test_submit_says_origin_user_and_options(cluster: Cluster, core: FakeCore) -> None:
    double.options(priority=7, retries=2, timeout=3, name="twice", user="anna").submit(1).result(60)
    spec = core.said(SubmitTask)[-1]
    assert (spec.priority, spec.retries, spec.timeout_s, spec.name, spec.user) == (7.0, 2, 3.0, "twice", "anna")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_does_not_use_its_parents_thread(cluster: Cluster, core: FakeCore) -> None:
    core.hold = True
    future = double.submit(1)
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            future.result(1)
        except lb.LoadBalancerUnreachable as error:
            os.write(write, str(error).encode())
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    os.close(write)
    assert b"parent process" in os.read(read, 1000)
    os.close(read)
    core.run()
    assert future.result(60) == 2
