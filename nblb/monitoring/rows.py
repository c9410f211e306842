"""The rows of the Monitor's tables, made from the core's answers; drawing is elsewhere.

Every row is a tuple in the order of its columns and starts with a key that never changes for the row, so that a page
can change single cells. A cell of a column with links is a pair (text, address). Text is passed unchanged; the tables
draw it as plain text, never as HTML.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timezone
from typing import Any

from nblb.monitoring.links import address
from nblb.quantities import duration, gpu, size

TableRow = tuple[Any, ...]

WORKERS = ("Worker", "Hub", "State", "Task", "User", "Progress %", "Note", "CPU %", "Memory", "For", "Done", "Takes")
QUEUES = ("Task", "Queued", "Longest wait", "Obstacle")
USERS = ("User", "Running", "Queued", "Share %", "Done", "Failed", "Worker time", "Lately", "Share", "Limits, stored")
PRIORITIES = ("Priority", "Queued", "Free", "Note")
TURNS = ("Place", "User", "Next task", "Priority", "Workers", "Waiting", "Why")
STATISTICS = (
    "Task", "Tasks", "Failed", "Share %", "Time in all", "Shortest", "Median", "Mean", "95 %", "Longest",
    "Shortest wait", "Mean wait", "95 % wait", "Longest wait", "Peak memory",
)  # fmt: skip
JOBS = (
    "Job",
    "State",
    "Progress %",
    "Calls",
    "Done",
    "Running",
    "Waiting",
    "Failed",
    "Other",
    "Time left",
    "User",
    "Task",
    "Created",
)
TASKS = ("Task", "State", "Progress %", "User", "Job", "Priority", "Attempt", "Lasted", "Where", "Submitted", "Note")
HUBS = ("Hub", "State", "Workers", "CPU %", "Memory", "Disk", "GPUs", "Takes", "Versions", "Engine", "Address")
FAILURES = ("Error", "Where", "Calls", "First", "Items")

LONGEST_TEXT = 200  # of a cell; notes and names of users have any length
SIGNS = {
    "BLOCKED": "… blocked", "QUEUED": "… queued", "ASSIGNED": "› at its hub", "RUNNING": "▶ running",
    "CANCELLING": "⊘ cancelling", "DONE": "✓ done", "FAILED": "✗ failed", "CANCELLED": "⊘ cancelled", "LOST": "✗ lost",
}  # fmt: skip


def workers(answer: Iterable[Mapping[str, Any]]) -> list[TableRow]:
    """One row per worker; CPU and memory are the worker's own, in percent of a core and in megabytes."""
    rows = []
    for w in answer:
        busy = w.get("state") == "busy"
        rows.append(
            (
                text(w.get("worker")),
                text(w.get("hub")),
                "… waits" if w.get("waits") else "▶ busy" if busy else "○ idle",
                (text(w.get("task_name")), slice_address(w)) if busy else ("", ""),
                text(w.get("user")) if busy else "",
                round(float(w.get("progress") or 0.0)) if busy else 0,
                text(w.get("note")) if busy else "",
                percent(w.get("own_cpu")),
                memory_cell(w.get("memory_mb")),
                duration_cell(w.get("since_s")) if busy else "",
                int(w.get("done") or 0),
                band(w),
            )
        )
    return sorted(rows, key=lambda row: (row[1], row[0]))


def queues(answer: Mapping[str, Any]) -> list[TableRow]:
    """Waiting tasks by task name, the longest wait first."""
    by_name: Mapping[str, Mapping[str, Any]] = answer.get("by_name") or {}
    notes: Mapping[str, str] = answer.get("notes") or {}
    found = sorted(by_name.items(), key=lambda pair: (-float(pair[1].get("waitingtime") or 0), pair[0]))
    return [
        (text(name), count(q.get("number")), duration_cell(q.get("waitingtime")), text(notes.get(name)))
        for name, q in found
    ]


