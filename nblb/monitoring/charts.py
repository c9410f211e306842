"""Charts of the Monitor, drawn by Bokeh: the history with its gaps, use by user, and the timeline of workers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import panel as pn
from bokeh.models import ColumnDataSource, FactorRange, HoverTool, Range1d
from bokeh.plotting import figure

from nblb.quantities import duration

QUEUED, RUNNING, DONE, FAILED = "#56B4E9", "#E69F00", "#009E73", "#D55E00"
#: Distinguishable for colour-blind people (Okabe and Ito), then variations.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#B8A800", "#8A94A0")
MOST_USERS = 7  # with a colour of their own
GAP = 1.6  # bins further apart have a gap between them


def shifted_ms(wall: float) -> float:
    """Return a wall-clock time for Bokeh's time axis, which has no time zones."""
    offset = datetime.fromtimestamp(wall).astimezone().utcoffset()
    return 1000.0 * (wall + (offset.total_seconds() if offset else 0.0))


def with_gaps(bins: Sequence[Mapping[str, Any]], width_s: float, keys: Sequence[str]) -> dict[str, list[float]]:
    """Return the columns of a line chart; between bins that do not follow each other the line is broken."""
    columns: dict[str, list[float]] = {"t": [], **{key: [] for key in keys}}
    before: float | None = None
    for each in bins:
        at = float(each["at"])
        if before is not None and at - before > GAP * width_s:
            columns["t"].append(shifted_ms(before + width_s))
            for key in keys:
                columns[key].append(math.nan)
        columns["t"].append(shifted_ms(at + width_s / 2))
        for key in keys:
            columns[key].append(float(each.get(key) or 0.0))
        before = at
    return columns


def fit_time(axis: Range1d, answer: Mapping[str, Any]) -> None:
    """Let the time axis show the whole time that was asked for, also where there are no bins."""
    until = float(answer.get("now") or 0.0)
    axis.end, axis.start = shifted_ms(until), shifted_ms(until - float(answer.get("seconds") or 3600.0))


def pane(chart: Any, dark: bool, height: int | None = None) -> Any:
    """Return the pane of a chart, as wide as the page."""
    ink, edge = ("#e6e9ed", "#39424d") if dark else ("#1b1f24", "#d3d9df")
    chart.background_fill_color = chart.border_fill_color = None
    chart.outline_line_color = edge
    chart.grid.grid_line_color = edge
    chart.grid.grid_line_alpha = 0.6
    for axis in chart.axis:
        axis.axis_label_text_color = axis.major_label_text_color = ink
        axis.axis_line_color = axis.major_tick_line_color = ink
    chart.tags = ["dark"] if dark else []
    _colour_legend(chart)
    sized: dict[str, Any] = {"height": height} if height else {}
    return pn.pane.Bokeh(chart, sizing_mode="stretch_width", **sized)


def _colour_legend(chart: Any) -> None:
    """Give the legend the colours of the theme for which `pane` was called."""
    dark = "dark" in chart.tags
    for legend in chart.legend:
        legend.background_fill_color = "#14181d" if dark else "#ffffff"
        legend.label_text_color = "#e6e9ed" if dark else "#1b1f24"
        legend.border_line_alpha = 0.0


class Lines:
    """A chart of lines over time; an update replaces its few hundred points."""

    def __init__(self, lines: Mapping[str, tuple[str, str, str]], label: str, height: int = 200) -> None:
        self._keys = list(lines)
        self._sent = ""
        self.source = ColumnDataSource({"t": [], **{key: [] for key in lines}})
        self._x, self._y = Range1d(0, 1), Range1d(0, 1)
        chart = figure(
            height=height, sizing_mode="stretch_width", x_axis_type="datetime", y_axis_label=label, tools="",
            toolbar_location=None, min_width=200, x_range=self._x, y_range=self._y,
        )  # fmt: skip
        for key, (name, colour, dash) in lines.items():
            chart.line("t", key, source=self.source, legend_label=name, color=colour, line_width=2, line_dash=dash)
            chart.scatter("t", key, source=self.source, color=colour, size=3, legend_label=name)
        chart.legend.location = "top_left"
        chart.legend.orientation = "horizontal"
        chart.legend.background_fill_alpha = 0.5
        chart.legend.border_line_alpha = 0.0
        chart.axis.minor_tick_line_color = None
        self.chart = chart

    def show(self, answer: Mapping[str, Any]) -> None:
        """Draw the bins of a history."""
        columns = with_gaps(answer.get("bins") or [], float(answer.get("width_s") or 10.0), self._keys)
        sent = repr(columns)  # NaN is not equal to itself
        if sent != self._sent:
            self._sent, self.source.data = sent, columns
            known = (value for key in self._keys for value in columns[key] if not math.isnan(value))
            highest = max(known, default=0.0)
            self._y.end = 1.1 * highest or 1.0
            fit_time(self._x, answer)


