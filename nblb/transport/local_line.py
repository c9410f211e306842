"""A party's side of its connection to a core on the same computer: one Unix stream socket (see packets.py)."""

from __future__ import annotations

import contextlib
import select
import socket
import struct
from collections import deque
from collections.abc import Sequence
from contextlib import AbstractContextManager
from time import monotonic
from typing import Any

from nblb.errors import ProtocolError
from nblb.protocol.framing import Buffer, Codec, Find, Refer
from nblb.protocol.messages import Message
from nblb.transport.packets import Inflow, Outflow, greeting, widen
from nblb.transport.sockets import FLUSH_S, MIB, TURN_MESSAGES, batches, frames_nbytes

AGAIN_S = (0.02, 1.0)  # first and longest pause between two attempts to connect
SCHEME = "unix://"
PEER = struct.Struct("3i")  # struct ucred of unix(7): pid, uid, gid
HAS_EPOLL = hasattr(select, "epoll")  # the watched set can be changed during a wait


class LocalLine:
    """The counterpart of Line on the core's own computer; it reconnects for ever.

    It belongs to one thread. With `asleep`, which is entered while that thread waits, another thread may `send`
    meanwhile, and `receive_lent` after `lend`. `connected` and `connections` (the number of connections so far) change
    in `receive` and `send`; `receive` returns early then. Messages that have not begun to leave are sent on the next
    connection.
    """

    def __init__(self, address: str, speaks: Codec, hears: Codec, max_message_mb: int = 1024) -> None:
        self.address = address
        self.connected = False
        self.connections = 0
        self.garbage = 0
        self.ready: list[int] = []  # the extra descriptors that `receive` found readable
        self.unsent_bytes = 0
        self.longest_silence_s = 0.0  # after it the line disconnects and dials again; 0 for never
        self._heard_at = 0.0
        self.asleep: AbstractContextManager[object] = contextlib.nullcontext()
        self._path = address.removeprefix(SCHEME)
        self._speaks, self._reader = speaks, hears.reader()
        self._refer: Refer | None = None
        self._max_bytes = max_message_mb * MIB
        self._greeting = greeting()
        self._outbox: deque[tuple[list[Buffer], int]] = deque()
        self._socket: socket.socket | None = None
        self._fd = -1
        self._dial_at, self._pause_s = 0.0, AGAIN_S[0]
        self._inflow, self._outflow = Inflow(self._max_bytes), Outflow()
        self._watched = select.epoll() if HAS_EPOLL else select.poll()
        self._wants = select.POLLIN
        self._is_lent = False
        self._fds: tuple[int, ...] = ()
        self._told = 0  # the value of `connections` that `receive` has reported
        self._is_closed = False

    def share(self, find: Find | None, refer: Refer | None) -> None:
        """Allow messages to name files, or stop it with None: `find` opens named files, `refer` tests own parts."""
        self._reader.find, self._refer = find, refer

    def fileno(self) -> int:
        """Return the socket's descriptor; -1 while there is no connection."""
        return self._fd

    def receive(self, timeout_s: float | None = None, fds: Sequence[int] = ()) -> list[Any]:
        """Return arrived messages, or wait up to `timeout_s` for some, or until one of `fds` is readable."""
        if tuple(fds) != self._fds:
            self._watch(tuple(fds))
        self.ready = []
        sock = self._socket
        if sock is None:
            self._dial()
        if self.connections != self._told:
            self._told = self.connections
            return []
        if sock is None:
            retry_s = max(0.0, self._dial_at - monotonic())
            timeout_s = retry_s if timeout_s is None else min(timeout_s, retry_s)
        elif self._inflow.has_more:
            timeout_s = 0.0
        if timeout_s is not None:
            timeout_s = max(0.0, timeout_s)
            if not HAS_EPOLL:  # poll rounds up, as a wait for a deadline must not end just before it
                timeout_s = int(timeout_s * 1000 + 0.999)
        with self.asleep:
            ready = self._watched.poll(timeout_s)
        is_readable = self._inflow.has_more
        for fd, events in ready:
            if fd != self._fd:
                self.ready.append(fd)
                continue
            if events & select.POLLOUT:
                self._flush()
            is_readable = is_readable or bool(events & ~select.POLLOUT)
        if is_readable and self._socket is not None:
            return self._read(self._socket)
        if self.longest_silence_s and self._socket is not None:
            self._end_silence()
        return []

    @property
    def peer_pid(self) -> int:
        """The process at the other end, which may be a proxy or a tunnel; 0 if that is unknown, or nobody is there."""
        option = getattr(socket, "SO_PEERCRED", None)
        if self._socket is None or option is None:
            return 0
        try:
            pid, _, _ = PEER.unpack(self._socket.getsockopt(socket.SOL_SOCKET, option, PEER.size))
        except OSError:
            return 0
        return int(pid)

    def _end_silence(self) -> None:
        """Disconnect from a peer that has sent nothing for long: it may be the end of a dead tunnel."""
        if monotonic() - self._heard_at > self.longest_silence_s:
            self._hang_up()

    def _read(self, sock: socket.socket) -> list[Any]:
        messages: list[Any] = []
        if self.longest_silence_s:
            self._heard_at = monotonic()
        try:
            for packet in self._inflow.read(sock, TURN_MESSAGES):
                try:
                    messages += self._reader.decode_parts(*packet)
                except ProtocolError:
                    self.garbage += 1
        except BlockingIOError:
            pass
        except ProtocolError:
            self.garbage += 1
            self._hang_up()
        except OSError:
            self._hang_up()
        return messages

    def _watch(self, fds: tuple[int, ...]) -> None:
        for fd in self._fds:
            self._watched.unregister(fd)
        for fd in fds:
            self._watched.register(fd, select.POLLIN)
        self._fds = fds

    # ── the connection ──

    def _dial(self) -> None:
        """Try to connect, if the pause is over."""
        now = monotonic()
        if now < self._dial_at:
            return
        sock = socket.socket(socket.AF_UNIX)
        try:
            widen(sock)
            sock.connect(self._path)
            sock.send(self._greeting)
        except OSError:
            sock.close()
            self._dial_at = now + self._pause_s
            self._pause_s = min(AGAIN_S[1], 2 * self._pause_s)
            return
        self._socket, self._fd = sock, sock.fileno()
        self._heard_at = now
        self._pause_s = AGAIN_S[0]
        self.connected = True
        self.connections += 1
        self._wants = select.POLLIN
        self._is_lent = False
        self._watched.register(self._fd, self._wants)
        self._flush()

    def _hang_up(self) -> None:
        """Disconnect from a core that has closed the socket or has sent something malformed."""
        if self._socket is None:
            return
        self._watched.unregister(self._fd)
        self._socket.close()
        self._socket, self._fd = None, -1
        self.connected = False
        self._inflow, self._outflow = Inflow(self._max_bytes), Outflow()
        self._dial_at = monotonic() + self._pause_s

    # ── sending ──

    def send(self, messages: Sequence[Message]) -> None:
        """Send the messages, now or as soon as the core takes them; never blocks."""
        for batch in batches(messages):
            frames = self._speaks.encode(batch, self._refer)
            size = frames_nbytes(frames)
            self._outbox.append((frames, size))
            self.unsent_bytes += size
        self._set_off()

    def send_ahead(self, message: Message) -> None:
        """Send the message before all others that have not begun to leave."""
        frames = self._speaks.encode((message,), self._refer)
        size = frames_nbytes(frames)
        self._outbox.appendleft((frames, size))
        self.unsent_bytes += size
        self._set_off()

    def _set_off(self) -> None:
        if self._socket is None and not self._is_closed:
            self._dial()
        else:
            self._flush()

    @property
    def is_behind(self) -> bool:
        """True if the socket has not taken everything, so that `receive` must wait until it takes more."""
        return self._wants != select.POLLIN

    def _flush(self) -> None:
        sock, outflow = self._socket, self._outflow
        if sock is None:
            return
        try:
            if not outflow.is_clear:
                outflow.flush(sock)
            while self._outbox:
                outflow.write(sock, self._outbox[0][0])
                self.unsent_bytes -= self._outbox.popleft()[1]
        except BlockingIOError:
            pass
        except OSError:
            return  # the next read gets the core's last messages, and notices that it is gone
        wants = select.POLLIN if outflow.is_clear and not self._outbox else select.POLLIN | select.POLLOUT
        if wants != self._wants:
            self._wants = wants
            self._tell()

    def _tell(self) -> None:
        self._watched.modify(self._fd, self._wants & ~select.POLLIN if self._is_lent else self._wants)

    # ── lent to another thread ──

    def lend(self) -> bool:
        """Let another thread wait for arriving messages while this one sleeps on; return False if it is impossible."""
        if not HAS_EPOLL or self._socket is None:
            return False
        self._is_lent = True
        self._tell()
        return True

    def receive_lent(self) -> list[Any]:
        """Return arrived messages to the thread to which the line is lent."""
        return self._read(self._socket) if self._socket is not None else []

    @property
    def has_more(self) -> bool:
        """True if more messages have been read from the socket already."""
        return self._inflow.has_more

    def take_back(self) -> None:
        """Make this thread wait for messages again, those already read included."""
        if self._is_lent:
            self._is_lent = False
            if self._socket is not None:
                self._tell()

    # ── the end ──

    def break_off(self) -> None:
        """Disconnect in the middle of a message: a half-sent packet may be torn, so nothing may follow it."""
        self._is_closed = True
        self._outbox.clear()
        self._hang_up()

    def close(self) -> None:
        """Disconnect, after at most FLUSH_S for the last messages to leave."""
        if self._is_closed:
            return
        self._is_closed = True
        self._flush()
        sock = self._socket
        if sock is not None and (self._outbox or not self._outflow.is_clear):
            linger(sock, self._outflow, [frames for frames, _ in self._outbox], monotonic() + FLUSH_S)
        self._outbox.clear()
        self._hang_up()


def linger(sock: socket.socket, outflow: Outflow, messages: Sequence[Sequence[Buffer]], until: float) -> None:
    """Write the messages, as far as the time allows."""
    waiting = deque(messages)
    writable = select.poll()
    writable.register(sock, select.POLLOUT)
    while (waiting or not outflow.is_clear) and (left_s := until - monotonic()) > 0:
        try:
            while outflow.flush(sock) and waiting:
                outflow.write(sock, waiting[0])
                waiting.popleft()
        except BlockingIOError:
            pass
        except OSError:
            return
        writable.poll(left_s * 1000)
