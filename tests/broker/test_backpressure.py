"""What slow clients still have to be sent: each result by itself, some a turn."""

from __future__ import annotations

from nblb.broker.backpressure import RESULTS_A_TURN, Backpressure
from nblb.protocol.framing import Payload
from nblb.protocol.messages import FetchTask, TaskEnded, TaskState


def ended(first: int, items: int = 2) -> TaskEnded:
    return TaskEnded(task="t", first=first, items=items, state=TaskState.DONE, payload=Payload((b"r",)))


def wish(first: int, items: int = 2) -> tuple[str, FetchTask]:
    return "client:1", FetchTask(task="t", first=first, items=items)


def test_each_result_is_fetched_by_itself_and_once() -> None:
    withheld = Backpressure()
    assert [withheld.add("client:1", ended(first)) for first in (0, 2, 0)] == [True, False, False]
    assert list(withheld.take(lambda _address: True)) == []
    assert withheld
    wishes = list(withheld.take(lambda _address: False))
    assert wishes == [wish(0), wish(2)]
    assert not withheld


def test_what_a_slice_told_before_its_end_and_that_end_are_two_results() -> None:
    """Both begin at its first item."""
    withheld = Backpressure()
    withheld.add("client:1", ended(4, items=3))
    withheld.add("client:1", ended(4, items=9))
    assert list(withheld.take(lambda _address: False)) == [wish(4, 3), wish(4, 9)]


def test_a_turn_has_some_for_everybody() -> None:
    withheld = Backpressure()
    for address in ("client:1", "client:2", "client:3"):
        for first in range(RESULTS_A_TURN + 1):
            withheld.add(address, ended(2 * first))
    withheld.drop("client:2")
    for number in (RESULTS_A_TURN, 1):
        wishes = [address for address, _ in withheld.take(lambda _address: False)]
        assert wishes == ["client:1"] * number + ["client:3"] * number