class UserAreas:
    """Worker time by user, stacked, as the mean number of workers in use."""

    def __init__(self, height: int = 240) -> None:
        self._x, self._y = Range1d(0, 1), Range1d(0, 1)
        self.chart = figure(
            height=height, sizing_mode="stretch_width", x_axis_type="datetime", y_axis_label="workers in use",
            tools="", toolbar_location=None, min_width=200, x_range=self._x, y_range=self._y,
        )  # fmt: skip
        self.source = ColumnDataSource({"t": []})
        self._users: list[str] = []
        self._bars: Any = None

    def show(self, answer: Mapping[str, Any]) -> None:
        bins, width_s = answer.get("bins") or [], float(answer.get("width_s") or 10.0)
        used: dict[str, float] = {}
        for each in bins:
            for user, seconds in (each.get("used_s") or {}).items():
                used[user] = used.get(user, 0.0) + seconds
        users = sorted(used, key=lambda user: -used[user])
        named = users[:MOST_USERS]
        data: dict[str, list[float]] = {"t": [shifted_ms(float(each["at"]) + width_s / 2) for each in bins]}
        for number, user in enumerate(named):
            data[f"u{number}"] = [float((each.get("used_s") or {}).get(user, 0.0)) / width_s for each in bins]
        rest = set(users[MOST_USERS:])
        if rest:
            named = [*named, "others"]
            data[f"u{MOST_USERS}"] = [
                sum(s for user, s in (each.get("used_s") or {}).items() if user in rest) / width_s for each in bins
            ]
        sums = [sum(values) for values in zip(*(data[key] for key in data if key != "t"), strict=True)]
        self._y.end = 1.1 * max(sums, default=0.0) or 1.0
        fit_time(self._x, answer)
        if named != self._users:
            self._draw(named, data, width_s)
        elif data != _plain(self.source.data):
            self.source.data = data

    def _draw(self, named: list[str], data: dict[str, list[float]], width_s: float) -> None:
        self.chart.renderers = []
        for legend in self.chart.legend:
            legend.items = []
        self.source = ColumnDataSource(data)
        self._users = named
        if named:
            self.chart.vbar_stack(
                [f"u{n}" for n in range(len(named))],
                x="t",
                width=900.0 * width_s,
                source=self.source,
                color=[COLOURS[n % len(COLOURS)] for n in range(len(named))],
                legend_label=named,
            )
            self.chart.legend.location = "top_left"
            self.chart.legend.background_fill_alpha = 0.5
            _colour_legend(self.chart)


class TimelineChart:
    """Who ran what where: a line for each worker, a bar for each slice; zoomed with the wheel, moved by dragging."""

    COLUMNS = ("left", "right", "worker", "name", "user", "state", "lasted", "calls", "colour", "edge")

    def __init__(self) -> None:
        self.source = ColumnDataSource({name: [] for name in self.COLUMNS})
        self._range = FactorRange(factors=["no worker"])
        self._x = Range1d(0, 1)
        self._seconds = 0.0
        self._end: float = 1.0
        self._colours: dict[str, str] = {}
        chart = figure(
            height=300, sizing_mode="stretch_width", x_axis_type="datetime", y_range=self._range, x_range=self._x,
            tools="xpan,xwheel_zoom,box_zoom,reset,tap", active_scroll="xwheel_zoom", toolbar_location="above",
            min_width=200,
        )  # fmt: skip
        chart.hbar(
            y="worker", left="left", right="right", height=0.82, source=self.source, fill_color="colour",
            line_color="edge", line_width=1.0,
        )  # fmt: skip
        chart.add_tools(
            HoverTool(
                tooltips=[
                    ("task", "@name"), ("user", "@user"), ("state", "@state"), ("lasted", "@lasted"),
                    ("calls", "@calls"), ("worker", "@worker"),
                ]
            )
        )  # fmt: skip
        chart.ygrid.grid_line_color = None
        self.chart = chart

    def show(self, answer: Mapping[str, Any], by: str = "name") -> dict[str, str]:
        """Draw the spans, coloured by task name or by user; return the colours.

        The time axis moves with the time unless somebody has zoomed in.
        """
        rows, before = answer["rows"], self._end
        if self._x.end == before or self._seconds != answer["seconds"]:
            fit_time(self._x, answer)
            self._end, self._seconds = self._x.end, answer["seconds"]

        shown = sorted(rows, key=lambda span: (str(span["host"]), str(span["worker"])))
        workers = list(dict.fromkeys(f"{span['host']} · {span['worker']}" for span in shown))
        for value in sorted({str(span[by]) for span in shown}):
            self._colours.setdefault(value, COLOURS[len(self._colours) % len(COLOURS)])
        data: dict[str, list[Any]] = {name: [] for name in self.COLUMNS}
        for span in shown:
            bad = span["state"] in ("FAILED", "LOST")
            values = (
                shifted_ms(float(span["begin"])), shifted_ms(float(span["end"])), f"{span['host']} · {span['worker']}",
                str(span["name"]), str(span["user"]), str(span["state"]), duration(span["seconds"]), span["items"],
                self._colours[str(span[by])], "#c00000" if bad else self._colours[str(span[by])],
            )  # fmt: skip
            for name, value in zip(self.COLUMNS, values, strict=True):
                data[name].append(value)
        workers = workers or ["no worker"]
        if list(self._range.factors) != workers[::-1]:
            self._range.factors = workers[::-1]
            self.chart.height = max(160, 70 + 22 * len(workers))
        self.source.data = data
        return {value: self._colours[value] for value in dict.fromkeys(str(span[by]) for span in shown)}


def _plain(data: Mapping[str, Any]) -> dict[str, list[float]]:
    return {key: list(values) for key, values in data.items()}
