"""A light future behaves as any future of concurrent.futures, and no waiter misses its end."""

from __future__ import annotations

import asyncio
import concurrent.futures
import inspect
import os
import re
import sys
import threading

import pytest

from nblb.client.futures.light_future import LightFuture, _lock

KNOWN = {(3, 10), (3, 11), (3, 12), (3, 13)}


def test_a_pending_one_is_small() -> None:
    future = LightFuture.__new__(LightFuture)
    assert not future.done()
    assert not future.cancelled()
    assert vars(future) == {}
    assert sys.getsizeof(future) < 100  # nothing of its own until somebody asks for it


def test_the_base_class_is_one_of_those_that_it_was_written_for() -> None:
    """A LightFuture has the private attributes of the base class, which a later Python may change."""
    names = {"_condition", "_state", "_result", "_exception", "_waiters", "_done_callbacks"}
    used = set(re.findall(r"\b(?:self|f|fut|future)\.(_[a-z]\w+)", inspect.getsource(concurrent.futures._base)))
    assert vars(concurrent.futures.Future()).keys() == names
    assert used == names | {"_invoke_callbacks", "_decrement_pending_calls"}
    assert sys.version_info[:2] in KNOWN, "compare concurrent/futures/_base.py of this Python, then add it to KNOWN"
    assert all(hasattr(LightFuture, name) for name in names)


def futures(number: int) -> list[LightFuture]:
    return [LightFuture.__new__(LightFuture) for _ in range(number)]


def test_wait_and_as_completed_see_ends_from_another_thread() -> None:
    several = futures(20)
    thread = threading.Thread(target=lambda: [future._finish_well() for future in several[:15]])
    thread.start()
    assert set(concurrent.futures.as_completed(several[:15], 10)) == set(several[:15])
    thread.join()
    done, left = concurrent.futures.wait(several, 0)
    assert (done, left) == (set(several[:15]), set(several[15:]))
    thread = threading.Thread(target=lambda: [future._finish_badly(OSError("x")) for future in several[15:]])
    thread.start()
    assert concurrent.futures.wait(several, 10).not_done == set()
    thread.join()
    assert isinstance(several[16].exception(), OSError)
    with pytest.raises(OSError, match="x"):
        several[17].result()


def test_result_waits_in_many_threads() -> None:
    (future,) = futures(1)
    heard: list[object] = []
    threads = [threading.Thread(target=lambda: heard.append(future.result(60))) for _ in range(5)]
    for thread in threads:
        thread.start()
    future._finish_well()
    for thread in threads:
        thread.join(10)
    assert heard == [None] * 5


def test_callbacks_are_called_once_whenever_they_come() -> None:
    (future,) = futures(1)
    called: list[str] = []
    future.add_done_callback(lambda _: called.append("before"))
    assert future._finish_well()
    assert not future._finish_well(), "it was over"
    future._finish_badly(OSError())
    future.add_done_callback(lambda _: called.append("after"))
    assert called == ["before", "after"]
    assert future.exception() is None


def test_cancel_and_asyncio() -> None:
    one, other = futures(2)
    assert one.cancel()
    assert one.cancelled()
    with pytest.raises(concurrent.futures.CancelledError):
        one.result()
    assert not one._finish_well()

    async def wait() -> object:
        asyncio.get_running_loop().call_later(0.01, other._finish_well)
        return await asyncio.wrap_future(other)

    assert asyncio.run(wait()) is None


def test_a_child_does_not_inherit_a_held_lock() -> None:
    held, go = threading.Event(), threading.Event()

    def hold() -> None:
        with _lock:
            held.set()
            go.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(60)
    pid = os.fork()
    if not pid:
        (future,) = futures(1)
        future.add_done_callback(lambda _: os._exit(7))
        future._finish_well()
        os._exit(8)
    go.set()
    thread.join(10)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
