"""The rows of the Monitor's tables, made from the core's answers; drawing is elsewhere.

Every row is a tuple in the order of its columns and starts with a key that never changes for the row, so that a page
can change single cells. Text is passed unchanged; the tables draw it as plain text, never as HTML.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timezone
from typing import Any

__all__ = [
    "JOBS",
    "PRIORITIES",
    "QUEUES",
    "STATISTICS",
    "USERS",
    "WORKERS",
    "duration",
    "jobs",
    "number",
    "priorities",
    "queues",
    "statistics",
    "users",
    "workers",
]

TableRow = tuple[Any, ...]

WORKERS = (
    "Worker",
    "Host",
    "State",
    "Task",
    "User",
    "Progress",
    "Note",
    "CPU",
    "For",
    "Band",
    "Done",
    "Task id",
    "Address",
)
QUEUES = ("Task", "Queued", "Longest wait")
USERS = ("User", "Queued", "Running", "Done", "Failed", "Worker time")
PRIORITIES = ("Priority", "Queued", "Free", "Note")
STATISTICS = (
    "Task", "Tasks", "Failed", "Share of time", "Time in all",
    "Shortest", "Mean", "Longest", "Shortest wait", "Mean wait", "Longest wait",
)  # fmt: skip
JOBS = ("Job", "Task", "User", "Progress", "State", "Tasks", "Done", "Running", "Waiting", "Failed", "Other", "Created")

WAITING = ("BLOCKED", "QUEUED", "ASSIGNED")
LONGEST_TEXT = 200  # of a cell; notes and names of users have any length


def workers(answer: Iterable[Mapping[str, Any]]) -> list[TableRow]:
    """One row per worker; CPU is the load of its whole machine, as reported by its hub."""
    rows = []
    for w in answer:
        busy = w.get("state") == "busy"
        rows.append(
            (
                _text(w.get("worker")),
                _text(w.get("host")),
                "▶ busy" if busy else "○ idle",
                _text(w.get("task_name")) if busy else "",
                _text(w.get("user")) if busy else "",
                round(float(w.get("progress") or 0.0)) if busy else 0,
                _text(w.get("note")) if busy else "",
                round(float(w.get("cpu") or 0.0)),
                duration(w.get("since_s")) if busy else "",
                f"{number(w.get('minP', 0))}…{number(w.get('maxP', 0))}",
                int(w.get("done") or 0),
                _slice(w) if busy else "",
                _address(w),
            )
        )
    return sorted(rows)


def queues(answer: Mapping[str, Any]) -> list[TableRow]:
    """Waiting tasks by task name, the longest wait first."""
    by_name: Mapping[str, Mapping[str, Any]] = answer.get("by_name") or {}
    found = sorted(by_name.items(), key=lambda pair: (-float(pair[1].get("waitingtime") or 0), pair[0]))
    return [(_text(name), int(q.get("number") or 0), duration(q.get("waitingtime"))) for name, q in found]


def users(answer: Iterable[Mapping[str, Any]]) -> list[TableRow]:
    rows = [
        (
            _text(u.get("user")),
            int(u.get("queued") or 0),
            int(u.get("running") or 0),
            int(u.get("done") or 0),
            int(u.get("failed") or 0),
            duration(u.get("used_s")),
        )
        for u in answer
    ]
    return sorted(rows, key=lambda row: (-row[2], -row[1], row[0]))


def priorities(answer: Mapping[str, Any], workers: Iterable[Mapping[str, Any]]) -> list[TableRow]:
    """Waiting tasks by priority, with a note where no worker takes that priority."""
    bands = [(float(w.get("minP", 0)), float(w.get("maxP", 0)), w.get("state")) for w in workers]
    rows = []
    by_priority: Mapping[str, int] = answer.get("by_priority") or {}
    for priority, queued in sorted(by_priority.items(), key=lambda pair: -float(pair[0])):
        fits = [state for low, high, state in bands if low <= float(priority) <= high]
        free = sum(1 for state in fits if state != "busy")
        note = "" if fits else f"waiting: no worker takes priority {number(priority)}"
        rows.append((number(priority), int(queued), f"{free} of {len(fits)}", note))
    return rows


def statistics(answer: Mapping[str, Mapping[str, Any]]) -> list[TableRow]:
    """Ended tasks by task name, the largest total time first."""
    total = sum(float(s.get("totalcalctimes") or 0) for s in answer.values())
    rows = []
    for name, s in sorted(answer.items(), key=lambda pair: (-float(pair[1].get("totalcalctimes") or 0), pair[0])):
        spent = float(s.get("totalcalctimes") or 0)
        times = ("mincalctimes", "meancalctimes", "maxcalctimes", "minwaittimes", "meanwaittimes", "maxwaittimes")
        rows.append(
            (
                _text(name),
                int(s.get("totaltasks") or 0),
                int(s.get("failed") or 0),
                round(100 * spent / total) if total else 0,
                duration(spent),
                *(duration(s.get(key)) for key in times),
            )
        )
    return rows


def jobs(answer: Iterable[Mapping[str, Any]]) -> list[TableRow]:
    """The latest jobs, the newest first."""
    rows = []
    for job in sorted(answer, key=lambda j: -float(j.get("created_at") or 0)):
        counts: Mapping[str, int] = job.get("counts") or {}
        known = sum(counts.values())
        items = max(int(job.get("items") or 0), known)
        done, running, failed = (
            counts.get("DONE", 0),
            counts.get("RUNNING", 0),
            counts.get("FAILED", 0) + counts.get("LOST", 0),
        )
        other = sum(counts.get(state, 0) for state in ("CANCELLED", "CANCELLING"))
        waiting = items - done - running - failed - other
        ended = done + failed + counts.get("CANCELLED", 0)
        rows.append(
            (
                _text(job.get("name") or job.get("job")),
                _text(job.get("task_name")),
                _text(job.get("user")),
                round(100 * ended / items) if items else 0,
                _job_state(job, ended, items, failed),
                items,
                done,
                running,
                waiting,
                failed,
                other,
                moment(job.get("created_at")),
            )
        )
    return rows


def duration(seconds: Any) -> str:
    """A time for people: 3 ms, 0.42 s, 12.0 s, 4:05 min, 3:05 h."""
    if seconds is None:
        return ""
    value = float(seconds)
    if value < 0.1:
        return f"{1000 * value:.0f} ms"
    if value < 10:
        return f"{value:.2f} s"
    if value < 60:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    if minutes < 60:
        return f"{minutes}:{rest:02d} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d} h"


def number(value: Any) -> str:
    """A priority for people: 100 rather than 100.0."""
    return f"{float(value):g}" if float(value) < 1e6 else f"{float(value):,.0f}"


def moment(wall: Any) -> str:
    if not wall:
        return ""
    return datetime.fromtimestamp(float(wall), timezone.utc).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _job_state(job: Mapping[str, Any], ended: int, items: int, failed: int) -> str:
    """The state of a job as sign and word, without relying on colour."""
    state = str(job.get("state") or "").lower()
    if not state:
        state = "running" if ended < items else "failed" if failed else "done"
    sign = {"running": "▶", "done": "✓", "failed": "✗", "cancelled": "⊘", "waiting": "…"}.get(state, "·")
    return f"{sign} {state}"


def _slice(worker: Mapping[str, Any]) -> str:
    task, first, items = _text(worker.get("task")), int(worker.get("first") or 0), int(worker.get("items") or 1)
    if items > 1:
        return f"{task}.{first}–{first + items - 1}"
    return f"{task}.{first}" if first else task


def _address(worker: Mapping[str, Any]) -> str:
    """The address of the worker's hub, with the TCP port on which it answers probes."""
    ip, port = _text(worker.get("ip")), worker.get("hc_port")
    return f"{ip}:{port}" if port else ip


def _text(value: Any) -> str:
    text = "" if value is None else str(value)
    return text if len(text) <= LONGEST_TEXT else text[: LONGEST_TEXT - 1] + "…"
