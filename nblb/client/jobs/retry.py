"""Items of a job that run once more: asked of the core, which has their arguments, so it works in any process.

    retry_failed: the job's books open the items again; RetryFailed ──► core
    core: Answer ──► now the session expects them again, and FetchTask says all ends anew

Whatever comes before the Answer tells of the items' old life, and whatever comes after it of the new one. Records
that the core has never accepted are simply said again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from nblb.protocol.messages import FetchTask, RetryFailed

if TYPE_CHECKING:
    from nblb.client.connection.connection import Pending
    from nblb.client.jobs.job import Job
    from nblb.client.jobs.ledger import Ledger


def retry_failed(job: Job) -> int:
    """Run what failed or was lost once more; how many items that are."""
    connection, ledger = job.connection, job._ledger
    connection.check_open()
    with job._lock:
        items = _failed(ledger)
        places = ledger.in_records(items)
        refused = [job._refused.pop(task) for task in places if task in job._refused]
        job.reopen(items)
    for spec in refused:
        connection.owners[spec.task] = job
    connection.say(*refused)
    kept = places.keys() - {spec.task for spec in refused}
    if kept:
        ours = [item for item in items if (ledger.place(item) or ("",))[0] in kept]
        asked = RetryFailed(request=connection.request(), job=job.job_id)
        connection.question(asked, lambda answer: _answered(job, ours, answer))
    job.turned()
    return len(items)


def _failed(ledger: Ledger) -> list[int]:
    """Those that are in a record; the others were lost because no record ever held them."""
    return [item for item in ledger.of_state("FAILED", "LOST") if ledger.place(item) is not None]


def _answered(job: Job, items: Sequence[int], answer: Pending) -> None:
    """In the connection's thread: what the core says from now on is of the items' new life."""
    if not answer.error:
        _expect_again(job, items)
    elif answer.kind != "LoadBalancerUnreachable":  # else the connection was closed, and all waiting ends in that
        job.lose(items, answer.error, answer.kind)
    job.turned()


def _expect_again(job: Job, items: Sequence[int]) -> None:
    connection, ledger = job.connection, job._ledger
    with job._lock:
        # What had failed when the core was asked, and was heard of only after, runs again too.
        late = [item for item in _failed(ledger) if not ledger.in_records([item]).keys() & job._refused.keys()]
        job.reopen(late)
        places = ledger.in_records(sorted({*items, *late}))
    for task, again in places.items():
        connection.expect(task, ledger.records[task].items, job.job_id, job, again)
        connection.say(FetchTask(task=task))
