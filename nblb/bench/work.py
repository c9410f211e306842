"""What the tasks of the cases do: as little as possible, so that what is measured is the way there and back."""

from __future__ import annotations

import os
import time
from typing import Any


def noop(x: Any) -> Any:
    return x


def pid(_: Any) -> int:
    """Who ran it; slow enough for another worker to take the next one."""
    time.sleep(0.02)
    return os.getpid()


def spin(seconds: float) -> float:
    """Keeps a processor busy for a while by the clock."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass
    return seconds


def ends(array: Any) -> float:
    """Touches an array, and sends nothing of it back."""
    return float(array[0]) + float(array[-1])
