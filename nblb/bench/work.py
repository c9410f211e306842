"""The functions of the benchmark tasks: they do as little as possible, so that overhead is measured.

Each imports what it needs: ipyparallel sends a notebook's function without the global names around it.
"""

from __future__ import annotations

from typing import Any


def noop(x: Any) -> Any:
    return x


def pid(_: Any) -> int:
    """Returns the process id; slow enough for another worker to take the next task."""
    import os
    import time

    time.sleep(0.02)
    return os.getpid()


def spin(seconds: float) -> float:
    """Keeps a processor busy for `seconds` of the clock."""
    import time

    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass
    return seconds


def ends(array: Any) -> float:
    """Reads the ends of an array and returns a number only."""
    return float(array[0]) + float(array[-1])
