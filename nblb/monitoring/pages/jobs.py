"""Jobs: the list of jobs, and the page of one with its bar, its strip of items and its failures in groups."""

from __future__ import annotations

import html
import time
from collections.abc import Mapping
from typing import Any

import panel as pn

from nblb.monitoring import rows
from nblb.monitoring.controls import calls, number_in
from nblb.monitoring.links import link
from nblb.monitoring.page import Page, column, heading, set_text, text_pane
from nblb.monitoring.poller import ClusterPicture, Question
from nblb.monitoring.table import Table

MOST_JOBS = 200
CELLS = 240
JOBS = Question.of("jobs", limit=MOST_JOBS)
WORDS = {"d": "done", "r": "running", "f": "failed", "q": "waiting", "c": "cancelled", ".": "not submitted yet"}


class JobsPage(Page):
    """The latest jobs."""

    key, title = "jobs", "Jobs"

    def questions(self) -> tuple[Question, ...]:
        return (JOBS,)

    def body(self) -> Any:
        self.table = Table(rows.JOBS, "No jobs yet. Each map() of a task is one.", {"Progress %": 120}, links=("Job",))
        self.note = text_pane("")
        return column(heading("Jobs"), self.table.widget, self.note)

    def show(self, picture: ClusterPicture) -> None:
        jobs = picture.get(JOBS)
        if jobs is None:
            return
        self.table.show(rows.jobs(jobs, time.time()))
        set_text(self.note, f'<p class="line">The latest {MOST_JOBS} jobs.</p>' if len(jobs) == MOST_JOBS else "")


class JobPage(Page):
    """One job."""

    key, title = "job", "Job"

    def questions(self) -> tuple[Question, ...]:
        job = self.place["job"]
        return (
            Question.of("job", job=job),
            Question.of("strip", job=job, cells=CELLS),
            Question.of("failures", job=job),
        )

    def body(self) -> Any:
        self.head = text_pane("")
        self.controls = pn.FlexBox(sizing_mode="stretch_width", align_items="end")
        self.failures = Table(rows.FAILURES, "Nothing has failed.", {"Error": 420}, links=("Error",))
        self._drawn_for = ""
        self._job: Mapping[str, Any] = {}
        return column(self.head, self.controls, self.said, heading("Failures"), self.failures.widget)

    def show(self, picture: ClusterPicture) -> None:
        about, strip, failures = self.questions()
        if about not in picture.answers:
            set_text(self.head, '<p class="line">asking the core …</p>')
            return
        job = picture.get(about)
        if job is None:
            set_text(self.head, "<h2>This job is not known</h2><p>The core has dropped it, or never had it.</p>")
            self.controls.objects = []
            return
        self._job = job
        set_text(self.head, head(job, picture.get(strip) or "", time.time()))
        self.failures.show(rows.failures(picture.get(failures) or []))
        self._draw_controls(job)

    def _draw_controls(self, job: Mapping[str, Any]) -> None:
        over, bad = job.get("state") != "running", rows.job_numbers(job)["failed"] > 0
        drawn = f"{over} {bad}"
        if drawn == self._drawn_for:
            return
        self._drawn_for = drawn
        identity, name, owner = str(job["job"]), str(job["name"]), str(job["user"])
        made: list[Any] = []
        if not over:
            priority = pn.widgets.TextInput(name="Priority", value="0", width=90, margin=(0, 6))
            made += [
                self.asking(
                    "Cancel job",
                    lambda: f"Cancel the {calls(self._left())} of {name} that have not ended?",
                    lambda: self.orders.cancel_job(identity, name, owner), "cancel", owner,
                ),
                priority,
                self.button(
                    "Set priority", lambda: self.orders.priority(number_in(priority.value), name, owner, job=identity),
                    "priority", owner,
                ),
            ]  # fmt: skip
        if bad:
            made.append(
                self.button(
                    "Retry failed", lambda: self.orders.retry(name, owner, job=identity), "retry", owner, "primary"
                )
            )
        if over:
            made.append(
                self.asking(
                    "Forget job", lambda: f"Drop {name} and all its results? Nobody can fetch them then.",
                    lambda: self.orders.forget(identity, name, owner), "forget", owner,
                )
            )  # fmt: skip
        self.controls.objects = made

    def _left(self) -> int:
        n = rows.job_numbers(self._job)
        return n["items"] - n["ended"]


def head(job: Mapping[str, Any], strip: str, now: float) -> str:
    """The bar, the numbers and the strip of a job, as HTML."""
    n, identity = rows.job_numbers(job), str(job["job"])
    name, items = html.escape(rows.text(job.get("name"))), max(1, n["items"])
    part = {key: 100.0 * n[key] / items for key in ("done", "failed", "other")}
    part["running"] = max(0.0, 100.0 * rows.done_share(job) - sum(part.values()))  # what running calls have done
    percent = int(100.0 * rows.done_share(job))
    pieces = "".join(f'<i class="{key}" style="width:{width:.2f}%"></i>' for key, width in part.items())
    left = rows.time_left(job, now)
    begun = float(job.get("created_at") or 0.0)
    origin = f" · {html.escape(rows.text(job['origin']))}" if job.get("origin") else ""
    took = (float(job.get("ended_at") or 0.0) or now) - begun if begun else 0.0
    numbers = " · ".join(
        link(f"{n[key]:,} {word}", page="tasks", job=identity, state=state)
        for key, word, state in (
            ("done", "done", "DONE"), ("failed", "failed", "BAD"), ("running", "running", "RUNNING"),
            ("waiting", "waiting", "OPEN"), ("other", "cancelled", "CANCELLED"),
        )
        if n[key] or key in ("done", "waiting")
    )  # fmt: skip
    return (
        f'<h2>{name} <span class="state">{rows.job_state(job)}</span></h2>'
        f'<p class="line">task {html.escape(rows.text(job.get("task_name")))} of '
        f"{link(rows.text(job.get('user')), page='tasks', user=job.get('user'))}{origin} · began {rows.moment(begun)}"
        f" · {rows.duration_cell(took) if took > 0 else ''}{f' · {left} left' if left else ''}</p>"
        f'<span class="bar wide parts" role="progressbar" aria-valuemin="0" aria-valuemax="100" '
        f'aria-valuenow="{percent}" '
        f'aria-valuetext="{n["ended"]:,} of {items:,} tasks, {n["failed"]:,} failed" aria-label="progress of {name}">'
        f"{pieces}<em>{percent} %</em></span><p>{numbers} · {link('all', page='tasks', job=identity)}</p>"
        f"{_strip(strip, items)}"
    )


def _strip(letters: str, items: int) -> str:
    """The items of the job as a row of cells, with a legend; a cell stands for one or many items."""
    if not letters:
        return ""
    cells = "".join(f'<i class="s{letter if letter != "." else "n"}"></i>' for letter in letters)
    there = [letter for letter in WORDS if letter in letters]
    legend = " ".join(
        f'<span><i class="s{letter if letter != "." else "n"}"></i> {WORDS[letter]}</span>' for letter in there
    )
    each = f"a cell is {items / len(letters):,.0f} items" if items > len(letters) else "a cell is an item"
    label = ", ".join(f"{letters.count(letter)} cells {WORDS[letter]}" for letter in there)
    return (
        f'<div class="strip" role="img" aria-label="{label}">{cells}</div><p class="line legend">{legend} · {each}</p>'
    )
