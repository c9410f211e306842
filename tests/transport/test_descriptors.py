"""The last file descriptors stay free, whoever connects and however many they are."""

from __future__ import annotations

import contextlib
import os
import resource
import socket
from collections.abc import Iterator

import pytest

from nblb.protocol.messages import client_to_core, core_to_client
from nblb.transport import local_doors
from nblb.transport.descriptors import are_few, is_spare
from nblb.transport.doors import Doors
from nblb.transport.local_line import LocalLine
from tests.transport.parties import greet
from tests.waiting import wait_until


@pytest.fixture
def few() -> Iterator[int]:
    """A limit of 80 above the highest descriptor of this process: what earlier tests left open may have gaps below."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = max(map(int, os.listdir("/proc/self/fd"))) + 80  # noqa: PTH208
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, before[1]))
    yield limit
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_the_last_descriptors(few: int) -> None:
    spare = min(64, few // 4)
    assert not is_spare(few - spare - 1)
    assert is_spare(few - spare)
    assert not is_spare(few - spare, for_own=True)
    assert is_spare(few - 1, for_own=True)
    assert not are_few()
    with contextlib.ExitStack() as taken:
        while not are_few():
            taken.enter_context(socket.socket())
        assert not are_few(for_own=True)
        with contextlib.suppress(OSError):
            while True:
                taken.enter_context(socket.socket())
        assert are_few(for_own=True)
    assert not are_few()


def test_a_crowd_waits_and_those_that_are_there_go_on(doors: Doors, few: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def line() -> LocalLine:
        made = LocalLine(doors.addresses["clients_local"], client_to_core, core_to_client)
        lines.append(made)
        return made

    def rounds() -> bool:
        doors.receive(0.01)
        doors.keep()
        return True

    lines: list[LocalLine] = []
    old = line()
    greet(doors, old)
    path = doors.addresses["clients_local"].removeprefix("unix://")
    monkeypatch.setattr(local_doors, "GREETED_S", 1000.0)
    with contextlib.ExitStack() as crowd:
        for _ in range(20):
            for _ in range(10):
                one = crowd.enter_context(socket.socket(socket.AF_UNIX))
                one.setblocking(False)
                with contextlib.suppress(OSError):
                    one.connect(path)
                if are_few():
                    break
            rounds()
            if are_few():
                break
        assert are_few()
        for _ in range(5):
            rounds()
        assert not are_few(for_own=True)
        greet(doors, old)
        monkeypatch.setattr(local_doors, "GREETED_S", 0.0)  # those that never greet are closed
        wait_until(lambda: rounds() and not doors._local.is_full, 10, "room")
    new = line()
    greet(doors, new)
    for each in lines:
        each.close()
