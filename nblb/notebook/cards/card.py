"""One object on show: its picture in the notebook, its live widget, and when each is drawn anew.

What a card shows and does is said by its kind: job_card.py, task_card.py, cluster_card.py.
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

PLACES = 4  # cells that show the same object and are kept up to date
LIVE_S = 0.2
BEAT_S = 2.0  # the page knows by it that the kernel lives
TIRED_AFTER_S = 300.0  # then a look a second is enough
REDRAWN_S = {Mode.HTML: 1.0, Mode.TEXT: 10.0, Mode.VIEW: 15.0, Mode.LIVE: 15.0}
GONE = "this kernel does not hold it any more"
SAID_S = 10.0  # how long the answer to a button stands
UNSEEN_S = 1.0  # a live picture that no page has taken up is redrawn like a plain one


@dataclass
class Look:
    """What one look at the object found."""

    now: dict[str, Any]
    failures: list[dict[str, Any]] = field(default_factory=list)
    strip: bytes | None = None  # None: as before
    pictures: list[dict[str, Any]] | None = None  # the same
    output: str | None = None  # the same


class Card(ABC):
    """An object on show. It holds the object only while its story goes on, so that showing it keeps nothing alive."""

    states: tuple[tuple[str, str, str], ...] = ()

    def __init__(self, thing: Any, mode: Mode) -> None:
        self.key = uuid.uuid4().hex[:12]
        self.mode = mode
        self.widget: CardWidget | None = None
        self._thing: Any | None = thing
        self._weak = weakref.ref(thing, self._thing_gone)
        self.shown_in: str | None = None  # the cell whose magic has shown it
        self._places: list[Place] = []
        self._on_show = False
        self._look = Look(self.described(thing))
        self._said = ""
        self._said_until = 0.0
        self._late = False  # a place may show less than the last look has found
        self._just_over = False  # the last picture was drawn after the last cell's end, or in it
        self._seen = False  # a page has taken the picture up
        self._started: float | None = None
        self._drawn_at = 0.0

    # ── what a kind of card says ────────────────────────────────────────────────────────────────────────

    @abstractmethod
    def described(self, thing: Any) -> dict[str, Any]:
        """The description of the object as it is now; see view_model.py."""

    @abstractmethod
    def look(self, thing: Any, now: float) -> Look:
        """All that the live card shows."""

    @abstractmethod
    def act(self, thing: Any, click: str, value: Any) -> str:
        """Does what a button says and returns a few words about it."""

    @abstractmethod
    def make_widget(self, **traits: Any) -> CardWidget:
        """The widget of this kind of card."""

    # ── showing ─────────────────────────────────────────────────────────────────────────────────────────

    def show(self) -> None:
        """Puts the card into the output of the cell that runs now."""
        self._become_live()
        found = self._look
        self._places = [*self._places[1 - PLACES :], Place.publish(self.bundle(), self._told())]
        self._late = self._look is not found  # the last look was taken meanwhile, with no place to draw it
        sampler.wake(self.tick)  # now: of what is over already there is one look, which must find its place

    def bring(self) -> None:
        """Makes the card live, wherever the page has room for it."""
        self._become_live()
        sampler.wake(self.tick)

    def _become_live(self) -> None:
        self._on_show = True
        if self.mode in (Mode.LIVE, Mode.VIEW) and self.widget is None:
            clicks.listen(self.key, self._clicked)
            self.widget = self.make_widget(
                key=self.key, now=self._look.now, states=[list(state) for state in self.states]
            )

    def bundle(self, final: bool = False) -> dict[str, Any]:
        """The picture as a mime bundle; in front-ends that need it, with the widget's view until the story is over."""
        card = view_model.as_of({**self._look.now, "failures": self._look.failures})
        if self._look.now.get("over"):  # what changes all the time would make a large file of the notebook
            card["pictures"] = self._look.pictures or []
        data: dict[str, Any] = {"text/plain": static_html.text(card)}
        if self.mode is not Mode.TEXT:
            data["text/html"] = static_html.html(card, self.key if self.mode is Mode.LIVE else "")
        if self.mode is Mode.VIEW and self.widget is not None and not (final and self._finished()):
            data["application/vnd.jupyter.widget-view+json"] = self.widget.get_view_spec()
        return data

    def _told(self) -> dict[str, Any]:
        """What a front-end must know to draw the view: in Colab, where the manager of widgets not its own is.

        Colab adds it to what a cell displays, and not to what is drawn anew past the publisher.
        """
        found = self.widget._repr_mimebundle_() if self.mode is Mode.VIEW and self.widget is not None else None
        return found[1] if isinstance(found, tuple) else {}

    def _thing_gone(self, _: Any) -> None:
        """Nobody can ask for the object any more, and its story is over: the live half goes, the picture stays."""
        clicks.forget(self.key)
        if self.widget is not None and (self.mode is Mode.LIVE or self._finished()):
            sampler.wake(self._close)  # not here: this may be any thread, in the middle of anything

    def _close(self, _now: float) -> None:
        if self.widget is not None:
            self.widget.close()
            self.widget = None

    def _finished(self) -> bool:
        """Nothing is left to press: a view may give way to the picture, which outlives the kernel."""
        return bool(self._look.now.get("over")) and not any(self._look.now.get("can", {}).values())

    def changed(self) -> None:
        """The object has something new to show; wakes a card that slept because its story was over."""
        thing = self._weak()
        if self._thing is None and thing is not None and self._on_show:
            self._thing = thing
            sampler.wake(self.tick, LIVE_S)

    # ── in the sampler's thread ─────────────────────────────────────────────────────────────────────────

    def tick(self, now: float) -> float | None:
        """One look: the widget gets what changed, the pictures are redrawn when it is time."""
        if now >= self._said_until:
            self._said = ""
        thing = self._thing
        if thing is None:  # a word after the end, and its end
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

    def has_last_word(self) -> bool:
        """The story is over, and who keeps only what is drawn while a cell runs may not have seen its end."""
        done = getattr(self._thing, "done", None)
        ended = bool(done()) if callable(done) else bool(getattr(self._thing, "stopped", False))
        return self._just_over or ended

    def cell_over(self, now: float) -> None:
        """Draws the end before the cell that has just run is told to be over."""
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
        """Seconds until the next look."""
        if self.mode in (Mode.HTML, Mode.TEXT):
            return REDRAWN_S[Mode.HTML]
        return LIVE_S if shown_s < TIRED_AFTER_S else 1.0

    def _redraw_s(self, now: float) -> float:
        """Seconds between two pictures: a live card's are for the saved file, often at first and then seldom."""
        shown_s = now - self._started if self._started is not None else 0.0
        if self.mode is not Mode.LIVE:
            return REDRAWN_S[self.mode]
        if not self._seen and shown_s >= 2 * UNSEEN_S:
            return UNSEEN_S
        return min(REDRAWN_S[self.mode], max(UNSEEN_S, shown_s / 2))

    def _send(self, found: Look, again: bool = False) -> None:
        """One message with what changed; `again` repeats all of it, for a message that may have been dropped."""
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

    # ── in the clicks' thread ───────────────────────────────────────────────────────────────────────────

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
