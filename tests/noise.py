"""Bytes that begin no protocol of nblb, sent to a socket."""

from __future__ import annotations

import socket

from nblb.transport.local_line import SCHEME as LOCAL


def throw_bytes(address: str, noise: bytes) -> None:
    """Bytes that are not even ZeroMQ's."""
    if address.startswith(("ipc://", LOCAL)):
        line = socket.socket(socket.AF_UNIX)
        line.connect(address.removeprefix("ipc://").removeprefix(LOCAL))
    else:
        host, _, port = address.removeprefix("tcp://").rpartition(":")
        line = socket.create_connection((host, int(port)))
    with line:
        line.settimeout(5)
        try:
            line.sendall(noise)
        except OSError:
            pass  # it hung up, as it may
