"""The gate in front of everything that the Monitor's server answers: who asks, and whether the page may ask.

    request ──► Host and Origin ──► cookie, token or password ──► the viewer, for pages, WebSockets and answers alike
                                    or this very account at the other end of a connection over loopback

A site can give its own name this computer's address (DNS rebinding); its page then reads what is served here as if it
were its own. Such a request names that site in its headers, has no cookie of the Monitor, and is refused.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlencode

from bokeh.settings import settings
from tornado.httputil import HTTPServerRequest
from tornado.web import OutputTransform

from nblb.access.monitor_token import MonitorToken, opened, signed
from nblb.errors import NotAllowed
from nblb.launch.monitor_links import OWNERS_LOGIN_S
from nblb.monitoring.access import Viewer
from nblb.monitoring.known_hosts import PROXY_HEADERS, UnknownHostHandler, is_known, is_origin, is_proxied
from nblb.monitoring.login import handlers
from nblb.monitoring.login.peer_account import is_own_account
from nblb.monitoring.login.people import People

VIEWER_HEADER = "X-Nblb-Viewer"  # from the gate to the page's code; what a browser sends under this name is dropped
PAGE_S = 600.0  # a page's code runs this long after its request, at most
FORWARDED = ("Forwarded", "X-Forwarded-For", "X-Real-Ip", "Via")  # the headers of proxies that anybody may use
PUBLIC = ("health", "ready", "liveness", "login", "logout", "hub-login", "oauth_callback", "favicon.ico")
#: Sites that may show the Monitor in a frame: notebooks of this computer, and of the host that it is reached by.
ANCESTORS = "frame-ancestors 'self' http://localhost:* http://127.0.0.1:* vscode-webview:"


@dataclass
class LoginGate:
    """The logins of one server.

    Parameters
    ----------
    people
        The names and roles.
    key
        Returns the key with which links and logins are signed.
    port
        The server's; part of the cookie's name, since browsers send cookies to all ports of a host.
    password
        MONITOR_AUTH.
    users
        Passwords by name, instead.
    prefix
        The path in front of all pages, with slashes around it.
    allowed
        Hosts beyond this computer under which the Monitor answers.
    """

    people: People
    key: Callable[[], bytes]
    port: int
    password: str = ""
    users: Mapping[str, str] = field(default_factory=dict)
    prefix: str = "/"
    allowed: frozenset[str] = frozenset()
    pages: tuple[str, ...] = ("", "monitor")
    hub: bool = False  # JupyterHub tells who somebody is (hub_login.py)

    def __post_init__(self) -> None:
        self.page_key = os.urandom(32)

    @property
    def cookie(self) -> str:
        """The name of the cookie with the login."""
        return f"nblb-monitor-{self.port}"

    @property
    def asks(self) -> bool:
        """True if a login is needed from the Monitor's own account, too."""
        return bool(self.password or self.users or self.hub)

    # ── who ──

    def viewer(self, request: HTTPServerRequest) -> Viewer | None:
        """Return who has sent a request with a secret: a cookie, a token or a password."""
        found = self._authorized(request.headers.get("Authorization", ""))
        morsel = request.cookies.get(self.cookie)
        if found is None and morsel is not None:
            found = self.of_token("login", morsel.value)
        return None if found is None or self.people.is_revoked(found.name) else found

    def of_token(self, kind: Any, text: str) -> Viewer | None:
        """Return the viewer of a token; None if it is not valid."""
        try:
            return self.viewer_of(opened(self.key(), kind, text, time.time()))
        except NotAllowed:
            return None

    def viewer_of(self, token: MonitorToken) -> Viewer:
        """Return the viewer that a valid token stands for."""
        owner = self.people.owner()
        is_owner = (token.name, token.role) == (owner.name, owner.role)
        return Viewer(token.name, token.role, is_owner, token.until)

    def of_password(self, name: str, given: str) -> Viewer | None:
        """Return the viewer of a password, with a name where each has its own; None if it is wrong."""
        if self.users:
            wanted = self.users.get(name)
            is_right = hmac.compare_digest((wanted or "").encode(), given.encode("utf-8", "replace"))
            return self.people.named(name) if is_right and wanted else None
        if self.password and hmac.compare_digest(self.password.encode(), given.encode("utf-8", "replace")):
            return self.people.owner()
        return None

    def _authorized(self, header: str) -> Viewer | None:
        """Return the viewer of an Authorization header: Bearer with a token or MONITOR_AUTH, or Basic."""
        kind, _, given = header.partition(" ")
        if kind.lower() == "bearer":
            return self.of_token("link", given) or (None if self.users else self.of_password("", given))
        if kind.lower() != "basic":
            return None
        try:
            name, _, text = base64.b64decode(given, validate=True).decode().partition(":")
        except (binascii.Error, ValueError):
            return None
        return self.of_password(name, text)

    def of_account(self, request: HTTPServerRequest) -> Viewer | None:
        """Return the owner, if a process of this very account has sent the request, and not for somebody else."""
        if self.asks or (any(name in request.headers for name in FORWARDED) and not is_proxied(request)):
            return None
        context = getattr(request.connection, "context", None)
        known = getattr(context, "nblb_own_account", None)
        if known is None:
            known = is_own_request(request)
            if context is not None:
                context.nblb_own_account = known
        return self.people.owner() if known else None

    # ── cookies ──

    def login_cookie(self, viewer: Viewer, login_s: float) -> str:
        """Return the value of the cookie that keeps somebody logged in."""
        until = time.time() + (login_s or OWNERS_LOGIN_S)
        role: Any = viewer.role
        return signed(self.key(), MonitorToken("login", viewer.name, role, until))

    def cookie_path(self, request: HTTPServerRequest) -> str:
        """Return the path for which a browser sends the cookie: that of this Monitor behind a proxy of several."""
        for header in PROXY_HEADERS:
            path = str(request.headers.get(header, ""))
            if path.startswith("/") and path.isprintable() and not set(path) & set(';,\\ "'):
                return path
        return self.prefix

    # ── the pages' side ──

    def stamp(self, request: HTTPServerRequest, viewer: Viewer) -> None:
        """Tell the page's code who has opened it."""
        role: Any = viewer.role
        token = MonitorToken("page", viewer.name, role, time.time() + PAGE_S, min(viewer.until, 1e12))
        request.headers[VIEWER_HEADER] = signed(self.page_key, token)

    def stamped(self, headers: Mapping[str, Any]) -> Viewer | None:
        """Return the viewer that the gate has told a page's code; None for a page that did not pass here."""
        text = next((value for name, value in headers.items() if name.lower() == VIEWER_HEADER.lower()), "")
        try:
            token = opened(self.page_key, "page", str(text), time.time())
        except NotAllowed:
            return None
        found = self.viewer_of(token)
        return Viewer(found.name, found.role, found.is_owner, token.login_s)


