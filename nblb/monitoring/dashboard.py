"""The dashboard: the control panel and the Monitor's pages in one server, which lives with or without a core."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nblb.errors import ParametersError
from nblb.launch.jupyter_proxy import KEY
from nblb.launch.monitor_links import owners_token, with_token
from nblb.monitoring.core_link import CoreLink
from nblb.monitoring.server import open_server
from nblb.parameters import Parameters, load

LOOK_S = 0.5


@dataclass
class DashboardState:
    """What a dashboard's pages share: the file in the form, and the parameters of the cluster that they show."""

    path: Path
    parameters: Parameters


def serve_dashboard(
    path: str | None,
    ready: Callable[[str], None],
    *,
    end_with: int = 0,
    **options: Any,
) -> None:
    """Serve the dashboard until a signal comes, or the process `end_with` has ended; calls `ready` with its address."""
    file = Path(path or "parameters.json").expanduser().absolute()
    try:
        parameters = load(file if file.exists() else None)
    except ParametersError:
        parameters = load(None)  # the form says what is wrong
    state = DashboardState(file, parameters)
    if options.get("port") is None:
        options["port"] = 0
    key = bytes.fromhex(os.environ.pop(KEY, "")) or os.urandom(32)
    server, poller, url = open_server(
        parameters,
        connect=lambda: CoreLink(state.parameters),
        key=lambda: key,
        shown=lambda: state.parameters,
        **options,
    )
    poller.dashboard = state
    server.start()
    server.io_loop.add_callback(ready, with_token(url, owners_token(key, parameters)))
    if end_with:
        threading.Thread(target=_end_with, args=(end_with,), name="nblb-dashboard-watch", daemon=True).start()
    try:
        server.run_until_shutdown()
    finally:
        poller.stop()


def _end_with(parent: int) -> None:
    """End this process when the one that has started it has ended."""
    pause = threading.Event()
    while os.getppid() == parent:
        pause.wait(LOOK_S)
    sys.stdout.flush()
    os._exit(0)
