"""The poller: one round for all viewers, silent without viewers, and recovering by itself."""

from __future__ import annotations

import pytest

from nblb.monitoring import poller as module
from nblb.monitoring.poller import Poller
from tests.monitoring.fake_source import FakeSource
from tests.waiting import wait_until


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def source() -> FakeSource:
    return FakeSource()


def test_a_round_answers_every_topic(source: FakeSource) -> None:
    poller = Poller(source.connect)
    poller.poll()
    picture = poller._picture
    assert set(picture.answers) == {topic for topic, _ in module.QUESTIONS}
    assert picture.error == ""
    assert len(picture.history) == 1


def test_an_unreachable_core_keeps_the_last_picture(source: FakeSource) -> None:
    clock = Clock()
    poller = Poller(source.connect, clock=clock)
    poller.poll()
    source.away = True
    clock.now += 7
    poller.poll()
    picture = poller._picture
    assert picture.error.startswith("No core answers")
    assert picture.answers["status"]["name"] == "lab-5799"
    assert poller.age_s(picture) == 7
    source.away = False
    poller.poll()
    assert poller._picture.error == ""
    assert poller._picture.number > picture.number


def test_it_asks_only_while_somebody_looks(source: FakeSource) -> None:
    clock = Clock()
    poller = Poller(source.connect, every_s=0.001, clock=clock)
    try:
        poller.look()
        wait_until(lambda: source.step >= 2, 5, "rounds")
        clock.now += module.IDLE_AFTER_S + 1
        wait_until(lambda: not poller._looked.is_set(), 5, "idleness")
        step = source.step
        poller.look()
        wait_until(lambda: source.step > step, 5, "rounds again")
    finally:
        poller.stop()


def test_any_error_of_a_source_is_a_sentence(source: FakeSource) -> None:
    def broken() -> FakeSource:
        raise ZeroDivisionError

    poller = Poller(broken)
    poller.poll()
    assert poller._picture.error == "ZeroDivisionError"


def test_where_nobody_looked_the_line_is_broken() -> None:
    now, wall = [100.0], [5000.0]
    poller = Poller(FakeSource().connect, clock=lambda: now[0], wall=lambda: wall[0] + now[0])
    for at in (100.0, 101.0, 102.0, 350.0, 351.0):
        now[0] = at
        poller.poll()
    times = [point[0] for point in poller._picture.history]
    assert times == [5100.0, 5101.0, 5102.0, 5103.0, 5350.0, 5351.0]
    gap = poller._picture.history[3]
    assert gap[1] != gap[1]
    assert gap[2] != gap[2]


def test_a_clock_that_was_set_begins_the_chart_anew() -> None:
    now, wall = [100.0], [5000.0]
    poller = Poller(FakeSource().connect, clock=lambda: now[0], wall=lambda: wall[0] + now[0])
    poller.poll()
    now[0], wall[0] = 101.0, 1000.0
    poller.poll()
    assert [point[0] for point in poller._picture.history] == [1101.0]
