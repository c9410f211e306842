"""The Monitor's server: the pages, the answers for machines beside them, and the login."""

from __future__ import annotations

import errno
import os
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import panel as pn

from nblb.errors import NblbError, NotAllowed
from nblb.monitoring import machine_api, wording
from nblb.monitoring.core_link import CoreLink
from nblb.monitoring.known_hosts import refuse_others
from nblb.monitoring.monitor import view
from nblb.monitoring.poller import Poller, Source
from nblb.parameters import Parameters
from nblb.system.private_folder import is_loopback

LOGIN = Path(__file__).with_name("login.html")  # Panel's own template loads files from other computers
MOST_PORTS = 50  # that are tried after the wanted one
MOST_PORT = 65535


def open_server(
    parameters: Parameters,
    *,
    address: str | None = None,
    port: int | None = None,
    prefix: str = "",
    allow_websocket_origin: Sequence[str] = (),
    basic_auth: Mapping[str, str] | str | None = None,
    cookie_secret: str = "",
    connect: Callable[[], Source] | None = None,
    pages: Mapping[str, Callable[[], Any]] | None = None,
) -> tuple[Any, Poller, str]:
    """Return a server that listens but does not run its loop yet, its poller, and the page's address."""
    address = address or parameters.MONITOR_IP
    if not is_loopback(address):
        raise NotAllowed(
            f"MONITOR_IP is {address}: the Monitor has no encrypted login yet, so it serves this computer only. "
            "Use 127.0.0.1, and reach it from elsewhere through JupyterLab's proxy or an SSH tunnel."
        )
    port = parameters.MONITOR_PORT if port is None else port
    port = port or _free_port(address)
    prefix = prefix.strip("/")
    poller = Poller(connect or (lambda: CoreLink(parameters)), log_folder=parameters.state_dir / "logs")

    page = _page_of(poller)
    login = {} if basic_auth is None else {"basic_auth": basic_auth}
    secret = cookie_secret or os.environ.get("PANEL_COOKIE_SECRET") or os.urandom(32).hex()
    host = f"[{address}]" if ":" in address else address
    options: dict[str, Any] = {
        "address": address,
        "title": wording.TITLE,
        "prefix": prefix,
        "extra_patterns": machine_api.patterns(poller, parameters.MONITOR_AUTH, prefix, basic_auth is not None),
        "liveness": True,
        "start": False,
        "show": False,
        "verbose": False,
        "unused_session_lifetime_milliseconds": 15_000,
        **(_login(parameters.MONITOR_AUTH, prefix, login, secret)),
    }
    last = min(port + MOST_PORTS, MOST_PORT)
    while True:
        named = [f"localhost:{port}", *allow_websocket_origin, *([] if ":" in address else [f"{address}:{port}"])]
        try:
            server = pn.io.server.get_server(
                {"/": page, "/monitor": page, **(pages or {})}, port=port, websocket_origin=named, **options
            )
            break
        except OSError as error:
            if error.errno == errno.EADDRINUSE and port < last:
                port += 1  # another program or Monitor has just taken it
                continue
            raise NblbError(
                f"MONITOR_PORT {port} on {address} cannot be used ({error.strerror or error}); "
                "give another one, or 0 for any free one."
            ) from None
    server._tornado.websocket_origins.add(f"{host}:{port}")  # Bokeh takes no address with colons as an option
    refuse_others(server)
    return server, poller, f"http://{host}:{port}/{f'{prefix}/' if prefix else ''}"


def _page_of(poller: Poller) -> Callable[[], Any]:
    """A function that makes a page: Panel calls functions for each browser, and shows a partial as an object."""
    return lambda: view(poller)


def serve(
    parameters: Parameters,
    *,
    ready: Callable[[str], None] | None = None,
    **options: Any,
) -> None:
    """Serve the Monitor until the process gets a signal; calls `ready` with its address once it answers."""
    server, poller, url = open_server(parameters, **options)
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


# ── login ──


class _OneText(dict[str, str]):
    """Panel's table of passwords by user name, with the same password for every name."""

    def __init__(self, text: str) -> None:
        super().__init__(monitor=text)  # not empty: Panel takes an empty table for no login
        self._text = text

    def __contains__(self, _name: object) -> bool:
        return True

    def __getitem__(self, _name: str) -> str:
        return self._text


def _login(text: str, prefix: str, given: dict[str, Any], secret: str) -> dict[str, Any]:
    """Return the options of Panel's server that make the page ask for this password; none for no login."""
    if not text and not given:
        return {}
    return {
        "basic_auth": _OneText(text),
        **given,
        "cookie_secret": secret,  # without one of the caller's, a login is valid for this run of the Monitor
        "login_template": str(LOGIN),
        "root_path": f"/{prefix}/" if prefix else "/",  # the page after a login
    }


def _free_port(address: str) -> int:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family) as probe:
        probe.bind((address, 0))
        return int(probe.getsockname()[1])
