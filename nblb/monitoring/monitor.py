"""The Monitor: a live web page of users, tasks and hubs. `python -m nblb monitor`, or `panel serve` this file.

A page is what its address says: the pages keep no state, and the address brings back page, filter and order. All
browsers share one Poller. The page loads nothing from other computers, and never unpickles.
"""

from __future__ import annotations

import importlib
import sys
import threading
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import panel as pn

from nblb.errors import NotAllowed
from nblb.host import account
from nblb.monitoring import wording
from nblb.monitoring.access import Viewer, local_viewer, login_end
from nblb.monitoring.controls import Controls
from nblb.monitoring.core_link import CoreLink
from nblb.monitoring.links import address
from nblb.monitoring.login.gate import FORWARDED, is_own_request
from nblb.monitoring.login.people import People
from nblb.monitoring.page import Page, PageAddress, set_text, text_pane
from nblb.monitoring.pages import CONTROL, PAGES, SHOWN
from nblb.monitoring.poller import Poller
from nblb.parameters import load

__all__ = ["Monitor", "view"]

REFRESH_MS = 500
NO_LOGIN = (
    "'panel serve' shows this page to the account that has started it, on this computer only. Others need a login: "
    "give it --basic-auth and --cookie-secret, or serve the page with 'nblb monitor'."
)
TEMPLATE = Path(__file__).with_name("template.html").read_text(encoding="utf-8")


class Monitor(pn.viewable.Viewer):
    """One browser's view of the latest picture: the figures at the top, and one page."""

    def __init__(self, poller: Poller, page: Page, viewer: Viewer) -> None:
        super().__init__()
        self.poller, self.page, self.viewer = poller, page, viewer
        self.banner, self.summary, self.note = text_pane(""), text_pane(""), text_pane("")
        self.shown = -1
        self.body = page.body()
        pn.state.onload(self.start)

    def __panel__(self) -> Any:
        return pn.Column(self.banner, self.summary, self.note, self.body, sizing_mode="stretch_width")

    def start(self) -> None:
        self.refresh()
        pn.state.add_periodic_callback(self.refresh, period=REFRESH_MS)

    def refresh(self) -> None:
        """Update the page to the latest picture; called twice a second, cheap when nothing has changed."""
        picture = self.poller.read(*self.page.questions())
        age_s = self.poller.age_s(picture)
        if ended := login_end(self.viewer):
            set_text(self.banner, wording.ended(ended))
            self.body.visible = self.summary.visible = False
            return
        begins = self.page.key == CONTROL.key and not picture.taken_at  # the page itself says that nothing runs yet
        set_text(self.banner, "" if begins else wording.banner(picture, age_s))
        set_text(self.note, wording.note(picture, age_s, f"{self.viewer.name}, {self.viewer.role}"))
        if picture.number == self.shown:
            return
        self.shown = picture.number
        if picture.answers:
            set_text(self.summary, wording.summary(picture))
        self.page.show(picture)


def query() -> dict[str, str]:
    """Return the query of this browser's address; the last of several equal names counts."""
    return {
        key: values[-1].decode("utf-8", "replace")[:500]
        for key, values in (pn.state.session_args or {}).items()
        if values
    }


def theme(given: dict[str, str]) -> str:
    """Return the theme that the address names, else the one that this browser preferred at its first visit."""
    wanted = given.get("theme") or str((pn.state.cookies or {}).get("nblb_theme", ""))
    return "dark" if wanted == "dark" else "default"


def view(poller: Poller, viewer: Viewer | None = None) -> Any:
    """Return the page for one browser."""
    given = query()
    chosen = theme(given)
    pn.extension("tabulator", theme=chosen)
    pn.config.theme = chosen
    location = pn.state.location
    kept = {"theme": given["theme"]} if given.get("theme") in ("dark", "default") else {}

    def moved(new: dict[str, str]) -> None:
        if location is not None:
            location.search = f"?{urlencode(new)}" if new else ""

    place = PageAddress(given, moved)
    shown_pages = (CONTROL, *SHOWN) if poller.dashboard is not None else SHOWN
    known = {**PAGES, **{page.key: page for page in shown_pages}}
    key = place["page"] if place["page"] in known else shown_pages[0].key
    viewer = viewer or _viewer(poller)
    if viewer is None:
        return pn.pane.HTML(f"<h1>{wording.TITLE}</h1><p>{NO_LOGIN}</p>")
    page = known[key](poller, place, Controls(poller, viewer), chosen == "dark")
    shown = {"task": "tasks", "job": "jobs"}.get(key, key)
    template = pn.Template(TEMPLATE, location=True)
    template.add_variable("title", wording.TITLE)
    template.add_variable("theme", chosen)
    template.add_variable(
        "pages", [(one.key, one.title, address(page=one.key, **kept), one.key == shown) for one in shown_pages]
    )
    other = {
        **{name: value for name, value in given.items() if value},
        "theme": "default" if chosen == "dark" else "dark",
    }
    template.add_variable("other_theme", f"?{urlencode(other)}")
    template.add_panel("main", Monitor(poller, page, viewer))
    return template


def _viewer(poller: Poller) -> Viewer | None:
    """Return who has opened this page: the gate of our own server says so, or the login of `panel serve`."""
    if poller.gate is not None:
        return poller.gate.stamped(pn.state.headers)
    context = getattr(pn.state.curdoc, "session_context", None)
    if context is None:  # not in a server at all
        return local_viewer(account())
    people: People = _people[poller]
    if pn.config.basic_auth or pn.config.oauth_provider:
        return people.named(pn.state.user) if pn.state.user else None
    request = context.request
    if request is None:  # --autoreload and --warm run the page once for nobody
        return None
    is_direct = not any(name in request.headers for name in FORWARDED)
    return people.owner() if is_direct and is_own_request(request) else None


_people: dict[Any, People] = {}  # by poller
_pollers: dict[Any, Poller] = {}
_pollers_lock = threading.Lock()


def shared_poller(source: str | None) -> Poller:
    """Return the process's only poller for a parameters file: `panel serve` runs this file anew for every browser."""
    with _pollers_lock:
        if source not in _pollers:
            parameters = load(source)
            if parameters.MONITOR_AUTH and not (pn.config.basic_auth or pn.config.oauth_provider):
                raise NotAllowed(
                    f"{parameters.source}: MONITOR_AUTH is set, and 'panel serve' does not read it; give that "
                    "--basic-auth and --cookie-secret, or serve the page with 'nblb monitor'."
                )
            poller = Poller(lambda: CoreLink(parameters), log_folder=parameters.state_dir / "logs")
            _people[poller] = People(lambda: parameters)
            _pollers[source] = poller
        return _pollers[source]


if pn.state.served:  # panel serve nblb/monitoring/monitor.py [--args parameters.json]
    # bokeh runs this file anew for every browser: the shared poller belongs to the imported module
    module = importlib.import_module("nblb.monitoring.monitor")
    module.view(module.shared_poller(sys.argv[1] if len(sys.argv) > 1 else None)).servable(title=wording.TITLE)
