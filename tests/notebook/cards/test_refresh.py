from __future__ import annotations

import time
from collections.abc import Callable

from nblb.notebook.cards.refresh import MESSAGES_PER_S, Refresher
from tests.waiting import wait_until


def test_a_tick_is_called_again_after_what_it_says_and_sleeps_when_it_says_nothing() -> None:
    calls: list[float] = []

    def tick(now: float) -> float | None:
        calls.append(now)
        return 0.05 if len(calls) < 3 else None

    sampler = Refresher()
    sampler.wake(tick)
    wait_until(lambda: len(calls) == 3, what="three looks")
    assert calls[1] - calls[0] >= 0.045
    assert not sampler._when
    sampler.wake(tick)
    wait_until(lambda: len(calls) == 4, what="a look after waking")


def test_one_that_raises_is_dropped_and_the_others_go_on() -> None:
    calls: list[float] = []

    def bad(now: float) -> float:
        raise RuntimeError("no")

    def good(now: float) -> float | None:
        calls.append(now)
        return 0.04 if len(calls) < 3 else None

    sampler = Refresher()
    sampler.wake(bad)
    sampler.wake(good)
    wait_until(lambda: len(calls) >= 3, what="the good one")


def test_many_cards_share_one_thread_and_a_bound_of_messages() -> None:
    calls: list[float] = []
    sampler = Refresher()

    def card(number: int) -> Callable[[float], float | None]:
        def tick(now: float) -> float | None:
            calls.append(now)
            return 0.01 if len(calls) < 150 else None

        return tick

    ticks = [card(number) for number in range(50)]
    for tick in ticks:
        sampler.wake(tick)
    begin = time.monotonic()
    wait_until(lambda: len(calls) >= 150, 20, "three rounds")
    assert time.monotonic() - begin >= 1.5 * len(ticks) / MESSAGES_PER_S