def guard(server: Any, gate: LoginGate) -> None:
    """Put the gate in front of a Bokeh server."""
    application = server._tornado
    find = application.find_handler
    application.websocket_origins.add("*")  # the gate has looked at the origin already
    application.transforms = [*application.transforms, Framing]

    def find_handler(request: HTTPServerRequest, **options: Any) -> Any:
        def answer(handler: Any, **given: Any) -> Any:
            return application.get_handler_delegate(request, handler, {"gate": gate, **given})

        request.headers.pop(VIEWER_HEADER, None)
        token = _take_token(request)
        viewer = gate.viewer(request)
        is_own_site = _is_same_site(request) if gate.hub else _is_own_site(request, gate)
        if not is_own_site and not (viewer is not None and _is_same_site(request)) and not is_proxied(request):
            return application.get_handler_delegate(request, UnknownHostHandler)
        if viewer is None and is_own_site:
            viewer = gate.of_account(request)
        if request.host.startswith("["):  # Panel takes the host apart at each colon, and fails
            request.host = f"localhost{request.host.rpartition(']')[2]}"
        place = request.path.removeprefix(gate.prefix)
        is_page = place in gate.pages and request.method in ("GET", "HEAD")
        if token and is_page:
            return answer(handlers.LinkHandler, token=token, viewer=viewer)
        if viewer is not None:
            request.nblb_viewer = viewer
            gate.stamp(request, viewer)
        elif place.partition("/")[0] not in PUBLIC:
            return answer(handlers.LoginHandler if is_page else handlers.NoLoginHandler)
        return find(request, **options)

    application.find_handler = find_handler


def _take_token(request: HTTPServerRequest) -> str:
    """Return the token of the address, and take it out of the request, so that no page or log shows it."""
    if "token" not in request.arguments:
        return ""
    tokens = [value.decode("utf-8", "replace") for value in request.arguments.pop("token")]
    request.query_arguments.pop("token", None)
    left = [(name, value) for name, value in parse_qsl(request.query, keep_blank_values=True) if name != "token"]
    request.query = urlencode(left)
    request.uri = f"{request.path}?{request.query}" if left else request.path
    return str(tokens[-1])


def _is_own_site(request: HTTPServerRequest, gate: LoginGate) -> bool:
    """Return True if the host is this computer or allowed, and the sender's page, if it is named, is of it."""
    allowed = frozenset(settings.allowed_ws_origin() or gate.allowed)
    origin = request.headers.get("Origin")
    if not is_known(request.host, allowed):
        return False
    own = {f"localhost:{gate.port}", f"127.0.0.1:{gate.port}", f"[::1]:{gate.port}"}
    return origin is None or is_origin(origin, request.host, own | allowed)


def _is_same_site(request: HTTPServerRequest) -> bool:
    """Return True for a request of the site itself, whatever name a proxy has for this computer."""
    origin = request.headers.get("Origin")
    return origin is None or is_origin(origin, request.host, ())


def is_own_request(request: Any) -> bool:
    """Return True if a process of this very account has sent the request, over loopback."""
    stream = getattr(getattr(request, "connection", None), "stream", None)
    connection = getattr(stream, "socket", None)
    try:
        return connection is not None and is_own_account(connection.getsockname()[:2], connection.getpeername()[:2])
    except (OSError, ValueError):
        return False


class Framing(OutputTransform):
    """Adds to each answer which sites may show it in a frame, and that no address leaves with a link."""

    def transform_first_chunk(self, status_code: int, headers: Any, chunk: bytes, finishing: bool) -> Any:  # noqa: ARG002
        """Add the headers."""
        headers["Content-Security-Policy"] = ANCESTORS
        headers["Referrer-Policy"] = "same-origin"
        headers["X-Content-Type-Options"] = "nosniff"
        return status_code, headers, chunk
