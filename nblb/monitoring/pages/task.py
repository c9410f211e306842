"""Task: one call with its arguments, its course, its output and its error; cancel, run again, change the priority."""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import Any

import panel as pn

from nblb.monitoring import rows
from nblb.monitoring.controls import number_in
from nblb.monitoring.links import link
from nblb.monitoring.page import Page, column, set_text, text_pane
from nblb.monitoring.poller import ClusterPicture, Question
from nblb.quantities import duration, size

OVER = ("DONE", "FAILED", "CANCELLED", "LOST")
CAUSES = {
    "SubmitTask": "was submitted", "RunTask": "was given to a hub", "TaskStarted": "began", "TaskFinished": "ended",
    "TaskFailed": "failed", "RetryTask": "is tried again", "RetryFailed": "was told to run again",
    "WorkerDied": "lost its worker", "HubSilent": "lost its hub", "CancelTask": "was cancelled",
    "StopTask": "is being cancelled", "TimeoutPassed": "ran out of time", "TaskReturned": "was handed back",
}  # fmt: skip


class TaskPage(Page):
    """One call."""

    key, title = "task", "Task"

    def questions(self) -> tuple[Question, ...]:
        return (self._question(),)

    def _question(self) -> Question:
        return Question.of("task", task=self.place["task"], first=self.place.number("item"))

    def body(self) -> Any:
        self.head, self.facts, self.texts = text_pane(""), text_pane(""), text_pane("")
        self.controls = pn.FlexBox(sizing_mode="stretch_width", align_items="end")
        self._drawn_for = ""
        return column(self.head, self.controls, self.said, self.facts, self.texts)

    def show(self, picture: ClusterPicture) -> None:
        question = self._question()
        if question not in picture.answers:
            set_text(self.head, '<p class="line">asking the core …</p>')
            return
        task = picture.get(question)
        if task is None:
            set_text(self.head, "<h2>This task is not known</h2><p>The core has dropped it, or never had it.</p>")
            self.controls.objects = []
            return
        set_text(self.head, head(task))
        set_text(self.facts, facts(task))
        set_text(self.texts, texts(task))
        self._draw_controls(task)

    def _draw_controls(self, task: Mapping[str, Any]) -> None:
        """Show the controls that make sense now; they are made again only when others do."""
        over, bad = task["state"] in OVER, task["state"] in ("FAILED", "LOST")
        drawn = f"{over} {bad}"
        if drawn == self._drawn_for:
            return
        self._drawn_for = drawn
        name, owner, of = title(task), str(task["user"]), int(task.get("of") or 1)
        identity, item = str(task["task"]), int(task["first"])
        made: list[Any] = []
        if not over:
            priority = pn.widgets.TextInput(
                name="Priority", value=rows.number(task["priority"]), width=90, margin=(0, 6)
            )
            made = [
                self.asking(
                    "Cancel", lambda: f"Cancel {name}? What it has computed so far is lost.",
                    lambda: self.orders.cancel_call(identity, item, of, name, owner), "cancel", owner,
                ),
                self.asking(
                    "Kill", lambda: f"Kill {name} without letting it clean up?",
                    lambda: self.orders.cancel_call(identity, item, of, name, owner, kill=True), "cancel", owner,
                ),
                priority,
                self.button(
                    "Set priority",
                    lambda: self.orders.priority(number_in(priority.value), name, owner, task=identity),
                    "priority", owner,
                ),
            ]  # fmt: skip
        elif bad:
            made = [
                self.button(
                    "Run again", lambda: self.orders.retry(name, owner, task=identity), "retry", owner, "primary"
                )
            ]
        self.controls.objects = made


def title(task: Mapping[str, Any]) -> str:
    """The call as people name it: sweep[17], or simulate."""
    if task.get("job_name"):
        return f"{task['job_name']}[{task.get('index')}]"
    return f"{task['name']}[{task['first']}]" if int(task.get("of") or 1) > 1 else str(task["name"])


