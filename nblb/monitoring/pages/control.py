"""Cluster: choose or edit parameters.json, start and stop the core, and add hubs; the other pages then show it."""

from __future__ import annotations

import html
import json
from pathlib import Path
from typing import Any

import panel as pn

from nblb import launch
from nblb.errors import NblbError, NotAllowed
from nblb.monitoring import rows
from nblb.monitoring.controls import whole_in
from nblb.monitoring.page import Page, column, heading, row, set_text, text_pane
from nblb.monitoring.parameters_form import WIDE_FIELD, ParametersForm
from nblb.monitoring.poller import ClusterPicture, Question
from nblb.parameters import Parameters


class ControlPanel(Page):
    """The control panel of a cluster that runs, or not yet."""

    key, title = "control", "Cluster"

    def questions(self) -> tuple[Question, ...]:
        return ()

    def body(self) -> Any:
        dashboard = self.poller.dashboard
        assert dashboard is not None
        if refused := self.orders.refusal("save"):
            self.state = text_pane("")
            return column(heading("Cluster"), self.state, text_pane(f'<p class="line">{html.escape(refused)}</p>'))
        self.form = ParametersForm(dashboard.path)
        self.file = pn.widgets.TextInput(name="Parameters file", value=str(dashboard.path), margin=(2, 8), **WIDE_FIELD)
        self.state, self.check = text_pane(""), text_pane("")
        self.workers = pn.widgets.TextInput(
            name="Workers of a new hub", value="", placeholder="as configured", width=150, margin=(2, 8)
        )
        self.file.param.watch(lambda event: self._take(event.new), "value")
        self.form.watch(self._check)
        often, others = self.form.parts()
        self._check()
        return column(
            heading("Cluster"),
            self.state,
            row(
                self.button("Start core and hub", self._start, "start", kind="primary"),
                self.asking(
                    "Stop core",
                    lambda: "Stop the core and its hubs? What runs begins again at the next start.",
                    self._stop,
                    "stop",
                ),
            ),
            row(self.workers, self.button("Add hub", self._add_hub, "scale")),
            self.said,
            heading("Parameters"),
            row(self.file, self.button("Save", self._save, "save")),
            self.check,
            pn.FlexBox(*often, sizing_mode="stretch_width", align_items="start"),
            pn.Card(
                pn.FlexBox(*others, sizing_mode="stretch_width", align_items="start"),
                title="All parameters",
                collapsed=True,
                sizing_mode="stretch_width",
            ),
        )

    def show(self, picture: ClusterPicture) -> None:
        status = picture.status
        if picture.error or not status:
            words = "✗ no core answers; Start begins one with the parameters below"
        else:
            words = (
                f"✓ core pid {status.get('pid')} of cluster {status.get('name')} runs, "
                f"with {rows.plural(status.get('hubs'), 'hub')} and {rows.plural(status.get('workers'), 'worker')}"
            )
        set_text(
            self.state,
            f'<p class="alert {"fine" if status and not picture.error else "calm"}">{html.escape(words)}</p>',
        )

    def _check(self) -> None:
        parameters = self.form.check()
        if parameters is None:
            set_text(self.check, f'<p class="alert" role="alert">{html.escape(self.form.problem)}</p>')
            return
        changed = json.dumps(self.form.settings())
        words = f"✓ valid; cluster {parameters.name}, other than the defaults: {changed}"
        set_text(self.check, f'<p class="line" role="status">{html.escape(words)}</p>')

    def _take(self, text: str) -> None:
        problem = self.form.take(Path(text).expanduser().absolute())
        self._check()
        if problem:
            set_text(self.check, f'<p class="alert" role="alert">{html.escape(problem)}</p>')

    def _parameters(self, control: str) -> Parameters:
        refused = self.orders.refusal(control)
        if refused:
            raise NotAllowed(refused)
        parameters = self.form.check()
        if parameters is None:
            raise NblbError(self.form.problem)
        dashboard = self.poller.dashboard
        assert dashboard is not None
        dashboard.parameters = parameters
        return parameters

    def _start(self) -> str:
        parameters = self._parameters("start")
        cluster = launch.start(parameters)
        name, notes = cluster.name, "; ".join(cluster.notes)
        cluster.close()
        self.poller.ask_now()
        return f"cluster {name} runs{f'; {notes}' if notes else ''}"

    def _stop(self) -> str:
        found = launch.stop(self._parameters("stop"))
        self.poller.ask_now()
        return "the core and its hubs have ended" if found else "nothing was running"

    def _add_hub(self) -> str:
        text = self.workers.value.strip()
        workers = whole_in(text) if text else None
        process = launch.add_hub(self._parameters("scale"), workers)
        return f"one more hub runs, pid {process.pid}"

    def _save(self) -> str:
        refused = self.orders.refusal("save")
        if refused:
            raise NotAllowed(refused)
        return f"saved {self.form.save()}"
