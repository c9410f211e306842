"""What a task says while it runs: `progress` and `track`.

Outside a worker both do nothing that can be seen, so a task stays a plain function. A worker sets `reporter` for the
attempt that it runs; the reporter may be called as often as a task likes, since it keeps only the latest word and
passes it on at most every 20 ms (hub/worker_process.py), the last one always.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")

Reporter = Callable[[float, str], None]

reporter: Reporter | None = None


def progress(percent: float, note: str = "") -> None:
    """Say how far this task is, 0 to 100, and in a few words what it does."""
    report = reporter
    if report is not None:
        report(min(max(float(percent), 0.0), 100.0), note)


def track(iterable: Iterable[T], total: int | None = None, note: str = "") -> Iterator[T]:
    """The items of `iterable`, one after another, while the task's progress follows them.

    `total` is needed only where `len(iterable)` is not known; without either the items are counted in the note.
    """
    if total is None:
        try:
            total = len(iterable)  # type: ignore[arg-type]
        except TypeError:
            total = 0
    done = 0
    for item in iterable:
        yield item
        done += 1
        report = reporter
        if report is None:
            continue
        if total > 0:
            report(min(100.0 * done / total, 100.0), note)
        else:
            report(0.0, f"{note} {done:,}".lstrip())