def users(answer: Iterable[Mapping[str, Any]]) -> list[TableRow]:
    """One row per user; the share is that of the occupied workers."""
    answer = list(answer)
    occupied = sum(int(u.get("occupied") or 0) for u in answer)
    rows = [
        (
            text(u.get("user")),
            int(u.get("running") or 0),
            int(u.get("queued") or 0),
            round(100 * int(u.get("occupied") or 0) / occupied) if occupied else 0,
            int(u.get("done") or 0),
            int(u.get("failed") or 0),
            duration_cell(u.get("used_s")),
            duration_cell(u.get("recent_s")),
            f"{float(u.get('share') or 1.0):g}" + (f" ({text(u['group'])})" if u.get("group") else ""),
            limits(u),
        )
        for u in answer
    ]
    rows.sort(key=lambda row: (-row[1], -row[2], row[0]))
    return [(name, *map(count, (running, queued)), share, *map(count, (done, failed)), *times)
            for name, running, queued, share, done, failed, *times in rows]  # fmt: skip


def limits(user: Mapping[str, Any]) -> str:
    """Return the limits of a user: 2 at once, 100 waiting, 1.2 GB of 2 GB stored."""
    said = []
    if running := int(user.get("max_running") or 0):
        said.append(f"{count(running)} at once")
    if queued := int(user.get("max_queued") or 0):
        said.append(f"{count(queued)} waiting")
    stored, most = int(user.get("stored_bytes") or 0), int(user.get("max_bytes") or 0)
    if most:
        said.append(f"{size(stored)} of {size(most)} stored")
    elif stored:
        said.append(f"{size(stored)} stored")
    return ", ".join(said)


def priorities(answer: Mapping[str, Any], workers: Iterable[Mapping[str, Any]]) -> list[TableRow]:
    """Waiting tasks by priority, with a note where no worker takes that priority."""
    bands = [(float(w.get("minP", 0)), float(w.get("maxP", 0)), w.get("state")) for w in workers]
    rows = []
    by_priority: Mapping[str, int] = answer.get("by_priority") or {}
    for priority, queued in sorted(by_priority.items(), key=lambda pair: -float(pair[0])):
        fits = [state for low, high, state in bands if low <= float(priority) <= high]
        free = sum(1 for state in fits if state != "busy")
        note = "" if fits else f"waiting: no worker takes priority {number(priority)}"
        rows.append((number(priority), count(queued), f"{free} of {len(fits)} workers", note))
    return rows


def turns(answer: Iterable[Mapping[str, Any]]) -> list[TableRow]:
    """Whose turn is next, for each band of priorities, and why."""
    return [
        (
            f"{turn['place']}. for {band(turn)}",
            text(turn.get("user")),
            (text(turn.get("name")), address(page="task", task=turn.get("task"), item=turn.get("first") or "")),
            number(turn.get("priority") or 0),
            count(turn.get("occupied")),
            count(turn.get("waiting")),
            text(turn.get("why")),
        )
        for turn in answer
    ]


def statistics(
    answer: Mapping[str, Mapping[str, Any]], percentiles: Mapping[str, Mapping[str, float]]
) -> list[TableRow]:
    """Ended tasks by task name, the largest total time first."""
    total = sum(float(s.get("totalcalctimes") or 0) for s in answer.values())
    rows = []
    for name, s in sorted(answer.items(), key=lambda pair: (-float(pair[1].get("totalcalctimes") or 0), pair[0])):
        spent, shares = float(s.get("totalcalctimes") or 0), percentiles.get(name) or {}
        rows.append(
            (
                (text(name), address(page="tasks", name=name)),
                count(s.get("totaltasks")),
                count(s.get("failed")),
                round(100 * spent / total) if total else 0,
                duration_cell(spent),
                duration_cell(s.get("mincalctimes")),
                about(shares.get("p50calctimes")),
                duration_cell(s.get("meancalctimes")),
                about(shares.get("p95calctimes")),
                duration_cell(s.get("maxcalctimes")),
                duration_cell(s.get("minwaittimes")),
                duration_cell(s.get("meanwaittimes")),
                about(shares.get("p95waittimes")),
                duration_cell(s.get("maxwaittimes")),
                size(float(s["peak_mb"]) * 2**20) if s.get("peak_mb") else "",
            )
        )
    return rows


