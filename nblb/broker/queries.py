"""Answers to Ask messages, from the scheduler's state, as plain JSON values.

One function a topic; each takes (scheduler, about, now). Nothing here changes anything, and no answer walks all
tasks unless its topic is about tasks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Any

import msgspec

from nblb.broker import monitor_queries
from nblb.protocol.messages import ENDED, CardUse, TaskState
from nblb.scheduling.backlog import UserQueue
from nblb.scheduling.hubs import NEVER, GroupOfWorkers, Hub
from nblb.scheduling.reporting.calls import NONE, AtWork, at_work_by_job, in_flight
from nblb.scheduling.scheduler import Scheduler
from nblb.scheduling.slice import Slice
from nblb.scheduling.submission import Submission, SubmittedJob

MOST_ROWS = 10_000
MOST_TEXT = 64 * 1024  # of arguments that are shown
CODE = 32  # the code's digits at the start of a fingerprint, in journals older than the field for it
MOST_LOOKED_AT = 1_000  # waiting slices of a user


def answer(scheduler: Scheduler, topic: str, about: dict[str, Any], now: float) -> Any:
    """Return the value for one topic.

    Raises
    ------
    LookupError
        There is no such topic; the message lists the topics.
    """
    function = TOPICS.get(topic)
    if function is None:
        raise LookupError(f"there is no topic {topic!r}; there are {', '.join(sorted(TOPICS))}")
    return function(scheduler, about, now)


def status(scheduler: Scheduler, about: dict[str, Any], now: float) -> dict[str, Any]:
    state, policy = scheduler.state, scheduler.policy
    queued, running = sum(user.waiting for user in state.share.users.values()), 0
    for each in in_flight(state):
        queued, running = queued + each.waiting, running + each.running
    return {
        "name": policy.name,
        "core": policy.core,
        "epoch": policy.epoch,
        "pid": policy.pid,
        "durability": policy.durability,
        "counts": {
            "QUEUED": queued,
            "RUNNING": running,
            "DONE": sum(user.done for user in state.share.users.values()),
            "FAILED": sum(user.failed for user in state.share.users.values()),
        },
        "queued": queued,
        "running": running,
        "hubs": len(state.hubs),
        "workers": sum(hub.slots for hub in state.hubs.values()),
        "busy": sum(_busy(group) for hub in state.hubs.values() for group in hub.groups),
        "users": sorted({client.user for client in state.clients.values()}),
        "clients": len(state.clients),
        "late_facts": state.late_facts,
        "records": len(state.records),
        "idle_end": scheduler.idle_end.described(now),
        "adapts": scheduler.administration.adaptation.described(),
    }


def hubs(scheduler: Scheduler, about: dict[str, Any], now: float) -> list[dict[str, Any]]:
    rows = []
    for hub in scheduler.state.hubs.values():
        hello = hub.hello
        rows.append(
            {
                "hub": hub.id,
                "name": hub.name,
                "host": hello.host,
                "ip": hello.ip,
                "pid": hello.pid,
                "state": "suspect"
                if hub.suspect
                else "leaving"
                if hub.leaves
                else "draining"
                if hub.draining
                else "up",
                "age_s": max(0.0, now - hub.received_at),
                "load": hub.load,
                "memory": hub.memory,
                "python": list(hello.python),
                "numpy": hello.numpy,
                "workers": hub.slots,
                "busy": sum(map(_busy, hub.groups)),
                "address": hello.address,
                "disk": hub.disk,
                "way_s": hub.way_s,
                "cloudpickle": hello.cloudpickle,
                "nblb": hello.nblb,
                "batch_job": hello.batch_job,
                "left_s": max(0.0, hub.ends_at - now) if hub.ends_at < NEVER else None,
                "engine": hello.groups[0].engine if hello.groups else "processes",
                "gpus": [_card(hub, card) for card in hub.cards],
                "functions": sorted(hub.functions),
                "holds": [name for name in about.get("holds", ()) if name in hub.holds],
                "groups": [
                    {
                        "group": group.number,
                        "workers": group.wanted,
                        "alive": group.alive,
                        "given": group.given,
                        "busy": _busy(group),
                        "minP": group.spec.minP,
                        "maxP": group.spec.maxP,
                        "processP": group.spec.processP,
                        "engine": group.spec.engine,
                        "only": list(group.spec.only),
                        "run_as": group.spec.run_as,
                        "gpus": group.spec.has.gpus,
                        "memory_mb": group.spec.has.memory_mb or group.spec.share_mb,
                        "features": list(group.spec.has.features),
                        "reserved": group.spec.has.reserved,
                    }
                    for group in hub.groups
                ],
            }
        )
    return rows


def _card(hub: Hub, card: CardUse) -> dict[str, Any]:
    """Return what is in use on a GPU, and the tasks that run on it."""
    busy = [hub.workers[worker].held for worker in card.workers if worker in hub.workers]
    return {
        **msgspec.structs.asdict(card),
        "outside": list(card.outside),
        "workers": list(card.workers),
        "tasks": [{"task": held.record.id, "name": held.record.spec.name, "user": held.record.user}
                  for held in busy if held is not None],
    }  # fmt: skip


def _hub_state(hub: Hub) -> str:
    return "suspect" if hub.suspect else "leaving" if hub.leaves else "draining" if hub.draining else "up"


def _busy(group: GroupOfWorkers) -> int:
    """Return the group's busy workers; a hub may report the end of an attempt with a delay."""
    return min(group.given, group.alive)


