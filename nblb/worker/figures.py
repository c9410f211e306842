"""The backend of matplotlib in workers: draws into memory, and `plt.show()` hands the figures over (displays.py)."""

from __future__ import annotations

from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg

from nblb.worker import displays

FigureCanvas = FigureCanvasAgg


def show(*_: Any, **__: Any) -> None:
    """Every open figure, once."""
    displays.show_figures()
