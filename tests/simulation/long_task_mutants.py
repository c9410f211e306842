"""Planted faults in what lets long work survive: waits between attempts, and the choice of what is retried."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

from nblb.scheduling import attempt_reports
from nblb.scheduling.long_tasks import checkpoints
from nblb.scheduling.long_tasks.deadlines import Deadlines
from nblb.scheduling.long_tasks.failure_limit import FailureLimits
from nblb.scheduling.restore import Restore
from nblb.scheduling.state import State
from nblb.scheduling.submission import SubmittedJob
from tests.simulation.planting import Patches, nothing, swap


def retries_do_not_wait() -> Patches:
    """A call that has raised is in line again at once."""
    return [patch.object(State, "delay", lambda self, task, _until: self.enqueue(task))]


def retry_waits_do_not_grow() -> Patches:
    """The wait before the third attempt is as long as that before the second."""
    return [patch.object(attempt_reports, "wait_s", lambda first_s, *_: first_s)]


def a_restart_ends_waits() -> Patches:
    """A restarted core runs at once what was waiting for its next attempt."""

    def make(original: Any) -> Any:
        def resume_open(self: Restore, record: Any) -> None:
            for task in record.slices:
                task.not_before = 0.0
            original(self, record)

        return resume_open

    return [swap(Restore, "_resume_open", make)]


def all_failures_are_retried() -> Patches:
    """`retry_on` is ignored."""
    return [patch.object(attempt_reports, "_is_final", lambda *_: False)]


def max_failures_is_ignored() -> Patches:
    """The calls of a job run, however many others have failed."""
    return [patch.object(FailureLimits, "tick", nothing)]


def the_first_failure_ends_the_job() -> Patches:
    """A job is ended before as many of its calls have failed as it allows."""
    early = property(lambda self: 0 < self.spec.max_failures <= self.failed + 1)
    return [patch.object(SubmittedJob, "has_too_many_failures", early)]


def attempts_begin_without_their_state() -> Patches:
    """What a call has saved is not sent with its next attempt."""
    return [patch.object(checkpoints, "of_slice", lambda _task: ())]


def saved_states_are_lost_in_a_restart() -> Patches:
    """A restarted core does not read what calls have saved."""
    return [patch.object(checkpoints, "restore", nothing)]


def saved_states_stay_for_ever() -> Patches:
    """What a call has saved is kept when it has ended."""
    return [patch.object(checkpoints, "drop", nothing)]


def deadlines_are_ignored() -> Patches:
    """Calls run, however long ago they were submitted."""
    return [patch.object(Deadlines, "tick", nothing)]


def a_restart_ends_deadlines() -> Patches:
    """A restarted core does not look at the deadlines of what was submitted before."""

    def make(original: Any) -> Any:
        def resume_open(self: Restore, record: Any) -> None:
            original(self, record)
            self.state.with_deadline.clear()

        return resume_open

    return [swap(Restore, "_resume_open", make)]


LONG_TASK_MUTANTS = (
    deadlines_are_ignored,
    a_restart_ends_deadlines,
    attempts_begin_without_their_state,
    saved_states_are_lost_in_a_restart,
    saved_states_stay_for_ever,
    max_failures_is_ignored,
    the_first_failure_ends_the_job,
    retries_do_not_wait,
    retry_waits_do_not_grow,
    a_restart_ends_waits,
    all_failures_are_retried,
)
