"""The ZAP handler (ZeroMQ RFC 27): lets connections in, or refuses them, by their public keys.

It is a socket in its owner's loop, so there is no thread that could die by itself and leave everybody refused.
"""

from __future__ import annotations

from collections.abc import Callable

import zmq

from nblb.transport.curve.keys import as_text

ENDPOINT = "inproc://zeromq.zap.01"
TURN_REQUESTS = 200  # answered in one turn, so that a flood of handshakes cannot delay the loop
ACCEPTED, REFUSED = b"200", b"400"


class ZapHandler:
    """Answers one context's handshakes; it must be bound before the doors are.

    `admits(key, ip)` decides. The key is the User-Id of each message of a connection that was let in.
    """

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], admits: Callable[[str, str], bool]) -> None:
        self.refused = 0
        self._admits = admits
        self.socket = context.socket(zmq.ROUTER)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.bind(ENDPOINT)

    def fileno(self) -> int:
        """Return ZeroMQ's edge-triggered descriptor: when it fires, call `answer` until it returns False."""
        return int(self.socket.getsockopt(zmq.FD))

    def answer(self) -> bool:
        """Answer the requests that have arrived; return True if more may be waiting."""
        for _ in range(TURN_REQUESTS):
            try:
                parts = self.socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return False
            self._answer(parts)
        return True

    def _answer(self, parts: list[bytes]) -> None:
        start = parts.index(b"") + 1 if b"" in parts else len(parts)
        if len(parts) < start + 6:
            return
        version, request, _domain, ip, _identity, mechanism, *credentials = parts[start:]
        key = as_text(credentials[0]) if mechanism == b"CURVE" and credentials and len(credentials[0]) == 32 else ""
        if key and self._admits(key, ip.decode("ascii", "replace")):
            reply = [version, request, ACCEPTED, b"OK", key.encode(), b""]
        else:
            self.refused += 1
            reply = [version, request, REFUSED, b"the core does not know this key", b"", b""]
        self.socket.send_multipart([*parts[:start], *reply])

    def close(self) -> None:
        """Close the socket; handshakes are refused from then on."""
        self.socket.close(0)
