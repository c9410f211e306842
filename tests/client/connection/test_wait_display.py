"""What a wait shows, and when."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from nblb.client import front_end
from nblb.client.connection import wait_display, waiting
from nblb.client.connection.wait_display import BackgroundDisplay
from tests.waiting import wait_until


class Thing:
    """Something that is awaited."""


class Shown:
    """A front-end that notes what it was asked to show."""

    def __init__(self) -> None:
        self.things: list[Any] = []
        self.cell = "cell 1"

    def waits(self) -> tuple[Any, str]:
        return self.things.append, self.cell


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Iterator[Shown]:
    found = Shown()
    monkeypatch.setattr(front_end, "_pictures", {"waits": found.waits})
    monkeypatch.setattr(wait_display, "shown_after_s", 0.05)
    monkeypatch.setattr(wait_display, "_cell", "")
    return found


def wait(thing: Any, seconds: float) -> None:
    waiting.wait_on(threading.Condition(), lambda: False, seconds, lambda: thing)


def test_a_wait_that_lasts_is_shown_once_in_each_cell(shown: Shown) -> None:
    thing = Thing()
    wait(thing, 0.01)
    assert shown.things == []
    wait(thing, 0.3)
    wait(thing, 0.3)
    assert shown.things == [thing]
    shown.cell = "cell 2"
    wait(thing, 0.3)
    assert shown.things == [thing, thing]


def test_short_waits_for_one_thing_add_up(shown: Shown) -> None:
    thing, other = Thing(), Thing()
    until = time.monotonic() + 5
    while not shown.things and time.monotonic() < until:
        wait(thing, 0.02)
    assert shown.things == [thing]
    wait(other, 0.01)
    assert shown.things == [thing]


def test_a_wait_that_is_over_at_once_or_switched_off_shows_nothing(
    shown: Shown, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert waiting.wait_on(threading.Condition(), lambda: True, 1.0, Thing)
    monkeypatch.setattr(wait_display, "shown_after_s", 0.0)
    wait(Thing(), 0.1)
    assert shown.things == []


def test_only_the_main_thread_shows_what_it_waits_for(shown: Shown) -> None:
    thread = threading.Thread(target=wait, args=(Thing(), 0.2))
    thread.start()
    thread.join(10)
    assert shown.things == []


def test_a_block_can_name_what_its_waits_are_for(shown: Shown) -> None:
    group, one = Thing(), Thing()
    with wait_display.waiting_for(lambda: group):
        wait(one, 0.3)
    assert shown.things == [group]


def test_a_wait_in_code_of_others_is_shown_from_a_thread(shown: Shown) -> None:
    thing = Thing()
    display = BackgroundDisplay(lambda: thing)
    wait_until(lambda: shown.things == [thing], 5, "the card")
    display.stop()
    quick = BackgroundDisplay(Thing)
    quick.stop()
    wait_until(lambda: not any(thread.name == "nblb-wait" for thread in threading.enumerate()), 5, "the thread's end")
    assert shown.things == [thing]


def test_the_setting_follows_the_current_cluster(cluster: Any) -> None:
    assert wait_display.shown_after_s == cluster.parameters.LB_SHOW_WAIT_S == 0.5
