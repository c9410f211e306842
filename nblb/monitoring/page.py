"""What every page of the Monitor is made of: its place in the address, its parts, and its controls."""

from __future__ import annotations

import asyncio
import html
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

import panel as pn

from nblb.monitoring import controls, wording
from nblb.monitoring.controls import Controls
from nblb.monitoring.poller import ClusterPicture, Poller, Question

WIDE: dict[str, Any] = {"sizing_mode": "stretch_width", "styles": {"min-width": "0", "max-width": "100%"}}
_orders = ThreadPoolExecutor(8, "nblb-monitor-order")  # a core that does not answer stops no other viewer


class PageAddress:
    """The query of the page's address: what a link or a reload brings back. Values are text from outside."""

    def __init__(
        self, query: Mapping[str, str], changed: Callable[[dict[str, str]], None] = lambda _query: None
    ) -> None:
        self._query = dict(query)
        self._changed = changed

    def __getitem__(self, key: str) -> str:
        return self._query.get(key, "")

    def number(self, key: str, least: int = 0) -> int:
        """Return a whole number; `least` for anything else."""
        text = self._query.get(key, "")
        return max(least, int(text)) if text.isdecimal() and len(text) < 12 else least

    def set(self, **values: str) -> None:
        """Change the address without loading the page; an empty value is left out."""
        self._query.update(values)
        self._query = {key: value for key, value in self._query.items() if value}
        self._changed(self._query)


class Page:
    """A page for one browser: `questions` are those whose answers `show` draws.

    A page keeps nothing: what it shows is the latest picture, and where it is stands in the address.
    """

    key = ""
    title = ""

    def __init__(self, poller: Poller, place: PageAddress, orders: Controls, dark: bool) -> None:
        self.poller, self.place, self.orders, self.dark = poller, place, orders, dark
        self.said = text_pane("")  # what a control has done; a status for screen readers

    def questions(self) -> tuple[Question, ...]:
        """Return what the page wants to know now."""
        raise NotImplementedError

    def body(self) -> Any:
        """Return the parts of the page; called once."""
        raise NotImplementedError

    def show(self, picture: ClusterPicture) -> None:
        """Draw the answers that have come."""
        raise NotImplementedError

    async def act(self, action: Callable[[], str]) -> None:
        """Run a control's action in a thread, and say what it did."""
        self.report("working …")
        sentence = await asyncio.get_running_loop().run_in_executor(_orders, controls.done, action)
        self.report(sentence)

    def report(self, sentence: str) -> None:
        bad = " bad" if sentence.startswith("not done") else ""
        at = datetime.now().astimezone().strftime("%H:%M:%S")
        set_text(self.said, f'<p class="said{bad}" role="status">{at} {html.escape(sentence)}</p>')

    # ── parts ──

    def button(
        self, label: str, action: Callable[[], str], control: str, owner: str = "", kind: str = "default"
    ) -> Any:
        """Return a button for what can be undone; it is off, with the reason, where the viewer may not do it."""
        made = pn.widgets.Button(name=label, button_type=kind, margin=(3, 6), **self._off(control, owner))

        async def clicked(_event: Any) -> None:
            await self.act(action)

        made.on_click(clicked)
        return made

    def asking(
        self, label: str, question: Callable[[], str], action: Callable[[], str], control: str, owner: str = ""
    ) -> Any:
        """Return a button for what cannot be undone: it asks first, and acts only on the answer."""
        first = pn.widgets.Button(name=f"{label} …", margin=(3, 6), **self._off(control, owner))
        yes = pn.widgets.Button(name=f"Yes, {label[0].lower()}{label[1:]}", button_type="danger", margin=(3, 6))
        no = pn.widgets.Button(name="No", margin=(3, 6))
        words = text_pane("", sizing_mode=None)
        asked = pn.Row(words, yes, no, visible=False, styles={"flex-wrap": "wrap"})

        def ask(_event: Any) -> None:
            set_text(words, f'<p class="asks" role="alert">{html.escape(question())}</p>')
            asked.visible, first.visible = True, False

        def leave(_event: Any) -> None:
            asked.visible, first.visible = False, True

        async def go(_event: Any) -> None:
            leave(None)
            await self.act(action)

        first.on_click(ask)
        no.on_click(leave)
        yes.on_click(go)
        return pn.Row(first, asked, margin=0, styles={"flex-wrap": "wrap"})

    def _off(self, control: str, owner: str) -> dict[str, Any]:
        refused = self.orders.refusal(control, owner)
        if refused and not self.said.object:
            set_text(self.said, f'<p class="line">{html.escape(refused)}</p>')
        return {"disabled": True, "description": refused} if refused else {}


def text_pane(text: str, **options: Any) -> Any:
    """Return a pane of HTML, which its maker has escaped."""
    return pn.pane.HTML(
        text, **{"stylesheets": [wording.CSS], "sizing_mode": "stretch_width", "margin": (0, 6), **options}
    )


def heading(text: str, level: int = 2) -> Any:
    return text_pane(f"<h{level}>{html.escape(text)}</h{level}>")


def set_text(pane: Any, text: str) -> None:
    """Set the text if it has changed: each assignment sends a message to the browser."""
    if pane.object != text:
        pane.object = text


def column(*parts: Any) -> Any:
    return pn.Column(*parts, **WIDE)


def row(*parts: Any) -> Any:
    """Return parts side by side, which wrap where the window is narrow."""
    return pn.FlexBox(*parts, align_items="center", gap="2px 4px", **WIDE)
