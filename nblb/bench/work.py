"""What the tasks of the cases do: as little as possible, so that what is measured is the way there and back.

Each imports what it needs itself: ipyparallel ships a function of a notebook without the names around it.
"""

from __future__ import annotations

from typing import Any


def noop(x: Any) -> Any:
    return x


def pid(_: Any) -> int:
    """Who ran it; slow enough for another worker to take the next one."""
    import os
    import time

    time.sleep(0.02)
    return os.getpid()


def spin(seconds: float) -> float:
    """Keeps a processor busy for a while by the clock."""
    import time

    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass
    return seconds


def ends(array: Any) -> float:
    """Touches an array, and sends nothing of it back."""
    return float(array[0]) + float(array[-1])