def workers(scheduler: Scheduler, about: dict[str, Any], now: float) -> list[dict[str, Any]]:
    rows = []
    for hub in scheduler.state.hubs.values():
        for worker in hub.workers.values():
            held = worker.held
            if held is None and worker.stand_in:
                continue  # kept for the next task that waits
            task = held.tasks[0] if held is not None and held.tasks else None
            rows.append(
                {
                    "worker": worker.id,
                    "hub": hub.name,
                    "host": hub.hello.host,
                    "ip": hub.hello.ip,
                    "lb_port": hub.hello.lb_port,
                    "hc_port": hub.hello.hc_port,
                    "address": hub.hello.address,
                    "pid": worker.pid or None,
                    "group": worker.group.number,
                    "minP": worker.group.spec.minP,
                    "maxP": worker.group.spec.maxP,
                    "state": "idle" if held is None else "busy",
                    "suspect": hub.suspect,
                    "waits": held is not None and held.wait > 0,
                    "stand_in": worker.stand_in,
                    "task": held.record.id if held is not None else "",
                    "first": held.first if held is not None else 0,
                    "items": held.items if held is not None else 0,
                    "task_name": held.record.spec.name if held is not None else "",
                    "user": held.record.user if held is not None else "",
                    "progress": task.progress if task is not None else 0.0,
                    "note": task.note if task is not None else "",
                    "since_s": max(0.0, now - worker.since),
                    "done": worker.done,
                    "cpu": hub.load * 100.0,
                    "own_cpu": hub.usage[worker.id].cpu if worker.id in hub.usage else None,
                    "memory_mb": hub.usage[worker.id].memory_mb if worker.id in hub.usage else None,
                    "job": held.record.job.spec.name if held is not None and held.record.job is not None else "",
                }
            )
    return rows


def users(scheduler: Scheduler, about: dict[str, Any], now: float) -> list[dict[str, Any]]:
    queued: Counter[UserQueue] = Counter()
    running: Counter[UserQueue] = Counter()
    for held, at_work, waiting in in_flight(scheduler.state):
        running[held.user] += at_work
        queued[held.user] += waiting
    share = scheduler.state.share
    return [
        {
            "user": user.name,
            "name": user.name,
            "group": user.limits.group,
            "share": user.limits.share,
            "max_queued": user.limits.max_queued,
            "max_running": user.limits.max_running,
            "max_bytes": user.limits.max_bytes,
            "stored_bytes": share.stored(user),
            "queued": user.waiting + queued[user],
            "running": running[user],
            "done": user.done,
            "failed": user.failed,
            "used_s": user.used_s,
            "recent_s": scheduler.state.share.recent_s(user, now),
            "occupied": user.occupied,
        }
        for user in share.users.values()
    ]


