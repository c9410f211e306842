"""Single calls that are submitted while the I/O thread is busy share a submission, and are still separate tasks."""

from __future__ import annotations

import concurrent.futures
import threading
from collections.abc import Callable

import pytest

import nblb as lb
from nblb.client import task_decorator
from nblb.client.cluster import Cluster
from nblb.client.connection.connection import Connection
from nblb.client.futures.task_future import TaskFuture
from nblb.client.submit.batch import MAX_ITEMS, attached
from nblb.errors import TaskFailed, TooManyQueuedTasks
from nblb.protocol.messages import CancelTask, CollectTask, SubmitTask, TaskChanged, TaskPrinted, TaskState
from tests.client.fake_core import FakeCore
from tests.waiting import wait_until


@pytest.fixture
def apart() -> None:
    """In this module they go together."""


@task_decorator.task
def half(x: float) -> float:
    if x < 0:
        raise ValueError("below zero")
    return x / 2


@task_decorator.task
def same(x: int) -> int:
    return x


class Held:
    """Keeps the connection's thread from coming round, as a busy machine does."""

    def __init__(self, connection: Connection) -> None:
        self._inbox, self._go = connection.inbox, threading.Event()
        self._take: Callable[[], object] = connection.inbox.take

    def __enter__(self) -> None:
        def take() -> object:
            self._go.wait(60)
            return self._take()

        self._inbox.take = take  # type: ignore[assignment,method-assign]

    def __exit__(self, *_: object) -> None:
        self._inbox.take = self._take  # type: ignore[assignment,method-assign]
        self._go.set()


def sent(cluster: Cluster, core: FakeCore, *calls: float) -> list[TaskFuture]:
    """The first call by itself, the others in one record."""
    with Held(cluster.connection):
        first = half.submit(8)
        futures = [half.submit(x) for x in calls]
    wait_until(lambda: len(core.specs) >= 2)
    return [first, *futures]


def test_what_waits_goes_together(cluster: Cluster, core: FakeCore) -> None:
    futures = sent(cluster, core, 1, 2, 3)
    assert lb.gather(*futures) == [4.0, 0.5, 1.0, 1.5]
    lone, together = core.said(SubmitTask)
    assert (lone.items, lone.split, together.items, together.split) == (1, False, 3, True)
    assert futures[0].task_id == lone.task
    assert [future.task_id for future in futures[1:]] == [f"{together.task}.{n}" for n in range(3)]
    assert together.name == "half"
    wait_until(lambda: {*core.said(CollectTask)[-1].tasks} >= {together.task})
    assert not cluster.connection.owners


def test_each_ends_by_itself(cluster: Cluster, core: FakeCore) -> None:
    core.hold, core.slices = True, 1
    good, bad, last = sent(cluster, core, 2, -1, 6)[1:]
    heard: list[TaskState] = []
    last._port.add_listener(last, lambda: heard.append(last.state))
    [record] = [spec for spec in core.said(SubmitTask) if spec.items == 3]
    core.tell(
        TaskChanged(task=record.task, first=2, state=TaskState.RUNNING, progress=30.0, worker="w1"),
        TaskPrinted(task=record.task, attempt=1, first=2, text="hello\n"),
    )
    wait_until(lambda: (last.progress, last._port.printed_after(last, "stdout", 0)[0]) == (30.0, "hello\n"))
    assert (last.running(), good.running(), good.state) == (True, False, TaskState.QUEUED)
    assert good.cancel()
    wait_until(lambda: len(core.said(CancelTask)) == 1)
    cancel = core.said(CancelTask)[0]
    assert (cancel.task, cancel.first, cancel.items) == (record.task, 0, 1)
    core.run(record.task)
    assert last.result(60) == 3.0
    with pytest.raises(TaskFailed, match="below zero"):
        bad.result(60)
    with pytest.raises(concurrent.futures.CancelledError):
        good.result(60)
    assert TaskState.RUNNING in heard
    assert last.state is TaskState.DONE


def test_results_that_come_together_are_unpickled_once_and_dealt(cluster: Cluster, core: FakeCore) -> None:
    core.slices = 100
    futures = sent(cluster, core, *range(200))
    assert lb.gather(*futures[1:]) == [n / 2 for n in range(200)]
    assert len({id(future._load) for future in futures[1:]}) == 1  # None: each has been loaded


