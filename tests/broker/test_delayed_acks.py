"""Acknowledgements wait for company, and not for ever."""

from __future__ import annotations

from typing import Any

from nblb.broker.delayed_acks import MOST_PATIENT, PATIENT_S
from nblb.broker.outgoing import Outgoing
from nblb.protocol.framing import Payload
from nblb.protocol.messages import EndCommitted, Heartbeat, TaskAccepted, TaskEnded, TaskState


class Doors:
    def __init__(self) -> None:
        self.said: list[tuple[str, list[Any]]] = []

    def send(self, to: str, messages: list[Any]) -> None:
        self.said.append((to, list(messages)))

    def taken(self) -> list[tuple[str, list[Any]]]:
        said, self.said = self.said, []
        return said


ACCEPTED = TaskAccepted(task="a")
ENDED = TaskEnded(task="a", state=TaskState.DONE, payload=Payload((b"x",)))
RECEIPT = EndCommitted(task="a", attempt=1, first=0)


def test_an_acceptance_leaves_with_the_end_and_in_front_of_it() -> None:
    out, doors = Outgoing(), Doors()
    out.add("client:1", ACCEPTED)
    out.flush(doors, 1.0)  # type: ignore[arg-type]
    assert doors.taken() == []
    assert out.deadline() == 1.0 + PATIENT_S
    out.add("client:1", ENDED)
    out.add("hub:1", RECEIPT)
    out.flush(doors, 1.001)  # type: ignore[arg-type]
    assert doors.taken() == [("client:1", [ACCEPTED, ENDED])]
    out.add("hub:1", Heartbeat())
    out.flush(doors, 1.002)  # type: ignore[arg-type]
    assert doors.taken() == [("hub:1", [RECEIPT, Heartbeat()])]
    assert out.deadline() is None


def test_alone_it_leaves_when_its_time_has_come_or_at_the_end() -> None:
    out, doors = Outgoing(), Doors()
    out.add("client:1", ACCEPTED)
    out.flush(doors, 1.0)  # type: ignore[arg-type]
    out.add("client:1", TaskAccepted(task="b"))
    out.flush(doors, 1.0 + PATIENT_S / 2)  # type: ignore[arg-type]
    assert doors.taken() == []
    out.flush(doors, 1.0 + PATIENT_S)  # type: ignore[arg-type]
    assert doors.taken() == [("client:1", [TaskAccepted(tasks=("a", "b"))])]
    out.add("client:1", ACCEPTED)
    out.flush(doors, 2.0)  # type: ignore[arg-type]
    out.flush(doors, None)  # type: ignore[arg-type]
    assert doors.taken() == [("client:1", [ACCEPTED])]


def test_many_and_those_with_news_do_not_wait() -> None:
    out, doors = Outgoing(), Doors()
    some = TaskAccepted(task="a", items=3, reason="no room for more")
    out.add("client:1", some)
    for number in range(MOST_PATIENT + 1):
        out.add("hub:1", EndCommitted(task=str(number), attempt=1, first=0))
    out.flush(doors, 1.0)  # type: ignore[arg-type]
    assert [to for to, _ in doors.taken()] == ["client:1", "hub:1"]


def test_nothing_waits_for_a_peer_that_is_gone_nor_turns_the_loop_while_the_disk_is_full() -> None:
    out, doors = Outgoing(), Doors()
    out.add("client:1", ACCEPTED)
    out.add("client:2", ACCEPTED)
    out.flush(doors, 1.0)  # type: ignore[arg-type]
    out.forget("client:1")
    out.flush_unbound(doors)  # type: ignore[arg-type]
    assert out.deadline() is None
    out.flush(doors, 9.0)  # type: ignore[arg-type]
    out.flush(doors, 9.0 + PATIENT_S)  # type: ignore[arg-type]
    assert doors.taken() == [("client:2", [ACCEPTED])]