def groups(scheduler: Scheduler, _about: dict[str, Any], now: float) -> list[dict[str, Any]]:
    share = scheduler.state.share
    return [
        {
            "group": group.name,
            "share": group.limits.share,
            "max_queued": group.limits.max_queued,
            "max_running": group.limits.max_running,
            "max_bytes": group.limits.max_bytes,
            "stored_bytes": share.stored(group),
            "occupied": group.occupied,
            "users": [user.name for user in share.users.values() if user.group is group],
        }
        for group in share.groups.values()
    ]


def queue(scheduler: Scheduler, _about: dict[str, Any], now: float) -> dict[str, Any]:
    by_user: dict[str, int] = {}
    by_priority: dict[str, int] = {}
    by_name: dict[str, dict[str, float]] = {}
    notes: dict[str, str] = {}  # by name: why no worker takes it
    oldest = now
    for user in scheduler.state.share.users.values():
        if user.waiting:
            by_user[user.name] = user.waiting
        for priority, items in user.by_priority.items():
            by_priority[f"{priority:g}"] = by_priority.get(f"{priority:g}", 0) + items
        for name, items in user.by_name.items():
            by_name.setdefault(name, {"number": 0, "waitingtime": 0.0})["number"] += items
        for task in islice(user.tasks(), MOST_LOOKED_AT):  # the longest waits come first
            row = by_name[task.record.spec.name]
            row["waitingtime"] = max(row["waitingtime"], now - task.queued_at)
            if task.record.spec.name not in notes:
                notes[task.record.spec.name] = scheduler.dispatch.no_taker(task.record)
            oldest = min(oldest, task.queued_at)
    for held, _, waiting in in_flight(scheduler.state):  # sent ahead
        if waiting:
            spec, since = held.record.spec, held.tasks[0].queued_at
            by_user[held.user.name] = by_user.get(held.user.name, 0) + waiting
            by_priority[f"{spec.priority:g}"] = by_priority.get(f"{spec.priority:g}", 0) + waiting
            row = by_name.setdefault(spec.name, {"number": 0, "waitingtime": 0.0})
            row["number"] += waiting
            row["waitingtime"] = max(row["waitingtime"], now - since)
            oldest = min(oldest, since)
    return {
        "by_user": by_user,
        "by_priority": by_priority,
        "by_name": by_name,
        "notes": {name: note for name, note in notes.items() if note},
        "oldest_s": now - oldest,
    }


def jobs(scheduler: Scheduler, about: dict[str, Any], now: float) -> list[dict[str, Any]]:
    found = [
        job
        for job in scheduler.state.jobs.values()
        if about.get("user") in (None, job.user) and about.get("name") in (None, job.spec.name)
    ]
    at_work = at_work_by_job(scheduler.state)
    limit = int(about.get("limit") or MOST_ROWS)
    if len(found) > limit:  # jobs that go on are among them, however old they are
        going = [job for job in found if _goes_on(job)][-limit:]
        ended = [job for job in found if not _goes_on(job)]
        found = [*ended[max(0, len(ended) - (limit - len(going))) :], *going]
    return [_job_row(scheduler, job, at_work, now) for job in found]


def _goes_on(job: SubmittedJob) -> bool:
    """True if items of the job have not ended, or have not been submitted yet."""
    return bool(job.unended) or sum(job.counts.values()) < job.items


def ended_job(scheduler: Scheduler, job: SubmittedJob, now: float) -> dict[str, Any]:
    """Return what LB_ON_JOB_END gets about a job."""
    row = _job_row(scheduler, job, {}, now)
    keys = ("job", "name", "user", "task_name", "state", "items", "counts", "created_at", "ended_at", "origin")
    return {"cluster": scheduler.policy.name, **{key: row[key] for key in keys}}


