"""The job's card: one widget whatever the number of its tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nblb.notebook import describe
from nblb.notebook.card import Card, Look
from nblb.notebook.pictures import look

if TYPE_CHECKING:
    from nblb.client.job import Job
    from nblb.notebook.environment import Mode
    from nblb.notebook.widget import CardWidget

STRIP_ITEMS = 10_000  # in a longer job a cell of the strip stands for several items
STRIP_S = 1.0  # 10 kB at most each time


class JobCard(Card):
    """Progress, counts, what runs, what failed; Cancel and Retry failed."""

    def __init__(self, thing: Job, mode: Mode) -> None:
        from nblb.client.snapshot import STATES

        self.states = tuple((str(state), *look(str(state))) for state in STATES)
        self._strip_at = float("-inf")
        super().__init__(thing, mode)

    def described(self, thing: Job) -> dict[str, Any]:
        return describe.job(thing.snapshot())

    def look(self, thing: Job, now: float) -> Look:
        snapshot = thing.snapshot()
        found = Look(describe.job(snapshot), describe.job_failures(snapshot))
        if self.widget is not None and (found.now["over"] or now - self._strip_at >= STRIP_S):
            self._strip_at = now
            found.strip = fit(thing.states(), STRIP_ITEMS, [state for state, _, _ in self.states])
        return found

    def act(self, thing: Job, click: str, _value: Any) -> str:
        if click == "cancel":
            thing.cancel()
            return "cancelling what has not ended"
        if click == "retry":
            thing.retry_failed()
            return "running the failed tasks again"
        return ""

    def make_widget(self, **traits: Any) -> CardWidget:
        from nblb.notebook.widget import JobWidget

        return JobWidget(**traits)


def fit(states: bytes, limit: int, names: list[str]) -> bytes:
    """At most `limit` bytes: each stands for a few items and shows the one that most deserves a look."""
    if len(states) <= limit:
        return states
    urgency = ("DONE", "CANCELLED", "BLOCKED", "QUEUED", "ASSIGNED", "CANCELLING", "RUNNING", "LOST", "FAILED")
    rank = [urgency.index(name) if name in urgency else 0 for name in names]
    back = {value: index for index, value in enumerate(rank)}
    ranked = states.translate(bytes(rank) + bytes(256 - len(rank)))
    size = -(-len(states) // limit)
    return bytes(back[max(ranked[start : start + size])] for start in range(0, len(ranked), size))
