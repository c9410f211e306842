"""The live half of a card: a widget model that the page draws into the saved picture. Needs anywidget.

anywidget rather than the controls of ipywidgets: one model per job of any size, accessible HTML, a state strip of
10,000 items, and no request that leaves the machine.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any

import anywidget
import traitlets

from nblb.notebook.kernel.comm import clicks


@cache
def _front(name: str) -> str:
    return (files("nblb.notebook") / "static" / name).read_text(encoding="utf-8")


class CardWidget(anywidget.AnyWidget):
    """The model sent to the page; only the refresher's thread changes it, the page never does."""

    key = traitlets.Unicode().tag(sync=True)  # how the page finds the picture
    now = traitlets.Dict().tag(sync=True)  # a small description, at most five times a second
    failures = traitlets.List().tag(sync=True)  # with tracebacks, only when they change
    pictures = traitlets.List().tag(sync=True)  # displays of tasks; large ones are sent rarely
    output = traitlets.Unicode().tag(sync=True)  # more output than `now` has, at most once a second, on request
    strip = traitlets.Bytes(b"").tag(sync=True)  # one byte per item, an index into `states`
    states = traitlets.List().tag(sync=True)  # (state, sign, word) of the strip's bytes
    said = traitlets.Unicode().tag(sync=True)  # the answer to the last button

    _css = _front("card.css")

    def __init__(self, **traits: Any) -> None:
        super().__init__(**traits)
        self.on_msg(lambda _, content, __: clicks.pressed(content))


class JobWidget(CardWidget):
    """A job's card."""

    _esm = _front("live.js") + _front("said.js") + _front("strip.js") + _front("earlier.js") + _front("job.js")


class TaskWidget(CardWidget):
    """A single task's card."""

    _esm = _front("live.js") + _front("said.js") + _front("task.js")


class ClusterWidget(CardWidget):
    """The cluster's card."""

    _esm = _front("live.js") + _front("cluster.js")


class ListWidget(CardWidget):
    """The cards of `lb.jobs()` and `lb.inbox()`."""

    _css = _front("card.css") + _front("list.css")
    _esm = _front("live.js") + _front("list.js")


class StopWidget(CardWidget):
    """The choice after a stopped wait."""

    _esm = _front("live.js") + _front("stop.js")
