"""The Monitor: a live web page of users, tasks and workers. `python -m nblb monitor`, or `panel serve` this file.

The page is read-only. All browsers share one Poller; a page compares the latest picture with what it shows and sends
the cells that differ. The page loads nothing from other computers.
"""

from __future__ import annotations

import importlib
import os
import socket
import sys
import threading
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import panel as pn
from bokeh.models import ColumnDataSource
from bokeh.plotting import figure

from nblb.errors import NblbError, NotAllowed
from nblb.monitoring import pages, wording
from nblb.monitoring.known_hosts import refuse_others
from nblb.monitoring.poller import ClusterPicture, Poller, Source
from nblb.monitoring.table import Table
from nblb.parameters import Parameters, load
from nblb.system.private_folder import is_loopback

__all__ = ["Monitor", "open_server", "serve", "view"]

REFRESH_MS = 500
LOGIN = Path(__file__).with_name("login.html")  # Panel's own template loads files from other computers
QUEUED, RUNNING = "#56B4E9", "#E69F00"  # distinguishable for colour-blind people


class Monitor(pn.viewable.Viewer):
    """One browser's view of the latest picture."""

    def __init__(self, poller: Poller) -> None:
        super().__init__()
        self.poller = poller
        self.shown = -1
        self.banner = _html("")
        self.summary = _html("")
        self.note = _html("")
        self.workers = Table(
            pages.WORKERS,
            430,
            "No workers. Start some with %lb_start in a notebook, or with: nblb hub",
            {
                "Worker": 145,
                "Host": 90,
                "Task": 120,
                "User": 80,
                "Progress": 105,
                "Note": 130,
                "CPU": 75,
                "Task id": 100,
            },
        )
        self.queues = Table(pages.QUEUES, 240, "Nothing waits.", {"Task": 220}, sort=False)
        self.users = Table(pages.USERS, 240, "Nobody has sent a task yet.", {"User": 80}, sort=False)
        self.priorities = Table(pages.PRIORITIES, 240, "Nothing waits.", {"Note": 260}, sort=False)
        self.statistics = Table(
            pages.STATISTICS,
            430,
            "No task has ended yet.",
            {"Task": 150, "Share of time": 140},
        )
        self.jobs = Table(
            pages.JOBS,
            430,
            "No jobs yet. Each map() of a task is one.",
            {"Job": 150, "Progress": 115},
        )
        self.points = ColumnDataSource({"t": [], "queued": [], "running": []})
        self.tabs = pn.Tabs(
            ("Workers", _page("Live workers information", self.workers.widget)),
            ("Queue", self._queue_page()),
            ("Statistics", _page("Global statistics, by task name", self.statistics.widget)),
            ("Jobs", _page("Jobs", self.jobs.widget)),
            dynamic=True,
            sizing_mode="stretch_width",
        )
        self._on_tab = ((self.workers,), (self.users, self.queues, self.priorities), (self.statistics,), (self.jobs,))
        self.tabs.param.watch(lambda _: self._turned(), "active")
        if pn.state.location is not None:
            pn.state.location.sync(self.tabs, {"active": "tab"})
        pn.state.onload(self.start)

    def __panel__(self) -> Any:
        return pn.Column(self.banner, self.summary, self.note, self.tabs, sizing_mode="stretch_width")

    def start(self) -> None:
        self._turned()
        self.refresh()
        pn.state.add_periodic_callback(self.refresh, period=REFRESH_MS)

    def _turned(self) -> None:
        """Opens the tables of the active tab and closes the others."""
        for number, tables in enumerate(self._on_tab):
            for table in tables:
                if number == self.tabs.active:
                    table.open()
                else:
                    table.close()

    def refresh(self) -> None:
        """Updates the page to the latest picture; called twice a second, cheap when nothing has changed."""
        picture = self.poller.look()
        age_s = self.poller.age_s(picture)
        _set(self.banner, wording.banner(picture, age_s))
        _set(self.note, wording.note(picture, age_s, pn.config.theme == "dark"))
        for table in self._on_tab[self.tabs.active]:
            table.settle()
        if picture.number == self.shown or not picture.answers:
            return
        self.shown = picture.number
        _set(self.summary, wording.summary(picture))
        of = picture.answers
        self.workers.show(pages.workers(of["workers"] or []))
        self.queues.show(pages.queues(of["queue"] or {}))
        self.users.show(pages.users(of["users"] or []))
        self.priorities.show(pages.priorities(of["queue"] or {}, of["workers"] or []))
        self.statistics.show(pages.statistics(of["stats"] or {}))
        self.jobs.show(pages.jobs(of["jobs"] or []))
        self._draw(picture)

    def _queue_page(self) -> Any:
        chart = figure(
            height=200,
            sizing_mode="stretch_width",
            x_axis_type="datetime",
            y_axis_label="tasks",
            tools="",
            toolbar_location=None,
        )
        chart.step("t", "queued", source=self.points, legend_label="queued", color=QUEUED, line_width=2, mode="after")
        chart.step(
            "t",
            "running",
            source=self.points,
            legend_label="running",
            color=RUNNING,
            line_width=2,
            line_dash="dashed",
            mode="after",
        )
        chart.legend.location = "top_left"
        chart.legend.orientation = "horizontal"
        chart.legend.background_fill_alpha = 0.5
        chart.axis.minor_tick_line_color = None
        chart.y_range.start = 0
        tables = (("By user", self.users), ("By task name", self.queues), ("By priority", self.priorities))
        boxes = [
            pn.Column(_heading(title), table.widget, styles={"flex": "1 1 400px", "min-width": "0"})
            for title, table in tables
        ]
        return _page(
            "Live queue information",
            pn.pane.Bokeh(chart, sizing_mode="stretch_width", height=200),
            pn.FlexBox(*boxes, sizing_mode="stretch_width"),
        )

    def _draw(self, picture: ClusterPicture) -> None:
        offset = datetime.now(timezone.utc).astimezone().utcoffset()
        shift = offset.total_seconds() if offset else 0.0  # bokeh's time axis has no time zones
        if picture.history and 1000 * (picture.history[-1][0] + shift) < self._last_point():  # its clock was set
            self.points.data = {"t": [], "queued": [], "running": []}
        new = [point for point in picture.history if 1000 * (point[0] + shift) > self._last_point()]
        if new:
            t, queued, running = zip(*new, strict=True)
            self.points.stream(
                {"t": [1000 * (x + shift) for x in t], "queued": queued, "running": running}, rollover=180
            )

    def _last_point(self) -> float:
        return float(self.points.data["t"][-1]) if len(self.points.data["t"]) else 0.0


