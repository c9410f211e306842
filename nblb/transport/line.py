"""A party's side of its ZeroMQ connection to the core: one DEALER socket."""

from __future__ import annotations

import logging
import os
import sys
from collections import deque
from collections.abc import Sequence
from typing import Any

import zmq

from nblb.errors import NblbError, ProtocolError
from nblb.protocol.framing import Buffer, Codec, Find, Refer
from nblb.protocol.messages import Message
from nblb.transport.sockets import (
    TURN_MESSAGES,
    batches,
    bound,
    frames_nbytes,
    notice_silence,
    read_frames,
    write_frames,
)

log = logging.getLogger("nblb")


class Line:
    """A client's or a hub's connection to the core, which reconnects for ever.

    It belongs to one thread. `connected` and `connections` (the number of connections so far) change in `receive`,
    which returns early then. After a new connection the core may be another one, so send Hello again (but first
    handle the messages that this `receive` returned, which the core before may have sent).
    """

    EVENTS = zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED

    def __init__(self, address: str, speaks: Codec, hears: Codec, max_message_mb: int = 1024) -> None:
        self.address = address
        self.connected = False
        self.connections = 0
        self.garbage = 0
        self.ready: list[int] = []  # the extra descriptors that `receive` found readable
        self._unsent_bytes = 0
        self.longest_silence_s = 0.0  # not used: TCP itself notices a dead peer (sockets.notice_silence)
        self._speaks, self._reader = speaks, hears.reader()
        self._refer: Refer | None = None
        self._outbox: deque[tuple[list[Buffer], int]] = deque()
        self._max_message_mb = max_message_mb
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._poller = zmq.Poller()
        self._fds: tuple[int, ...] = ()
        self._dial(address)

    def _dial(self, address: str) -> None:
        """Make the socket, and connect it."""
        self.socket = self._context.socket(zmq.DEALER)
        bound(self.socket, self._max_message_mb)
        # random, never reused: the core can tell connections apart, and no party can take another's place
        self.socket.setsockopt(zmq.ROUTING_ID, b"L" + os.urandom(15))
        self.socket.setsockopt(zmq.RECONNECT_IVL, 20)
        self.socket.setsockopt(zmq.RECONNECT_IVL_MAX, 1_000)
        self._events = self.socket.get_monitor_socket(self.EVENTS)
        self._poller.register(self.socket, zmq.POLLIN)
        self._poller.register(self._events, zmq.POLLIN)
        self._wants = zmq.POLLIN
        self.socket.setsockopt(zmq.IPV6, "[" in address)
        if address.startswith("tcp:"):
            notice_silence(self.socket)
        self._secure()
        try:
            self.socket.connect(address)
        except zmq.ZMQError as error:
            self.close()
            raise NblbError(f"{address!r} is not an address that can be dialled: {error.strerror}.") from None

    def _secure(self) -> None:
        """Set the keys of the socket; none here."""

    def fileno(self) -> int:
        """Return ZeroMQ's descriptor. It is edge-triggered: when it fires, call `receive(0)` until nothing is left."""
        return int(self.socket.getsockopt(zmq.FD))

    def receive(self, timeout_s: float | None = None, fds: Sequence[int] = ()) -> list[Any]:
        """Return arrived messages, or wait up to `timeout_s` for some, or until one of `fds` is readable."""
        if tuple(fds) != self._fds:
            self._watch(tuple(fds))
        if self._outbox:
            self._flush()
        ready = dict(self._poller.poll(None if timeout_s is None else int(max(0.0, timeout_s) * 1000 + 0.999)))
        self.ready = [fd for fd in self._fds if fd in ready]
        if self._events in ready:
            self._note_events()
        if self._outbox:
            self._flush()
        messages: list[Any] = []
        if self.socket in ready:
            try:
                for _ in range(TURN_MESSAGES):
                    self._read(messages)
            except zmq.Again:
                pass
        return messages

    def _read(self, messages: list[Any]) -> None:
        frames = read_frames(self.socket, small=3)
        try:
            messages += self._reader.decode(frames)
        except ProtocolError:
            self.garbage += 1

    def _watch(self, fds: tuple[int, ...]) -> None:
        for fd in self._fds:
            self._poller.unregister(fd)
        for fd in fds:
            self._poller.register(fd, zmq.POLLIN)
        self._fds = fds

    def _note_events(self) -> None:
        while int(self._events.getsockopt(zmq.EVENTS)) & zmq.POLLIN:
            # pyzmq's recv_monitor_message without its module, which imports asyncio: start-up takes a third less time.
            frame = self._events.recv_multipart()[0]
            self._note_event(
                int.from_bytes(frame[:2], sys.byteorder), int.from_bytes(frame[2:6], sys.byteorder, signed=False)
            )

    def _note_event(self, event: int, _value: int) -> None:
        self.connected = event == zmq.EVENT_HANDSHAKE_SUCCEEDED
        self.connections += self.connected

    @property
    def unsent_bytes(self) -> int:
        """The bytes that have not left."""
        return self._unsent_bytes

    @property
    def peer_pid(self) -> int:
        """0: what is behind a TCP connection is unknown."""
        return 0

    def share(self, find: Find | None, refer: Refer | None) -> None:
        """Allow messages to name files, or stop it with None: `find` opens named files, `refer` tests own parts."""
        self._reader.find, self._refer = find, refer

    def send(self, messages: Sequence[Message]) -> None:
        """Send the messages, now or as soon as the core takes them; never blocks."""
        for batch in batches(messages):
            for frames in self._encode(batch):
                size = frames_nbytes(frames)
                self._outbox.append((frames, size))
                self._unsent_bytes += size
        self._flush()

    def send_ahead(self, message: Message) -> None:
        """Send the message before all others that have not begun to leave."""
        for frames in self._encode([message]):
            size = frames_nbytes(frames)
            self._outbox.appendleft((frames, size))
            self._unsent_bytes += size
        self._flush()

    def _encode(self, batch: Sequence[Message]) -> list[list[Buffer]]:
        """Return the batch as one multipart message, without messages whose file is missing."""
        try:
            return [self._speaks.encode(batch, self._refer)]
        except OSError as error:
            if len(batch) == 1:
                log.error("%s cannot be sent: %s", type(batch[0]).__name__, error)
                return []
            return [frames for message in batch for frames in self._encode([message])]

    def _flush(self) -> None:
        try:
            while self._outbox:
                write_frames(self.socket, self._outbox[0][0])
                self._unsent_bytes -= self._outbox.popleft()[1]
            wants = zmq.POLLIN
        except zmq.Again:
            wants = zmq.POLLIN | zmq.POLLOUT
        if wants != self._wants:
            self._poller.modify(self.socket, wants)
            self._wants = wants

    def close(self) -> None:
        """Disconnect, after at most FLUSH_S for the last messages to leave."""
        if not self.socket.closed:
            self._flush()
            self._close_socket(None)
            self._context.term()

    def _close_socket(self, linger: int | None) -> None:
        self.socket.disable_monitor()
        self._events.close(0)
        self.socket.close(linger)