def test_other_functions_options_and_words_begin_a_new_one(cluster: Cluster, core: FakeCore) -> None:
    with Held(cluster.connection):
        futures: list[TaskFuture] = [half.submit(2), half.submit(4), same.submit(1), half.options(priority=5).submit(6)]
        half.options(priority=5).submit(6).cancel()
        futures.append(half.submit(8))
        futures += [half.options(timeout=9).submit(10), half.options(at_most_once=True).submit(12)]
    assert lb.gather(*futures) == [1.0, 2.0, 1, 3.0, 4.0, 5.0, 6.0]
    assert all(spec.items == 1 for spec in core.said(SubmitTask)[:3])


def test_a_batch_is_bounded(cluster: Cluster, core: FakeCore) -> None:
    with Held(cluster.connection):
        futures = [same.submit(n) for n in range(2 * MAX_ITEMS + 10)]
    assert lb.gather(*futures) == list(range(2 * MAX_ITEMS + 10))
    assert [spec.items for spec in core.said(SubmitTask)] == [1, MAX_ITEMS, MAX_ITEMS, 9]


def test_large_calls_go_by_themselves(cluster: Cluster, core: FakeCore) -> None:
    with Held(cluster.connection):
        futures = [same.submit(n) for n in range(3)]
        large = [same.submit(bytes(100_000)) for _ in range(2)]
    assert lb.gather(*futures, *large) == [0, 1, 2, bytes(100_000), bytes(100_000)]
    assert [spec.items for spec in core.said(SubmitTask)] == [1, 2, 1, 1]


def test_who_needs_one_of_them_waits_for_that_one(cluster: Cluster, core: FakeCore) -> None:
    core.hold = True
    one, bad = sent(cluster, core, 2, -1)[1:]
    needs, needs_bad = half.submit(one), half.submit(bad)
    wait_until(lambda: len(core.specs) == 4)
    assert core.specs[needs.task_id].depends == (one.task_id,)
    core.run(one.task_id.partition(".")[0])
    assert one.result(60) == 1.0
    core.hold = False
    late = half.submit(one)  # the core may have dropped a single task's result by now: the value travels
    assert late.result(60) == 0.5
    core.run(needs.task_id)
    assert needs.result(60) == 0.5
    assert core.specs[needs_bad.task_id].depends == (bad.task_id,)


def test_the_core_takes_as_many_as_there_is_room_for(cluster: Cluster, core: FakeCore) -> None:
    core.room = 2
    futures = sent(cluster, core, 2, 4, 6, 8)
    assert [future.result(60) for future in futures[:3]] == [4.0, 1.0, 2.0]
    for refused in futures[3:]:
        with pytest.raises(TooManyQueuedTasks):
            refused.result(60)
    wait_until(lambda: not cluster.connection.owners)


def test_a_close_ends_all_of_them(cluster: Cluster, core: FakeCore) -> None:
    core.hold = True
    futures = sent(cluster, core, 2, 4)
    cluster.connection.close()
    for future in futures:
        with pytest.raises(ConnectionError, match="closed"):
            future.result(60)


def test_threads_share_batches_and_lose_nothing(cluster: Cluster, core: FakeCore) -> None:
    results: dict[int, list[int]] = {}

    def work(number: int) -> None:
        futures = [same.submit(1000 * number + n) for n in range(500)]
        results[number] = [future.result(60) for future in futures]

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {n: list(range(1000 * n, 1000 * n + 500)) for n in range(4)}


def test_who_waits_for_a_task_goes_on_when_it_is_taken_up_again(cluster: Cluster, core: FakeCore) -> None:
    core.hold = True
    lone = half.submit(8)
    wait_until(lambda: lone.task_id in core.specs)
    assert attached(cluster.connection, lone.task_id, 1, "half") == [lone]
    together = sent(cluster, core, 2, 4)[1:]
    [record] = [spec for spec in core.said(SubmitTask) if spec.items == 2]
    assert attached(cluster.connection, record.task, 2, "half") == together
    core.run()
    assert [future.result(60) for future in (lone, *together)] == [4.0, 1.0, 2.0]
