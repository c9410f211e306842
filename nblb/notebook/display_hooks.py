"""Display hooks that show the client's objects as cards when they are the last line of a cell."""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections.abc import Callable
from typing import Any

from nblb.notebook import interrupts, tracebacks
from nblb.notebook.cards import static_html, view_model
from nblb.notebook.cards.card import Card
from nblb.notebook.cards.cluster_card import ClusterCard
from nblb.notebook.cards.group_card import GroupCard
from nblb.notebook.cards.job_card import JobCard
from nblb.notebook.cards.list_card import InboxCard, JobsCard
from nblb.notebook.cards.refresh import sampler
from nblb.notebook.cards.task_card import TaskCard
from nblb.notebook.kernel import comm, output_routing
from nblb.notebook.kernel.environment import Mode, cell, cell_id, kernel, mode, shell

KINDS: dict[str, tuple[str, str, Callable[..., Card]]] = {  # kind -> class name: the client is not loaded yet
    "job": ("nblb.client.jobs.job", "Job", JobCard),
    "task": ("nblb.client.futures.task_future", "TaskFuture", TaskCard),
    "cluster": ("nblb.client.cluster", "Cluster", ClusterCard),
    "jobs": ("nblb.client.rows", "JobList", lambda thing, here: JobsCard(thing, here, beneath)),
    "inbox": ("nblb.client.jobs.inbox", "Inbox", lambda thing, here: InboxCard(thing, here, beneath)),
    "group": ("nblb.client.futures.group", "FutureGroup", GroupCard),
}
LAST_WORD_S = 1.0  # how long a cell's end waits until ended cards are drawn
_cards: weakref.WeakKeyDictionary[Any, Card] = weakref.WeakKeyDictionary()


def show(kind: str, thing: Any) -> None:
    """Displays `thing` as a card that follows it; NotImplementedError lets IPython print its repr instead."""
    here = mode()
    if here is Mode.OFF:
        raise NotImplementedError
    comm.watch(kernel())
    comm.prepare(kernel())
    card = card_of(kind, thing, here)
    if card.shown_in is not None and card.shown_in == cell():
        card.shown_in = None  # a magic in this cell has already shown it
    else:
        card.show(cell(), cell_id())


def card_of(kind: str, thing: Any, here: Mode) -> Card:
    """Returns the card of `thing`; each object has one."""
    card = _cards.get(thing)
    if card is None or card.mode is not here:
        card = KINDS[kind][2](thing, here)
        _cards[thing] = card
        if kind == "group":
            thing.changed = card.changed
        port = getattr(thing, "_port", None)  # which lists have not
        if port is not None:
            port.add_listener(thing, card.changed)
    return card


def beneath(thing: Any) -> str:
    """Makes the card of a job or task live without a cell; returns the key by which another card embeds it."""
    card = card_of("job" if hasattr(thing, "retry_failed") else "task", thing, Mode.LIVE)
    card.bring()
    return card.key


def waits() -> tuple[Callable[[Any], None] | None, str]:
    """The function that shows what the main thread waits for, and the cell in which it does. The client calls it."""
    return (show_awaited if mode() is not Mode.OFF else None), cell()


def show_awaited(thing: Any) -> None:
    """Displays the card of an awaited object, unless this cell or another one of the notebook has it already."""
    card = _cards.get(thing)
    if card is None or not (card.is_in(cell()) or card.is_elsewhere(cell_id())):
        show_now(kind_of(thing), thing)


def kind_of(thing: Any) -> str:
    """The kind of an awaited object."""
    return "group" if hasattr(thing, "marked_states") else "job" if hasattr(thing, "retry_failed") else "task"


def show_now(kind: str, thing: Any) -> None:
    """Displays `thing` here, and not again if it is also the last line of the same cell."""
    if mode() is not Mode.OFF:
        show(kind, thing)
        _cards[thing].shown_in = cell()


def picture(kind: str, thing: Any) -> dict[str, Any]:
    """Returns a mime bundle of the present state, for use outside the last line of a cell."""
    card = _cards.get(thing)
    if card is not None:
        return card.bundle()
    if kind == "job":
        snapshot = thing.snapshot()
        found = {**view_model.job(snapshot), "failures": view_model.job_failures(snapshot)}
    elif kind == "task":
        found = view_model.task(thing.snapshot())
    elif kind in ("jobs", "inbox"):
        found = KINDS[kind][2](thing, Mode.OFF).described(thing)
    else:
        found = view_model.cluster(thing.snapshot(), stopped=bool(getattr(thing, "stopped", False)))
    found = view_model.as_of(found)
    return {"text/plain": static_html.text(found), "text/html": static_html.html(found)}


def superseded(job: Any, said: str) -> bool:
    """Reports that a job has taken over a name: in its card, or in a printed line. The client calls it."""
    here = shell()
    if here is None or mode() is Mode.OFF or threading.current_thread() is not threading.main_thread():
        return False

    def cell_over(*_: Any) -> None:
        here.events.unregister("post_run_cell", cell_over)
        if job not in _cards:
            print(said)

    here.events.register("post_run_cell", cell_over)
    return True


def pump() -> None:
    """Handles button presses while the main thread waits. The client calls it."""
    here = kernel()
    if here is not None:
        comm.pump(here)


def draw_ends(*_: Any) -> None:
    """Draws cards of ended objects before the cell ends: nbconvert and papermill ignore later output."""
    if ended := [card for card in list(_cards.values()) if card.has_last_word()]:
        sampler.settle([card.cell_over for card in ended], LAST_WORD_S)


def install(ipython: Any) -> None:
    """Shows the client's objects as cards in this IPython from now on."""
    from nblb.client import front_end

    for kind, (module, name, _) in KINDS.items():
        formatter = ipython.display_formatter.ipython_display_formatter
        formatter.for_type_by_name(module, name, lambda thing, kind=kind: show(kind, thing))
        front_end.register(kind, lambda thing, kind=kind: picture(kind, thing))
    front_end.register("pump", pump)
    front_end.register("waits", waits)
    front_end.register("interrupted", interrupts.interrupted)
    front_end.register("here", output_routing.bind)
    front_end.register("superseded", superseded)
    front_end.register("mistake", tracebacks.mistake)
    ipython.events.register("post_run_cell", draw_ends)
    tracebacks.install()


def remove(ipython: Any) -> None:
    """Undoes `install`; displayed cards stay live."""
    from nblb.client import front_end

    formatter = ipython.display_formatter.ipython_display_formatter
    for kind in (*KINDS, "pump", "waits", "interrupted", "superseded", "here", "mistake"):
        front_end.register(kind, None)
    with contextlib.suppress(ValueError):  # it was not there
        ipython.events.unregister("post_run_cell", draw_ends)
    tracebacks.remove()
    for module, name, _ in KINDS.values():
        formatter.deferred_printers.pop((module, name), None)
        for known in [cls for cls in formatter.type_printers if (cls.__module__, cls.__name__) == (module, name)]:
            formatter.type_printers.pop(known, None)
