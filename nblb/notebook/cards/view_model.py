"""Conversion of snapshots to descriptions: small dicts from which live cards and saved pictures are made.

Pure functions, one per kind of card. A description has only the keys that its card needs; all values are JSON.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from nblb.client.jobs import reuse
from nblb.notebook.cards import live, wording
from nblb.notebook.cards.static_html import look
from nblb.quantities import duration, gpu, size

if TYPE_CHECKING:
    from nblb.client.snapshots import ClusterSnapshot, FailureGroup, HubRow, JobSnapshot, TaskSnapshot

RUNNING_ROWS = 8  # running items shown as rows; the rest only as a number
ITEMS_NAMED = 12
TRACEBACK_LIMIT = 16_000
OUTPUT_LIMIT = 4_000
SLACK = 1_000  # bytes differ from characters, and line ends may be missing
ITEM_LIMIT = 6_000
MOST_HUBS = 40
MOST_GPUS = 16
HASH = 8  # digits shown of a hash
NOTIFY_AFTER_S = 5.0  # from then on a card offers a browser notification at the end
AWAY = "the core is away; the {} goes on when it is back: Start core, or %lb_start, starts it again"
LAST_HEARD = "these are the last known numbers; Start, or %lb_start, starts the core again, and accepted tasks go on"
NEVER_HEARD = "nothing is known of its hubs and tasks; Start, or %lb_start, starts the core, and accepted tasks go on"
STOPPED = "Start, or %lb_start, starts it again with what the journal holds"


def job(snapshot: JobSnapshot) -> dict[str, Any]:
    """The description of a job card without its failures, which change rarely (see job_failures)."""
    counts = snapshot.counts
    over = wording.ended(counts) >= snapshot.total
    card: dict[str, Any] = {
        "title": snapshot.name,
        "subtitle": snapshot.task_name if snapshot.task_name != snapshot.name else "",
        "state": snapshot.state,
        "look": wording.JOB_LOOK.get(snapshot.state, ("?", snapshot.state)),
        "percent": wording.percent(snapshot.done_percent, counts, snapshot.total),
        "part": round(max(0.0, snapshot.done_percent - 100.0 * wording.ended(counts) / max(1, snapshot.total)), 1),
        "text": wording.progress_text(counts, snapshot.total, snapshot.kept),
        "counts": wording.count_rows(counts, snapshot.kept),
        "total": snapshot.total,
        "over": over,
        "long": not over and snapshot.elapsed_s >= NOTIFY_AFTER_S,
        "can": {
            "cancel": not over,
            "retry": wording.failed(counts) > 0,
            "why": snapshot.state == "waiting",
            "start": not snapshot.connected and not over,
        },
        "notes": _job_notes(snapshot, over),
    }
    if snapshot.earlier is not None:
        card["earlier"] = reuse.words(snapshot.earlier)
        card["can"]["earlier"] = snapshot.earlier.left > 0 and not snapshot.earlier.fate
    if snapshot.output:
        card["lines"] = live.lines(snapshot.output)
        if snapshot.output_lines > len(card["lines"]):
            shown, item = len(card["lines"]), card["lines"][-1][0]
            all_of_it = f"%lb_logs {snapshot.name}[{item}] shows all of item {item}"
            card["lines_note"] = f"last {shown} of {snapshot.output_lines:,} lines; {all_of_it}"
    if over:
        facts = [_took(snapshot), wording.between(snapshot.created_at, snapshot.ended_at)]
        facts += [wording.places(snapshot.hosts), _code(snapshot)]
    else:
        since = f"since {wording.moment(snapshot.created_at)}" if snapshot.created_at else ""
        facts = [wording.rate(snapshot.rate_per_s), wording.time_left(snapshot.eta_s), since]
        card["running"] = [
            [r.item, round(r.progress), wording.clip(r.note, 80), r.host or r.worker, duration(r.since_s)]
            for r in snapshot.running[:RUNNING_ROWS]
        ]
    card["facts"] = [fact for fact in facts if fact]
    return card


def _took(snapshot: JobSnapshot) -> str:
    """The duration of the job as far as this process has observed it."""
    if not snapshot.before:
        return f"took {duration(snapshot.elapsed_s)}"
    if snapshot.before >= snapshot.total:
        return "had ended before"
    return f"{snapshot.before:,} had ended before, the rest took {duration(snapshot.elapsed_s)}"


def _code(snapshot: JobSnapshot) -> str:
    """The code version of the job; a named job also has a hash that ignores comments and line numbers."""
    own = f"code {snapshot.code[:HASH]}" if snapshot.code else ""
    own = own or (f"function {snapshot.function[:HASH]}" if snapshot.function else "")
    other = [f"{wording.number(items, 'task')} by function {code[:HASH]}" for code, items in snapshot.codes]
    return ", ".join([*filter(None, [own]), *other])


def _job_notes(snapshot: JobSnapshot, over: bool) -> list[str]:
    notes = []
    if not (snapshot.connected or over):
        notes.append(AWAY.format("job"))
    if snapshot.waiting:
        notes.append(f"waiting: {snapshot.waiting}")
    if snapshot.limit:
        notes.append(snapshot.limit)
    return notes


def job_failures(snapshot: JobSnapshot) -> list[dict[str, Any]]:
    """Failures grouped by kind, the most frequent first."""
    return [_failure(group) for group in snapshot.failures]


def _failure(group: FailureGroup) -> dict[str, Any]:
    number = f"{group.count:,} × " if group.count > 1 else ""
    where = f" at {group.where}" if group.where else ""
    message = group.message.strip().partition("\n")[0]
    shown = ", ".join(str(item) for item in group.items[:ITEMS_NAMED])
    more = ", …" if group.count > len(group.items[:ITEMS_NAMED]) else ""
    return {
        "key": f"{group.kind} {group.where}",
        "title": wording.clip(f"{number}{group.kind}{where}{': ' if message else ''}{message}", 300),
        "items": f"item{'' if group.count == 1 else 's'} {shown}{more}" if shown else "",
        "traceback": wording.clip(group.traceback, TRACEBACK_LIMIT),
    }


def item(number: int, snapshot: TaskSnapshot, job: str = "job", arguments: str = "") -> dict[str, Any]:
    """An opened item of a job: its call, how and where it went, its traceback and the end of its output.

    `arguments` are those of its call as text; `job` is the name by which %lb_debug finds the item.
    """
    sign, word = look("KEPT" if snapshot.kept else snapshot.state)
    facts = [f"on {snapshot.host or snapshot.worker}" if snapshot.host or snapshot.worker else ""]
    facts += [
        f"{duration(snapshot.duration_s)}" if snapshot.duration_s else "",
        wording.peak(snapshot.peak_mb),
        snapshot.waiting or snapshot.note,
    ]
    if snapshot.attempt > 1:
        facts.append(f"attempt {snapshot.attempt}")
    text = snapshot.failure.traceback or snapshot.failure.message if snapshot.failure is not None else ""
    said = snapshot.stdout_tail[-OUTPUT_LIMIT:]
    note = output_note(len(said), snapshot.output_bytes, f"job[{number}]")
    return {
        "title": " · ".join(part for part in (f"item {number:,}: {sign} {word}", *facts) if part),
        "call": f"{snapshot.name}({arguments})" if arguments else "",
        "text": wording.clip(text, ITEM_LIMIT),
        "output": f"… {note} …\n{said}" if note else said,
        "debug": f"%lb_debug {job}[{number}]" if snapshot.failure is not None else "",
        "can": {"retry": snapshot.state in wording.BAD},
    }


def as_of(card: dict[str, Any]) -> dict[str, Any]:
    """The same with the time of the picture if the work is not over yet."""
    if card.get("over"):
        return card
    return {**card, "notes": [*card.get("notes", ()), f"picture of {time.strftime('%Y-%m-%d %H:%M:%S')}"]}


def task(snapshot: TaskSnapshot) -> dict[str, Any]:
    """The description of a task card."""
    over = snapshot.state in wording.ENDED
    percent, label = _reached(snapshot, over)
    card: dict[str, Any] = {
        "title": snapshot.name,
        "subtitle": snapshot.task[-8:],  # as its repr has it
        "state": "KEPT" if snapshot.kept else snapshot.state,
        "look": look("KEPT" if snapshot.kept else snapshot.state),
        "percent": percent,
        "label": label,
        "over": over,
        "can": {
            "cancel": not over,
            "why": snapshot.state in ("QUEUED", "BLOCKED", "ASSIGNED"),
            "start": not snapshot.connected and not over,
        },
        "notes": [],
        "facts": [],
    }
    _, word = card["look"]
    card["text"] = f"{word}, {label}" if not over else f"{word} at {label}" if label and percent < 100 else word
    if not snapshot.connected and not over:
        card["notes"].append(AWAY.format("task"))
    if snapshot.note:
        card["facts"].append(wording.clip(snapshot.note, 200))
    if snapshot.worker or snapshot.host:
        card["facts"].append(f"on {snapshot.host or snapshot.worker}")
    if snapshot.attempt > 1:
        card["facts"].append(f"attempt {snapshot.attempt}")
    if snapshot.duration_s:
        card["facts"].append(f"{'took ' if over else ''}{duration(snapshot.duration_s)}")
    if snapshot.peak_mb:
        card["facts"].append(wording.peak(snapshot.peak_mb))
    if over and snapshot.function:
        card["facts"].append(f"function {snapshot.function[:HASH]}")
    if snapshot.waiting:
        card["notes"].append(f"waiting: {snapshot.waiting}")
    if snapshot.stdout_tail:
        card["output"] = snapshot.stdout_tail[-OUTPUT_LIMIT:]
        card["output_note"] = output_note(len(card["output"]), snapshot.output_bytes)
    if snapshot.failure is not None:
        card["failures"] = [_failure(snapshot.failure)]
    return card


def _reached(snapshot: TaskSnapshot, over: bool) -> tuple[int, str]:
    """The length of the bar and its label; for a failed task, its last reported progress."""
    said = max(0, min(100 if over else 99, int(snapshot.progress)))
    if over and (snapshot.state == "DONE" or not said):
        return 100, "100 %" if snapshot.state == "DONE" else ""
    return said, f"{said} %"


def output_note(shown: int, written: int, future: str = "f") -> str:
    """A note on how much of the output a card shows; "" if it shows all."""
    return f"{size(shown)} of {size(written)} shown; {future}.stdout has all" if written > shown + SLACK else ""


def cluster(snapshot: ClusterSnapshot, stopped: bool = False) -> dict[str, Any]:
    """The description of a cluster card."""
    up = snapshot.connected and not stopped
    state = "up" if up else "stopped" if stopped else "away"
    hubs = len(snapshot.hubs)
    shown = () if stopped else snapshot.hubs[:MOST_HUBS]
    away = LAST_HEARD if snapshot.known else NEVER_HEARD
    notes = [{"up": snapshot.warning, "away": away, "stopped": STOPPED}[state]]
    if state == "away":
        notes.insert(0, snapshot.warning)
    notes += snapshot.notes if up else ()
    notes = [*filter(None, notes), *([f"and {hubs - len(shown):,} more hubs"] if shown and hubs > len(shown) else [])]
    return {
        "title": snapshot.name,
        "state": state,
        "look": {"up": ("●", "up"), "away": ("○", "the core is away"), "stopped": ("■", "stopped")}[state],
        "over": stopped,
        "rows": [
            *([] if stopped else _busy_rows(snapshot)),
            *([] if stopped else _gpu_rows(shown)),
            *([("durability", durability(snapshot.durability))] if snapshot.known else []),
            ("owner", snapshot.owner),
        ],
        "hubs": [[hub.name, hub.host, hub.state, hub.workers, hub.busy] for hub in shown],
        "workers": snapshot.workers,
        "unfinished": snapshot.queued + snapshot.running,
        "monitor": snapshot.monitor_url,
        "can": {"scale": up, "stop": up, "monitor": up and bool(snapshot.monitor_url), "start": not up},
        "notes": notes,
    }


def beyond(workers: int) -> str:
    """A remark on more workers than this computer has cores; "" for fewer."""
    cores = os.cpu_count() or 1
    return f" (this computer has {wording.number(cores, 'core')})" if workers > 2 * cores else ""


def _busy_rows(snapshot: ClusterSnapshot) -> list[tuple[str, str]]:
    address = ("address", snapshot.address)
    if not snapshot.known:  # unknown is not "0 workers"
        return [address]
    return [
        address,
        ("hubs", str(len(snapshot.hubs))),
        ("workers", f"{snapshot.workers} ({snapshot.busy} busy)"),
        ("queue", f"{snapshot.queued:,} waiting, {snapshot.running:,} running"),
        *([("scaling", snapshot.adapts)] if snapshot.adapts else []),
        *([("if idle", snapshot.idle_end)] if snapshot.idle_end else []),
    ]


def _gpu_rows(hubs: Sequence[HubRow]) -> list[tuple[str, str]]:
    """The use of each card of these hubs, of many only the first."""
    cards = [(hub, card) for hub in hubs for card in hub.gpus]
    several = len({hub.hub for hub, _ in cards}) > 1
    rows = [("GPU", f"{gpu(card)}{f' on {hub.name}' if several else ''}") for hub, card in cards[:MOST_GPUS]]
    more = len(cards) - len(rows)
    return [*rows, *([("", f"and {wording.number(more, 'more GPU')}")] if more else [])]


def durability(level: str) -> str:
    """The promise of LB_DURABILITY in a few words."""
    promise = {
        "process": "survives any process dying",
        "full": "survives power loss too",
        "none": "memory only: lost with the core",
    }.get(level, "")
    return f"{level}: {promise}" if promise else level
