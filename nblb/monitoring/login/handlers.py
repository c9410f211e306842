"""The answers of the Monitor's gate: a link's first visit, the login page, and the refusal of programs without one."""

from __future__ import annotations

import asyncio
import html
import json
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from tornado.web import RequestHandler

from nblb.access.monitor_token import opened
from nblb.errors import NotAllowed
from nblb.monitoring.access import Viewer

if TYPE_CHECKING:
    from nblb.monitoring.login.gate import LoginGate

PAGE = Path(__file__).with_name("login.html").read_text(encoding="utf-8")
FAILED_S = 0.3  # a wrong password is answered this much later
HOW = (
    "This Monitor belongs to the account {owner}. Open the link that 'nblb status', %lb_monitor or the cluster's card "
    "shows, or ask {owner} for one ('nblb monitor link NAME')."
)


class GateHandler(RequestHandler):
    """The base of the gate's handlers."""

    def initialize(self, gate: LoginGate, token: str = "", viewer: Viewer | None = None) -> None:
        self.gate, self.token, self.viewer = gate, token, viewer

    def check_xsrf_cookie(self) -> None:
        """The gate has checked the request's origin."""

    def set_default_headers(self) -> None:
        self.set_header("Cache-Control", "no-store")

    def enter(self, viewer: Viewer, login_s: float, place: str, query: str) -> None:
        """Give the browser its cookie, and send it to a page."""
        value = self.gate.login_cookie(viewer, login_s)
        options: dict[str, Any] = {"httponly": True, "samesite": "Lax", "path": self.gate.cookie_path(self.request)}
        if self.request.protocol == "https":
            options["secure"] = True
        self.set_cookie(self.gate.cookie, value, expires_days=login_s / 86400.0 if login_s else None, **options)
        self.leave(place, query)

    def leave(self, place: str, query: str) -> None:
        """Send the browser to a page by an address that is right behind every proxy."""
        where = place if place in self.gate.pages else ""
        self.redirect(f"{where or './'}{f'?{query}' if query else ''}")

    def ask(self, trouble: str = "", next_: str = "") -> None:
        """Answer with the login page."""
        owner = self.gate.people.owner().name
        password = bool(self.gate.password or self.gate.users)
        what = "The text that MONITOR_AUTH asks for" if self.gate.password else "Password"
        words = {
            "next": next_,
            "trouble": trouble,
            "label": what if password else "A link, or its token",
            "how": "" if password else HOW.format(owner=owner),
            "name": '<label for="username">Name</label><input id="username" name="username" '
            'autocomplete="username" autofocus required>' if self.gate.users else "",
        }  # fmt: skip
        filled = {key: text if key == "name" else html.escape(text) for key, text in words.items()}
        self.set_header("Content-Type", "text/html; charset=utf-8")
        self.finish(re.sub(r"\{\{ (\w+) \}\}", lambda found: filled[found[1]], PAGE))


class LinkHandler(GateHandler):
    """The first visit by a link: the token goes into a cookie, and out of the address."""

    def get(self) -> None:
        """Redirect to the page without its token."""
        place = self.request.path.removeprefix(self.gate.prefix)
        try:
            token = opened(self.gate.key(), "link", self.token, time.time())
            viewer = self.gate.viewer_of(token)
            if self.gate.people.is_revoked(viewer.name):
                raise NotAllowed(f"The key of {viewer.name} was revoked or has expired, and its links with it.")
        except NotAllowed as error:
            if self.viewer is not None:  # an old link of somebody who may see the page anyway
                self.leave(place, self.request.query)
            else:
                self.ask(str(error), f"{place}?{self.request.query}")
            return
        self.enter(viewer, token.login_s, place, self.request.query)


class LoginHandler(GateHandler):
    """The login page, by itself or in the place of a page that needs it."""

    def get(self) -> None:
        """Show the form; for a page, redirect to it."""
        place = self.request.path.removeprefix(self.gate.prefix)
        if place == "login":
            self.ask(next_=self.get_query_argument("next", ""))
            return
        next_ = f"{place}?{self.request.query}" if self.request.query else place
        if any(header in self.request.headers for header in ("X-ProxyContextPath", "X-Forwarded-Context")):
            self.ask(next_=next_)
            return
        where = "hub-login" if self.gate.hub else "login"
        self.redirect(f"{where}{f'?next={quote(next_)}' if next_ else ''}")

    head = get

    async def post(self) -> None:
        """Take a password, or a link that somebody has pasted."""
        name, given = self.get_body_argument("username", ""), self.get_body_argument("password", "", strip=False)
        next_ = self.get_body_argument("next", "")
        viewer = self.gate.of_password(name, given)
        if viewer is None:
            viewer = self.gate.of_token("link", given.strip().rpartition("token=")[2])
        if viewer is None or self.gate.people.is_revoked(viewer.name):
            await asyncio.sleep(FAILED_S)
            what = "the text of MONITOR_AUTH" if self.gate.password else "right"
            self.ask(f"That is not {what}.", next_)
            return
        place, _, query = next_.partition("?")
        self.enter(viewer, 0.0, place, query)


class LogoutHandler(GateHandler):
    """Ends a browser's login."""

    def get(self) -> None:
        """Remove the cookie."""
        self.clear_cookie(self.gate.cookie, path=self.gate.cookie_path(self.request))
        self.redirect("login")


class NoLoginHandler(GateHandler):
    """The answer to a program, a WebSocket or a script without a login."""

    def prepare(self) -> None:
        """Answer 401, and how to get in."""
        self.set_status(401)
        password = bool(self.gate.password or self.gate.users)
        if password and self.request.headers.get("Upgrade", "").lower() != "websocket":
            self.set_header("WWW-Authenticate", 'Basic realm="nblb Monitor", charset="UTF-8"')
        self.set_header("Content-Type", "application/json; charset=utf-8")
        how = (
            "MONITOR_AUTH is set: send it as a Bearer token or as the password of Basic."
            if self.gate.password
            else "a login is needed: send the token of a link ('nblb monitor link NAME') as a Bearer token."
        )
        self.finish(json.dumps({"error": how}))


def patterns(gate: LoginGate) -> list[tuple[str, type, dict[str, Any]]]:
    """Return the routes of the login, which the server puts its prefix in front of."""
    return [("/login", LoginHandler, {"gate": gate}), ("/logout", LogoutHandler, {"gate": gate})]
