"""The poller: one round of queries a second for all browsers of a Monitor, however many there are.

Only the poller's thread sends queries to the core; a page only reads the latest ClusterPicture. While no page is open,
the poller sends nothing.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeAlias

__all__ = ["ClusterPicture", "Poller", "Source"]

EVERY_S = 1.0
IDLE_AFTER_S = 10.0  # after this long without a page, the poller sleeps until there is one
HISTORY = 180  # points of the chart: three minutes
GAP = 3  # rounds without an answer after which the chart's line breaks
STEP_S = 1.0  # a larger step of the wall clock clears the chart
JOBS = 200

NOBODY_LOOKED = float("nan")
Point: TypeAlias = "tuple[float, float, float]"  # (wall clock, queued, running), or NOBODY_LOOKED

QUESTIONS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("status", {}),
    ("workers", {}),
    ("users", {}),
    ("queue", {}),
    ("stats", {}),
    ("jobs", {"limit": JOBS}),
)


class Source(Protocol):
    """The interface of a cluster for the poller."""

    def ask(self, topic: str, about: dict[str, Any] | None = None) -> Any: ...


@dataclass(frozen=True)
class ClusterPicture:
    """The state of the cluster at one time: an answer for each topic, its age and the last error."""

    number: int = 0  # raised with every change, so that a page knows if it has shown this one
    taken_at: float = 0.0  # on the poller's clock; 0: never
    answers: Mapping[str, Any] = field(default_factory=dict)
    error: str = ""  # a sentence: why there is no newer picture
    history: tuple[Point, ...] = ()


class Poller:
    """Keeps the latest picture of a cluster, and reconnects when the core returns."""

    def __init__(
        self,
        connect: Callable[[], Source],
        every_s: float = EVERY_S,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._wall = wall
        self._offset = wall() - clock()
        self.every_s = every_s
        self._connect = connect
        self._clock = clock
        self._source: Source | None = None
        self._picture = ClusterPicture()
        self._history: deque[Point] = deque(maxlen=HISTORY)
        self._looked_at = clock()
        self._looked = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="nblb-monitor-poller", daemon=True)
        self._started = False
        self._start_lock = threading.Lock()

    def look(self) -> ClusterPicture:
        """Returns the latest picture without waiting, and keeps the poller awake."""
        with self._start_lock:
            if not self._started:
                self._started = True
                self._thread.start()
        self._looked_at = self._clock()
        self._looked.set()
        return self._picture

    def age_s(self, picture: ClusterPicture) -> float:
        return self._clock() - picture.taken_at if picture.taken_at else float("inf")

    def stop(self) -> None:
        self._stopping.set()
        self._looked.set()
        if self._started:
            self._thread.join(timeout=5)
        self._leave()

    def poll(self) -> None:
        """Queries one round; any error becomes part of the picture, because the page must go on."""
        try:
            if self._source is None:
                self._source = self._connect()
            answers = {topic: self._source.ask(topic, about) for topic, about in QUESTIONS}
        except Exception as error:
            self._leave()
            sentence = str(error).strip() or type(error).__name__
            if sentence != self._picture.error:
                self._picture = replace(self._picture, number=self._picture.number + 1, error=sentence)
            return
        status = answers["status"] or {}
        self._note(int(status.get("queued", 0)), int(status.get("running", 0)))
        self._picture = ClusterPicture(self._picture.number + 1, self._clock(), answers, "", tuple(self._history))

    def _note(self, queued: int, running: int) -> None:
        """Adds a point to the chart; after a long time without answers, a gap before it."""
        now, history = self._clock(), self._history
        offset = self._wall() - now
        if abs(offset - self._offset) > STEP_S:
            history.clear()
        self._offset = offset
        at = now + offset
        if history and at - history[-1][0] > GAP * self.every_s:
            history.append((history[-1][0] + self.every_s, NOBODY_LOOKED, NOBODY_LOOKED))
        history.append((at, queued, running))

    def _run(self) -> None:
        while not self._stopping.is_set():
            if self._clock() - self._looked_at > IDLE_AFTER_S:
                self._looked.clear()
                if self._clock() - self._looked_at > IDLE_AFTER_S:  # no page was opened between the two lines
                    self._looked.wait()
                continue
            self.poll()
            self._stopping.wait(self.every_s)

    def _leave(self) -> None:
        source, self._source = self._source, None
        close = getattr(source, "close", None)
        if callable(close):
            try:
                close()
            except Exception:  # it is closed already
                pass
