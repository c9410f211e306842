"""The figures of this machine that a hub reports, and the limits that it raises for its workers."""

from __future__ import annotations

import os
import resource

import pytest

from nblb.system import machine


def test_load_and_memory_are_parts_of_a_whole() -> None:
    assert 0.0 <= machine.load() <= 1.0
    assert 0.0 < machine.memory() <= 1.0


@pytest.mark.parametrize(
    ("soft", "hard", "raised"),
    [
        (1024, 4096, (4096, 4096)),  # no further than allowed
        (1024, 10**6, (machine.MANY_FILES, 10**6)),
        (1024, resource.RLIM_INFINITY, (machine.MANY_FILES, resource.RLIM_INFINITY)),
        (10**5, 10**6, None),
        (resource.RLIM_INFINITY, resource.RLIM_INFINITY, None),
    ],
)
def test_the_limit_of_open_files_is_raised_and_never_lowered(
    monkeypatch: pytest.MonkeyPatch, soft: int, hard: int, raised: tuple[int, int] | None
) -> None:
    made: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _what: (soft, hard))
    monkeypatch.setattr(resource, "setrlimit", lambda _what, limits: made.append(limits))
    machine.allow_many_files()
    assert made == ([] if raised is None else [raised])


def test_a_system_that_refuses_more_files_is_lived_with(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise ValueError("not allowed to raise maximum limit")

    monkeypatch.setattr(resource, "getrlimit", lambda _what: (1, 10))
    monkeypatch.setattr(resource, "setrlimit", refuse)
    machine.allow_many_files()


def test_tasks_of_an_account_may_start_so_many_processes_beyond_those_that_are_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mine = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: 0)
    assert machine.most_processes() == 0
    monkeypatch.setattr(os, "getuid", lambda: mine or 12345)
    assert machine.most_processes() >= machine.MORE_PROCESSES


def test_what_cannot_be_read_is_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object, **__: object) -> None:
        raise FileNotFoundError("/proc/stat")

    for name in ("cpu_percent", "virtual_memory", "process_iter"):
        monkeypatch.setattr(machine.psutil, name, missing)
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    assert (machine.load(), machine.memory(), machine.most_processes()) == (0.0, 0.0, 0)
