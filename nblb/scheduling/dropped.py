"""Ids of dropped tasks and jobs: a late copy of a task does not run again, and a query for an expired result gets a
better answer than "unknown".

They are bounded in number and not in the journal: after a restart, or after many others, a dropped task is unknown.
"""

from __future__ import annotations

from typing import TypeVar

Name = TypeVar("Name")

MOST_DROPPED = 10_000  # tasks, and as many jobs, that are remembered


class Dropped:
    """Dropped tasks and jobs, the latest last, and whether they were dropped because they had expired."""

    def __init__(self) -> None:
        self._tasks: dict[str, bool] = {}
        self._jobs: dict[str | tuple[str, str], bool] = {}

    def __contains__(self, task: str) -> bool:
        return task in self._tasks

    def task(self, task: str, expired: bool) -> None:
        """Note that the submission with this id is dropped."""
        _note(self._tasks, task, expired)

    def job(self, job: str, user: str, name: str, expired: bool) -> None:
        """Note that the job with this id, user and name is dropped."""
        _note(self._jobs, job, expired)
        _note(self._jobs, (user, name), expired)

    def has_expired(self, job: str = "", user: str = "", name: str = "") -> bool:
        """Return whether the latest job dropped under this id or name had reached the end of its time to live."""
        return self._jobs.get(job, False) or self._jobs.get((user, name), False)

    def was_given_up(self, job: str) -> bool:
        """Return whether the job with this id was dropped on request."""
        return self._jobs.get(job, True) is False

    def answer(self, task: str) -> tuple[str, str]:
        """Return the error for a task that the core does not have: the name of its class, and the sentence.

        `task` is the id of a submission, or of an item of one: "submission.item".
        """
        gone = self._tasks.get(task, self._tasks.get(task.rpartition(".")[0]))
        if gone:
            return "ResultExpired", (
                f"the result of task {task} has expired: it was dropped LB_RESULT_TTL_S after it was collected, or "
                "LB_JOB_TTL_S after its end; submit the task again"
            )
        if gone is not None:
            return "UnknownTask", f"the core does not know task {task} any more: its job was dropped on request"
        return "UnknownTask", (
            f"the core does not know task {task}: it was never submitted, or was dropped before the core's last start"
        )


def _note(known: dict[Name, bool], name: Name, expired: bool) -> None:
    known.pop(name, None)
    known[name] = expired
    while len(known) > MOST_DROPPED:
        del known[next(iter(known))]
