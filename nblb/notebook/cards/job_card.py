"""The job's card: one widget for any number of items."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nblb.client.redefined import newer_task
from nblb.notebook.cards import live, view_model, wording
from nblb.notebook.cards.card import Card, Look
from nblb.notebook.cards.restart import restarted
from nblb.notebook.cards.static_html import look

if TYPE_CHECKING:
    from nblb.client.jobs.job import Job
    from nblb.notebook.cards.widget import CardWidget
    from nblb.notebook.kernel.environment import Mode

STRIP_ITEMS = 10_000  # in a longer job each cell of the strip stands for several items
WAITING = ("QUEUED", "BLOCKED")
STRIP_S = 1.0  # between two strips of STRIP_ITEMS; shorter ones are sent more often: at most 10 kB a second


class JobCard(Card):
    """Shows progress, counts, running and failed items; buttons: Cancel, Retry failed, Stop early and keep."""

    def __init__(self, thing: Job, mode: Mode) -> None:
        from nblb.client.snapshots import MARKED

        self.states = tuple((state, *look(state)) for state in MARKED)
        self._strip_due = float("-inf")
        self._pictures = live.Pictures()
        self._opened: int | None = None  # the item opened in the strip
        super().__init__(thing, mode)

    def described(self, thing: Job) -> dict[str, Any]:
        return view_model.job(thing.snapshot())

    def look(self, thing: Job, now: float) -> Look:
        snapshot = thing.snapshot()
        found = Look(view_model.job(snapshot), view_model.job_failures(snapshot))
        card = found.now
        spoken = [thing._port.live_of(thing, row.item) for row in snapshot.running]
        card["knobs"] = live.knobs(thing)
        card["can"]["keep"] = not card["over"] and any(one is not None and one.count for one in spoken)
        card["can"]["renew"] = card["can"]["retry"] and newer_task(thing) is not None
        if self._opened is not None:
            given = getattr(thing, "_arguments", None)
            arguments = given.text(self._opened) if given is not None else ""
            item = view_model.item(self._opened, thing[self._opened].snapshot(), thing.name, arguments)
            item["can"]["renew"] = item["can"]["retry"] and card["can"]["renew"]
            card["item"] = item
        found.pictures = self._pictures.look(thing, spoken, now, final=card["over"])
        if self.widget is not None and (card["over"] or now >= self._strip_due):
            found.strip = fit(thing._port.marked_states(thing), STRIP_ITEMS, [state for state, _, _ in self.states])
            self._strip_due = now + STRIP_S * len(found.strip) / STRIP_ITEMS
        return found

    def act(self, thing: Job, click: str, value: Any) -> str:
        if click == "cancel":
            thing.cancel()
            return "cancelling what has not ended"
        if click == "start":
            restarted()
            return "the core was started"
        if click in ("retry", "renew"):
            return _retry(thing, click == "renew", None)
        if click in ("retry_item", "renew_item") and self._opened is not None:
            return _retry(thing, click == "renew_item", self._opened)
        if click == "keep":
            return f"{wording.number(thing.stop_and_keep(), 'task')} to end with what was emitted last"
        if click == "knob":
            return live.turned(thing, value)
        if click == "earlier":
            return _decide(thing, value)
        if click == "item":
            self._opened = None if value is None else self._chosen(thing._port.states(thing), *value)
            if self._opened is not None and not thing[self._opened].snapshot().stdout_tail:
                item = thing[self._opened]
                item._port.recall_output(item)
        if click == "why":
            waiting = [item for item, state in enumerate(thing._port.states(thing)) if self.states[state][0] in WAITING]
            return thing[waiting[0]].why() if waiting else "nothing waits"
        return ""

    def _chosen(self, states: bytes, first: int, items: int) -> int | None:
        """The item that a cell of the strip stands for: its first failed item, else its first."""
        cells = range(max(0, first), min(len(states), first + items))
        bad = [item for item in cells if self.states[states[item]][0] in wording.BAD]
        return next(iter([*bad, *cells]), None)

    def make_widget(self, **traits: Any) -> CardWidget:
        from nblb.notebook.cards.widget import JobWidget

        return JobWidget(**traits)


def _retry(thing: Job, renew: bool, item: int | None) -> str:
    """Runs the failed items, or one of them, again; with `renew` by the latest definition of their function."""
    task = newer_task(thing) if renew else None
    if renew and task is None:
        return f"{thing._task_name} has not changed"
    number = thing.retry_failed(with_=task, items=item)
    if not number:
        return "nothing of it has failed" if item is None else f"item {item:,} has not failed"
    what = "the failed tasks" if item is None else f"item {item:,}"
    return f"running {what} again{', with the new code' if renew else ''}"


def _decide(thing: Job, value: Any) -> str:
    """Cancels or keeps the earlier job whose name this one took over."""
    if thing.earlier is None or value not in ("cancel", "keep"):
        return ""
    if value == "keep":
        thing.earlier.keep()
        return f"both go on; lb.attach({thing.earlier.job_id!r}) shows the earlier one"
    thing.earlier.cancel()
    return "cancelling the earlier one"


def fit(states: bytes, limit: int, names: list[str]) -> bytes:
    """At most `limit` bytes: each stands for a few items and shows the most urgent state among them."""
    if len(states) <= limit:
        return states
    urgency = ("DONE", "KEPT", "CANCELLED", "BLOCKED", "QUEUED", "ASSIGNED", "CANCELLING", "RUNNING", "LOST", "FAILED")
    rank = [urgency.index(name) if name in urgency else 0 for name in names]
    back = {value: index for index, value in enumerate(rank)}
    ranked = states.translate(bytes(rank) + bytes(256 - len(rank)))
    size = -(-len(states) // limit)
    return bytes(back[max(ranked[start : start + size])] for start in range(0, len(ranked), size))
