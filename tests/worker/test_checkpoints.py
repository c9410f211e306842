"""How often a worker sends the states that a task saves, and which."""

from __future__ import annotations

from typing import Any

import pytest

from nblb import payload as packing
from nblb import task_api
from nblb.errors import NotSerializable
from nblb.protocol.framing import Payload
from nblb.protocol.messages import Checkpoint, RunTask, TaskCheckpointed
from nblb.worker import checkpoints
from nblb.worker.checkpoints import Checkpoints
from tests.waiting import wait_until


class FakeChannel:
    def __init__(self) -> None:
        self.sent: list[TaskCheckpointed] = []

    def send(self, number: int, message: TaskCheckpointed) -> None:
        assert number == 7
        self.sent.append(message)


class FakeCell:
    item = 0


@pytest.fixture
def channel() -> FakeChannel:
    return FakeChannel()


@pytest.fixture
def cell() -> FakeCell:
    return FakeCell()


@pytest.fixture
def states(channel: Any, cell: Any) -> Checkpoints:
    return Checkpoints(channel, cell)


def run(*kept: Checkpoint, items: int = 1) -> RunTask:
    return RunTask(task="t", attempt=2, name="f", function="f", payload=Payload(), items=items, checkpoints=kept)


def sent(channel: FakeChannel) -> list[Any]:
    return [(one.offset, packing.unpack_results(one.payload)[0]) for one in channel.sent]


def test_a_state_of_an_earlier_attempt_is_handed_over_and_replaced(states: Checkpoints, cell: FakeCell) -> None:
    assert states.load("default") == "default"
    states.begin(7, run(Checkpoint(offset=1, payload=packing.pack_results([{"n": 3}])), items=2))
    assert states.load("default") == "default"
    cell.item = 1
    assert states.load("default") == {"n": 3}
    states.save({"n": 4})
    assert states.load("default") == {"n": 4}
    states.end()
    assert states.load("default") == "default"
    states.begin(7, run())
    assert states.load(None) is None


def test_states_are_sent_at_a_bounded_rate_and_the_latest_counts(
    states: Checkpoints, channel: FakeChannel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "EVERY_S", 0.2)
    states.begin(7, run())
    for n in range(100):
        states.save(n)
    assert sent(channel) == [(0, 0)]
    wait_until(lambda: len(channel.sent) > 1, 10, "the timer")
    assert sent(channel) == [(0, 0), (0, 99)]
    states.end()
    assert len(channel.sent) == 2


@pytest.mark.parametrize("end", ["flush", "end"])
def test_what_waits_is_sent_when_the_call_does_not_return(states: Checkpoints, channel: FakeChannel, end: str) -> None:
    states.begin(7, run())
    states.save("first")
    states.save("last")
    getattr(states, end)()
    assert sent(channel) == [(0, "first"), (0, "last")]


def test_what_waits_is_dropped_when_the_call_returns(states: Checkpoints, channel: FakeChannel) -> None:
    states.begin(7, run())
    states.save("first")
    states.save("last")
    states.returned()
    states.end()
    assert sent(channel) == [(0, "first")]


def test_the_state_is_that_of_the_moment_in_which_it_was_saved(states: Checkpoints, channel: FakeChannel) -> None:
    states.begin(7, run())
    numbers = [1]
    states.save(0)
    states.save(numbers)
    numbers.append(2)
    assert states.load(None) == [1]
    states.flush()
    assert sent(channel)[-1] == (0, [1])


def test_what_cannot_be_saved(states: Checkpoints, channel: FakeChannel) -> None:
    states.begin(7, run())
    with pytest.raises(ValueError, match="save less, or write it to a file"):
        states.save(b"x" * 9_000_000)
    with pytest.raises(NotSerializable):
        states.save(n for n in ())
    assert channel.sent == []


def test_outside_a_worker_nothing_is_saved() -> None:
    assert task_api.keeper is None
    task_api.checkpoint({"n": 3})
    assert task_api.resume(5) == 5
