"""Users: who uses how much of the cluster now, and has over time."""

from __future__ import annotations

from typing import Any

import panel as pn

from nblb.monitoring import charts, rows
from nblb.monitoring.page import Page, column, heading
from nblb.monitoring.poller import ClusterPicture, Question
from nblb.monitoring.table import Table

USERS = Question("users")
SPANS = {"the last hour": "3600", "the last day": "86400", "the last week": "604800"}


class UsersPage(Page):
    """The users of the cluster."""

    key, title = "users", "Users"

    def questions(self) -> tuple[Question, ...]:
        return USERS, self._history()

    def _history(self) -> Question:
        return Question.of("history", seconds=int(span_of(self.place["span"])))

    def body(self) -> Any:
        self.table = Table(rows.USERS, "Nobody has sent a task yet.", {"Share %": 130})
        self.areas = charts.UserAreas()
        self.span = span_choice(self)
        return column(
            heading("Users"),
            self.table.widget,
            heading("Use over time"),
            self.span,
            charts.pane(self.areas.chart, self.dark, 240),
        )

    def show(self, picture: ClusterPicture) -> None:
        if picture.get(USERS) is not None:
            self.table.show(rows.users(picture.get(USERS)))
        if picture.get(self._history()) is not None:
            self.areas.show(picture.get(self._history()))


def span_of(value: str) -> str:
    return value if value in SPANS.values() else "3600"


def span_choice(page: Page) -> Any:
    """Return the choice of a span of time, which is in the page's address."""
    choice = pn.widgets.Select(name="Time", options=SPANS, value=span_of(page.place["span"]), width=150, margin=(0, 6))

    def chosen(event: Any) -> None:
        page.place.set(span=event.new if event.new != "3600" else "")
        page.show(page.poller.read(*page.questions()))

    choice.param.watch(chosen, "value")
    return choice
