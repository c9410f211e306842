"""Acknowledgements are delayed to travel with other messages, but only for a bounded time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nblb.broker.outgoing import MOST_PATIENT, PATIENT_S, RESULTS_A_TURN, Backpressure, Outgoing
from nblb.protocol.framing import Payload
from nblb.protocol.messages import (
    Answer,
    EndCommitted,
    FetchTask,
    Heartbeat,
    RunTask,
    StopTask,
    TaskAccepted,
    TaskEnded,
    TaskState,
)


class Doors:
    def __init__(self) -> None:
        self.said: list[tuple[str, list[Any]]] = []

    def send(self, to: str, messages: Sequence[Any]) -> None:
        self.said.append((to, list(messages)))

    def answer_json(self, to: str, value: object) -> None:
        self.said.append((to, [value]))

    def taken(self) -> list[tuple[str, list[Any]]]:
        said, self.said = self.said, []
        return said


ACCEPTED = TaskAccepted(task="a")
ENDED = TaskEnded(task="a", state=TaskState.DONE, payload=Payload((b"x",)))
RECEIPT = EndCommitted(task="a", attempt=1, first=0)


def test_an_acceptance_leaves_with_the_end_and_in_front_of_it() -> None:
    out, doors = Outgoing(), Doors()
    out.add("client:1", ACCEPTED)
    out.flush(doors, 1.0)
    assert doors.taken() == []
    assert out.deadline() == 1.0 + PATIENT_S
    out.add("client:1", ENDED)
    out.add("hub:1", RECEIPT)
    out.flush(doors, 1.001)
    assert doors.taken() == [("client:1", [ACCEPTED, ENDED])]
    out.add("hub:1", Heartbeat())
    out.flush(doors, 1.002)
    assert doors.taken() == [("hub:1", [RECEIPT, Heartbeat()])]
    assert out.deadline() is None


def test_alone_it_leaves_when_its_time_has_come_or_at_the_end() -> None:
    out, doors = Outgoing(), Doors()
    out.add("client:1", ACCEPTED)
    out.flush(doors, 1.0)
    out.add("client:1", TaskAccepted(task="b"))
    out.flush(doors, 1.0 + PATIENT_S / 2)
    assert doors.taken() == []
    out.flush(doors, 1.0 + PATIENT_S)
    assert doors.taken() == [("client:1", [TaskAccepted(tasks=("a", "b"))])]
    out.add("client:1", ACCEPTED)
    out.flush(doors, 2.0)
    out.flush(doors, None)
    assert doors.taken() == [("client:1", [ACCEPTED])]


def test_many_and_those_with_news_do_not_wait() -> None:
    out, doors = Outgoing(), Doors()
    some = TaskAccepted(task="a", items=3, reason="no room for more")
    out.add("client:1", some)
    for number in range(MOST_PATIENT + 1):
        out.add("hub:1", EndCommitted(task=str(number), attempt=1, first=0))
    out.flush(doors, 1.0)
    assert [to for to, _ in doors.taken()] == ["client:1", "hub:1"]


def test_nothing_waits_for_a_peer_that_is_gone_nor_turns_the_loop_while_the_disk_is_full() -> None:
    out, doors = Outgoing(), Doors()
    out.add("client:1", ACCEPTED)
    out.add("client:2", ACCEPTED)
    out.flush(doors, 1.0)
    out.forget("client:1")
    out.flush_unbound(doors)
    assert out.deadline() is None
    out.flush(doors, 9.0)
    out.flush(doors, 9.0 + PATIENT_S)
    assert doors.taken() == [("client:2", [ACCEPTED])]


def test_while_the_disk_is_full_only_what_depends_on_no_record_leaves() -> None:
    out, doors = Outgoing(), Doors()
    asked, forgotten = Answer(request=1, value={"hubs": 2}), Answer(request=2, value=True, committed=True)
    for message in (ACCEPTED, asked, forgotten, ENDED):
        out.add("client:1", message)
    out.reply("json-1", {"progress": 3})
    out.reply("json-2", {"deleted": True}, "a")
    out.flush_unbound(doors)
    assert doors.taken() == [("client:1", [asked]), ("json-1", [{"progress": 3}])]
    out.flush(doors, None)
    assert doors.taken() == [("client:1", [ACCEPTED, forgotten, ENDED]), ("json-2", [{"deleted": True}])]


def test_an_order_that_is_stopped_before_it_leaves_is_not_sent() -> None:
    """Its task was cancelled while the disk was full: the hub is only told to stop it, and answers that it has."""
    out = Outgoing()
    cancelled, other, again = (order("a", 1), order("b", 1), order("a", 2))
    stop = StopTask(task="a", attempt=1, first=0, why="cancel")
    for message in (cancelled, other, stop, again):
        out.add("hub:1", message)
    out.add("hub:2", cancelled)
    out.keep_orders(lambda _hub, _order: True)
    assert out.sends == {"hub:1": [other, stop, again], "hub:2": [cancelled]}


def order(task: str, attempt: int) -> RunTask:
    return RunTask(task=task, attempt=attempt, name="f", function="", payload=Payload())


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
