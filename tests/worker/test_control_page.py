"""The memory that a hub and a worker share."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from nblb.worker.control_page import AFTER, NOTE_BYTES, ControlPage


@pytest.fixture
def ends() -> Iterator[tuple[ControlPage, ControlPage]]:
    """(the hub's, the worker's)"""
    hub, fd = ControlPage.make()
    worker = ControlPage(fd)
    os.close(fd)
    yield hub, worker
    hub.close()
    worker.close()


def test_only_the_slice_that_is_meant_is_to_stop(ends: tuple[ControlPage, ControlPage]) -> None:
    hub, worker = ends
    assert not worker.is_to_stop(1)
    hub.stop(7)
    assert worker.is_to_stop(7)
    assert not worker.is_to_stop(8)


def test_the_hub_knows_whose_output_it_reads(ends: tuple[ControlPage, ControlPage]) -> None:
    hub, worker = ends
    worker.begin(5)
    assert hub.begin_reading() == 5
    hub.end_reading()
    worker.tidy()
    assert hub.begin_reading() == 0  # the worker itself is at it
    hub.end_reading()
    worker.end(5)
    assert hub.begin_reading() == AFTER + 5
    hub.end_reading()


def test_the_worker_waits_while_the_hub_reads(
    ends: tuple[ControlPage, ControlPage], monkeypatch: pytest.MonkeyPatch
) -> None:
    hub, worker = ends
    worker.begin(5)
    hub.begin_reading()
    waited: list[float] = []

    def yield_to_the_hub(seconds: float) -> None:
        waited.append(seconds)
        if len(waited) == 3:
            hub.end_reading()

    monkeypatch.setattr("nblb.worker.control_page.time.sleep", yield_to_the_hub)
    worker.tidy()
    assert len(waited) == 3


def test_only_the_first_of_many_words_asks_the_hub_to_look(ends: tuple[ControlPage, ControlPage]) -> None:
    hub, worker = ends
    worker.begin(5)
    assert worker.report(5, 10.0, b"ten")
    assert not worker.report(5, 20.0, "zwölf".encode())
    assert hub.read() == (5, 20.0, "zwölf")
    assert hub.read() == (5, 20.0, "zwölf")
    assert worker.report(5, 30.0, b"")
    assert hub.read() == (5, 30.0, "")


def test_a_new_slice_asks_again(ends: tuple[ControlPage, ControlPage]) -> None:
    _, worker = ends
    worker.begin(5)
    assert worker.report(5, 10.0, b"")
    worker.begin(6)
    assert worker.report(6, 1.0, b"x" * NOTE_BYTES)


def test_a_word_that_was_broken_off_is_not_read(ends: tuple[ControlPage, ControlPage]) -> None:
    hub, worker = ends
    worker.begin(5)
    worker.report(5, 10.0, b"")
    worker._words[4] += 1  # an interrupt in the midst of the next
    assert hub.read() == (0, 0.0, "")
    worker.report(5, 20.0, b"well again")
    assert hub.read() == (5, 20.0, "well again")
