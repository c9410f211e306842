"""Jobs that exist already: found by their name, taken up, and completed where their submitter died half-way."""

from __future__ import annotations

import difflib
import logging
import time
from typing import TYPE_CHECKING, Any

from nblb.client.ids import new_id
from nblb.client.job import Job
from nblb.client.origin import origin
from nblb.client.submitting import Many, Options
from nblb.errors import UnknownTask
from nblb.messages import Ask, FetchTask, OpenJob

if TYPE_CHECKING:
    from nblb.client.cluster import Cluster

log = logging.getLogger("nblb")

SETTLE_S = 2.0  # how long what has ended is waited for; larger results come later
STILL_SUBMITTING_S = 1.0  # a job without all of its records is looked at again for so long


def open_or_attach(cluster: Cluster, many: Many, options: Options, task_name: str, name: str, named: bool) -> Job:
    """The job of a map: a new one, or the one that has its name, function and arguments."""
    user = options.user or cluster.user
    if named and many.total:
        about = cluster.connection.ask("job", {"name": name, "user": user})
        if about is not None and about["fingerprint"] == many.fingerprint and not about["counts"].get("CANCELLED"):
            return _go_on(cluster, about, many, options)
        if about is not None and about["fingerprint"] != many.fingerprint:
            log.warning(
                "job %s has other code or arguments than before: a new one takes over the name "
                "(the results of the old one stay at the core under its id, %s)",
                name,
                about["job"],
            )
    job = Job(cluster.connection, new_id(), name, task_name, many.total, many.fingerprint)
    opening = OpenJob(
        job=job.job_id,
        name=name,
        items=many.total,
        task_name=task_name,
        fingerprint=many.fingerprint,
        origin=origin(),
        user=options.user,
        made=not named,
    )
    if many.total:
        cluster.connection.check_open()
        cluster.connection.say(*many.blobs(), opening)
        _say_records(job, many, options)
    return job


def _say_records(job: Job, many: Many, options: Options, wanted: list[bool] | None = None) -> None:
    specs = many.messages(job.job_id, options, job.task_name, wanted)
    for spec in specs:
        job.add_record(spec.task, spec.index, spec.items)
        job.connection.owners[spec.task] = job
    job.connection.say(*specs)


def _go_on(cluster: Cluster, about: dict[str, Any], many: Many, options: Options) -> Job:
    """Take up a job whose arguments are at hand: what its submitter did not bring in any more is submitted now."""
    about = _complete(cluster, about)
    job = _join(cluster, about)
    missing = _missing(about, many.total)
    if any(missing):
        job.connection.say(*many.blobs())
        _say_records(job, many, options, missing)
        job.turned()
    return job


def attach(cluster: Cluster, name: str) -> Job:
    """The latest job of this name (or with this id): its results so far, and all that come.

    Raises
    ------
    UnknownTask
        There is none; the message names those that there are.
    """
    about = cluster.connection.ask("job", {"name": name, "user": cluster.user})
    if about is None:
        about = cluster.connection.ask("job", {"job": name})
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
        job.lose(
            missing,
            f"it was never submitted, because its notebook ended first; run the map again with job={about['name']!r}",
        )
        job.turned()
    return job


def _complete(cluster: Cluster, about: dict[str, Any]) -> dict[str, Any]:
    """What the core knows of a job, after a moment for one that is being submitted."""
    until = time.monotonic() + STILL_SUBMITTING_S
    while any(_missing(about, about["items"])) and time.monotonic() < until:
        time.sleep(0.1)
        about = cluster.connection.ask("job", {"job": about["job"]}) or about
    return about


def _missing(about: dict[str, Any], total: int) -> list[bool]:
    """Which items no record holds."""
    lacks = [True] * total
    for record in about["records"]:
        lacks[record["index"] : record["index"] + record["items"]] = [False] * record["items"]
    return lacks


def _join(cluster: Cluster, about: dict[str, Any]) -> Job:
    """A Job for what the core has; the ends come as they are fetched."""
    connection = cluster.connection
    known: Job | None = connection.jobs.get(about["job"])
    if known is not None:
        return known
    records = about["records"]
    total = max([about["items"], *(record["index"] + record["items"] for record in records)])
    job = Job(connection, about["job"], about["name"], about["task_name"], total, about["fingerprint"])
    job.attached()
    for record in records:
        job.add_record(record["task"], record["index"], record["items"])
        connection.expect(record["task"], record["items"], job.job_id, job)
    opened = OpenJob(job=job.job_id, name=job.name, items=about["items"], task_name=job.task_name)
    connection.say(opened, FetchTask(job=job.job_id))
    behind = connection.question(Ask(request=connection.request(), topic="published"))  # answered after the ends
    behind.ready.wait(SETTLE_S)
    job.recall()
    return job