def job(scheduler: Scheduler, about: dict[str, Any], now: float) -> dict[str, Any] | None:
    state = scheduler.state
    found = state.jobs.get(about.get("job") or "")
    if found is None and about.get("name"):
        found = state.jobs.get(state.job_names.get((about.get("user") or "", about["name"]), ""))
    if found is None:
        return None
    records = [{"task": r.id, "index": r.spec.index, "items": r.items} for r in found.records.values()]
    submitter = state.clients.get(found.opened_by)
    return {
        **_job_row(scheduler, found, at_work_by_job(state), now),
        "marks": found.spec.marks,
        "records": records,
        "submitter": submitter.name if submitter is not None else "",
    }


def dropped(scheduler: Scheduler, about: dict[str, Any], now: float) -> bool:
    """True if the results of the job of this id, or of this user and name, have expired."""
    job, user, name = (str(about.get(key) or "") for key in ("job", "user", "name"))
    return scheduler.state.dropped.has_expired(job, user, name)


def _job_row(
    scheduler: Scheduler, job: SubmittedJob, at_work: Mapping[SubmittedJob, AtWork], now: float
) -> dict[str, Any]:
    running = at_work.get(job, NONE)
    counts = job.shown(running.running)
    known = sum(job.counts.values())
    if _goes_on(job):
        word = "running"
    elif counts.get("FAILED") or counts.get("LOST"):
        word = "failed"
    else:
        word = "cancelled" if counts.get("CANCELLED") else "done"
    ended = None if word == "running" else max((r.ended_at for r in job.records.values()), default=None)
    return {
        "job": job.id,
        "name": job.spec.name,
        "task_name": job.spec.task_name,
        "arguments": job.spec.arguments,
        "user": job.user,
        "items": job.items or known,
        "counts": counts,
        "progressed": round(running.progressed, 3),
        "stored_bytes": sum(record.stored for record in job.records.values()),
        "created_at": scheduler.state.wall(job.created_at),
        "fingerprint": job.spec.fingerprint,
        "code": job.spec.code or job.spec.fingerprint[:CODE],
        "origin": job.spec.origin,
        "ended_at": 0.0 if ended is None else scheduler.state.wall(ended),
        "ended_ago_s": 0.0 if ended is None else scheduler.state.clock.passed_s(ended, now),
        "expires_in_s": 0.0 if ended is None else _expires_in_s(scheduler, ended, now),
        "state": word,
    }


def _expires_in_s(scheduler: Scheduler, ended: float, now: float) -> float:
    """Seconds until the results of a job that ended at `ended` may be dropped."""
    return max(0.0, scheduler.policy.job_ttl_s - scheduler.state.clock.passed_s(ended, now))


def tasks(scheduler: Scheduler, about: dict[str, Any], now: float) -> dict[str, Any]:
    state = scheduler.state
    chosen: Iterator[Submission] = iter(list(state.records.values()))
    if about.get("job"):
        found = state.jobs.get(about["job"])
        chosen = iter(list(found.records.values()) if found is not None else [])
    wanted, user, single, ended = (about.get(key) for key in ("state", "user", "single", "ended"))
    name, is_open, ending = about.get("name"), about.get("open"), str(about.get("ending") or "")
    all_tasks = [
        task
        for record in chosen
        if user in (None, record.user) and name in (None, record.spec.name) and record.id.endswith(ending)
        if not (single and record.spec.job) and not (ended and record.unended)
        if not is_open or record.unended
        for task in record.slices
        if wanted in (None, "", task.state.value) and not (is_open and task.state.ended)
    ]
    if about.get("latest"):
        all_tasks.reverse()
    offset, limit = max(0, int(about.get("offset") or 0)), min(int(about.get("limit") or 25), MOST_ROWS)
    return {
        "total": len(all_tasks),
        "rows": [_task_row(scheduler, task, now) for task in all_tasks[offset : offset + limit]],
    }


