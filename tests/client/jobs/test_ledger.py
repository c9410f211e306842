"""The ledger of a job, against a simple model of it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nblb import payload
from nblb.client.jobs.ledger import MOST_FULL_FAILURES, UNKNOWN, Ending, Ledger
from nblb.client.snapshots import ENDED, STATES
from nblb.protocol.framing import Payload
from nblb.protocol.messages import Failure, TaskChanged, TaskEnded, TaskState

ITEMS = 12


def done(task: str, first: int, values: list[int]) -> TaskEnded:
    return TaskEnded(
        task=task, state=TaskState.DONE, first=first, items=len(values), payload=payload.pack_results(values)
    )


def failed(task: str, first: int, items: int = 1, message: str = "no", traceback: str = "text") -> TaskEnded:
    failure = Failure(kind="ValueError", message=message, where="cell In[1] line 2", traceback=traceback)
    return TaskEnded(task=task, state=TaskState.FAILED, first=first, items=items, failure=failure)


states = st.sampled_from(["DONE", "FAILED", "CANCELLED", "RUNNING", "QUEUED"])
slices = st.tuples(states, st.integers(0, ITEMS - 1), st.integers(1, 6))


@settings(deadline=None)
@given(st.lists(slices, max_size=20))
def test_against_a_model(steps: list[tuple[str, int, int]]) -> None:
    ledger, model = Ledger(ITEMS), ["QUEUED"] * ITEMS
    ledger.add("t", 0, ITEMS)
    values: dict[int, int] = {}
    for number, (state, first, items) in enumerate(steps):
        items = min(items, ITEMS - first)
        open_items = [n for n in range(first, first + items) if model[n] not in ENDED]
        for n in open_items:  # of those that run together a worker is at the first
            model[n] = state if state != "RUNNING" or n == first else "ASSIGNED"
        if state == "DONE":
            values.update(dict.fromkeys(open_items, number))
            ledger.end(done("t", first, [number] * items), [(n, 1) for n in open_items])
        elif state in ENDED:
            end = TaskEnded(task="t", state=TaskState(state), first=first, items=items, failure=Failure(kind="E"))
            ledger.end(end, [(n, 1) for n in open_items])
        else:
            ledger.show(TaskChanged(task="t", state=TaskState(state), first=first, items=items), 0.0)
    assert [STATES[state] for state in ledger.states] == model
    assert dict(zip(STATES, ledger.counts, strict=True)) == {name: model.count(name) for name in STATES}
    assert ledger.ended == sum(state in ENDED for state in model)
    assert {n: ledger.loader(n)() for n in ledger.of_state("DONE")} == values
    assert sorted(ledger.failures) == ledger.of_state("FAILED")
    assert sum(group.count for group in ledger.failure_groups()) == len(ledger.failures)


def test_records_may_come_in_any_order_and_grow_the_job() -> None:
    ledger = Ledger(0)
    for task, index in (("b", 2), ("a", 0), ("c", 4)):
        ledger.add(task, index, 2)
    assert (ledger.total, ledger.whole) == (6, True)
    assert [ledger.place(n) for n in (0, 3, 5)] == [("a", 0), ("b", 1), ("c", 1)]
    assert Ledger(3).place(1) is None
    for task in "cab":
        ledger.end(done(task, 0, [ord(task), 0]), [(0, 2)])
    assert ledger.all_values() == [97, 0, 98, 0, 99, 0]


def test_items_that_run_again() -> None:
    ledger = Ledger(6)
    ledger.add("a", 0, 4)
    ledger.end(done("a", 0, [0, 1, 0, 3]), [(0, 2), (3, 1)])
    ledger.end(failed("a", 2), [(2, 1)])
    ledger.lose([4, 5], Failure(kind="TaskLost"))
    assert ledger.of_state("FAILED", "LOST") == [2, 4, 5]
    assert ledger.in_records([0, 1, 2, 4]) == {"a": ((0, 3),)}
    assert not ledger.whole
    ledger.again([2])
    assert (sorted(ledger.failures), ledger.ended) == ([4, 5], 5)
    assert ledger.add("b", 4, 2) == [4, 5]
    ledger.again([4, 5])
    assert (ledger.failures, ledger.whole, ledger.of_state("QUEUED")) == ({}, True, [2, 4, 5])
    ledger.end(done("b", 0, [4, 5]), [(0, 2)])
    ledger.end(done("a", 2, [2]), [(2, 1)])
    assert ledger.all_values() == [0, 1, 2, 3, 4, 5]
    assert ledger.in_records([3, 4, 5]) == {"a": ((3, 1),), "b": ((0, 2),)}


def test_many_failures_do_not_fill_the_memory() -> None:
    ledger = Ledger(3 * MOST_FULL_FAILURES)
    ledger.add("t", 0, ledger.total)
    for n in range(ledger.total):
        end = failed("t", n, message=f"number {n}", traceback=f"traceback {n}")
        ledger.end(end, [(n, 1)])
    (group,) = ledger.failure_groups()
    assert (group.count, group.message, len(group.items)) == (ledger.total, "number 0", 20)
    assert len({failure.traceback for failure in ledger.failures.values()}) == MOST_FULL_FAILURES
    assert ledger.failures[ledger.total - 1].message == f"number {ledger.total - 1}"


def test_what_is_said_of_unknown_records_is_ignored() -> None:
    ledger = Ledger(1)
    assert ledger.end(failed("x", 0), [(0, 1)]) == []
    assert ledger.reject("x", Failure()) == []
    ledger.show(TaskChanged(task="x", state=TaskState.RUNNING), 0.0)
    assert ledger.counts[STATES.index("QUEUED")] == 1
    with pytest.raises(LookupError):
        ledger.loader(0)


def test_of_a_slice_that_runs_one_item_is_shown_as_running() -> None:
    ledger = Ledger(ITEMS)
    ledger.add("t", 0, ITEMS)
    ledger.show(TaskChanged(task="t", state=TaskState.RUNNING, first=2, items=8), 0.0)
    assert ledger.of_state("RUNNING") == [2]
    assert ledger.of_state("ASSIGNED") == [3, 4, 5, 6, 7, 8, 9]
    ledger.show(TaskChanged(task="t", state=TaskState.RUNNING, first=2, items=8, progress=50.0), 0.0)
    assert ledger.of_state("RUNNING") == [6]
    assert ledger.running_rows(0.0)[0].items == 8


def test_what_is_known_of_an_item_that_is_looked_at_late() -> None:
    ledger = Ledger(8)
    ledger.add("a", 0, 4)
    ledger.add("b", 4, 4)
    assert ledger.news(5) == TaskChanged(task="b", state=TaskState.QUEUED, first=1)
    running = TaskChanged(
        task="b", state=TaskState.RUNNING, items=4, progress=40.0, note="n", worker="w", host="h", attempt=2
    )
    ledger.show(running, 1.0)
    at = ledger.news(5)
    assert at is not None
    assert (at.state, at.first, at.items, at.note, at.host, at.attempt) == (TaskState.RUNNING, 1, 1, "n", "h", 2)
    assert at.progress == pytest.approx(60.0)  # of this item, where the slice is at 40
    behind = ledger.news(7)
    assert behind is not None
    assert (behind.state, behind.progress, behind.note) == (TaskState.ASSIGNED, 0.0, "")
    ledger.show(TaskChanged(task="a", state=TaskState.BLOCKED, items=4, note="why"), 1.0)
    assert ledger.news(2) == TaskChanged(task="a", state=TaskState.BLOCKED, first=2, note="why")


def test_where_and_when_items_have_ended() -> None:
    ledger = Ledger(4)
    ledger.add("a", 0, 4)
    assert ledger.ending(0) == UNKNOWN
    how: dict[str, Any] = {"worker": "w", "host": "h", "attempt": 2, "ended_at": 9.0}
    done = TaskEnded(task="a", state=TaskState.DONE, items=3, holes=(1,), duration_s=2.0, payload=Payload(), **how)
    ledger.end(done, ((0, 1), (2, 1)))
    failed = TaskEnded(task="a", state=TaskState.FAILED, first=1, duration_s=0.5, failure=Failure(), **how)
    ledger.end(failed, ((1, 1),))
    assert ledger.ending(2) == ledger.ending(0) == Ending("w", "h", 2, 1.0, 9.0)
    assert ledger.ending(1) == Ending("w", "h", 2, 0.5, 9.0)
    ledger.again([1])
    assert ledger.ending(1) == UNKNOWN
