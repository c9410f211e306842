"""The rule `max_failures` of a job: after so many failed calls, its other calls are cancelled.

Such a call is CANCELLED with a failure of the kind TOO_MANY_FAILURES, which is in the journal like every end.
RetryFailed runs it again together with the failed ones.
"""

from __future__ import annotations

from nblb.protocol.messages import TOO_MANY_FAILURES, Failure, TaskState
from nblb.scheduling.cancelling import Cancelling
from nblb.scheduling.slice import Slice
from nblb.scheduling.state import State
from nblb.scheduling.submission import SubmittedJob


class FailureLimits:
    """Cancels the open calls of jobs that have as many failed calls as their `max_failures`."""

    def __init__(self, state: State, cancelling: Cancelling) -> None:
        self.state = state
        self.cancelling = cancelling

    def tick(self, now: float) -> None:
        """Apply the rule to the jobs that an event of this turn concerns; before anything is assigned to a hub."""
        over, self.state.over_limit = self.state.over_limit, {}
        for job in over:
            if job.has_too_many_failures and self.state.jobs.get(job.id) is job:
                self._end(job, now)

    def _end(self, job: SubmittedJob, now: float) -> None:
        reason = Failure(kind=TOO_MANY_FAILURES, message=_sentence(job))
        cancelled = 0
        for record in list(job.records.values()):
            if record.unended:
                cancelled += self.cancelling.cancel(record, 0, 0, False, now, reason)[0]
        if cancelled:
            self.state.log("warning", f"LB - {cancelled} tasks of job {job.spec.name} are cancelled: {reason.message}")


def _sentence(job: SubmittedJob) -> str:
    failed, most = job.failed, job.spec.max_failures
    calls = f"{failed:,} call{'s' * (failed != 1)}"
    return (
        f"{calls} of job {job.spec.name} failed (max_failures={most}), so the others were cancelled; "
        "job.retry_failed() runs all of these again"
    )


def ended_by_limit(task: Slice) -> bool:
    """Return whether the slice was cancelled by this rule, and not by a user."""
    failure = task.ended.failure if task.ended is not None else None
    return task.state is TaskState.CANCELLED and failure is not None and failure.kind == TOO_MANY_FAILURES