def head(task: Mapping[str, Any]) -> str:
    done = max(0, min(100, round(float(task.get("progress") or 0.0))))
    name = html.escape(rows.text(title(task)))
    job = f" · job {link(str(task['job_name']), page='job', job=task['job'])}" if task.get("job_name") else ""
    note = html.escape(rows.text(task.get("note")))
    return (
        f'<h2>{name} <span class="state {html.escape(str(task["state"]).lower())}">{rows.state(task)}</span></h2>'
        f'<p class="line">task {html.escape(str(task["name"]))} of '
        f"{link(str(task['user']), page='tasks', user=task['user'])}{job}</p>"
        f'<span class="bar wide" role="progressbar" aria-valuemin="0" aria-valuemax="100" aria-valuenow="{done}" '
        f'aria-label="progress"><i style="width:{done}%"></i><em>{done} % {note}</em></span>'
    )


def facts(task: Mapping[str, Any]) -> str:
    lasted = task.get("started_s") or (task.get("duration_s") or 0) / max(1, int(task.get("items") or 1))
    where = " on ".join(filter(None, (str(task.get("worker") or ""), str(task.get("host") or ""))))
    pairs = [
        ("Why", task.get("why") if task["state"] not in OVER else ""),
        ("Where", where),
        ("Submitted", rows.moment(task.get("submitted_at"))),
        ("Lasted" if task["state"] in OVER else "Runs for", rows.duration_cell(lasted) if lasted else ""),
        ("Ended", rows.moment(task.get("ended_at"))),
        ("Attempt", attempts(task)),
        ("Priority", rows.number(task.get("priority") or 0)),
        ("Timeout", rows.duration_cell(task["timeout_s"]) if task.get("timeout_s") else ""),
        ("Waits for", ", ".join(map(str, task.get("depends") or ()))),
        ("Arguments", pickled(task.get("bytes"))),
        ("Result", size(task.get("result_bytes") or 0) if task.get("result_bytes") else ""),
        ("From", task.get("origin")),
        ("Id", f"{task['task']}.{task['first']}" if int(task.get("of") or 1) > 1 else task["task"]),
    ]  # fmt: skip
    cells = "".join(f"<dt>{name}</dt><dd>{html.escape(str(value))}</dd>" for name, value in pairs if value)
    return f'<dl class="pairs">{cells}</dl>'


def pickled(nbytes: int | None) -> str:
    """The size of the arguments; what they are is only known to those who may unpickle them."""
    return f"{size(nbytes)} pickled, which this page never unpickles" if nbytes else ""


def attempts(task: Mapping[str, Any]) -> str:
    """The number of the attempt, and how those before it have ended."""
    waits = f", the first after {duration(task['retry_wait_s'])}" if task.get("retry_wait_s") else ""
    parts = [str(task.get("attempt")), f"{task.get('retries') or 0} retries allowed{waits}"]
    parts += [
        f"{task[key]} {word}" for key, word in (("tries", "raised"), ("crashes", "lost their worker")) if task[key]
    ]
    return ", ".join(parts)


def texts(task: Mapping[str, Any]) -> str:
    parts = []
    if task.get("arguments"):
        parts.append(_text("Arguments", str(task["arguments"])))
    if task.get("error"):
        parts.append(_text("Error", str(task["error"])))
    if task.get("traceback"):
        parts.append(_text("Traceback", str(task["traceback"])))
    for name, heading_ in (("stdout", "Output"), ("stderr", "Error output")):
        if task.get(name):
            parts.append(_text(heading_, str(task[name])))
    steps = "".join(
        f"<li><b>{rows.moment(at)}</b> {html.escape(CAUSES.get(str(cause), str(cause)))} "
        f'<span class="dim">{html.escape(f"{old} → {new}" if old else str(new))}</span></li>'
        for at, cause, old, new in task.get("story") or ()
    )
    parts.append(f'<h3>Story</h3><ol class="story">{steps}</ol>')
    return "".join(parts)


def _text(title_: str, text: str) -> str:
    return f'<h3>{title_}</h3><pre tabindex="0">{html.escape(text[-65536:])}</pre>'
