"""Room view: a few large figures for a screen on the wall."""

from __future__ import annotations

import html
import time
from typing import Any

from nblb.monitoring import charts, rows
from nblb.monitoring.page import Page, column, set_text, text_pane
from nblb.monitoring.pages.health import HUBS, QUEUE, WORKERS, warnings
from nblb.monitoring.pages.jobs import JOBS
from nblb.monitoring.poller import STATUS, ClusterPicture, Question

HISTORY = Question.of("history", seconds=3600)
USERS = Question("users")
MOST_JOBS, MOST_USERS = 6, 6


class RoomPage(Page):
    """The cluster from three metres away."""

    key, title = "room", "Room view"

    def questions(self) -> tuple[Question, ...]:
        return STATUS, WORKERS, HUBS, QUEUE, USERS, JOBS, HISTORY

    def body(self) -> Any:
        self.figures, self.lists = text_pane(""), text_pane("")
        self.chart = charts.Lines(
            {"queued": ("queued", charts.QUEUED, "solid"), "running": ("running", charts.RUNNING, "dashed")},
            "calls",
            220,
        )
        return column(self.figures, self.lists, charts.pane(self.chart.chart, self.dark, 220))

    def show(self, picture: ClusterPicture) -> None:
        if not picture.answers:
            return
        set_text(self.figures, room_figures(picture))
        set_text(self.lists, lists(picture, time.time()))
        if picture.get(HISTORY) is not None:
            self.chart.show(picture.get(HISTORY))


def room_figures(picture: ClusterPicture) -> str:
    status = picture.status
    counts = status.get("counts") or {}
    bins = (picture.get(HISTORY) or {}).get("bins") or []
    rate = sum(each["done_per_s"] for each in bins[-6:]) / max(1, len(bins[-6:]))
    pairs = [
        ("workers busy", f"{int(status.get('busy') or 0):,} / {int(status.get('workers') or 0):,}"),
        ("running", rows.count(status.get("running"))),
        ("waiting", rows.count(status.get("queued"))),
        ("done", rows.count(counts.get("DONE"))),
        ("failed", rows.count(counts.get("FAILED"))),
        ("done a minute", f"{60 * rate:,.0f}"),
    ]
    cells = "".join(f"<div><dd>{value}</dd><dt>{name}</dt></div>" for name, value in pairs)
    wrong = warnings(picture)
    light = f'<p class="alert">{html.escape(wrong[0])}</p>' if wrong else '<p class="alert fine">✓ all is well</p>'
    return f'<dl class="room">{cells}</dl>{light}'


def lists(picture: ClusterPicture, now: float) -> str:
    jobs = [job for job in picture.get(JOBS) or [] if job.get("state") == "running"]
    jobs.sort(key=lambda job: -float(job.get("created_at") or 0))
    bars = ""
    for job in jobs[:MOST_JOBS]:
        part = int(100 * rows.done_share(job))
        left = rows.time_left(job, now)
        name, user = (html.escape(rows.text(job.get(key))) for key in ("name", "user"))
        bars += (
            f'<li><b>{name}</b> <span class="dim">{user}{f" · {left} left" if left else ""}</span>'
            f'<span class="bar wide"><i style="width:{part}%"></i><em>{part} %</em></span></li>'
        )
    users = [row for row in rows.users(picture.get(USERS) or []) if row[1] != "0" or row[2] != "0"][:MOST_USERS]
    people = "".join(f"<li><b>{html.escape(row[0])}</b> {row[1]} running, {row[2]} waiting</li>" for row in users)
    return (
        f'<div class="roomlists"><div><h2>Jobs</h2><ul>{bars or "<li>no job runs</li>"}</ul></div>'
        f"<div><h2>Users</h2><ul>{people or '<li>nobody waits</li>'}</ul></div></div>"
    )
