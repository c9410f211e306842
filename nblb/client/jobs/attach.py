"""Attaching to existing jobs: finding them by name, and completing those whose submitter died half-way."""

from __future__ import annotations

import difflib
import functools
import logging
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from nblb.client import front_end
from nblb.client.jobs import reuse
from nblb.client.jobs.job import Job
from nblb.client.jobs.reuse import EarlierJob
from nblb.client.submit.ids import new_id
from nblb.client.submit.origin import origin
from nblb.client.submit.submit import Many, Options, give_back
from nblb.errors import ResultExpired, UnknownTask
from nblb.protocol.messages import Ask, FetchTask, ForgetJob, Message, OpenJob, SubmitTask
from nblb.user_text import clean_name

if TYPE_CHECKING:
    from nblb.client.cluster import Cluster
    from nblb.client.connection.ports import Pending

log = logging.getLogger("nblb")

SETTLE_S = 2.0  # longest wait for the ends of items that have ended; large results arrive later
STILL_SUBMITTING_S = 1.0  # for this long an incomplete job is asked for again …
SUBMITTER_S = 30.0  # … and at most for this long while the kernel that opened it is connected


def open_or_attach(
    cluster: Cluster,
    many: Many,
    options: Options,
    task_name: str,
    name: str,
    named: bool,
    supersede: str = "ask",
    max_failures: int = 0,
) -> Job:
    """The job of a map: a new one, or the existing one with the same name, function and arguments."""
    job = Job(cluster.connection, new_id(), name, task_name, many.total, many.fingerprint, many.code)
    if not many.total:
        return job
    cluster.connection.check_open()
    opening = OpenJob(
        job=job.job_id,
        name=name,
        items=many.total,
        task_name=task_name,
        fingerprint=many.fingerprint,
        code=many.code,
        marks=many.marks,
        origin=origin(),
        user=options.user,
        made=not named,
        sole=named,
        arguments=many.arguments,
        max_failures=max_failures,
    )
    values: dict[int, Any] = {}
    if named:
        about = _claim(cluster, opening)
        while about is not None:
            if not many.fresh and about["fingerprint"] == many.fingerprint and not about["counts"].get("CANCELLED"):
                return _go_on(cluster, about, many, options)
            job.earlier = EarlierJob(
                cluster.connection,
                about,
                many.fingerprint,
                many.marks,
                functools.partial(attach, cluster, str(about["job"])),
                many.fresh,
            )
            values = _taken(cluster, job.earlier, about, many)
            about = _claim(cluster, replace(opening, replaces=about["job"]))
        cluster.connection.send(*many.blobs())
    else:
        cluster.connection.send(*many.blobs(), opening)
    _submit(job, many, options, values, supersede)
    return job


def _claim(cluster: Cluster, opening: OpenJob) -> dict[str, Any] | None:
    """Open the job under its name; return the core's row of another job that already has the name, or None."""
    connection = cluster.connection
    try:
        about: dict[str, Any] | None = connection.wait_for(
            connection.question(replace(opening, request=connection.request()))
        )
    except BaseException:  # the job would stay empty
        if not connection.is_closed:
            connection.send(ForgetJob(job=opening.job))
        raise
    return about


def _taken(cluster: Cluster, earlier: EarlierJob, about: dict[str, Any], many: Many) -> dict[int, Any]:
    """Item -> its result in the earlier job, which loses the name."""
    if many.fresh or not (earlier.same_code and about["counts"].get("DONE")):
        return {}
    return reuse.taken_values(earlier, _join(cluster, about), about.get("marks", ""), many.marks)


def _submit(job: Job, many: Many, options: Options, values: Mapping[int, Any], supersede: str) -> None:
    """Submit a job that has just been opened, and decide what happens to the earlier job of that name."""
    earlier = job.earlier
    if earlier is not None and earlier.left and supersede != "ask":
        (earlier.cancel if supersede == "cancel" else earlier.keep)()
    taken = give_back(values, job.job_id, options, job._task_name) if values else []
    _say(job, taken, values)
    given = {item for spec in _records(taken) for item in range(spec.index, spec.index + spec.items)}
    _send_records(job, many, options, [item not in given for item in range(many.total)] if given else None)
    if earlier is not None:
        _tell(job, earlier, len(given))


def _tell(job: Job, earlier: EarlierJob, taken: int) -> None:
    """Report the replacement in one line: on the card where there is one, else in the log."""
    earlier.taken = taken
    row = earlier.row()
    ask = " (job.earlier.cancel() ends them)" if row.left and not row.fate else ""
    said = f"job {job.name} takes over the name; {reuse.words(row)}{ask}"
    if not front_end.superseded(job, said):
        log.log(logging.WARNING if row.changed else logging.INFO, said)


def _send_records(job: Job, many: Many, options: Options, wanted: list[bool] | None = None) -> None:
    _say(job, many.messages(job.job_id, options, job._task_name, wanted))


