"""Watches the connections that ZeroMQ accepts over TCP, and cuts those that would take one of the last descriptors.

ZeroMQ has no limit of connections: it accepts until none is left, when the core can open no file for its journal, and a
thread of ZeroMQ tries again without a pause. It reports each connection that it has accepted, with its descriptor. The
party of one that is cut connects again, in growing intervals, until there is room.
"""

from __future__ import annotations

import socket
from time import monotonic

import zmq

from nblb.transport.descriptors import is_spare

FULL_S = 5.0  # for this long after a cut the door counts as full
ACCEPTED = 2 + 4  # bytes of an event: its kind, and the descriptor


class TcpWatch:
    """The events of one ROUTER that listens on TCP; made before it is bound, closed before it is."""

    def __init__(self, watched: zmq.Socket[bytes]) -> None:
        self._watched = watched
        self._events = watched.get_monitor_socket(zmq.EVENT_ACCEPTED)  # not ACCEPT_FAILED, of which there is no end
        self._full_until = 0.0
        self.cut = 0  # connections

    @property
    def is_full(self) -> bool:
        """True while connections are cut because too few descriptors are left."""
        return monotonic() < self._full_until

    def fileno(self) -> int:
        """Return ZeroMQ's edge-triggered descriptor: when it fires, call `look`."""
        return int(self._events.getsockopt(zmq.FD))

    def look(self) -> None:
        """Cut each connection that was accepted with one of the last descriptors."""
        while True:
            try:
                event = self._events.recv_multipart(zmq.NOBLOCK)[0]
            except zmq.Again:
                return
            if len(event) == ACCEPTED and is_spare(fd := int.from_bytes(event[2:], "little")):
                self._cut(fd)

    def _cut(self, fd: int) -> None:
        """End a connection; ZeroMQ, whose descriptor it is, then closes it."""
        self._full_until = monotonic() + FULL_S
        try:
            connection = socket.socket(fileno=fd)
        except OSError:  # closed by now, or the descriptor is something else
            return
        try:
            endpoint = self._watched.getsockopt_string(zmq.LAST_ENDPOINT)
            if str(connection.getsockname()[1]) == endpoint.rpartition(":")[2]:
                connection.shutdown(socket.SHUT_RDWR)
                self.cut += 1
        except (OSError, IndexError):
            pass  # it has ended by itself, or is a Unix socket
        finally:
            connection.detach()

    def close(self) -> None:
        """Stop watching."""
        self._watched.disable_monitor()
        self._events.close(0)
