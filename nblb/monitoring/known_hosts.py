"""The hosts under which the Monitor answers, whoever asks.

A browser's request names the site of its page in its headers `Host` and `Origin`. Without a login, both must name this
computer, or a host that `--allow-websocket-origin` (or BOKEH_ALLOW_WS_ORIGIN) allows (see login/gate.py).
"""

from __future__ import annotations

from collections.abc import Collection
from urllib.parse import urlsplit

from bokeh.server.util import check_allowlist
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


def is_origin(origin: str, host: str, allowed: Collection[str]) -> bool:
    """Return True if a page of this `Origin` may ask at this `Host`: the site itself, or a host that is allowed.

    Another port of this computer is another site: any account can serve a page there.
    """
    try:
        netloc = urlsplit(origin).netloc.lower()
    except ValueError:
        return False
    return bool(netloc) and (netloc == host.lower() or check_allowlist(netloc, list(allowed)))


def is_proxied(request: HTTPServerRequest) -> bool:
    """Return True for a request of a page by jupyter-server-proxy, which has checked its user.

    A script of another site could send the header, too, so at an unknown host this request gets the login page only.
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
