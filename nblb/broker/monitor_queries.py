"""Answers to the questions of the Monitor: the timeline, whose turn is next, and the failures of a job."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import msgspec

from nblb.protocol.messages import TaskState
from nblb.scheduling.fair_share import Band, lead, standing

if TYPE_CHECKING:
    from nblb.scheduling.backlog import Entry
    from nblb.scheduling.scheduler import Scheduler

_NUMBER = re.compile(r"-?\d+(\.\d+)?(e[+-]?\d+)?")
MOST_SPANS = 2_000
MOST_TURNS = 5
MOST_SLICES = 20_000  # of a job, looked at for its failures
MOST_KINDS = 50
PERCENTILES = (50, 95)
MOST_CELLS = 500
LETTERS = ".dcqrf"  # not submitted, done, cancelled, waiting, running, failed: the later ones hide the earlier
RANKS = {
    TaskState.DONE: 1, TaskState.CANCELLED: 2, TaskState.CANCELLING: 2, TaskState.QUEUED: 3, TaskState.BLOCKED: 3,
    TaskState.ASSIGNED: 3, TaskState.RUNNING: 4, TaskState.FAILED: 5, TaskState.LOST: 5,
}  # fmt: skip


def timeline(scheduler: Scheduler, about: dict[str, Any], now: float) -> dict[str, Any]:
    """Return who ran what where in the last `seconds` (600), the newest first; `user` and `name` filter."""
    state = scheduler.state
    seconds = min(max(float(about.get("seconds") or 600.0), 1.0), 7 * 86400.0)
    since = state.wall(now) - seconds
    limit = max(1, min(int(about.get("limit") or MOST_SPANS), MOST_SPANS))
    user, name = about.get("user") or None, about.get("name") or None
    rows: list[dict[str, Any]] = []
    more = 0
    for span in reversed(state.observations.spans):
        if span.end < since:
            break
        if user not in (None, span.user) or name not in (None, span.name):
            continue
        if len(rows) >= limit:
            more += 1
            continue
        rows.append({**msgspec.structs.asdict(span), "begin": span.end - span.seconds})
    for hub in state.hubs.values():
        for worker in hub.workers.values():
            held = worker.held
            if held is None or user not in (None, held.user.name) or name not in (None, held.record.spec.name):
                continue
            rows.append(
                {
                    "begin": state.wall(held.started_at or held.given_at),
                    "end": state.wall(now),
                    "seconds": now - (held.started_at or held.given_at),
                    "host": hub.hello.host,
                    "worker": worker.id,
                    "name": held.record.spec.name,
                    "user": held.user.name,
                    "state": "RUNNING",
                    "task": held.record.id,
                    "first": held.first,
                    "items": held.items,
                    "attempt": held.attempt,
                    "job": held.record.spec.job,
                }
            )
    return {"now": state.wall(now), "seconds": seconds, "rows": rows, "more": more}


def turns(scheduler: Scheduler, about: dict[str, Any], now: float) -> list[dict[str, Any]]:
    """Return, for each band of priorities with workers, the users in the order of their turns, and why the first is."""
    state = scheduler.state
    rows = []
    for band in state.placement.bands:
        admitted = [user for user in state.share.users.values() if band.admits(user.name) and not user.is_held]
        entries = [entry for user in admitted if (entry := user.turn(band)) is not None]
        entries.sort(key=lambda entry: (*standing(entry[3], band), entry[2]))
        for place, entry in enumerate(entries[:MOST_TURNS]):
            _, _, _, user, task = entry
            rows.append(
                {
                    "minP": band.low,
                    "maxP": band.high,
                    "only": sorted(band.only),
                    "workers": state.placement.workers(band),
                    "place": place + 1,
                    "user": user.name,
                    "occupied": user.occupied,
                    "recent_s": state.share.recent_s(user, now),
                    "waiting": user.waiting,
                    "task": task.record.id,
                    "first": task.first,
                    "name": task.record.spec.name,
                    "priority": task.record.spec.priority,
                    "why": _reason(entries, place, band),
                }
            )
    return rows


def _reason(entries: list[Entry], place: int, band: Band) -> str:
    """Return why this user is at this place: the first rule of fair share that tells it from its neighbour."""
    if len(entries) == 1:
        return "nobody else waits"
    one, other = entries[place], entries[place + 1] if place == 0 else entries[place - 1]
    name, first = other[3].name, place == 0
    for_share = " for its share" if one[3].share != other[3].share or one[3].group or other[3].group else ""
    if lead(one[3], other[3], band):
        return f"occupies {one[3].occupied} workers, {'fewer' if first else 'more'}{for_share} than {name}"
    if standing(one[3], band) != standing(other[3], band):
        return f"as many workers{for_share} as {name}, and {'less' if first else 'more'} worker time lately"
    return f"equal to {name}, and its task is the {'older' if first else 'younger'}"


def failures(scheduler: Scheduler, about: dict[str, Any], now: float) -> list[dict[str, Any]]:
    """Return the failures of a job (or of all tasks), grouped by class, place and text, the most frequent first."""
    state = scheduler.state
    job = state.jobs.get(str(about.get("job") or ""))
    records = list(job.records.values()) if job is not None else [] if about.get("job") else state.records.values()
    groups: dict[tuple[str, str, str], dict[str, Any]] = {}
    looked = 0
    for record in reversed(list(records)):
        for task in record.slices:
            looked += 1
            if task.state not in (TaskState.FAILED, TaskState.LOST) or task.ended is None or task.ended.failure is None:
                continue
            failure = task.ended.failure
            line = failure.message.strip().splitlines()[0][:200] if failure.message.strip() else ""
            key = failure.kind, failure.where, _NUMBER.sub("…", line)  # texts that differ in numbers are one kind
            group = groups.get(key)
            if group is None:
                if len(groups) >= MOST_KINDS:
                    continue
                group = groups[key] = {
                    "kind": failure.kind, "where": failure.where, "message": line, "line": failure.line,
                    "calls": 0, "task": record.id, "first": task.first, "call": failure.call, "items": [],
                }  # fmt: skip
            group["calls"] += task.items
            if group["message"] != line:
                group["message"] = key[2]
            if len(group["items"]) < 20:
                group["items"].append(record.spec.index + task.first)
        if looked > MOST_SLICES:
            break
    return sorted(groups.values(), key=lambda group: -group["calls"])


def strip(scheduler: Scheduler, about: dict[str, Any], now: float) -> str:
    """Return the items of a job as a text of up to `cells` letters; a letter shows the worst state of its items."""
    job = scheduler.state.jobs.get(str(about.get("job") or ""))
    if job is None:
        return ""
    items = max(job.items, sum(record.items for record in job.records.values()), 1)
    cells = max(1, min(int(about.get("cells") or 200), MOST_CELLS, items))
    ranks = bytearray(cells)
    looked = 0
    for record in job.records.values():
        for task in record.slices:
            looked += 1
            first = (record.spec.index + task.first) * cells // items
            last = (record.spec.index + task.first + task.items - 1) * cells // items
            rank = RANKS.get(task.state, 1)
            for cell in range(max(0, first), min(last, cells - 1) + 1):
                if rank > ranks[cell]:
                    ranks[cell] = rank
        if looked > MOST_SLICES:
            break
    return "".join(LETTERS[rank] for rank in ranks)


def percentiles(scheduler: Scheduler, about: dict[str, Any], now: float) -> dict[str, dict[str, float]]:
    """Return, by task name, percentiles of run times and waits, observed since the history began."""
    observed = scheduler.state.observations
    return {
        name: {
            f"p{share}{kind}times": histograms[name].percentile(share / 100.0)
            for kind, histograms in (("calc", observed.run), ("wait", observed.wait))
            for share in PERCENTILES
        }
        for name in observed.run
    }