def task(scheduler: Scheduler, about: dict[str, Any], now: float) -> dict[str, Any] | None:
    record = scheduler.state.records.get(about.get("task") or "")
    first = int(about.get("first") or 0)
    if record is None or not 0 <= first < record.items:
        return None
    found = record.at(first)
    live = scheduler.state.live.get(record.id, first)
    output = live.output if live is not None else {}
    wall = scheduler.state.wall
    accepted = (wall(record.accepted_at), "SubmitTask", "", "QUEUED")
    story = [(wall(at), cause, old, new) for at, cause, old, new in found.story]
    return {
        **_task_row(scheduler, found, now),
        "story": [accepted, *story, *_end_of_story(found, scheduler.state.clock.restamped)],
        "why": scheduler.dispatch.why(found, first, now),
        "stdout": output.get("stdout", ""),
        "stderr": output.get("stderr", ""),
        "displays": list(live.displays) if live is not None else [],
        **_details(found, first),
    }


def _details(task: Slice, item: int) -> dict[str, Any]:
    """Return what the page of a call shows beside its row: its settings, its arguments, and its error in full."""
    record, ended = task.record, task.ended
    spec, failure = record.spec, ended.failure if ended is not None else None
    arguments = failure.call if failure is not None else ""
    if not arguments and spec.call == "json" and spec.payload.parts is None and spec.payload.nbytes <= MOST_TEXT:
        arguments = b"".join(map(bytes, spec.payload.buffers)).decode("utf-8", "replace")
    if not arguments and item < len(spec.arguments):
        arguments = f"{spec.name}({spec.arguments[item]})"
    return {
        "arguments": arguments,
        "bytes": spec.payload.nbytes,
        "retries": spec.retries,
        "retry_wait_s": spec.retry_wait_s,
        "retry_on": list(spec.retry_on),
        "timeout_s": spec.timeout_s,
        "deadline_s": spec.deadline_s,
        "deadline_at": spec.deadline_at,
        "at_most_once": spec.at_most_once,
        "depends": list(spec.depends[:20]),
        "tries": task.tries,
        "crashes": task.crashes,
        "job_name": record.job.spec.name if record.job is not None else "",
        "index": spec.index + item,
        "traceback": failure.traceback if failure is not None else "",
        "error": "" if failure is None else f"{failure.kind}: {failure.message}",
        "line": failure.line if failure is not None else "",
        "result_bytes": ended.payload.nbytes if ended is not None and ended.payload is not None else 0,
    }


END_CAUSES = {
    TaskState.DONE: "TaskFinished",
    TaskState.FAILED: "TaskFailed",
    TaskState.CANCELLED: "CancelTask",
    TaskState.LOST: "TooManyCrashes",
}


def _end_of_story(task: Slice, restamped: Callable[[float], float]) -> list[tuple[float, str, str, str]]:
    """Return the last steps of a slice that ended under an earlier core, as far as its recorded end shows them."""
    ended = task.ended
    if ended is None or (task.story and task.story[-1][3] in ENDED):
        return []
    ended_at = restamped(ended.ended_at)
    if ended.duration_s <= 0.0:
        return [(ended_at, END_CAUSES[ended.state], "QUEUED", ended.state.value)]
    began_at = ended_at - ended.duration_s
    given = (began_at, "RunTask", "QUEUED", "ASSIGNED")  # its time is not kept; no later than this
    return [
        *([] if task.story and task.story[-1][3] is TaskState.ASSIGNED else [given]),
        (began_at, "TaskStarted", "ASSIGNED", "RUNNING"),
        (ended_at, END_CAUSES[ended.state], "RUNNING", ended.state.value),
    ]


