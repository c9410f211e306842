"""Health: what a person should know about the cluster now, in the sentences of the Health Check, with the figures."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

from nblb.monitoring import charts, rows
from nblb.monitoring.page import Page, column, heading, set_text, text_pane
from nblb.monitoring.pages.users import span_choice, span_of
from nblb.monitoring.poller import STATUS, ClusterPicture, Question
from nblb.quantities import gpu, size

WORKERS, HUBS, QUEUE = Question("workers"), Question("hubs"), Question("queue")
FULL = 0.95  # part of a disk or a memory in use that is worth a warning


class HealthPage(Page):
    """Warnings and figures of the core and the hubs."""

    key, title = "health", "Health"

    def questions(self) -> tuple[Question, ...]:
        return STATUS, WORKERS, HUBS, QUEUE, self._history()

    def _history(self) -> Question:
        return Question.of("history", seconds=int(span_of(self.place["span"])))

    def body(self) -> Any:
        self.warnings, self.figures = text_pane(""), text_pane("")
        self.load = charts.Lines(
            {"workers": ("workers", charts.DONE, "solid"), "busy": ("busy", charts.RUNNING, "dashed")}, "workers"
        )
        self.commits = charts.Lines({"commit_ms": ("a commit of the journal", charts.QUEUED, "solid")}, "ms", 150)
        return column(
            heading("Health"),
            self.warnings,
            self.figures,
            heading("Over time"),
            span_choice(self),
            charts.pane(self.load.chart, self.dark, 200),
            charts.pane(self.commits.chart, self.dark, 150),
        )

    def show(self, picture: ClusterPicture) -> None:
        set_text(self.warnings, warnings_html(warnings(picture)))
        set_text(self.figures, figures(picture))
        if picture.get(self._history()) is not None:
            self.load.show(picture.get(self._history()))
            self.commits.show(picture.get(self._history()))


def warnings(picture: ClusterPicture) -> list[str]:
    """Return what is wrong, in the words of pyLoadBalancer's Health Check where it has them."""
    if picture.error:
        return ["HC - CAN'T GET WORKER LIST : LB DOWN ??", picture.error]
    if not picture.taken_at:
        return []
    found: list[str] = []
    hubs: Sequence[Mapping[str, Any]] = picture.get(HUBS) or []
    workers, queue = picture.get(WORKERS), picture.get(QUEUE) or {}
    if workers is not None and not workers:
        found.append("HC - WARNING : LB HAS NO WORKERS")
    for hub in hubs:
        name = hub.get("name")
        if hub.get("state") == "suspect":
            found.append(f"HC - hub {name} SEEMS DOWN ({float(hub.get('age_s') or 0):.0f}s)")
        for what in ("memory", "disk"):
            used = float(hub.get(what) or 0.0)
            found += [f"HC - WARNING : the {what} of hub {name} is {100 * used:.0f} % full"] * (used > FULL)
        lost = [gpu(card) for card in hub.get("gpus") or () if card.get("lost")]
        found += [f"HC - WARNING : of hub {name}, {card}" for card in lost]
        missing = sum(
            int(group.get("workers") or 0) - int(group.get("alive") or 0) for group in hub.get("groups") or ()
        )
        if missing > 0 and hub.get("state") == "up":
            found.append(f"HC - WARNING : {missing} workers of hub {name} are not running")
    for priority, queued, _free, note in rows.priorities(queue, workers or []):
        if note and workers is not None:
            found.append(f"HC - WARNING : {queued} tasks wait for a worker that takes priority {priority}")
    status = picture.status
    disk = status.get("disk") or {}
    if disk.get("total") and disk["free"] < (1 - FULL) * disk["total"]:
        found.append(f"HC - WARNING : the disk of the journal has only {size(disk['free'] or 0)} left")
    if status.get("faults"):
        found.append(f"HC - WARNING : {status['faults']} errors inside the core; its log has them")
    return found


def warnings_html(sentences: Sequence[str]) -> str:
    if not sentences:
        return '<p class="alert fine" role="status">✓ HC - OK : nothing is wrong</p>'
    return "".join(f'<p class="alert" role="alert">{html.escape(sentence)}</p>' for sentence in sentences)


def figures(picture: ClusterPicture) -> str:
    status = picture.status
    journal, disk = status.get("journal") or {}, status.get("disk") or {}
    commits = int(journal.get("commits") or 0)
    commit_ms = 1000 * float(journal.get("commit_s") or 0.0) / commits if commits else 0.0
    pairs = [
        ("Core", f"pid {status.get('pid')} on {status.get('host')}, nblb {status.get('version')}"),
        ("Up for", rows.duration_cell(status.get("uptime_s"))),
        ("Start number", status.get("epoch")),
        ("Answer of the core", f"{picture.ask_ms:.1f} ms"),
        ("Durability", status.get("durability")),
        ("Journal", f"{size(disk.get('journal') or 0)} in {status.get('state_dir')}" if disk else ""),
        ("Free on its disk", f"{size(disk.get('free') or 0)} of {size(disk.get('total') or 0)}" if disk else ""),
        ("Commits", f"{commits:,}, {commit_ms:.2f} ms each" if commits else ""),
        ("Scaling", (status.get("adapts") or {}).get("text", "")),
        ("If idle", (status.get("idle_end") or {}).get("text", "")),
        ("Connected clients", rows.count(status.get("clients"))),
        ("Tasks kept", rows.count(status.get("records"))),
        ("Messages refused", rows.count(status.get("garbage"))),
        ("Late facts", rows.count(status.get("late_facts"))),
    ]
    cells = "".join(
        f"<dt>{name}</dt><dd>{html.escape(str(value))}</dd>" for name, value in pairs if value not in (None, "")
    )
    return f'<dl class="pairs">{cells}</dl>'
