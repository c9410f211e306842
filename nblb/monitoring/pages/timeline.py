"""Timeline: who ran what on which worker, zoomable."""

from __future__ import annotations

import html
from typing import Any

import panel as pn

from nblb.monitoring import charts
from nblb.monitoring.page import Page, column, heading, row, set_text, text_pane
from nblb.monitoring.poller import ClusterPicture, Question

SPANS = {"the last minute": "60", "5 minutes": "300", "30 minutes": "1800", "6 hours": "21600"}
COLOURS = {"task name": "name", "user": "user"}


class TimelinePage(Page):
    """The slices that workers have run, as bars in time."""

    key, title = "timeline", "Timeline"

    def questions(self) -> tuple[Question, ...]:
        return (self._question(),)

    def _question(self) -> Question:
        span = self.place["span"] if self.place["span"] in SPANS.values() else "300"
        return Question.of("timeline", seconds=int(span), user=self.place["user"], name=self.place["name"])

    def body(self) -> Any:
        place = self.place
        self.timeline = charts.TimelineChart()
        self.legend = text_pane("")
        span = place["span"] if place["span"] in SPANS.values() else "300"
        self.span = pn.widgets.Select(name="Time", options=SPANS, value=span, width=140, margin=(0, 6))
        self.by = pn.widgets.Select(
            name="Colour by",
            options=COLOURS,
            value="user" if place["by"] == "user" else "name",
            width=120,
            margin=(0, 6),
        )
        self.user = pn.widgets.TextInput(
            name="User", value=place["user"], placeholder="everybody", width=120, margin=(0, 6)
        )
        self.hold = pn.widgets.Checkbox(name="Pause", value=False, margin=(22, 6, 0, 6))
        for widget in (self.span, self.by, self.user):
            widget.param.watch(lambda _event: self._chosen(), "value")
        return column(
            heading("Timeline"),
            row(self.span, self.by, self.user, self.hold),
            self.legend,
            charts.pane(self.timeline.chart, self.dark),
        )

    def _chosen(self) -> None:
        self.place.set(span=self.span.value, by=self.by.value if self.by.value != "name" else "", user=self.user.value)
        self.show(self.poller.read(self._question()))

    def show(self, picture: ClusterPicture) -> None:
        answer = picture.get(self._question())
        if answer is None or self.hold.value:
            return
        colours = self.timeline.show(answer, self.by.value)
        keys = " ".join(
            f'<span><i style="background:{colour}"></i> {html.escape(str(name))}</span>'
            for name, colour in colours.items()
        )
        more = f" · {answer['more']:,} earlier ones are not drawn" if answer.get("more") else ""
        none = "" if answer["rows"] else "Nothing has run in this time."
        set_text(
            self.legend, f'<p class="line legend">{keys}{none}{more} <span class="dim">zoom with the wheel</span></p>'
        )
