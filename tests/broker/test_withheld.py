"""What slow clients still have to be sent: each result by itself, some a turn."""

from __future__ import annotations

from nblb.broker.withheld import RESULTS_A_TURN, Withheld
from nblb.framing import Payload
from nblb.messages import FetchTask, TaskEnded, TaskState


def ended(first: int) -> TaskEnded:
    return TaskEnded(task="t", first=first, items=2, state=TaskState.DONE, payload=Payload((b"r",)))


def test_each_result_is_fetched_by_itself_and_once() -> None:
    withheld = Withheld()
    assert [withheld.add("client:1", ended(first)) for first in (0, 2, 0)] == [True, False, False]
    assert list(withheld.take(lambda _address: True)) == []
    assert withheld
    wishes = list(withheld.take(lambda _address: False))
    assert wishes == [("client:1", FetchTask(task="t", first=0)), ("client:1", FetchTask(task="t", first=2))]
    assert not withheld


def test_a_turn_has_some_for_everybody() -> None:
    withheld = Withheld()
    for address in ("client:1", "client:2", "client:3"):
        for first in range(RESULTS_A_TURN + 1):
            withheld.add(address, ended(2 * first))
    withheld.drop("client:2")
    for number in (RESULTS_A_TURN, 1):
        wishes = [address for address, _ in withheld.take(lambda _address: False)]
        assert wishes == ["client:1"] * number + ["client:3"] * number
