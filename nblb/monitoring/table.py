"""Tables of the Monitor: Panel's Tabulator with links, bars, and rows that become cards on a narrow screen."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import panel as pn

__all__ = ["Table"]

CSS = Path(__file__).with_name("table.css").read_text(encoding="utf-8")

# columns drawn as bars from 0 to 100 with a number -> colours in the light and the dark theme
BARS = {"Progress %": ("#9bd0f0", "#0b5c8c"), "Share %": ("#9bd0f0", "#0b5c8c"), "CPU %": ("#f3cf8a", "#7a5200")}
NUMBERS = frozenset(
    {
        "Attempt", "Calls", "Done", "Failed", "For", "Lasted", "Lately", "Longest", "Longest wait", "Mean", "Mean wait",
        "Median", "Memory", "Other", "Peak memory", "Priority", "Queued", "Running", "Shortest", "Shortest wait",
        "Tasks", "Time in all", "Time left", "Waited", "Waiting", "Worker time", "Workers", "95 %", "95 % wait",
    }
)  # fmt: skip
WRAPPED = frozenset({"GPUs", "Obstacle"})  # columns of long text, which takes several lines
SETTLES_S = 3.0  # changes of single cells may be lost for this long after a table is drawn


class Table:
    """A table that changes cell by cell, so that the reader's place and selection are kept.

    A change of a cell that arrives before the browser has drawn the table is lost, so within SETTLES_S after a change
    of the whole table every change sends the whole table, and afterwards it is sent once more.

    Parameters
    ----------
    columns
        The names; those in `links` have (text, address) pairs as cells.
    empty
        The sentence of an empty table.
    widths
        Widths in pixels of some columns.
    links
        Columns whose cells lead to another page.
    """

    def __init__(
        self,
        columns: Sequence[str],
        empty: str,
        widths: Mapping[str, int] | None = None,
        links: Sequence[str] = (),
        clock: Callable[[], float] = time.monotonic,
        height: int | None = None,
    ) -> None:
        self._clock = clock
        self.columns = list(columns)
        self.links = [name for name in links if name in columns]
        self._fields = [*self.columns, *(_address_of(name) for name in self.links)]
        self.rows: list[tuple[Any, ...]] = []
        self._settles_at: float | None = None
        dark = pn.config.theme == "dark"
        sized: dict[str, Any] = {"height": height} if height else {}
        self.widget = pn.widgets.Tabulator(
            self._frame([]),
            show_index=False,
            disabled=True,
            selectable=False,
            pagination=None,
            layout="fit_data_table" if columns[-1] in NUMBERS else "fit_data_stretch",
            theme="simple",
            stylesheets=[CSS],
            sizing_mode="stretch_width",
            widths=dict(widths or {}),
            formatters=self._formatters(dark),
            hidden_columns=[_address_of(name) for name in self.links],
            text_align={name: "right" for name in columns if name in NUMBERS},
            header_align={name: "right" for name in columns if name in NUMBERS},
            margin=(4, 6),
            configuration={
                "placeholder": empty,
                "columnDefaults": {"headerSort": False, "tooltip": False},
                "renderVertical": "basic",
            },
            **sized,
        )

    def _formatters(self, dark: bool) -> dict[str, Any]:
        formatters: dict[str, Any] = {name: {"type": "plaintext"} for name in self.columns}
        for name, colours in BARS.items():
            if name in self.columns:
                formatters[name] = {
                    "type": "progress", "max": 100, "color": colours[dark], "legend": True, "legendAlign": "right",
                    "legendColor": "#ffffff" if dark else "#000000",
                }  # fmt: skip
        for name in WRAPPED.intersection(self.columns):
            formatters[name] = {"type": "textarea"}
        for name in self.links:
            formatters[name] = {"type": "link", "urlField": _address_of(name)}
        return formatters

    def show(self, rows: list[tuple[Any, ...]]) -> None:
        """Send the cells that differ; the whole table if its rows are others, or while it is being drawn."""
        now = self._clock()
        same_rows = [row[0] for row in rows] == [row[0] for row in self.rows]
        if self._settles_at is not None and now >= self._settles_at:
            self._settles_at = None
            self.rows = rows
            self.widget.value = self._frame(rows)
            return
        if rows == self.rows:
            return
        if not same_rows:
            self._settles_at = now + SETTLES_S
            self.widget.value = self._frame(rows)
        elif self._settles_at is not None:
            self.widget.value = self._frame(rows)
        else:
            changes: dict[str, list[tuple[int, Any]]] = {}
            for index, (old, new) in enumerate(zip(self._flat(self.rows), self._flat(rows), strict=True)):
                for name, before, after in zip(self._fields, old, new, strict=True):
                    if before != after:
                        changes.setdefault(name, []).append((index, after))
            self.widget.patch(changes, as_index=False)
        self.rows = rows

    def _flat(self, rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
        """Return the rows with the text of links in their column, and their addresses in columns of their own."""
        if not self.links:
            return rows
        at = [self.columns.index(name) for name in self.links]
        return [
            (
                *(cell[0] if place in at else cell for place, cell in enumerate(one)),
                *(one[place][1] for place in at),
            )
            for one in rows
        ]

    def _frame(self, rows: list[tuple[Any, ...]]) -> Any:
        return pd.DataFrame(self._flat(rows), columns=self._fields)


def _address_of(column: str) -> str:
    return f"{column} address"
