"""Hubs: what each has and uses, its log, and its controls: scale, drain, restart, remove."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

import panel as pn

from nblb.monitoring import logs, rows
from nblb.monitoring.controls import whole_in
from nblb.monitoring.page import Page, column, heading, set_text, text_pane
from nblb.monitoring.poller import ClusterPicture, Question
from nblb.monitoring.table import Table

HUBS = Question("hubs")


class HubsPage(Page):
    """The hubs of the cluster; one of them is chosen for its controls and its log."""

    key, title = "hubs", "Hubs"

    def questions(self) -> tuple[Question, ...]:
        return (HUBS,)

    def body(self) -> Any:
        self.table = Table(
            rows.HUBS, "No hub. Start one with %lb_hub in a notebook, or with: nblb hub", {"CPU %": 90}, links=("Hub",)
        )
        self.choice = pn.widgets.Select(name="Hub", options={}, width=240, margin=(0, 6))
        self.workers = pn.widgets.TextInput(name="Workers", value="1", width=90, margin=(0, 6))
        self.controls = pn.FlexBox(sizing_mode="stretch_width", align_items="end")
        self.log = text_pane("")
        self._rows: Sequence[Mapping[str, Any]] = ()
        self._drawn_for = ""
        self.choice.param.watch(lambda _event: self._chosen(), "value")
        self.part = pn.Column(
            heading("Controls"), self.controls, self.said, heading("Log"), self.log, sizing_mode="stretch_width"
        )
        return column(heading("Hubs"), self.table.widget, self.part)

    def show(self, picture: ClusterPicture) -> None:
        answer = picture.get(HUBS)
        if answer is None:
            return
        self._rows = answer
        self.table.show(rows.hubs(answer))
        options = {str(hub.get("name")): str(hub.get("hub")) for hub in answer}
        if options != self.choice.options:
            wanted = self.place["hub"] or self.choice.value
            self.choice.options = options
            self.choice.value = wanted if wanted in options.values() else next(iter(options.values()), None)
            self._chosen()
        self.part.visible = bool(answer)
        hub = self._hub()
        if hub and hub["hub"] != self._drawn_for:
            self._drawn_for = str(hub["hub"])
            self.controls.objects = self._made(hub)
        if hub:  # its buttons stay, so that a question that is open does
            self.drain.name = "Take work again" if self._is_drained() else "Drain"
        set_text(self.log, self._log(hub) if hub else "")

    def _hub(self) -> Mapping[str, Any] | None:
        return next((hub for hub in self._rows if hub.get("hub") == self.choice.value), None)

    def _is_drained(self) -> bool:
        hub = self._hub()
        return hub is not None and hub.get("state") == "draining"

    def _chosen(self) -> None:
        hub = self._hub()
        if hub is not None:
            self.place.set(hub=str(hub["hub"]))
            self.workers.value = str(hub.get("workers") or 0)

    def _made(self, hub: Mapping[str, Any]) -> list[Any]:
        identity, name, orders = str(hub["hub"]), str(hub["name"]), self.orders
        self.drain = self.button("Drain", lambda: orders.drain(identity, name, not self._is_drained()), "drain")

        def runs() -> str:
            return f"{int((self._hub() or {}).get('busy') or 0)} of its workers are busy"

        return [
            self.choice,
            self.workers,
            self.button("Scale", lambda: orders.scale(identity, name, whole_in(self.workers.value)), "scale"),
            self.drain,
            self.asking(
                "Restart",
                lambda: f"Restart hub {name}? {runs()}; it takes no new work, and starts again when they end.",
                lambda: orders.remove(identity, name, restart=True), "restart",
            ),
            self.asking(
                "Remove", lambda: f"Remove hub {name}? {runs()}; it takes no new work, and stops when they end.",
                lambda: orders.remove(identity, name, restart=False), "remove",
            ),
        ]  # fmt: skip

    def _log(self, hub: Mapping[str, Any]) -> str:
        text = logs.tail_of(hub, self.poller.log_folder)
        if not text:
            return '<p class="line">Its log is on its own computer, or empty.</p>'
        return f'<pre tabindex="0">{html.escape(text)}</pre>'
