"""The table of transitions, and the story of a task."""

from __future__ import annotations

from itertools import pairwise

import pytest

from nblb.protocol.messages import ENDED, OpenJob, SubmitTask, TaskState
from nblb.scheduling.slice import STORY_LENGTH, TRANSITIONS, InvalidTransition, Slice
from nblb.scheduling.submission import Submission, SubmittedJob


def a_task(items: int = 1) -> Slice:
    spec = SubmitTask(task="t", name="simulate", items=items, user="anna")
    return Submission(spec, "anna", 1, 0.0, None).begin(TaskState.QUEUED, 0.0)


def test_each_state_has_a_row_and_can_be_reached() -> None:
    assert set(TRANSITIONS) == set(TaskState)
    reached = {new for row in TRANSITIONS.values() for new in row.values()}
    assert reached == set(TaskState)


def test_what_is_cancelled_stays_so_unless_it_is_retried() -> None:
    assert set(TRANSITIONS[TaskState.CANCELLED]) == {"RetryFailed", "RetryBlocked"}
    assert set(TRANSITIONS[TaskState.CANCELLING].values()) == {TaskState.CANCELLING, TaskState.CANCELLED}


def test_only_a_retry_brings_an_end_back() -> None:
    for state in ENDED:
        for cause, new in TRANSITIONS[state].items():
            assert new in ENDED or cause in ("RetryFailed", "RetryBlocked"), (state, cause)


def test_assigned_and_running_differ_only_in_where_they_are() -> None:
    assigned, running = TRANSITIONS[TaskState.ASSIGNED], TRANSITIONS[TaskState.RUNNING]
    assert assigned == running


def test_an_unnamed_pair_carries_the_story() -> None:
    task = a_task()
    task.move("RunTask", 1.0)
    task.move("TaskStarted", 1.5)
    with pytest.raises(InvalidTransition, match=r"RunTask came to .*simulate t RUNNING.*1\.500 TaskStarted: ASSIGNED"):
        task.move("RunTask", 2.0)
    assert task.state is TaskState.RUNNING


def test_the_story_is_bounded_and_late_facts_are_no_part_of_it() -> None:
    task = a_task()
    for n in range(100):
        task.move("RunTask", n)
        task.move("WorkerDied", n)
    task.move("RunTask", 100.0)
    task.move("TaskStarted", 101.0)
    task.move("TaskStarted", 102.0)
    assert len(task.story) == STORY_LENGTH
    assert [step[1] for step in task.story[-2:]] == ["RunTask", "TaskStarted"]
    assert all(before[3] == after[2] for before, after in pairwise(task.story))


def test_the_counts_of_a_job_follow_the_moves_of_its_slices() -> None:
    job = SubmittedJob(OpenJob(job="j", name="sweep", items=3), "anna", 0.0)
    task = Submission(SubmitTask(task="t", name="f", items=3), "anna", 1, 0.0, job).begin(TaskState.QUEUED, 0.0)
    for n in range(3):
        task.move("RunTask", n)
        assert job.counts == {TaskState.QUEUED: 0, TaskState.ASSIGNED: 3}
        task.move("TaskReturned", n)
        assert job.counts == {TaskState.QUEUED: 3, TaskState.ASSIGNED: 0}
    task.move("CancelTask", 99.0)
    with pytest.raises(InvalidTransition, match="RunTask came to"):
        task.move("RunTask", 100.0)
    assert job.counts[TaskState.CANCELLED] == 3


def test_ids_and_repr_say_which_items() -> None:
    assert a_task().id == "t"
    task = a_task(items=10)
    piece = task.record.take(task, 3)
    assert (piece.id, task.id) == ("t.0", "t.3")
    assert repr(task) == "<Task simulate[3:10] t QUEUED attempt 0>"
    assert piece < task
    assert not task < piece
