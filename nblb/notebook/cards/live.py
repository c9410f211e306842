"""Live content of tasks as a card shows it: pictures, knobs, output and the latest emitted value."""

from __future__ import annotations

import base64
import itertools
import weakref
from collections.abc import Iterable, Mapping
from typing import Any

from nblb.notebook.cards import wording

PICTURES_S = 0.2  # between two reads of the pictures
BYTES_S = 400_000.0  # for the pictures of all cards together; beyond it they are sent less often
MOST_PICTURES = 4
PICTURE_BYTES = 2_000_000
IMAGES = ("image/png", "image/jpeg", "image/gif", "image/svg+xml")
TEXT_LIMIT = 2_000
LINE_LIMIT = 120
ALT_LIMIT = 120
KNOBS = 12


def knobs(thing: Any) -> list[list[Any]]:
    """[name, kind, value, min, max, step] of each knob: kind is "flag", "text", "number" or, with a range, "range"."""
    there = itertools.islice(getattr(thing, "knobs", {}).values(), KNOBS)
    return [[knob.name, _kind(knob), knob.value, knob.min, knob.max, _step(knob)] for knob in there]


def _kind(knob: Any) -> str:
    if isinstance(knob.default, (bool, str)):
        return "flag" if isinstance(knob.default, bool) else "text"
    return "number" if knob.min is None or knob.max is None else "range"


def _step(knob: Any) -> float | str:
    if knob.step is not None:
        return float(knob.step)
    if isinstance(knob.default, int):
        return 1
    return "any" if knob.min is None or knob.max is None else float(knob.max - knob.min) / 100


def turned(thing: Any, value: Any) -> str:
    """Applies a slider's [name, value] to the knob and returns the answer to show."""
    name, wanted = value
    known = thing.knobs.get(name)
    if known is not None and isinstance(known.default, int) and not isinstance(known.default, bool):
        wanted = int(wanted) if float(wanted).is_integer() else wanted
    thing.turn(name, wanted)
    return f"{name} is to be {wanted}"


class Pictures:
    """The latest pictures of a task or job, sent when they change: five times a second while they are small."""

    _all: weakref.WeakSet[Pictures] = weakref.WeakSet()

    def __init__(self) -> None:
        self._due = float("-inf")
        self._seen: Any = None
        self._all.add(self)

    def look(self, thing: Any, sayings: Iterable[Any], now: float, final: bool = False) -> list[dict[str, Any]] | None:
        """Returns the pictures to show; None: unchanged. `sayings` are the live states of the running tasks."""
        if now < self._due and not final:
            return None
        self._due = now + PICTURES_S
        spoken = list({id(said): said for said in sayings if said is not None}.values())
        # A task's `displays` may ask the core, which would block the thread that draws all cards.
        own = getattr(getattr(thing, "_said", None), "pictures", None)
        shown = list((own if own is not None else getattr(thing, "displays", ())) or ())[-MOST_PICTURES:]
        if not spoken and not shown:  # between two tasks and at the end the last pictures stay
            return None
        seen = [*map(id, shown), *((id(said), said.count) for said in spoken)]
        if seen == self._seen:
            return None
        self._seen = seen
        emitted = [picture for said in spoken if (picture := said.picture()) is not None]
        found = [plain(picture) for picture in [*shown, *emitted][-MOST_PICTURES:]]
        nbytes = sum(len(picture["data"]) for picture in found)
        # The cards that still change share BYTES_S.
        others = sum(1 for other in self._all if other is not self and now < other._due + PICTURES_S)
        self._due = now + max(PICTURES_S, nbytes * (1 + others) / BYTES_S)
        return found


def plain(picture: Any) -> dict[str, Any]:
    """Converts a mime bundle to what a page can show safely: an image, HTML for a frame without scripts, or text."""
    data: Mapping[str, Any] = picture.data
    text = str(data.get("text/plain", ""))
    shown = {"item": picture.item, "alt": wording.clip(text, ALT_LIMIT) or "picture"}
    for kind in IMAGES:
        if kind in data and len(data[kind]) <= PICTURE_BYTES:
            content = "".join(data[kind]) if isinstance(data[kind], list) else str(data[kind])
            if kind == "image/svg+xml":
                content = base64.b64encode(content.encode()).decode("ascii")
            return {**shown, "kind": kind, "data": content.replace("\n", "")}
    if "text/html" in data and len(data["text/html"]) <= PICTURE_BYTES // 10:
        return {**shown, "kind": "text/html", "data": str(data["text/html"])}
    return {**shown, "kind": "text/plain", "data": wording.clip(text, TEXT_LIMIT)}


def last_value(thing: Any) -> str:
    """The last emitted value of a task as one line; "" for none, and for a picture, which is shown as such."""
    said = getattr(thing, "_said", None)
    if said is None or not said.count or said.picture() is not None:
        return ""
    return wording.clip(repr(thing.emitted).partition("\n")[0], LINE_LIMIT)


def lines(output: Iterable[Any], most: int = 8) -> list[list[Any]]:
    """[item, stream, text] of a job's latest lines."""
    return [[line.item, line.stream, line.text[:LINE_LIMIT]] for line in [*output][-most:]]
