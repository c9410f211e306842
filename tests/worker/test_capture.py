"""The output of threads that a task has left running is in no other task's output."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from nblb.protocol.messages import RunTask, TaskPrinted
from tests.hub.pool_rig import PoolRig


@pytest.fixture
def rig() -> Iterator[PoolRig]:
    with contextlib.closing(PoolRig()) as rig:
        yield rig


def printed(rig: PoolRig, run: RunTask) -> str:
    return "".join(event.text for _, event in rig.events if isinstance(event, TaskPrinted) and event.task == run.task)


def leaves_a_thread() -> None:
    """The thread prints whenever a later task lets it, and answers when it has."""
    import builtins
    import logging
    import sys
    import threading

    go, done = threading.Event(), threading.Event()

    def talk() -> None:
        stdout = sys.stdout
        while go.wait():
            go.clear()
            print("ghost")
            stdout.write("ghost\n")
            sys.stderr.write("ghost\n")
            logging.getLogger("ghost").warning("ghost")
            done.set()

    builtins.go, builtins.done = go, done  # type: ignore[attr-defined]
    threading.Thread(target=talk, daemon=True).start()
    go.set()
    done.wait()
    done.clear()


def wakes_it() -> None:
    import builtins
    import threading

    own = threading.Thread(target=print, args=("from a thread of its own",))
    own.start()
    own.join()
    builtins.go.set()  # type: ignore[attr-defined]
    builtins.done.wait()  # type: ignore[attr-defined]
    builtins.done.clear()  # type: ignore[attr-defined]
    print("mine")


def test_a_thread_that_is_left_behind_prints_into_no_other_task(rig: PoolRig) -> None:
    first = rig.give(leaves_a_thread)
    rig.end_of(first)
    assert printed(rig, first).count("ghost") >= 4  # while its task runs, it is heard
    for _ in range(2):
        later = rig.give(wakes_it)
        rig.end_of(later)
        assert printed(rig, later).splitlines() == ["from a thread of its own", "mine"]