def view(poller: Poller) -> Any:
    """A page for one browser."""
    pn.extension("tabulator")
    # the only stock template that loads nothing from other computers
    return pn.template.BootstrapTemplate(
        title=wording.TITLE,
        main=[Monitor(poller)],
        busy_indicator=None,
        header_background="#1b3a57",
        header_color="#ffffff",
    )


def open_server(
    parameters: Parameters,
    *,
    address: str | None = None,
    port: int | None = None,
    prefix: str = "",
    allow_websocket_origin: Sequence[str] = (),
    connect: Callable[[], Source] | None = None,
) -> tuple[Any, Poller, str]:
    """Returns a server that listens but does not run its loop yet, its poller, and the page's address."""
    address = address or parameters.MONITOR_IP
    if not is_loopback(address):
        raise NotAllowed(
            f"MONITOR_IP is {address}: the Monitor has no encrypted login yet, so it serves this computer only. "
            "Use 127.0.0.1, and reach it from elsewhere through JupyterLab's proxy or an SSH tunnel."
        )
    port = parameters.MONITOR_PORT if port is None else port
    port = port or _free_port(address)
    poller = Poller(connect or (lambda: _Core(parameters)))

    def page() -> Any:
        return view(poller)

    try:
        server = pn.io.server.get_server(
            {"/": page, "/monitor": page},
            address=address,
            port=port,
            title=wording.TITLE,
            prefix=prefix.strip("/"),
            websocket_origin=[f"{address}:{port}", f"localhost:{port}", *allow_websocket_origin],
            liveness=True,
            start=False,
            show=False,
            verbose=False,
            **_login(parameters.MONITOR_AUTH, prefix.strip("/")),
        )
    except OSError as error:
        raise NblbError(
            f"MONITOR_PORT {port} on {address} cannot be used ({error.strerror or error}); "
            "give another one, or 0 for any free one."
        ) from None
    refuse_others(server)
    path = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
    return server, poller, f"http://{address}:{port}/{path}"


