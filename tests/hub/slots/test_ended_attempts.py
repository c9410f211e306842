"""A late copy of an order is recognised: the latest ended attempt of each slice is known."""

from __future__ import annotations

from nblb.hub.slots.ended_attempts import MOST, EndedAttempts
from nblb.protocol.framing import Payload
from nblb.protocol.messages import RunTask


def order(task: str, attempt: int, first: int = 0) -> RunTask:
    return RunTask(task=task, attempt=attempt, first=first, name="f", function="", payload=Payload())


def test_an_attempt_and_those_before_it_are_over() -> None:
    ended = EndedAttempts()
    ended.add("t", 0, 2)
    assert [ended.knows(order("t", attempt)) for attempt in (1, 2, 3)] == [True, True, False]
    assert not ended.knows(order("t", 1, first=4))
    assert not ended.knows(order("u", 1))


def test_a_late_end_of_an_old_attempt_takes_nothing_back() -> None:
    ended = EndedAttempts()
    ended.add("t", 0, 5)
    ended.add("t", 0, 1)
    assert ended.knows(order("t", 5))


def test_another_core_may_count_otherwise() -> None:
    ended = EndedAttempts()
    ended.add("t", 0, 1)
    ended.forget()
    assert not ended.knows(order("t", 1))


def test_the_longest_unchanged_slices_are_dropped_first() -> None:
    ended = EndedAttempts()
    for number in range(MOST):
        ended.add(str(number), 0, 1)
    ended.add("0", 0, 2)  # it is the latest now
    ended.add("one more", 0, 1)
    assert ended.knows(order("0", 2))
    assert not ended.knows(order("1", 1))