def _task_row(scheduler: Scheduler, task: Slice, now: float) -> dict[str, Any]:
    record, held, ended = task.record, task.held, task.ended
    failure = ended.failure if ended is not None else None
    started = held.started_at if held is not None else 0.0
    clock = scheduler.state.clock
    return {
        "task": record.id,
        "first": task.first,
        "items": task.items,
        "of": record.items,
        "name": record.spec.name,
        "calls": list(record.spec.arguments[task.first : task.first + task.items]),
        "job": record.spec.job,
        "state": task.state.value,
        "progress": 100.0 if task.state is TaskState.DONE else task.progress,
        "note": task.note,
        "user": record.user,
        "origin": record.spec.origin,
        "priority": record.spec.priority,
        "attempt": task.attempt,
        "worker": held.worker if held is not None else ended.worker if ended is not None else "",
        "host": held.group.hub.hello.host if held is not None else ended.host if ended is not None else "",
        "submitted_at": scheduler.state.wall(record.accepted_at),
        "started_s": now - started if started else 0.0,
        "duration_s": ended.duration_s if ended is not None else 0.0,
        "ended_at": clock.restamped(ended.ended_at) if ended is not None else 0.0,
        "ended_ago_s": max(0.0, clock.wall(now) - clock.restamped(ended.ended_at)) if ended is not None else 0.0,
        "kept": ended is not None and bool(ended.kept),
        "function": task.function,
        "failure": None
        if failure is None
        else {"kind": failure.kind, "message": failure.message, "where": failure.where},
    }


def call_row(scheduler: Scheduler, task: Slice, item: int, now: float) -> dict[str, Any]:
    """Return the row of one call of a slice, for a list of calls."""
    row, record = _task_row(scheduler, task, now), task.record
    row["first"], row["items"] = item, 1
    row["id"] = record.id if record.items == 1 else f"{record.id}.{item}"
    row["duration_s"] /= max(1, task.ended.items if task.ended is not None else 1)
    row["job_name"] = record.job.spec.name if record.job is not None else ""
    row["index"] = record.spec.index + item
    if task.state is TaskState.QUEUED and not row["note"]:
        row["note"] = scheduler.dispatch.no_taker(record)
    return row


def why(scheduler: Scheduler, about: dict[str, Any], now: float) -> str:
    return scheduler.why(about.get("task") or "", int(about.get("first") or 0), now)


def presence(scheduler: Scheduler, about: dict[str, Any], now: float) -> dict[str, list[tuple[float, float]]]:
    """Return when kernels of each notebook were connected, by the wall clock."""
    state = scheduler.state
    found = {name: list(times) for name, times in state.presence.items()}
    for client in state.clients.values():
        found.setdefault(client.notebook, []).append((client.since, client.received_at))
    return {name: [(state.wall(begin), state.wall(end)) for begin, end in times] for name, times in found.items()}


def stats(scheduler: Scheduler, about: dict[str, Any], now: float) -> dict[str, dict[str, float]]:
    rows = {}
    for name, s in scheduler.state.tallies.by_name.items():
        ran = max(1, s.ran)
        rows[name] = {
            "totaltasks": s.total,
            "totalcalctimes": s.calc_sum,
            "mincalctimes": s.calc_min if s.ran else 0.0,
            "meancalctimes": s.calc_sum / ran,
            "maxcalctimes": s.calc_max,
            "minwaittimes": s.wait_min if s.ran else 0.0,
            "meanwaittimes": s.wait_sum / ran,
            "maxwaittimes": s.wait_max,
            "peak_mb": round(s.peak_bytes / 2**20, 1),  # 0: unknown
            "failed": s.failed,
        }
    return rows


def published(scheduler: Scheduler, about: dict[str, Any], now: float) -> dict[str, str]:
    return dict(scheduler.state.published)


TOPICS: dict[str, Callable[[Scheduler, dict[str, Any], float], Any]] = {
    "status": status,
    "hubs": hubs,
    "workers": workers,
    "users": users,
    "groups": groups,
    "queue": queue,
    "jobs": jobs,
    "job": job,
    "dropped": dropped,
    "tasks": tasks,
    "task": task,
    "why": why,
    "presence": presence,
    "stats": stats,
    "published": published,
    "timeline": monitor_queries.timeline,
    "turns": monitor_queries.turns,
    "failures": monitor_queries.failures,
    "percentiles": monitor_queries.percentiles,
    "strip": monitor_queries.strip,
}
