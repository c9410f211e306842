"""Fixtures for the tests of the broker."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nblb.broker import full_disk, load_balancer
from nblb.broker.journal.journal import Journal
from nblb.parameters import Parameters
from tests.broker.fakes import FakeScheduler
from tests.broker.running import Running


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    journal = Journal(tmp_path)
    assert list(journal.replay()) == []
    yield journal
    journal.close()


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Running]]:
    monkeypatch.setattr(load_balancer, "Scheduler", FakeScheduler)
    monkeypatch.setattr(full_disk, "RETRY_COMMIT_S", 0.02)
    running: list[Running] = []

    def run(parameters: Any) -> Running:
        running.append(Running(parameters))
        return running[-1]

    yield run
    for each in running:
        each.end()


@pytest.fixture
def core(run: Callable[..., Running], parameters: Parameters) -> Running:
    return run(parameters)
