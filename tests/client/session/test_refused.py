"""A refused task of which the core accepts a late copy is cancelled."""

from __future__ import annotations

from nblb.client.session.refused import MOST, RefusedTasks
from nblb.protocol.messages import CancelTask


def test_a_late_acceptance_is_cancelled_once() -> None:
    refused = RefusedTasks()
    refused.refused("t")
    assert refused.accepted("another") == []
    assert refused.accepted("t") == [CancelTask(request=-1, task="t")]
    assert refused.accepted("t") == []


def test_a_cancel_is_owed_until_it_is_answered() -> None:
    refused = RefusedTasks()
    for task in ("a", "b"):
        refused.refused(task)
        refused.accepted(task)
    assert [cancel.request for cancel in refused.unsent] == [-1, -2]  # no number of a user's question
    refused.answered(-1)
    refused.answered(7)
    assert [cancel.task for cancel in refused.unsent] == ["b"]


def test_only_the_latest_are_remembered() -> None:
    refused = RefusedTasks()
    for number in range(MOST + 1):
        refused.refused(str(number))
    assert refused.accepted("0") == []
    assert refused.accepted("1")
    assert refused.accepted(str(MOST))