def serve(
    parameters: Parameters,
    *,
    address: str | None = None,
    port: int | None = None,
    prefix: str = "",
    allow_websocket_origin: Sequence[str] = (),
    ready: Callable[[str], None] | None = None,
) -> None:
    """Serves the Monitor until the process gets a signal; calls `ready` with its address once it answers."""
    server, poller, url = open_server(
        parameters, address=address, port=port, prefix=prefix, allow_websocket_origin=allow_websocket_origin
    )
    server.start()
    if ready is not None:
        server.io_loop.add_callback(ready, url)
    try:
        if threading.current_thread() is threading.main_thread():
            server.run_until_shutdown()
        else:
            server.io_loop.start()
    finally:
        poller.stop()


_pollers: dict[Any, Poller] = {}
_pollers_lock = threading.Lock()


def shared_poller(source: str | None) -> Poller:
    """Returns the process's only poller for a parameters file: `panel serve` runs this file again for every browser."""
    with _pollers_lock:
        if source not in _pollers:
            parameters = load(source)
            if parameters.MONITOR_AUTH and not (pn.config.basic_auth or pn.config.oauth_provider):
                raise NotAllowed(
                    f"{parameters.source}: MONITOR_AUTH is set, and 'panel serve' does not read it; give that "
                    "--basic-auth and --cookie-secret, or serve the page with 'nblb monitor'."
                )
            _pollers[source] = Poller(lambda: _Core(parameters))
        return _pollers[source]


class _Core:
    """A Source on the Monitor's own connection."""

    def __init__(self, parameters: Parameters) -> None:
        from nblb.launch import connect

        self.cluster = connect(parameters)

    def ask(self, topic: str, about: dict[str, Any] | None = None) -> Any:
        return self.cluster.connection.ask(topic, about or {})

    def close(self) -> None:
        self.cluster.close()


class _OneText(dict[str, str]):
    """Panel's table of passwords by user name, with the same password for every name."""

    def __init__(self, text: str) -> None:
        super().__init__(monitor=text)  # not empty: Panel takes an empty table for no login
        self._text = text

    def __contains__(self, _name: object) -> bool:
        return True

    def __getitem__(self, _name: str) -> str:
        return self._text


def _login(text: str, prefix: str) -> dict[str, Any]:
    """The options of Panel's server that make the page ask for this password; none for ""."""
    if not text:
        return {}
    return {
        "basic_auth": _OneText(text),
        "cookie_secret": os.urandom(32).hex(),  # a login is valid for this run of the Monitor
        "login_template": str(LOGIN),
        "root_path": f"/{prefix}/" if prefix else "/",  # the page after a login
    }


def _free_port(address: str) -> int:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family) as probe:
        probe.bind((address, 0))
        return int(probe.getsockname()[1])


def _html(text: str) -> Any:
    return pn.pane.HTML(text, stylesheets=[wording.CSS], sizing_mode="stretch_width", margin=(0, 10))


def _heading(text: str) -> Any:
    return _html(f"<h2>{text}</h2>")


def _page(title: str, *parts: Any) -> Any:
    """The content of a tab, as wide as the window; wide tables scroll by themselves."""
    return pn.Column(
        _heading(title), *parts, sizing_mode="stretch_width", styles={"min-width": "0", "max-width": "100%"}
    )


def _set(pane: Any, text: str) -> None:
    """Sets the text if it has changed: each assignment sends a message to the browser."""
    if pane.object != text:
        pane.object = text


if pn.state.served:  # panel serve nblb/monitoring/monitor.py [--args parameters.json]
    # bokeh runs this file again for every browser: the shared poller belongs to the imported module
    module = importlib.import_module("nblb.monitoring.monitor")
    module.view(module.shared_poller(sys.argv[1] if len(sys.argv) > 1 else None)).servable()
