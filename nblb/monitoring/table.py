"""Tables of the Monitor."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd
import panel as pn

__all__ = ["Table"]

CSS = """
:host { min-width: 0; max-width: 100%; }
.pnx-tabulator.tabulator { font-size: .8rem; max-width: 100%; }
.pnx-tabulator.tabulator .tabulator-col .tabulator-col-content { padding-left: 5px; padding-right: 5px; }
.pnx-tabulator.tabulator .tabulator-col.tabulator-sortable .tabulator-col-title { padding-right: 14px; }
"""

# columns drawn as bars from 0 to 100 with a number -> colours in the light and the dark theme
BARS = {"Progress": ("#7cc4ee", "#0072b2"), "Share of time": ("#7cc4ee", "#0072b2"), "CPU": ("#f0bf5c", "#8a5a00")}
NUMBERS = frozenset(
    {
        "Done", "Queued", "Running", "Failed", "Waiting", "Other", "Tasks", "For", "Longest wait", "Worker time",
        "Time in all", "Shortest", "Mean", "Longest", "Shortest wait", "Mean wait",
    }
)  # fmt: skip


SETTLES_S = 3.0  # changes of single cells may be lost for this long after a table is drawn


class Table:
    """A table of fixed height that changes cell by cell, so that the reader's scroll position is kept.

    A change of a cell reaches only a drawn table. A table on a closed tab gets no changes; when its tab opens, it is
    sent as a whole, and once more when the browser has certainly drawn it.
    """

    def __init__(
        self,
        columns: Sequence[str],
        height: int,
        empty: str,
        widths: dict[str, int],
        sort: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self.columns = list(columns)
        self.rows: list[tuple[Any, ...]] = []
        self._drawn = True
        self._settles_at: float | None = None
        dark = pn.config.theme == "dark"
        bars = {name: colours[dark] for name, colours in BARS.items() if name in columns}
        formatters: dict[str, Any] = {name: {"type": "plaintext"} for name in columns if name not in bars}
        for name, colour in bars.items():
            formatters[name] = {
                "type": "progress", "max": 100, "color": colour, "legend": True, "legendAlign": "right",
                "legendColor": "#ffffff" if dark else "#000000",
            }  # fmt: skip
        self.widget = pn.widgets.Tabulator(
            self._frame([]),
            show_index=False,
            disabled=True,
            selectable=False,
            pagination=None,
            height=height,
            layout="fit_data_fill",
            theme_classes=["table-sm"],
            stylesheets=[CSS],
            sizing_mode="stretch_width",
            widths=widths,
            formatters=formatters,
            text_align={name: "right" for name in columns if name in NUMBERS},
            header_align={name: "right" for name in columns if name in NUMBERS},
            configuration={"placeholder": empty, "columnDefaults": {"headerSort": sort, "tooltip": False}},
        )

    def open(self) -> None:
        """Sends the table as a whole: its tab was opened."""
        self._drawn, self._settles_at = True, self._clock() + SETTLES_S
        self.widget.value = self._frame(self.rows)

    def close(self) -> None:
        """Stops sending changes: its tab was closed."""
        self._drawn, self._settles_at = False, None

    def settle(self) -> None:
        """Sends the table as a whole once more, SETTLES_S after it was opened."""
        if self._settles_at is not None and self._clock() >= self._settles_at:
            self._settles_at = None
            self.widget.value = self._frame(self.rows)

    def show(self, rows: list[tuple[Any, ...]]) -> None:
        """Sends the cells that differ; the whole table if its rows are others, or while it is being drawn."""
        if rows == self.rows:
            return
        if not self._drawn:
            pass
        elif self._settles_at is not None or [row[0] for row in rows] != [row[0] for row in self.rows]:
            self.widget.value = self._frame(rows)
        else:
            changes: dict[str, list[tuple[int, Any]]] = {}
            for index, (old, new) in enumerate(zip(self.rows, rows, strict=True)):
                for name, before, after in zip(self.columns, old, new, strict=True):
                    if before != after:
                        changes.setdefault(name, []).append((index, after))
            self.widget.patch(changes, as_index=False)
        self.rows = rows

    def _frame(self, rows: list[tuple[Any, ...]]) -> Any:
        return pd.DataFrame(rows, columns=self.columns)