def _say(job: Job, messages: Sequence[Message], known: Mapping[int, Any] | None = None) -> None:
    """Send submissions of a job; `known` holds their results where these are known."""
    for spec in _records(messages):
        if job._port.has_record(job, spec.task):
            continue  # another thread has submitted it meanwhile
        job._port.add_record(job, spec.task, spec.index, spec.items)
        job._connection.owners[spec.task] = job
        if known is not None:
            reuse.settle_here(job, spec, known)
    job._connection.send(*messages)


def _records(messages: Sequence[Message]) -> list[SubmitTask]:
    return [message for message in messages if isinstance(message, SubmitTask)]


def _go_on(cluster: Cluster, about: dict[str, Any], many: Many, options: Options) -> Job:
    """Attach to a job whose arguments are here, and submit the items that its submitter did not."""
    about = _complete(cluster, about)
    job = _join(cluster, about)
    missing = _missing(about, many.total)
    if any(missing):
        job._connection.send(*many.blobs())
        _send_records(job, many, options, missing)
        job._port.turned(job)
    return job


def attach(cluster: Cluster, name: str) -> Job:
    """The latest job with this name (or this id), with its results so far and those to come.

    Raises
    ------
    UnknownTask
        The core has no such job; the message lists the jobs that it has.
    ResultExpired
        The job existed, but the time to live of its results is over.
    """
    name = clean_name(name)
    about = cluster.connection.ask("job", {"name": name, "user": cluster.user})
    if about is None:
        about = cluster.connection.ask("job", {"job": name})
    if about is None and cluster.connection.ask("dropped", {"name": name, "user": cluster.user, "job": name}):
        raise ResultExpired(
            f"the results of job {name!r} have expired: the core drops them LB_JOB_TTL_S after their "
            "end; run the map again"
        )
    if about is None:
        known = sorted({row["name"] for row in cluster.connection.ask("jobs", {"user": cluster.user})})
        close = difflib.get_close_matches(name, known, n=3)
        there = f"there are {', '.join(known[:20])}" if known else "there is none"
        there = f"did you mean {' or '.join(close)}?" if close else there
        raise UnknownTask(f"the core knows no job {name!r} of {cluster.user}; {there}")
    about = _complete(cluster, about)
    job = _join(cluster, about)
    missing = [item for item, lacks in enumerate(_missing(about, len(job))) if lacks]
    if missing:
        job._port.lose(
            job,
            missing,
            f"it was never submitted, because its notebook ended first; run the map again with job={about['name']!r}",
        )
        job._port.turned(job)
    return job


def _complete(cluster: Cluster, about: dict[str, Any]) -> dict[str, Any]:
    """The core's row of a job, once it is complete, or its submitter is gone or has sent nothing for too long."""
    me, now = cluster.connection.session.hello.client, time.monotonic()
    until, patience = now + STILL_SUBMITTING_S, now + SUBMITTER_S
    while any(_missing(about, about["items"])) and time.monotonic() < min(until, patience):
        time.sleep(0.05)
        about = cluster.connection.ask("job", {"job": about["job"]}) or about
        if about.get("submitter", "") not in ("", me):
            until = time.monotonic() + STILL_SUBMITTING_S
    return about


def _missing(about: dict[str, Any], total: int) -> list[bool]:
    """One flag an item: True if no submission contains it."""
    lacks = [True] * total
    for record in about["records"]:
        lacks[record["index"] : record["index"] + record["items"]] = [False] * record["items"]
    return lacks


def _join(cluster: Cluster, about: dict[str, Any]) -> Job:
    """A Job built from the core's row; the ends of its items are fetched from the core."""
    connection = cluster.connection
    known: Job | None = connection.jobs.get(about["job"])
    if known is not None:
        return known
    records = about["records"]
    total = max([about["items"], *(record["index"] + record["items"] for record in records)])
    code = about.get("code", "")
    job = Job(connection, about["job"], about["name"], about["task_name"], total, about["fingerprint"], code)
    job._port.attached(job)
    job._created_at = about.get("created_at") or job._created_at
    for record in records:
        job._port.add_record(job, record["task"], record["index"], record["items"])
        connection.expect(record["task"], record["items"], job.job_id, job)
    opened = OpenJob(job=job.job_id, name=job.name, items=about["items"], task_name=job._task_name)
    connection.send(opened, FetchTask(job=job.job_id))
    ask = Ask(request=connection.request(), topic="job", about={"job": job.job_id})
    behind = connection.question(ask, lambda answer: _still_there(job, answer))  # answered after the ends
    behind.ready.wait(SETTLE_S)
    job._port.recall(job)
    return job


def _still_there(job: Job, answer: Pending) -> None:
    """Fetch each submission by itself if the job was just dropped, since no ends come then (on the I/O thread)."""
    if answer.value is None and not answer.error:
        job._connection.send(*(FetchTask(task=task) for task in job._port.record_ids(job)))
