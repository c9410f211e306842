"""Who has a port that the core was to have, for the message that says so."""

from __future__ import annotations

from pathlib import Path

import msgspec


def holder_of(port: int, runtime_base: Path) -> str:
    """As far as this account can see; a clause that goes on after "is taken"."""
    for file in runtime_base.glob("*/core.json"):
        try:
            core = msgspec.json.decode(file.read_bytes())
            if any(address.endswith(f":{port}") for address in core["addresses"].values()):
                return f" by the core {core['name']!r} (pid {core['pid']})"
        except (OSError, msgspec.MsgspecError, KeyError, TypeError, AttributeError):
            continue
    import psutil  # only when something is wrong already

    try:
        for connection in psutil.net_connections("tcp"):
            listens = connection.status == psutil.CONN_LISTEN and getattr(connection.laddr, "port", 0) == port
            if listens and connection.pid:
                return f" by {psutil.Process(connection.pid).name()} (pid {connection.pid})"
    except (psutil.Error, OSError):
        pass
    return " by another program"
