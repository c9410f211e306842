"""Statistics: times and numbers of ended tasks by task name."""

from __future__ import annotations

from typing import Any

from nblb.monitoring import charts, rows
from nblb.monitoring.page import Page, column, heading, text_pane
from nblb.monitoring.pages.users import span_choice, span_of
from nblb.monitoring.poller import ClusterPicture, Question
from nblb.monitoring.table import Table

STATS, PERCENTILES = Question("stats"), Question("percentiles")


class StatisticsPage(Page):
    """Statistics by task name, since the core's folder exists."""

    key, title = "statistics", "Statistics"

    def questions(self) -> tuple[Question, ...]:
        return STATS, PERCENTILES, self._history()

    def _history(self) -> Question:
        return Question.of("history", seconds=int(span_of(self.place["span"])))

    def body(self) -> Any:
        self.table = Table(rows.STATISTICS, "No task has ended yet.", {"Share %": 120}, links=("Task",))
        self.rate = charts.Lines(
            {
                "done_per_s": ("done", charts.DONE, "solid"),
                "failed_per_s": ("failed", charts.FAILED, "dashed"),
            },
            "calls a second",
        )
        return column(
            heading("Global statistics, by task name"),
            self.table.widget,
            text_pane(
                '<p class="line">≈: percentiles are right within a fifth, and of calls since the history began.</p>'
            ),
            heading("Throughput and failures"),
            span_choice(self),
            charts.pane(self.rate.chart, self.dark, 200),
        )

    def show(self, picture: ClusterPicture) -> None:
        if picture.get(STATS) is not None:
            self.table.show(rows.statistics(picture.get(STATS), picture.get(PERCENTILES) or {}))
        if picture.get(self._history()) is not None:
            self.rate.show(picture.get(self._history()))
