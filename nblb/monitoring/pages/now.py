"""Now: the workers as a live grid, the queue by user, task name and priority, and whose turn is next."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping
from typing import Any

import panel as pn

from nblb.monitoring import charts, rows
from nblb.monitoring.page import Page, column, heading, set_text, text_pane
from nblb.monitoring.poller import ClusterPicture, Question
from nblb.monitoring.table import Table

MOST_TILES = 120  # workers as tiles; more of them are rows of a table
WORKERS, USERS, QUEUE, TURNS = (Question(topic) for topic in ("workers", "users", "queue", "turns"))
HISTORY = Question.of("history", seconds=3600)


class NowPage(Page):
    """The state of the cluster at this moment."""

    key, title = "now", "Now"

    def questions(self) -> tuple[Question, ...]:
        return WORKERS, USERS, QUEUE, TURNS, HISTORY

    def body(self) -> Any:
        self.tiles = text_pane("")
        self.workers = Table(rows.WORKERS, "No workers.", {"Worker": 150, "Progress %": 110}, links=("Task",))
        self.workers.widget.visible = False
        self.users = Table(rows.USERS, "Nobody has sent a task yet.", {"Share %": 110})
        self.turns = Table(rows.TURNS, "Nothing waits that a worker could take.", links=("Next task",))
        self.queues = Table(rows.QUEUES, "Nothing waits.")
        self.priorities = Table(rows.PRIORITIES, "Nothing waits.")
        self.chart = charts.Lines(
            {"queued": ("queued", charts.QUEUED, "solid"), "running": ("running", charts.RUNNING, "dashed")}, "calls"
        )
        half = {"flex": "1 1 420px", "min-width": "0", "max-width": "100%"}
        return column(
            heading("Workers"),
            self.tiles,
            self.workers.widget,
            heading("Who is next, and why"),
            self.turns.widget,
            heading("The last hour"),
            charts.pane(self.chart.chart, self.dark, 200),
            pn.FlexBox(
                pn.Column(heading("Users"), self.users.widget, styles=half),
                pn.Column(heading("Queue by task name"), self.queues.widget, styles=half),
                pn.Column(heading("Queue by priority"), self.priorities.widget, styles=half),
                sizing_mode="stretch_width",
            ),
        )

    def show(self, picture: ClusterPicture) -> None:
        workers = picture.get(WORKERS)
        if workers is not None:
            many = len(workers) > MOST_TILES
            self.workers.widget.visible = many
            set_text(self.tiles, "" if many else tiles(workers))
            if many:
                self.workers.show(rows.workers(workers))
        queue = picture.get(QUEUE)
        if queue is not None:
            self.queues.show(rows.queues(queue))
            self.priorities.show(rows.priorities(queue, workers or []))
        if picture.get(USERS) is not None:
            self.users.show(rows.users(picture.get(USERS)))
        if picture.get(TURNS) is not None:
            self.turns.show(rows.turns(picture.get(TURNS)))
        if picture.get(HISTORY) is not None:
            self.chart.show(picture.get(HISTORY))


def tiles(workers: Iterable[Mapping[str, Any]]) -> str:
    """The workers as tiles, by hub, as HTML."""
    by_hub: dict[str, list[Mapping[str, Any]]] = {}
    for worker in workers:
        by_hub.setdefault(str(worker.get("hub")), []).append(worker)
    if not by_hub:
        return '<p class="empty">No workers. Start some with %lb_start in a notebook, or with: nblb hub</p>'
    parts = []
    for hub, its in sorted(by_hub.items()):
        busy = sum(worker.get("state") == "busy" for worker in its)
        parts.append(
            f"<h3>{html.escape(hub)} <small>{busy} of {len(its)} busy, load of its machine "
            f'{float(its[0].get("cpu") or 0):.0f} %</small></h3><ul class="tiles">'
        )
        parts += [_tile(worker) for worker in sorted(its, key=lambda w: str(w.get("worker")))]
        parts.append("</ul>")
    return "".join(parts)


def _tile(worker: Mapping[str, Any]) -> str:
    name = html.escape(str(worker.get("worker")))
    own = f"{rows.percent(worker.get('own_cpu'))} % CPU" if worker.get("own_cpu") is not None else ""
    memory = rows.memory_cell(worker.get("memory_mb"))
    use = " · ".join(filter(None, (own, memory)))
    if worker.get("state") != "busy":
        return f'<li class="tile idle"><b>○ idle</b><span>{use}</span><small>{name}</small></li>'
    done = max(0, min(100, round(float(worker.get("progress") or 0.0))))
    task = html.escape(rows.text(worker.get("task_name")))
    where = html.escape(rows.slice_address(worker))
    note = html.escape(rows.text(worker.get("note")))[:120]
    user = html.escape(rows.text(worker.get("user")))
    job = f" · {html.escape(rows.text(worker.get('job')))}" if worker.get("job") else ""
    many = f" × {int(worker.get('items') or 1):,}" if int(worker.get("items") or 1) > 1 else ""
    sign = "… waits" if worker.get("waits") else "▶"
    return (
        f'<li class="tile"><b>{sign} <a href="{where}">{task}</a>{many}</b>'
        f"<span>{user}{job} · {rows.duration_cell(worker.get('since_s'))}</span>"
        f'<span class="bar" role="progressbar" aria-valuemin="0" aria-valuemax="100" aria-valuenow="{done}" '
        f'aria-label="progress of {task}"><i style="width:{done}%"></i><em>{done} %</em></span>'
        f"<span>{use}</span>{f'<span>{note}</span>' if note else ''}<small>{name}</small></li>"
    )
