"""Items of a job that run once more: asked of the core, which has their arguments, so it works in any process.

    retry_failed: the job's books open the items again; RetryFailed ──► core
    core: TaskReopened, to all who watch; Answer ──► whoever asked

TaskReopened is the truth, here and in every other kernel: what comes before it is of the items' old life, what comes
behind it of the new one. Items that were opened here and of which the Answer comes without a TaskReopened (another
kernel was faster, or the word of it was lost with a connection) are asked for. Records that the core has never
accepted are simply said again.
"""

from __future__ import annotations

import logging
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


def retry_failed(job: Job, function: Callable[..., Any] | None = None) -> int:
    """Run what failed or was lost once more, with another function if one is given; how many items that are."""
    connection, ledger = job._connection, job._ledger
    connection.check_open()
    function = getattr(function, "__nblb_function__", function)
    if function is not None and not callable(function):
        raise TypeError(f"with_ is {function!r}; it must be a function or a task")
    blob = shelf.blob(function) if function is not None else None
    if blob is not None and function is not None:
        redefined.fingerprint(blob.hash, function)
    with job._lock:
        items = failed(ledger)
        places = ledger.in_records(items)
        refused = [job._refused.pop(task) for task in places if task in job._refused]
        if blob is not None:
            refused = [replace(spec, function=blob.hash, cache="") for spec in refused]
        kept = places.keys() - {spec.task for spec in refused}
        ours = {item for item in items if (ledger.place(item) or ("",))[0] in kept}
        asked = RetryFailed(request=connection.request(), job=job.job_id)
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
            "%s was defined anew since job %s was submitted: retry_failed() runs the code from then, "
            "retry_failed(with_=%s) the new one",
            job._task_name,
            job.name,
            job._task_name,
        )
    connection.say(*([blob] if blob is not None and items else ()), *refused)
    if ours:
        connection.question(asked, lambda answer: _answered(job, asked.request, answer))
    job._port.turned(job)
    return len(items)


def failed(ledger: Ledger) -> list[int]:
    """Those that are in a record; the others were lost because no record ever held them."""
    return [item for item in ledger.of_state("FAILED", "LOST") if ledger.place(item) is not None]


def _answered(job: Job, request: int, answer: Pending) -> None:
    """In the connection's thread: all that the core has reopened is known by now."""
    left = job._asked.pop(request, set())
    if answer.error and answer.kind != "LoadBalancerUnreachable":  # else all waiting ends in that
        log.warning("job %s: nothing runs again: %s", job.name, answer.error)
    if not job._connection.is_closed:
        ask_anew(job, left)
    job._port.turned(job)


def ask_anew(job: Job, items: Iterable[int]) -> None:
    """In the connection's thread: learn from the core what has become of these items."""
    connection, ledger = job._connection, job._ledger
    with job._lock:
        places = ledger.in_records(sorted(items))
    for task, again in places.items():
        connection.expect_again(task, ledger.records[task].items, job.job_id, job, again)
        connection.say(FetchTask(task=task))


def reconnected(job: Job) -> None:
    """In the connection's thread: what ran again while the core could not be heard is learnt by its counts."""
    connection = job._connection
    if connection.close_by is not None or not job._ledger.records:
        return
    connection.say(FetchTask(job=job.job_id, quiet=True))
    if failed(job._ledger):
        ask = Ask(request=connection.request(), topic="job", about={"job": job.job_id})
        connection.question(ask, lambda answer: _counted(job, answer))


def _counted(job: Job, answer: Pending) -> None:
    if answer.error or not answer.value:
        return
    counts = answer.value["counts"]
    with job._lock:
        items = failed(job._ledger)
        if len(items) == counts.get("FAILED", 0) + counts.get("LOST", 0):
            return
        job._port.reopen(job, items)
    ask_anew(job, items)
    job._port.turned(job)