def job_numbers(job: Mapping[str, Any]) -> dict[str, int]:
    """Return the calls of a job: done, running, waiting, failed, other, and all."""
    counts: Mapping[str, int] = job.get("counts") or {}
    items = max(int(job.get("items") or 0), sum(counts.values()))
    done, running = counts.get("DONE", 0), counts.get("RUNNING", 0)
    failed = counts.get("FAILED", 0) + counts.get("LOST", 0)
    other = counts.get("CANCELLED", 0) + counts.get("CANCELLING", 0)
    ended = done + failed + counts.get("CANCELLED", 0)
    waiting = items - done - running - failed - other
    return {"items": items, "done": done, "running": running, "waiting": waiting, "failed": failed, "other": other,
            "ended": ended}  # fmt: skip


def done_share(job: Mapping[str, Any]) -> float:
    """Return the share of a job that is done, 0 to 1: ended calls, and the reported progress of running ones."""
    n = job_numbers(job)
    return min(1.0, (n["ended"] + float(job.get("progressed") or 0.0)) / n["items"]) if n["items"] else 0.0


def jobs(answer: Iterable[Mapping[str, Any]], now: float) -> list[TableRow]:
    """The latest jobs, the newest first."""
    rows = []
    for job in sorted(answer, key=lambda j: -float(j.get("created_at") or 0)):
        n = job_numbers(job)
        rows.append(
            (
                (text(job.get("name") or job.get("job")), address(page="job", job=job.get("job"))),
                job_state(job),
                int(100 * done_share(job)),
                *map(count, (n["items"], n["done"], n["running"], n["waiting"], n["failed"], n["other"])),
                time_left(job, now),
                text(job.get("user")),
                text(job.get("task_name")),
                moment(job.get("created_at")),
            )
        )
    return rows


def time_left(job: Mapping[str, Any], now: float) -> str:
    """Return how long a running job may still take at the rate so far; "" where that is not known."""
    share, begun = done_share(job), float(job.get("created_at") or 0.0)
    if job.get("state") not in (None, "", "running") or not 0.0 < share < 1.0 or not begun:
        return ""
    left_s = (now - begun) * (1.0 - share) / share
    return f"about {duration_cell(left_s)}" if left_s > 0 else ""


def tasks(answer: Iterable[Mapping[str, Any]]) -> list[TableRow]:
    """One row per call."""
    rows = []
    for t in answer:
        failure = t.get("failure") or {}
        note = f"{failure.get('kind')}: {failure.get('message')}" if failure else t.get("note")
        job = f"{t.get('job_name')}[{t.get('index')}]" if t.get("job_name") else ""
        rows.append(
            (
                (text(t.get("name")), address(page="task", task=t.get("task"), item=t.get("first") or "")),
                state(t),
                round(float(t.get("progress") or 0.0)),
                text(t.get("user")),
                (text(job), address(page="job", job=t.get("job")) if job else ""),
                number(t.get("priority") or 0),
                count(t.get("attempt")),
                duration_cell(t.get("started_s") or t.get("duration_s"))
                if t.get("started_s") or t.get("duration_s")
                else "",
                text(t.get("host")),
                moment(t.get("submitted_at")),
                text(note).replace("\n", " "),
            )
        )
    return rows


def hubs(answer: Iterable[Mapping[str, Any]]) -> list[TableRow]:
    rows = []
    for hub in answer:
        python = ".".join(map(str, hub.get("python") or ()))
        groups = hub.get("groups") or []
        rows.append(
            (
                (text(hub.get("name")), address(page="hubs", hub=hub.get("hub"))),
                hub_state(hub),
                f"{hub.get('busy', 0)} of {hub.get('workers', 0)} busy",
                round(100 * float(hub.get("load") or 0.0)),
                f"{100 * float(hub.get('memory') or 0.0):.0f} %",
                f"{100 * float(hub['disk']):.0f} %" if hub.get("disk") else "",
                text(";\n".join(gpu(card) for card in hub.get("gpus") or ())),
                ", ".join(dict.fromkeys(band(group) for group in groups)),
                f"Python {python}" + (f", nblb {hub['nblb']}" if hub.get("nblb") else ""),
                text(hub.get("engine")),
                f"{hub.get('host')}, pid {hub.get('pid')}",
            )
        )
    return sorted(rows)


