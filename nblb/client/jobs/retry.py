"""Retrying failed items of a job. The core has their arguments, so any attached process can request it.

    retry_failed: the ledger reopens the items; RetryFailed ──► core
    core: TaskReopened ──► all watching clients; Answer ──► the client that asked

TaskReopened is authoritative in every kernel: messages before it belong to the old run of the items, messages after
it to the new one. If the Answer arrives without a TaskReopened for an item that was reopened here (another kernel was
faster, or the message was lost with a connection), the client fetches its state. Submissions that the core had
refused are simply sent again.
"""

from __future__ import annotations

import logging
import operator
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from nblb.client import redefined
from nblb.client.submit.function_cache import shelf
from nblb.client.submit.submit import PYTHON
from nblb.protocol.messages import Ask, FetchTask, RetryFailed

if TYPE_CHECKING:
    from nblb.client.connection.ports import Pending
    from nblb.client.jobs.job import Job
    from nblb.client.jobs.ledger import Ledger

log = logging.getLogger("nblb")


def retry_failed(
    job: Job, function: Callable[..., Any] | None = None, wanted: Iterable[int] | int | None = None
) -> int:
    """Run the failed and lost items (or the wanted ones of them) again, with another function if one is given.

    Returns
    -------
    int
        The number of items that run again.
    """
    connection, ledger = job._connection, job._ledger
    connection.check_open()
    chosen = None if wanted is None else _numbers(job, wanted)
    function = getattr(function, "__nblb_function__", function)
    if function is not None and not callable(function):
        raise TypeError(f"with_ is {function!r}; it must be a function or a task")
    blob = shelf.blob(function) if function is not None else None
    if blob is not None and function is not None:
        redefined.fingerprint(blob.hash, function)
    with job._lock:
        items = [item for item in failed(ledger) if chosen is None or item in chosen]
        places = ledger.in_records(items)
        refused = [job._refused.pop(task) for task in places if task in job._refused]
        if blob is not None:
            refused = [replace(spec, function=blob.hash, cache="") for spec in refused]
        kept = places.keys() - {spec.task for spec in refused}
        ours = {item for item in items if (ledger.place(item) or ("",))[0] in kept}
        asked = RetryFailed(
            request=connection.request(), job=job.job_id, items=() if chosen is None else tuple(sorted(ours))
        )
        if blob is not None:
            asked = replace(asked, function=blob.hash, python=PYTHON)
        job._port.reopen(job, items)
        if blob is not None and items:
            job._retried_with = blob.hash
        for spec in refused:
            ledger.records[spec.task].function = blob.hash if blob is not None else ""
        if ours:
            job._asked[asked.request] = ours
    for spec in refused:
        connection.owners[spec.task] = job
    if blob is None and items and redefined.newer_task(job) is not None:
        log.warning(
            "%s was redefined after job %s was submitted: retry_failed() runs the old code; "
            "use retry_failed(with_=%s) to run the new one",
            job._task_name,
            job.name,
            job._task_name,
        )
    connection.send(*([blob] if blob is not None and items else ()), *refused)
    if ours:
        connection.question(asked, lambda answer: _answered(job, asked.request, answer))
    job._port.turned(job)
    return len(items)


def _numbers(job: Job, wanted: Iterable[int] | int) -> set[int]:
    """The wanted items, counted from the start; raises IndexError for one that the job does not have."""
    each = [wanted] if isinstance(wanted, int) else list(wanted)
    return {job._number(operator.index(item)) for item in each}


def failed(ledger: Ledger) -> list[int]:
    """Failed and lost items, and those that max_failures has ended, as far as they are in a submission.

    The others were never submitted and cannot be retried.
    """
    bad = ledger.of_state("FAILED", "LOST")
    if ledger.ended_by_limit:
        bad = sorted({*bad, *ledger.ended_by_limit})
    return [item for item in bad if ledger.place(item) is not None]


def _answered(job: Job, request: int, answer: Pending) -> None:
    """Ask for items that the core has not reported as reopened by the time it answers (on the I/O thread)."""
    left = job._asked.pop(request, set())
    if answer.error and answer.kind != "LoadBalancerUnreachable":  # that error ends every wait anyway
        log.warning("job %s: no item runs again: %s", job.name, answer.error)
    if not job._connection.is_closed:
        ask_anew(job, left)
    job._port.turned(job)


def ask_anew(job: Job, items: Iterable[int]) -> None:
    """Fetch the state of these items from the core (on the I/O thread)."""
    connection, ledger = job._connection, job._ledger
    with job._lock:
        places = ledger.in_records(sorted(items))
    for task, again in places.items():
        connection.expect_again(task, ledger.records[task].items, job.job_id, job, again)
        connection.send(FetchTask(task=task))


def reconnected(job: Job) -> None:
    """Find out by the core's counts whether items ran again while the connection was down (on the I/O thread)."""
    connection = job._connection
    if connection.close_by is not None or not job._ledger.records:
        return
    connection.send(FetchTask(job=job.job_id, quiet=True))
    if failed(job._ledger):
        ask = Ask(request=connection.request(), topic="job", about={"job": job.job_id})
        connection.question(ask, lambda answer: _counted(job, answer))


def _counted(job: Job, answer: Pending) -> None:
    if answer.error or not answer.value:
        return
    counts, ledger = answer.value["counts"], job._ledger
    with job._lock:
        items = failed(ledger)
        if len(items) - len(ledger.ended_by_limit) == counts.get("FAILED", 0) + counts.get("LOST", 0):
            return
        job._port.reopen(job, items)
    ask_anew(job, items)
    job._port.turned(job)
