"""A party's connection to a core on another computer: a Line with keys, which tells in words why it was refused."""

from __future__ import annotations

from collections.abc import Sequence
from time import monotonic
from typing import Any

import zmq

from nblb.access.connection_file import ConnectionFile, split
from nblb.protocol.framing import Codec
from nblb.protocol.messages import Refused, Welcome
from nblb.transport.curve.keys import KeyPair, identify
from nblb.transport.line import Line

AGAIN_S = 2.0  # until a refused key is tried again: ZeroMQ itself would never do so
MANY = 3  # failed handshakes in a row, after which the server's key is known to be another

FAILURES = zmq.EVENT_HANDSHAKE_FAILED_AUTH | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL


class CurveLine(Line):
    """A Line to the core that a connection file names.

    A refusal at the handshake, which is a number in ZeroMQ, comes out of `receive` as the message Refused with a
    sentence, as if the core had sent it; then the line goes on dialling with new sockets.
    """

    EVENTS = Line.EVENTS | FAILURES

    def __init__(
        self, found: ConnectionFile, speaks: Codec, hears: Codec, max_message_mb: int = 1024, door: str = ""
    ) -> None:
        self.connection_file = found
        self._plain, _ = split(found.address(door))
        self._failures = 0
        self._dial_again_at: float | None = None
        self._refused: Refused | None = None  # to be received next
        self._told = ""
        self._is_let_in = not found.refused
        super().__init__(self._plain, speaks, hears, max_message_mb)
        self.address = found.address(door)

    def _secure(self) -> None:
        found = self.connection_file
        identify(self.socket, KeyPair(found.public_key, found.secret_key), found.server_key)

    def receive(self, timeout_s: float | None = None, fds: Sequence[int] = ()) -> list[Any]:
        """Return arrived messages, or Refused with the reason of a failed handshake."""
        if self._dial_again_at is not None:
            left_s = self._dial_again_at - monotonic()
            if left_s <= 0.0:
                self._dial_again()
            else:
                timeout_s = left_s if timeout_s is None else min(timeout_s, left_s)
        messages = super().receive(timeout_s, fds)
        if self._refused is not None:
            messages.append(self._refused)
            self._refused = None
        for message in messages:
            if type(message) is Refused and message.kind == "NotAllowed":
                self.connection_file.note_refusal(message.reason)
                self._is_let_in = False
            elif type(message) is Welcome and not self._is_let_in:
                self.connection_file.note_refusal("")
                self._is_let_in = True
        return messages

    def _note_event(self, event: int, value: int) -> None:
        super()._note_event(event, value)
        if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
            self._failures, self._told = 0, ""
        elif event == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
            self._refuse(
                f"the core at {self._plain} does not know the key of {self.connection_file.path}: it was never "
                "enrolled there, or the core has new keys; ask the cluster's owner for a new invitation"
            )
        elif event == zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL:
            self._refuse(
                f"what listens at {self._plain} is no core with keys; ask the cluster's owner for a new invitation"
            )
        elif event == zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL:  # it dials again by itself
            self._failures += 1
            if self._failures >= MANY:
                self._say(
                    f"the core at {self._plain} has another key than {self.connection_file.path} says: it is another "
                    "core, or its keys were made anew; ask the cluster's owner for a new invitation"
                )

    def _refuse(self, reason: str) -> None:
        """Report the refusal, and let a new socket try again later: this one never dials again."""
        self._dial_again_at = monotonic() + AGAIN_S
        self._say(reason)

    def _say(self, reason: str) -> None:
        if reason != self._told:
            self._told, self._refused = reason, Refused(reason=reason)

    def _dial_again(self) -> None:
        self._dial_again_at = None
        for socket in (self.socket, self._events):
            self._poller.unregister(socket)
        self._close_socket(0)
        self.connected = False
        self._dial(self._plain)
