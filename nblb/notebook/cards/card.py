"""The base class of cards: the static picture in the notebook, the live widget, and when each is redrawn.

The kinds of cards define what is shown and what buttons do: job_card.py, task_card.py, cluster_card.py.
"""

from __future__ import annotations

import time
import uuid
import weakref
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from nblb.errors import NblbError
from nblb.notebook.cards import static_html, view_model
from nblb.notebook.cards.refresh import sampler
from nblb.notebook.kernel.comm import clicks
from nblb.notebook.kernel.environment import Mode
from nblb.notebook.kernel.outputs import Place

if TYPE_CHECKING:
    from nblb.notebook.cards.widget import CardWidget

PLACES = 4  # cells that show the same object and are updated
LIVE_S = 0.2
BEAT_S = 2.0  # by it the page knows that the kernel is alive
TIRED_AFTER_S = 300.0  # after that the object is read only once a second
REDRAWN_S = {Mode.HTML: 1.0, Mode.TEXT: 10.0, Mode.VIEW: 15.0, Mode.LIVE: 15.0, Mode.ALONE: 60.0}
GONE = "this kernel does not hold it any more"
SAID_S = 10.0  # how long the answer to a button is shown
UNSEEN_S = 1.0  # a live picture that no page has made live is redrawn like static HTML


@dataclass
class Look:
    """The state of the object at one refresh."""

    now: dict[str, Any]
    failures: list[dict[str, Any]] = field(default_factory=list)
    strip: bytes | None = None  # None: unchanged
    pictures: list[dict[str, Any]] | None = None  # None: unchanged
    output: str | None = None  # None: unchanged


