"""Planted faults in what lets long work survive: waits between attempts, and the choice of what is retried."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

from nblb.scheduling import attempt_reports
from nblb.scheduling.restore import Restore
from nblb.scheduling.state import State
from tests.simulation.planting import Patches, swap


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


LONG_TASK_MUTANTS = (
    retries_do_not_wait,
    retry_waits_do_not_grow,
    a_restart_ends_waits,
    all_failures_are_retried,
)
