"""The matplotlib backend of workers: draws into memory; `plt.show()` displays the figures (displays.py)."""

from __future__ import annotations

from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg

from nblb.worker import displays

FigureCanvas = FigureCanvasAgg


def show(*_: Any, **__: Any) -> None:
    """Display and close every open figure."""
    displays.show_figures()
