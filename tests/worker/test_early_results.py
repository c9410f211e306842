"""Ended calls of a slice, which are reported while another call of it still runs."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nblb import payload
from nblb.protocol.messages import ItemsFinished, RunTask, TaskFinished, TaskPrinted, TaskStopped
from tests.hub.pool_rig import DEADLINE_S, PoolRig
from tests.waiting import wait_until


@pytest.fixture
def rig() -> Iterator[PoolRig]:
    with contextlib.closing(PoolRig()) as rig:
        yield rig


def gated(folder: Path) -> Any:
    """Doubles its argument, fails for 1, and computes without a pause from 3 on until there is a gate."""

    def call(n: int) -> int:
        if n == 1:
            raise ValueError(n)
        if n >= 3:
            (folder / f"begun-{n}").touch()
            while not (folder / f"gate-{n}").exists():
                pass
        return 2 * n

    return call


def ask(rig: PoolRig, folder: Path, n: int) -> None:
    """Once it is at this item."""
    wait_until((folder / f"begun-{n}").exists, DEADLINE_S)
    rig.pool.ask_for_items("worker_0")


def test_what_is_over_is_told_while_another_call_computes(rig: PoolRig, tmp_path: Path) -> None:
    run = rig.give_many(gated(tmp_path), [0, 1, 2, 3, 4, 5])
    ask(rig, tmp_path, 3)
    part = rig.wait(ItemsFinished)
    assert (part.task, part.offset, part.items) == (run.task, 0, 3)
    assert part.payload is not None
    assert payload.unpack_results(part.payload) == [0, None, 4]
    assert [(failure.offset, failure.kind) for failure in part.failures] == [(1, "ValueError")]
    (tmp_path / "gate-3").touch()
    ask(rig, tmp_path, 4)
    second = rig.wait(ItemsFinished, lambda m: m.offset > 0)
    assert (second.offset, second.items, second.failures) == (3, 1, ())
    (tmp_path / "gate-4").touch()
    (tmp_path / "gate-5").touch()
    end = rig.end_of(run)
    assert end.payload is not None
    assert (end.items, end.told, end.failures) == (6, 4, ())
    assert payload.unpack_results(end.payload) == [None, None, None, None, 8, 10]
    assert end.duration_s >= part.duration_s + second.duration_s


def test_it_is_not_asked_twice_for_the_same(rig: PoolRig, tmp_path: Path) -> None:
    run = rig.give_many(gated(tmp_path), [0, 2, 3])
    ask(rig, tmp_path, 3)
    rig.wait(ItemsFinished)
    for _ in range(5):
        rig.pool.ask_for_items("worker_0")
    (tmp_path / "gate-3").touch()
    rig.end_of(run)
    assert sum(isinstance(event, ItemsFinished) for _, event in rig.events) == 1


def test_all_that_was_not_told_failed(rig: PoolRig, tmp_path: Path) -> None:
    """The end has a payload all the same: without one it would mean that every item of the slice has failed."""

    def call(n: int) -> int:
        if n:
            (tmp_path / "begun-3").touch()
            while not (tmp_path / "gate").exists():
                pass
            raise ValueError(n)
        return n

    run = rig.give_many(call, [0, 1])
    ask(rig, tmp_path, 3)
    rig.wait(ItemsFinished)
    (tmp_path / "gate").touch()
    end = rig.end_of(run)
    assert [failure.offset for failure in end.failures] == [1]
    assert end.payload is not None


def test_what_does_not_pickle_yet_is_told_with_the_end(rig: PoolRig, tmp_path: Path) -> None:
    def call(n: int) -> Any:
        import threading

        if n < 2:
            return threading.Lock() if n else "fine"
        (tmp_path / "begun-3").touch()
        while not (tmp_path / "gate").exists():
            pass
        return n

    run = rig.give_many(call, [0, 1, 2])
    ask(rig, tmp_path, 3)
    (tmp_path / "gate").touch()
    end = rig.end_of(run)
    assert (end.told, [failure.kind for failure in end.failures]) == (0, ["NotSerializable"])


def test_the_output_of_an_item_is_its_own_also_behind_a_part(rig: PoolRig, tmp_path: Path) -> None:
    def call(n: int) -> int:
        print("item", n)
        if n == 2:
            (tmp_path / "begun-3").touch()
            while not (tmp_path / "gate").exists():
                pass
        return n

    run = rig.give_many(call, [0, 1, 2, 3])
    ask(rig, tmp_path, 3)
    rig.wait(ItemsFinished)
    (tmp_path / "gate").touch()
    rig.end_of(run)
    printed = {0: "", 1: "", 2: "", 3: ""}
    for _, event in rig.events:
        if isinstance(event, TaskPrinted):
            assert event.first == 0
            printed[event.offset] += event.text
    assert printed == {n: f"item {n}\n" for n in range(4)}


def test_an_interrupt_behind_a_part_stops_the_slice_and_the_next_one_is_told_apart(
    rig: PoolRig, tmp_path: Path
) -> None:
    run = rig.give_many(gated(tmp_path), [0, 2, 3, 4])
    ask(rig, tmp_path, 3)
    rig.wait(ItemsFinished)
    rig.pool.interrupt("worker_0", (run.task, run.first, run.attempt))
    rig.wait(TaskStopped, lambda m: m.task == run.task)
    end = rig.end_of(rig.give_many(gated(tmp_path), [0, 2]))
    assert end.told == 0
    assert end.payload is not None
    assert payload.unpack_results(end.payload) == [0, 4]


def test_signals_reach_the_task_and_not_the_thread_that_listens(rig: PoolRig, tmp_path: Path) -> None:
    def call(n: int) -> str:
        import signal
        import threading
        import time

        heard: list[str] = []
        signal.signal(signal.SIGUSR1, lambda *_: heard.append(threading.current_thread().name))
        begun = time.monotonic()
        os.kill(os.getpid(), signal.SIGUSR1)
        while not heard and time.monotonic() < begun + 10:
            time.sleep(0.01)
        return heard[0]

    end = rig.end_of(rig.give_many(call, [0, 1]))
    assert end.payload is not None, end.failures
    assert payload.unpack_results(end.payload) == ["MainThread", "MainThread"]


def test_a_task_that_forks_says_its_parts_once(rig: PoolRig, tmp_path: Path) -> None:
    def call(n: int) -> int:
        if n == 1:
            child = os.fork()
            if not child:
                return -1  # and goes on with the slice, as the child that it is
            os.waitpid(child, 0)
        if n == 2:
            (tmp_path / "begun-3").touch()
            end = time.monotonic() + 0.2
            while time.monotonic() < end:
                pass
        return n

    run: RunTask = rig.give_many(call, [0, 1, 2, 3])
    ask(rig, tmp_path, 3)
    end = rig.end_of(run)
    assert end.payload is not None
    told = [event for _, event in rig.events if isinstance(event, ItemsFinished)]
    assert sum(part.items for part in told) == end.told
    assert sum(isinstance(event, TaskFinished) for _, event in rig.events) == 1
    whole = [n for part in told for n in payload.unpack_results(part.payload)]  # type: ignore[arg-type]
    assert whole + payload.unpack_results(end.payload)[end.told :] == [0, 1, 2, 3]
