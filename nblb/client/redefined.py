"""Tasks by their latest definition, so that a job can tell whether the function it failed with has changed since.

A cell that is run again makes another task of the same name; the job goes on with the code that it was submitted with.
Code is compared by its fingerprint, which comments and places do not change, as for jobs with a name.
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from nblb import payload

if TYPE_CHECKING:
    from nblb.client.task_decorator import Task

LOOK_S = 2.0  # how long a fingerprint serves: a global that the function reads may be another by then
MOST_KNOWN = 1000

_tasks: weakref.WeakValueDictionary[str, Task] = weakref.WeakValueDictionary()
_latest: dict[str, tuple[float, Any, str]] = {}  # name -> (when, function, its fingerprint)
_fingerprints: dict[str, str] = {}  # of functions, by the hash of their blob


class CodePort(Protocol):
    """The inner side of a job, as far as its code goes (jobs/job_port.py)."""

    def code(self, job: Any, /) -> str:
        """Fingerprint of the code that its failed items have run; the hash of a function that another process sent."""

    def turned(self, job: Any, /) -> None:
        """Called when a task of the name of its function is defined."""


class Watching(Protocol):
    """A job that is told when its function is defined anew."""

    _task_name: str

    @property
    def _port(self) -> CodePort: ...


_jobs: weakref.WeakSet[Watching] = weakref.WeakSet()


def watch(job: Watching) -> None:
    """`turned` of its port is called when a task of the name of its function is defined."""
    _jobs.add(job)


def defined(task: Task) -> None:
    """Note that this is what its name means from now on."""
    _tasks[task.name] = task
    for job in list(_jobs):
        if job._task_name == task.name:
            job._port.turned(job)


def fingerprint(blob: str, function: Callable[..., Any]) -> str:
    """Of the function that was sent as this blob."""
    found = _fingerprints.get(blob)
    if found is None:
        found = _fingerprints[blob] = payload.fingerprint(function)
        while len(_fingerprints) > MOST_KNOWN:
            _fingerprints.pop(next(iter(_fingerprints)), None)
    return found


def code_of(blob: str) -> str:
    """The fingerprint of a function that this process has sent; else the hash that it was sent by."""
    return _fingerprints.get(blob, blob)


def newer_task(job: Watching) -> Task | None:
    """What the name of the job's function means by now, if that is other code than the job runs."""
    name = job._task_name
    task = _tasks.get(name)
    if task is None:
        return None
    function, now = task.function, time.monotonic()
    known = _latest.get(name)
    if known is None or known[1] is not function or now - known[0] > LOOK_S:
        try:
            known = now, function, payload.fingerprint(function)
        except Exception:  # it captures what cannot be pickled: retrying with it would say so
            return None
        _latest[name] = known
    return task if known[2] != job._port.code(job) else None
