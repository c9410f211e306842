"""Tasks: the list of all calls, a page of 50 rows at a time; filter, search and order are done by the core."""

from __future__ import annotations

import html
from typing import Any

import panel as pn

from nblb.monitoring import rows
from nblb.monitoring.page import Page, column, heading, row, set_text, text_pane
from nblb.monitoring.poller import ClusterPicture, Question
from nblb.monitoring.table import Table

ROWS = 50
STATES = {
    "every state": "", "not ended": "OPEN", "failed or lost": "BAD", "queued": "QUEUED", "blocked": "BLOCKED",
    "running": "RUNNING", "at its hub": "ASSIGNED", "done": "DONE", "failed": "FAILED", "lost": "LOST",
    "cancelled": "CANCELLED",
}  # fmt: skip
ORDERS = {
    "newest first": "", "oldest first": "submitted", "ended last": "ended-", "longest first": "duration-",
    "shortest first": "duration", "highest priority": "priority-", "lowest priority": "priority", "by name": "name",
    "by user": "user", "by state": "state", "by host": "host", "most attempts": "attempt-",
    "most progress": "progress-",
}  # fmt: skip


class TasksPage(Page):
    """The list of all calls."""

    key, title = "tasks", "Tasks"

    def body(self) -> Any:
        place = self.place
        self.search = pn.widgets.TextInput(
            name="Search", value=place["q"], placeholder="name, user, id, job, note or error", width=240, margin=(0, 6)
        )
        self.state = pn.widgets.Select(
            name="State", options=STATES, value=_known(place["state"], STATES), width=130, margin=(0, 6)
        )
        self.order = pn.widgets.Select(
            name="Order", options=ORDERS, value=_known(place["sort"], ORDERS), width=150, margin=(0, 6)
        )
        self.user = pn.widgets.TextInput(
            name="User", value=place["user"], placeholder="everybody", width=110, margin=(0, 6)
        )
        self.table = Table(rows.TASKS, "No task matches.", {"Progress %": 100}, links=("Task", "Job"))
        self.back = pn.widgets.Button(name="‹ Previous", margin=(4, 6))
        self.on = pn.widgets.Button(name="Next ›", margin=(4, 6))
        self.where = text_pane("", sizing_mode=None)
        for widget in (self.search, self.state, self.order, self.user):
            widget.param.watch(lambda _event: self._filter(), "value")
        self.back.on_click(lambda _event: self._turn(-ROWS))
        self.on.on_click(lambda _event: self._turn(ROWS))
        return column(
            heading("Tasks"),
            row(self.search, self.state, self.order, self.user),
            row(self.back, self.on, self.where),
            self.table.widget,
        )

    def questions(self) -> tuple[Question, ...]:
        return (self._question(),)

    def _question(self) -> Question:
        place = self.place
        sort = _known(place["sort"], ORDERS)
        return Question.of(
            "page", search=place["q"], state=_known(place["state"], STATES), user=place["user"], name=place["name"],
            job=place["job"], sort=sort.rstrip("-"), descending=sort.endswith("-"), offset=place.number("from"),
            limit=ROWS,
        )  # fmt: skip

    def _filter(self) -> None:
        """Go to the first page of another list."""
        self.place.set(
            **{"q": self.search.value, "state": self.state.value, "sort": self.order.value, "user": self.user.value,
               "from": ""}
        )  # fmt: skip
        self.show(self.poller.read(self._question()))

    def _turn(self, by: int) -> None:
        self.place.set(**{"from": str(max(0, self.place.number("from") + by) or "")})
        self.show(self.poller.read(self._question()))

    def show(self, picture: ClusterPicture) -> None:
        question = self._question()
        answer = picture.get(question)
        if answer is None:
            set_text(self.where, f'<p class="line">{html.escape(picture.errors.get(question, "searching …"))}</p>')
            return
        first, total, here = self.place.number("from"), int(answer["total"]), len(answer["rows"])
        self.table.show(rows.tasks(answer["rows"]))
        self.back.disabled = first == 0
        self.on.disabled = first + here >= total
        searched = float(answer.get("searched") or 0.0)
        more = f", {100 * searched:.0f} % of the tasks searched" if searched < 1.0 else ""
        only = "".join(f" · {name} {rows.text(self.place[name])}" for name in ("name", "job") if self.place[name])
        set_text(
            self.where,
            f'<p class="line" role="status">{first + 1 if here else 0:,} to {first + here:,} of {total:,}{more}'
            f"{html.escape(only)}</p>",
        )


def _known(value: str, options: dict[str, str]) -> str:
    return value if value in options.values() else ""
