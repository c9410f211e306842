"""The dashboard as a tile of JupyterLab's launcher, by jupyter-server-proxy, which starts it at the first click."""

from __future__ import annotations

import sys
from typing import Any


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
    return {
        "command": [sys.executable, "-m", "nblb", "dashboard", "--port", "{port}", "--prefix", "{base_url}nblb"],
        "absolute_url": True,  # the server knows its prefix
        "timeout": 60,
        "launcher_entry": {"title": "nblb dashboard", "category": "Other"},
    }
