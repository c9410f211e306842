"""The Monitor's server: the pages, and the answers for machines beside them, behind the gate of login/gate.py."""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import panel as pn
from tornado.websocket import WebSocketClosedError

from nblb.errors import NblbError, NotAllowed
from nblb.launch.monitor_links import key_of
from nblb.monitoring import machine_api, wording
from nblb.monitoring.core_link import CoreLink
from nblb.monitoring.login import handlers, hub_login
from nblb.monitoring.login.gate import LoginGate, guard
from nblb.monitoring.login.people import People
from nblb.monitoring.monitor import view
from nblb.monitoring.poller import Poller, Source
from nblb.parameters import Parameters
from nblb.system.private_folder import is_loopback

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
    key: Callable[[], bytes] | None = None,
    connect: Callable[[], Source] | None = None,
    shown: Callable[[], Parameters] | None = None,
    **options: Any,
) -> tuple[Any, Poller, str]:
    """Return a server that listens but does not run its loop yet, its poller, and the page's address.

    `key` returns the key of links and logins, `shown` the parameters of the cluster that the pages show now; further
    options are Bokeh's.
    """
    address = address or parameters.MONITOR_IP
    if not is_loopback(address):
        raise NotAllowed(
            f"MONITOR_IP is {address}: the Monitor has no encrypted login yet, so it serves this computer only. "
            "Use 127.0.0.1, and reach it from elsewhere through JupyterLab's proxy or an SSH tunnel."
        )
    port = parameters.MONITOR_PORT if port is None else port
    port = port or _free_port(address)
    hub = hub_login.is_service()
    prefix = (prefix or (hub_login.service_prefix() if hub else "")).strip("/")
    poller = Poller(connect or (lambda: CoreLink(parameters)), log_folder=parameters.state_dir / "logs")
    password, users = _passwords(parameters.MONITOR_AUTH, basic_auth)
    gate = LoginGate(
        People(shown or (lambda: parameters)), _key(key, cookie_secret), port, password, users,
        prefix=f"/{prefix}/" if prefix else "/", allowed=frozenset(allow_websocket_origin), hub=hub,
    )  # fmt: skip
    server = _listen(address, poller, gate, prefix, options)
    server._tornado.settings["cookie_secret"] = os.urandom(32).hex()  # of JupyterHub's cookies
    guard(server, gate)
    poller.gate = gate
    host = f"[{address}]" if ":" in address else address
    return server, poller, f"http://{host}:{gate.port}{gate.prefix}"


def _listen(address: str, poller: Poller, gate: LoginGate, prefix: str, options: dict[str, Any]) -> Any:
    """Return a server that listens on the gate's port, or on the first free one after it."""
    page = _page_of(poller)
    given: dict[str, Any] = {
        "address": address,
        "title": wording.TITLE,
        "prefix": prefix,
        "extra_patterns": [*_logins(gate), *machine_api.patterns(poller, gate.prefix.rstrip("/"))],
        "liveness": True,
        "start": False,
        "show": False,
        "verbose": False,
        "unused_session_lifetime_milliseconds": 15_000,
        **options,
    }
    last = min(gate.port + MOST_PORTS, MOST_PORT)
    while True:
        try:
            return pn.io.server.get_server({"/": page, "/monitor": page}, port=gate.port, **given)
        except OSError as error:
            if error.errno == errno.EADDRINUSE and gate.port < last:
                gate.port += 1  # another program or Monitor has just taken it
                continue
            raise NblbError(
                f"MONITOR_PORT {gate.port} on {address} cannot be used ({error.strerror or error}); "
                "give another one, or 0 for any free one."
            ) from None


def _logins(gate: LoginGate) -> list[tuple[str, type, dict[str, Any]]]:
    return [*handlers.patterns(gate), *(hub_login.patterns(gate) if gate.hub else ())]


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
    key_of(parameters)  # links are made with it
    for name in ("asyncio", "bokeh.server.views.ws"):
        logging.getLogger(name).addFilter(_is_no_closed_page)
    server, poller, url = open_server(parameters, key=lambda: key_of(parameters), **options)
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


def _is_no_closed_page(record: logging.LogRecord) -> bool:
    """Return False for what Bokeh logs when a page was closed while it was sent something, which is no error."""
    raised = record.exc_info[1] if record.exc_info else None
    return not isinstance(raised, WebSocketClosedError) and "connection was closed" not in record.getMessage()


def _passwords(text: str, given: Mapping[str, str] | str | None) -> tuple[str, Mapping[str, str]]:
    """Return the password for everybody and the passwords by name: of MONITOR_AUTH, or of --basic-auth.

    The latter is a password, or a file with one or with a JSON object of passwords by name, as for `panel serve`.
    """
    if given is None:
        return text, {}
    if isinstance(given, str):
        path = Path(given)
        content = path.read_text(encoding="utf-8").strip() if path.is_file() else given
        if not content.startswith("{"):
            return content, {}
        try:
            given = msgspec.json.decode(content, type=dict[str, str])
        except msgspec.MsgspecError as error:
            raise NblbError(f"--basic-auth: {given} must have a JSON object of passwords by name: {error}") from None
    if not all(given.values()):
        raise NblbError("--basic-auth: each name needs a password")
    return "", given


def _key(key: Callable[[], bytes] | None, secret: str) -> Callable[[], bytes]:
    """Return the function that returns the key: the caller's, one made of --cookie-secret, or one of this run."""
    secret = secret or os.environ.get("PANEL_COOKIE_SECRET", "")
    own = hashlib.sha256(secret.encode()).digest() if secret else os.urandom(32)
    return key if key is not None and not secret else lambda: own


def _free_port(address: str) -> int:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family) as probe:
        probe.bind((address, 0))
        return int(probe.getsockname()[1])
