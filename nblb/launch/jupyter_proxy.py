"""The dashboard as a tile of JupyterLab's launcher, by jupyter-server-proxy, which starts it at the first click.

Jupyter has checked its user, so its proxy adds a token to each request that it passes on; nobody else has that token.
"""

from __future__ import annotations

import os
import sys
import time
from typing import Any

from nblb.access.monitor_token import MonitorToken, signed
from nblb.host import account

KEY = "NBLB_DASHBOARD_KEY"  # the dashboard takes its key from there (nblb/monitoring/dashboard.py)
LIVES_S = 366 * 86400.0


def setup() -> dict[str, Any]:
    """Return the description of the server, as jupyter-server-proxy's entry point.

    Returns
    -------
    dict
        The command, which gets a port and the address in front of it, and the launcher's entry.

    Examples
    --------
    >>> setup()["launcher_entry"]["title"]
    'nblb dashboard'
    """
    key = os.urandom(32)
    token = signed(key, MonitorToken("link", account(), "admin", time.time() + LIVES_S))
    return {
        "environment": {KEY: key.hex()},
        "request_headers_override": {"Authorization": f"Bearer {token}"},
        "command": [sys.executable, "-m", "nblb", "dashboard", "--port", "{port}", "--prefix", "{base_url}nblb"],
        "absolute_url": True,  # the server knows its prefix
        "timeout": 60,
        "launcher_entry": {"title": "nblb dashboard", "category": "Other"},
    }