class Card(ABC):
    """The card of one object. It refers to the object only until the work is over, and so keeps nothing alive."""

    states: tuple[tuple[str, str, str], ...] = ()

    def __init__(self, thing: Any, mode: Mode) -> None:
        self.key = uuid.uuid4().hex[:12]
        self.mode = mode
        self.widget: CardWidget | None = None
        self._thing: Any | None = thing
        self._weak = weakref.ref(thing, self._thing_gone)
        self.shown_in: str | None = None  # the cell in which a magic has shown it
        self._places: list[Place] = []
        self._latest_cell = ""
        self._cell_ids: set[str] = set()
        self._on_show = False
        self._look = Look(self.described(thing))
        self._said = ""
        self._said_until = 0.0
        self._late = False  # a place may be older than the last refresh
        self._just_over = False  # the end was drawn, but not yet at the end of a cell
        self._seen = False  # a page has made the picture live
        self._started: float | None = None
        self._drawn_at = 0.0

    # ── defined by each kind of card ────────────────────────────────────────────────────────────────────────

    @abstractmethod
    def described(self, thing: Any) -> dict[str, Any]:
        """The description of the object as it is now; see view_model.py."""

    @abstractmethod
    def look(self, thing: Any, now: float) -> Look:
        """Returns everything that the live card shows."""

    @abstractmethod
    def act(self, thing: Any, click: str, value: Any) -> str:
        """Carries out a button press and returns a short answer."""

    @abstractmethod
    def make_widget(self, **traits: Any) -> CardWidget:
        """The widget of this kind of card."""

    # ── showing ─────────────────────────────────────────────────────────────────────────────────────────

    def is_in(self, cell: str) -> bool:
        """True if the latest place of the card is the output of this cell."""
        return bool(cell) and self._latest_cell == cell

    def is_elsewhere(self, cell_id: str) -> bool:
        """True if other cells than this one show the card: one that runs again has lost its output."""
        return bool(cell_id and self._cell_ids) and cell_id not in self._cell_ids

    def show(self, cell: str = "", cell_id: str = "") -> None:
        """Displays the card in the cell that runs now: `cell` is its request, `cell_id` its id in the notebook."""
        self._latest_cell = cell
        if cell_id:
            self._cell_ids.add(cell_id)
        self._become_live()
        found = self._look
        self._places = [*self._places[1 - PLACES :], Place.publish(self.bundle(), self._told())]
        self._late = self._look is not found  # a refresh happened meanwhile, before this place existed
        sampler.wake(self.tick)  # at once: an object that is over gets only one refresh, which needs this place

    def bring(self) -> None:
        """Makes the card live without a cell; another card embeds it."""
        self._become_live()
        sampler.wake(self.tick)

    def _become_live(self) -> None:
        self._on_show = True
        if self.mode in (Mode.LIVE, Mode.VIEW, Mode.ALONE) and self.widget is None:
            clicks.listen(self.key, self._clicked)
            self.widget = self.make_widget(
                key=self.key, now=self._look.now, states=[list(state) for state in self.states]
            )

    def bundle(self, final: bool = False) -> dict[str, Any]:
        """The picture as a mime bundle; for front-ends that need it, with the widget's view until the work is over."""
        card = view_model.as_of({**self._look.now, "failures": self._look.failures})
        if self._look.now.get("over"):  # pictures that still change would make the notebook file large
            card["pictures"] = self._look.pictures or []
        data: dict[str, Any] = {"text/plain": static_html.text(card)}
        if self.mode is not Mode.TEXT:
            data["text/html"] = static_html.html(card, self.key if self.mode is Mode.LIVE else "")
        if self.mode is Mode.VIEW and self.widget is not None and not (final and self._finished()):
            data["application/vnd.jupyter.widget-view+json"] = self.widget.get_view_spec()
        return data

    def _told(self) -> dict[str, Any]:
        """The metadata that a front-end needs to draw the view: in Colab, the location of the custom widget manager.

        Colab adds it to what a cell displays, but not to updates, which bypass the publisher.
        """
        found = self.widget._repr_mimebundle_() if self.mode is Mode.VIEW and self.widget is not None else None
        return found[1] if isinstance(found, tuple) else {}

    def _thing_gone(self, _: Any) -> None:
        """Closes the widget and keeps the picture: the object was collected, so no button can act on it."""
        clicks.forget(self.key)
        if self.mode is Mode.ALONE:  # the widget is all that there is
            return
        if self.widget is not None and (self.mode is Mode.LIVE or self._finished()):
            sampler.wake(self._close)  # not here: garbage collection may run in any thread, at any point

    def _close(self, _now: float) -> None:
        if self.widget is not None:
            self.widget.close()
            self.widget = None

    def _finished(self) -> bool:
        """True if no button is left: the picture, which outlives the kernel, may replace the view."""
        return bool(self._look.now.get("over")) and not any(self._look.now.get("can", {}).values())

    def changed(self) -> None:
        """Wakes a card that was over when its object has something new to show."""
        thing = self._weak()
        if self._thing is None and thing is not None and self._on_show:
            self._thing = thing
            sampler.wake(self.tick, LIVE_S)

    # ── in the refresher's thread ─────────────────────────────────────────────────────────────────────────

    def tick(self, now: float) -> float | None:
        """Refreshes once: sends changes to the widget, and redraws the pictures when they are due."""
        if now >= self._said_until:
            self._said = ""
        thing = self._thing
        if thing is None:  # over: only the answer to a button may still appear or expire
            if self._late:
                self._draw(over=True)
            self._send(self._look)
            return self._said_until - now if self._said else None
        if self._started is None:
            self._started = self._drawn_at = now
        found = self.look(thing, now)
        if found.strip is None:
            found.strip = self._look.strip
        if found.pictures is None:
            found.pictures = self._look.pictures
        self._look = found
        over = bool(found.now.get("over"))
        self._send(found, again=over)
        if over or now - self._drawn_at >= self._redraw_s(now):
            self._drawn_at = now
            self._draw(over)
        if over:
            self._thing = self._started = None
            self._just_over = True
            return self._said_until - now if self._said else None
        return self.pace(now - self._started)

    def follow(self, thing: Any) -> None:
        """Shows another object from now on: the cluster that was started in place of a stopped one."""
        if thing is not self._weak():
            self._weak = weakref.ref(thing, self._thing_gone)
            self._thing = thing

    def has_last_word(self) -> bool:
        """True if the object has ended and its end may not yet be drawn within a running cell."""
        done = getattr(self._thing, "done", None)
        ended = bool(done()) if callable(done) else bool(getattr(self._thing, "stopped", False))
        return self._just_over or ended

    def cell_over(self, now: float) -> None:
        """Draws the end before the front-end learns that the cell is over."""
        if self._thing is not None:
            self.tick(now)
        elif self._just_over:
            self._draw(over=True)
        self._just_over = False

    def _draw(self, over: bool) -> None:
        self._late = False
        for place in self._places:
            place.update(self.bundle(final=over))

    def pace(self, shown_s: float) -> float:
        """Seconds until the next refresh."""
        if self.mode in (Mode.HTML, Mode.TEXT):
            return REDRAWN_S[Mode.HTML]
        return LIVE_S if shown_s < TIRED_AFTER_S else 1.0

    def _redraw_s(self, now: float) -> float:
        """Seconds between two pictures. A live card needs them for the saved file: often at first, then rarely."""
        shown_s = now - self._started if self._started is not None else 0.0
        if self.mode is not Mode.LIVE:
            return REDRAWN_S[self.mode]
        if not self._seen and shown_s >= 2 * UNSEEN_S:
            return UNSEEN_S
        return min(REDRAWN_S[self.mode], max(UNSEEN_S, shown_s / 2))

    def _send(self, found: Look, again: bool = False) -> None:
        """Sends the changes in one message; `again` sends everything once more, in case a message was dropped."""
        if self.widget is None:
            return
        with self.widget.hold_sync():
            self.widget.now = {**found.now, "beat": int(time.monotonic() / BEAT_S)}
            self.widget.failures = found.failures
            self.widget.said = self._said
            if found.strip is not None:
                self.widget.strip = found.strip
            if found.pictures is not None:
                self.widget.pictures = found.pictures
            if found.output is not None:
                self.widget.output = found.output
        if again:
            self.widget.send_state(["now", "failures", "strip", "pictures", "output", "said"])

    # ── in the thread of button presses ───────────────────────────────────────────────────────────────────────────

    def _clicked(self, click: str, value: Any) -> None:
        if click == "seen":
            self._seen = True
            return
        thing = self._weak()
        try:
            self._said = GONE if thing is None else self.act(thing, click, value)
        except NblbError as problem:
            self._said = str(problem).partition("\n")[0]
        except Exception as problem:
            self._said = f"{type(problem).__name__}: {problem}".partition("\n")[0]
        self._said_until = time.monotonic() + SAID_S
        self.changed()
        sampler.wake(self.tick)
