"""The latest definition of each task by name, so that a job can tell whether its function has changed since.

Running a cell again makes a new task of the same name, while a job continues with the code it was submitted with.
Code is compared by its fingerprint, which ignores comments and line numbers, as for named jobs.
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from nblb import payload

if TYPE_CHECKING:
    from nblb.client.task_decorator import Task

LOOK_S = 2.0  # how long a fingerprint is used: a global that the function reads may change
MOST_KNOWN = 1000

_tasks: weakref.WeakValueDictionary[str, Task] = weakref.WeakValueDictionary()
_latest: dict[str, tuple[float, Any, str]] = {}  # name -> (when, function, its fingerprint)
_fingerprints: dict[str, str] = {}  # fingerprints of functions, by the hash of their blob


class CodePort(Protocol):
    """The methods of JobPort (jobs/job_port.py) that concern the code of a job."""

    def code(self, job: Any, /) -> str:
        """Fingerprint of the code that the failed items ran, or the hash of a function that another process sent."""

    def turned(self, job: Any, /) -> None:
        """Handle a new definition of the job's function."""


class Watching(Protocol):
    """A job that is notified when its function is defined again."""

    _task_name: str

    @property
    def _port(self) -> CodePort: ...


_jobs: weakref.WeakSet[Watching] = weakref.WeakSet()


def watch(job: Watching) -> None:
    """Call `turned` of the job's port whenever a task with the name of its function is defined."""
    _jobs.add(job)


def defined(task: Task) -> None:
    """Record this task as the latest definition of its name."""
    _tasks[task.name] = task
    for job in list(_jobs):
        if job._task_name == task.name:
            job._port.turned(job)


def fingerprint(blob: str, function: Callable[..., Any]) -> str:
    """The fingerprint of the function that was sent as this blob."""
    found = _fingerprints.get(blob)
    if found is None:
        found = _fingerprints[blob] = payload.fingerprint(function)
        while len(_fingerprints) > MOST_KNOWN:
            _fingerprints.pop(next(iter(_fingerprints)), None)
    return found


def code_of(blob: str) -> str:
    """The fingerprint of a function that this process sent, or else the hash of its blob."""
    return _fingerprints.get(blob, blob)


def newer_task(job: Watching) -> Task | None:
    """The latest task with the name of the job's function, if its code differs from what the job runs."""
    name = job._task_name
    task = _tasks.get(name)
    if task is None:
        return None
    function, now = task.function, time.monotonic()
    known = _latest.get(name)
    if known is None or known[1] is not function or now - known[0] > LOOK_S:
        try:
            known = now, function, payload.fingerprint(function)
        except Exception:  # it captures an object that cannot be pickled; a retry with it reports that
            return None
        _latest[name] = known
    return task if known[2] != job._port.code(job) else None
