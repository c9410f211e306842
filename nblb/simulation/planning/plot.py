"""Draws a forecast as one HTML file that needs nothing else: waits by user and by percentile, and a table."""

from __future__ import annotations

import html
from pathlib import Path
from typing import TYPE_CHECKING

from nblb.errors import NblbError

if TYPE_CHECKING:
    from nblb.simulation.what_if import WhatIf

MOST_USERS = 200  # with a bar of their own, the longest waits first
BLUE, ORANGE = "#0072B2", "#E69F00"


def write(answer: WhatIf, title: str, path: Path) -> None:
    """Write the charts of a forecast to a file.

    Parameters
    ----------
    answer
        The forecast.
    title
        A sentence on the load.
    path
        The file, whose name ends with .html.

    Raises
    ------
    NblbError
        The name ends with something else, or the file cannot be written.

    Examples
    --------
    >>> write(what_if(Load(), time.process_time), "10,000 tasks", Path("forecast.html"))
    """
    if path.suffix != ".html":
        raise NblbError(f"{path}: a plot is an HTML file, so its name must end with .html")
    from bokeh.embed import components
    from bokeh.resources import INLINE

    script, parts = components({"users": _users(answer), "waits": _waits(answer)})
    rows = "".join(f"<tr><th>{html.escape(name)}</th><td>{value}</td></tr>" for name, value in figures(answer))
    page = (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>nblb simulate</title>{INLINE.render()}'
        "<style>body{font-family:system-ui,sans-serif;margin:2rem;max-width:60rem}th{text-align:left;padding-right:1rem;"
        f"font-weight:400}}</style><h1>Forecast</h1><p>{html.escape(title)}</p><table>{rows}</table>"
        f"{parts['users']}{parts['waits']}{script}</html>"
    )
    try:
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise NblbError(f"the plot {path} cannot be written: {error.strerror or error}") from None


def figures(answer: WhatIf) -> list[tuple[str, str]]:
    """Return the figures of a forecast with their names, for people."""
    waits = ", ".join(f"{percent} %: {value:,.2f} s" for percent, value in answer.waits_s.items())
    fair = "no two users waited at the same time for long" if answer.jain is None else f"{answer.jain:.3f}"
    return [
        ("makespan", f"{answer.makespan_s:,.1f} s (no less than {answer.ideal_s:,.1f} s)"),
        ("utilisation", f"{100 * answer.utilisation:.1f} %"),
        ("waits", waits),
        ("fairness", fair if answer.jain is None else f"{fair} (Jain's index by share, 1 is equal)"),
        ("core", f"{answer.decisions:,} decisions and {answer.messages:,} messages in {answer.core_s:.2f} s"),
        ("", f"{answer.decision_us:,.0f} us for each decision, {answer.tasks_per_s:,.0f} tasks/s at most"),
        ("", f"{answer.messages_per_s:,.0f} messages/s, {100 * answer.core_busy:.1f} % of one core of this machine"),
    ]


def _users(answer: WhatIf):  # type: ignore[no-untyped-def]  # Bokeh's figure has no types
    from bokeh.models import HoverTool
    from bokeh.plotting import figure

    users = sorted(answer.users, key=lambda user: -user.wait_90_s)[:MOST_USERS]
    data = {
        "user": [user.user for user in users],
        "median": [user.median_wait_s for user in users],
        "most": [user.wait_90_s for user in users],
        "tasks": [user.tasks for user in users],
    }
    chart = figure(
        x_range=data["user"], height=320, width=900, title="Wait of each user's tasks, s", toolbar_location=None
    )
    chart.vbar(x="user", top="most", width=0.9, color=ORANGE, source=data, legend_label="nine of ten")
    chart.vbar(x="user", top="median", width=0.5, color=BLUE, source=data, legend_label="half")
    chart.add_tools(
        HoverTool(tooltips=[("user", "@user"), ("tasks", "@tasks"), ("half", "@median"), ("90 %", "@most")])
    )
    chart.xaxis.major_label_orientation = 1.0
    chart.xaxis.visible = len(users) <= 40
    return chart


def _waits(answer: WhatIf):  # type: ignore[no-untyped-def]
    from bokeh.plotting import figure

    names = [f"{percent} %" for percent in answer.waits_s]
    chart = figure(
        x_range=names, height=240, width=900, title="Waits of all tasks by percentile, s", toolbar_location=None
    )
    chart.vbar(x=names, top=list(answer.waits_s.values()), width=0.6, color=BLUE)
    return chart
