"""The summary of a job in one sentence, with its failures grouped by kind and line."""

from __future__ import annotations

import pytest

from nblb import payload
from nblb.client.jobs.ledger import Ledger
from nblb.client.jobs.summary import MOST_GROUPS, summary, summed_up
from nblb.errors import NblbError, TaskError
from nblb.protocol.messages import Failure, TaskEnded, TaskState


def ledger(items: int, *ends: TaskEnded) -> Ledger:
    made = Ledger(items)
    made.add("t", 0, items)
    for end in ends:
        made.end(end, [(end.first, end.items)])
    return made


def failed(first: int, items: int = 1, kind: str = "ValueError", where: str = "cell In[7] line 4") -> TaskEnded:
    failure = Failure(kind=kind, message="no", where=where)
    return TaskEnded(task="t", state=TaskState.FAILED, first=first, items=items, failure=failure)


def done(first: int, items: int) -> TaskEnded:
    results = payload.pack_results([0] * items)
    return TaskEnded(task="t", state=TaskState.DONE, first=first, items=items, payload=results)


def cancelled(first: int, items: int) -> TaskEnded:
    failure = Failure(kind="TaskCancelled")
    return TaskEnded(task="t", state=TaskState.CANCELLED, first=first, items=items, failure=failure)


@pytest.mark.parametrize(
    ("ends", "sentence"),
    [
        ([], "0 of 2,000 done; 2,000 to come"),
        ([done(0, 2000)], "2,000 of 2,000 done"),
        ([done(0, 1500), cancelled(1500, 500)], "1,500 of 2,000 done; 500 cancelled"),
        (
            [failed(0, 1200), failed(1200, 1, "KeyError", "")],
            "1,201 of 2,000 failed: 1,200 × ValueError at cell In[7] line 4, 1 × KeyError; 799 to come",
        ),
        ([failed(0, 1, "", "")], "1 of 2,000 failed: 1 × no reason; 1,999 to come"),
    ],
)
def test_a_job_in_a_sentence(ends: list[TaskEnded], sentence: str) -> None:
    assert summary(ledger(2000, *ends)) == sentence


def test_beyond_a_few_groups_failures_are_counted_together() -> None:
    ends = [failed(number, kind=f"Error{number}") for number in range(MOST_GROUPS + 3)]
    assert summary(ledger(MOST_GROUPS + 3, *ends)).endswith("3 × others")


def test_the_error_of_an_item_tells_of_all_of_them() -> None:
    several = ledger(3, failed(1), failed(2))
    error = summed_up(TaskError("its own words"), several, 1)
    assert str(error).startswith("2 of 3 failed: 2 × ValueError at cell In[7] line 4; 1 to come; the first of them is")
    assert "item 1:\nits own words" in str(error)


def test_the_error_ends_with_how_to_get_the_other_results() -> None:
    error = summed_up(TaskError("its own words"), ledger(64, failed(0, 4), done(4, 60)), 0)
    assert str(error).startswith("4 of 64 failed")
    assert str(error).splitlines()[-1] == (
        'The other 60 results are in results(errors="skip"), and in dataframe() beside the errors.'
    )
    assert "The other result is in" in str(summed_up(TaskError("no"), ledger(2, failed(0), done(1, 1)), 0))
    assert "results(" not in str(summed_up(TaskError("no"), ledger(2, failed(0, 2)), 0))


@pytest.mark.parametrize(("items", "error"), [(1, TaskError("alone")), (3, NblbError("no task's"))])
def test_one_item_and_other_errors_speak_for_themselves(items: int, error: NblbError) -> None:
    before = str(error)
    assert str(summed_up(error, ledger(items, failed(0)), 0)) == before
