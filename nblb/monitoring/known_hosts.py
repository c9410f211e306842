"""Refusal of requests that a browser sends for another site's page.

A site can give its own name this computer's address (DNS rebinding); its page then reads what is served here as if it
were its own. Such a request names that site in its headers `Host` and `Origin`, so the Monitor answers only requests in
which both name this computer, or a host that `--allow-websocket-origin` (or BOKEH_ALLOW_WS_ORIGIN) allows.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any
from urllib.parse import urlsplit

from bokeh.server.util import check_allowlist
from bokeh.settings import settings
from tornado.httputil import HTTPServerRequest
from tornado.web import RequestHandler

from nblb.system.private_folder import is_loopback

PROXY_HEADERS = ("X-ProxyContextPath", "X-Forwarded-Context")  # of jupyter-server-proxy


def is_known(host: str, allowed: Collection[str]) -> bool:
    """Return True if the page of this host, with or without a port, may use the Monitor."""
    try:
        name = urlsplit(f"//{host}").hostname
    except ValueError:
        return False
    return name is not None and (is_loopback(name) or check_allowlist(host.lower(), list(allowed)))


def refuse_others(server: Any) -> None:
    """Make a Bokeh server answer 403 to requests for, or from, pages of unknown hosts."""
    application = server._tornado
    find = application.find_handler

    def find_handler(request: HTTPServerRequest, **options: Any) -> Any:
        allowed = settings.allowed_ws_origin() or application.websocket_origins
        origin = request.headers.get("Origin")
        hosts = [request.host] if origin is None else [request.host, urlsplit(origin).netloc]
        unknown = [host for host in hosts if not is_known(host, allowed)]
        if unknown and not _is_proxied(request):
            return application.get_handler_delegate(request, UnknownHostHandler)
        if request.host.startswith("["):  # Panel takes the host apart at each colon, and fails
            request.host = f"localhost{request.host.rpartition(']')[2]}"
        return find(request, **options)

    application.find_handler = find_handler


def _is_proxied(request: HTTPServerRequest) -> bool:
    """Return True for a request of a page by jupyter-server-proxy, which has checked its user.

    A script of another site could send the header, too, but no script can open a WebSocket with it: it gets an empty
    page. The answers for programs need no WebSocket, so they are not served this way.
    """
    parts = request.path.split("/")
    return any(header in request.headers for header in PROXY_HEADERS) and not {"api", "metrics"} & set(parts)


class UnknownHostHandler(RequestHandler):
    """The answer to a request that names an unknown host."""

    def prepare(self) -> None:
        self.set_status(403)
        self.set_header("Content-Type", "text/plain; charset=UTF-8")
        self.finish(
            "The Monitor serves this computer only. If it is reached through a proxy of another name, start it with "
            "'nblb monitor --allow-websocket-origin HOST[:PORT]'.\n"
        )