def failures(answer: Iterable[Mapping[str, Any]]) -> list[TableRow]:
    """The failures of a job, by error and place."""
    return [
        (
            (
                text(f"{group.get('kind')}: {group.get('message')}"),
                address(page="task", task=group.get("task"), item=group.get("first") or ""),
            ),
            text(group.get("where")),
            count(group.get("calls")),
            text(group.get("call")),
            text(", ".join(map(str, group.get("items") or ()))),
        )
        for group in answer
    ]


# ── cells ──


def state(task: Mapping[str, Any]) -> str:
    """The state of a task as sign and word, without relying on colour."""
    if task.get("kept"):
        return "◐ stopped early"
    return SIGNS.get(str(task.get("state")), str(task.get("state") or ""))


def hub_state(hub: Mapping[str, Any]) -> str:
    word = str(hub.get("state") or "up")
    if word == "suspect":
        return f"? silent for {duration_cell(hub.get('age_s'))}"
    return {"up": "✓ up", "draining": "⊘ drained", "leaving": "⊘ leaving"}.get(word, word)


def job_state(job: Mapping[str, Any]) -> str:
    """The state of a job as sign and word, without relying on colour."""
    word, n = str(job.get("state") or "").lower(), job_numbers(job)
    if not word:
        word = "running" if n["ended"] < n["items"] else "failed" if n["failed"] else "done"
    sign = {"running": "▶", "done": "✓", "failed": "✗", "cancelled": "⊘", "waiting": "…"}.get(word, "·")
    return f"{sign} {word}"


def duration_cell(seconds: Any) -> str:
    """A length of time, or "" where there is none."""
    return "" if seconds is None else duration(float(seconds))


def memory_cell(megabytes: Any) -> str:
    """A size of memory, or "" where there is none."""
    return "" if megabytes is None else size(float(megabytes) * 2**20)


def about(seconds: Any) -> str:
    """A percentile for people: it is right within a fifth."""
    return f"≈ {duration_cell(seconds)}" if seconds else ""


def count(value: Any) -> str:
    return f"{int(value or 0):,}"


def plural(number: Any, word: str) -> str:
    """A number of things: 1 hub, 2 hubs."""
    return f"{int(number or 0):,} {word}{'s' * (int(number or 0) != 1)}"


def percent(value: Any) -> int:
    return round(float(value)) if value is not None else 0


def number(value: Any) -> str:
    """A priority for people: 100 rather than 100.0."""
    return f"{float(value):g}" if abs(float(value)) < 1e6 else f"{float(value):,.0f}"


def band(group: Mapping[str, Any]) -> str:
    """The priorities that a group of workers takes."""
    return f"{number(group.get('minP') or 0)} to {number(group.get('maxP') or 0)}"


def moment(wall: Any) -> str:
    """A time of the wall clock; today without the date."""
    if not wall:
        return ""
    at = datetime.fromtimestamp(float(wall), timezone.utc).astimezone()
    today = datetime.now(timezone.utc).astimezone().date()
    return at.strftime("%H:%M:%S" if at.date() == today else "%Y-%m-%d %H:%M:%S")


def slice_address(worker: Mapping[str, Any]) -> str:
    """The place of the page of the first call that a worker has in hand."""
    return address(page="task", task=worker.get("task"), item=worker.get("first") or "")


def text(value: Any) -> str:
    """A cell's text, bounded."""
    words = "" if value is None else str(value)
    return words if len(words) <= LONGEST_TEXT else words[: LONGEST_TEXT - 1] + "…"
