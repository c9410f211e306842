"""A ROUTER socket of ZeroMQ on a Unix socket, which accepts its connections itself.

ZeroMQ's own library ends the process (libzmq 4.3.5, ipc_listener.cpp) when a connection arrives and no file descriptor
is left for it. This socket leaves the last descriptors free, and lets new peers wait for the next one.
"""

from __future__ import annotations

import errno
import os
import select
import selectors
import socket
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from time import monotonic

from nblb.errors import ProtocolError
from nblb.protocol.framing import Buffer
from nblb.transport.descriptors import are_few, is_spare
from nblb.transport.packets import widen
from nblb.transport.socket_file import SocketFile
from nblb.transport.sockets import FLUSH_S, MIB
from nblb.transport.zmtp import ZmtpConnection

BACKLOG = 1024
ACCEPTED_AT_ONCE = 32
LOOK_AFTER = 32  # messages, even if those peers have more
GREETED_S = 5.0  # time for a handshake, while other connections wait
IDLE_S = 10.0  # … and for a peer that sends nothing and waits for nothing
OUT_OF_DESCRIPTORS = (errno.EMFILE, errno.ENFILE)

READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE


class RouterPeer(ZmtpConnection):
    """One peer of a UnixRouter."""

    def __init__(self, sock: socket.socket, max_bytes: int, admit: Callable[[RouterPeer, bytes], bytes]) -> None:
        self.active_at = monotonic()
        self.waits_for_answer = False
        self.is_watched_for_writing = False
        self.is_open = True
        super().__init__(sock, max_bytes, lambda wanted: admit(self, wanted))


class UnixRouter:
    """A ROUTER: it receives multipart messages with their sender's identity, and sends them to an identity.

    It blocks nowhere. A message to an unknown identity raises ConnectionError; one to a peer that takes nothing raises
    BlockingIOError, and the caller tries again later.

    Parameters
    ----------
    max_message_mb
        A peer that sends a longer frame is disconnected.

    Examples
    --------
    >>> router = UnixRouter(max_message_mb=16)
    >>> router.bind(Path("/run/user/1000/example"))  # doctest: +SKIP
    """

    def __init__(self, max_message_mb: int) -> None:
        self.peers: dict[bytes, RouterPeer] = {}
        self.file: SocketFile | None = None
        self.is_full = False  # too few descriptors are left for other connections
        self._max_bytes = max_message_mb * MIB
        self._selector = selectors.DefaultSelector()
        self._listener: socket.socket | None = None
        self._unnamed: dict[RouterPeer, None] = {}
        self._ready: dict[RouterPeer, None] = {}  # peers that may have a message, in order of their turns
        self._message: list[Buffer] = []  # that `next` has taken
        self._until_look = LOOK_AFTER

    def bind(self, path: Path) -> None:
        """Listen at this path, in place of an earlier one; connections that were accepted go on."""
        path.unlink(missing_ok=True)  # left by a killed process, whose owner the caller has made sure is gone
        listener = socket.socket(socket.AF_UNIX)
        try:
            listener.bind(str(path))
            file = SocketFile(path)
            listener.listen(BACKLOG)
        except OSError:
            listener.close()
            raise
        listener.setblocking(False)
        self._stop_listening()
        self._listener, self.file = listener, file
        if not self.is_full:
            self._selector.register(listener, READ)

    def _stop_listening(self) -> None:
        if self._listener is not None:
            if not self.is_full:
                self._selector.unregister(self._listener)
            self._listener.close()
            self._listener = None

    def is_at(self, path: Path) -> bool:
        """Return True if the socket's file still exists, and has this path."""
        return self.file is not None and self.file.is_at(path)

    def fileno(self) -> int:
        """Return a descriptor that is readable while there is something to do for `next`."""
        return self._selector.fileno()

    # ── receiving ──

    def has_input(self) -> bool:
        """Return True if a message may have arrived."""
        return bool(self._ready) or self._look()

    def _look(self) -> bool:
        """Accept, send what peers can take now, and note the peers from which something has arrived."""
        for key, events in self._selector.select(0):
            peer = key.data
            if peer is None:
                self._accept()
                continue
            if events & WRITE:
                self._flush(peer)
            if events & READ and peer.is_open:
                self._ready[peer] = None
        self._until_look = LOOK_AFTER
        return bool(self._ready)

    def next(self) -> bytes:
        """Take the next message, and return the identity of its sender; raise BlockingIOError if there is none."""
        self._until_look -= 1
        if not self._ready or self._until_look <= 0:  # nobody waits for all that a flood has sent
            self._look()
        while self._ready:
            peer = next(iter(self._ready))
            del self._ready[peer]
            try:
                frames = peer.receive()
            except BlockingIOError:
                self._watch(peer)
                continue
            except (OSError, ProtocolError):
                self._drop(peer)
                continue
            assert peer.identity is not None
            self._watch(peer)
            if peer.has_more:
                self._ready[peer] = None  # after the others
            peer.active_at, peer.waits_for_answer = monotonic(), True
            self._message = [peer.identity, *frames]
            return peer.identity
        raise BlockingIOError

    def rest(self) -> list[Buffer]:
        """Return the message that `next` has taken, its sender's identity first."""
        message, self._message = self._message, []
        return message

    def skip(self) -> int:
        """Drop the message that `next` has taken; return the number of its frames."""
        return len(self.rest()) - 1

    # ── peers ──

    def _accept(self) -> None:
        """Accept waiting connections; only a few at once, so that other peers do not wait for them."""
        listener = self._listener
        if self.is_full or listener is None:
            return
        for _ in range(ACCEPTED_AT_ONCE):
            try:
                sock, _ = listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in OUT_OF_DESCRIPTORS:
                    self._pause()
                return  # the selector reports others again
            if is_spare(sock.fileno()):
                sock.close()  # its party connects again
                self._pause()
                return
            widen(sock)
            try:
                peer = RouterPeer(sock, self._max_bytes, self._admit)
            except OSError:
                sock.close()
                continue
            self._unnamed[peer] = None
            self._selector.register(sock, READ, peer)

    def _admit(self, peer: RouterPeer, wanted: bytes) -> bytes:
        """Enter a peer by its identity, or by a new one; raise ProtocolError if a connected peer has it."""
        identity = wanted or b"\0" + os.urandom(8)
        before = self.peers.get(identity)
        if before is not None:
            if not has_hung_up(before.socket):
                raise ProtocolError("another peer has this identity")
            self._drop(before)
        self._unnamed.pop(peer, None)
        self.peers[identity] = peer
        return identity

    def _drop(self, peer: RouterPeer) -> None:
        """Disconnect this peer."""
        if not peer.is_open:
            return
        peer.is_open = False
        self._unnamed.pop(peer, None)
        self._ready.pop(peer, None)
        if peer.identity is not None and self.peers.get(peer.identity) is peer:
            del self.peers[peer.identity]
        self._selector.unregister(peer.socket)
        peer.socket.close()

    def _pause(self) -> None:
        """Accept no connection before `go_on`: connections wait at the socket until then."""
        assert self._listener is not None
        self.is_full = True
        self._selector.unregister(self._listener)

    def go_on(self) -> None:
        """Accept connections again after a pause, if there are enough descriptors; call it once a second.

        Connections without a handshake are closed first, and idle ones, which connect again when they have something
        to send: so a crowd of any size gets its turns.
        """
        if not self.is_full:
            return
        now = monotonic()
        for peer in [peer for peer in self._unnamed if peer.active_at < now - GREETED_S]:
            self._drop(peer)
        if are_few():
            for peer in [*self._idle(now - IDLE_S)]:
                self._drop(peer)
        if not are_few():
            self.is_full = False
            if self._listener is not None:
                self._selector.register(self._listener, READ)

    def _idle(self, since: float) -> Iterator[RouterPeer]:
        for peer in self.peers.values():
            if peer.active_at < since and not peer.waits_for_answer and not peer.unsent_bytes:
                yield peer

    # ── sending ──

    def send(self, frames: Sequence[Buffer]) -> None:
        """Send a message to the identity in its first frame, or begin to.

        Raises
        ------
        BlockingIOError
            The peer takes nothing now.
        OSError
            It is gone.
        """
        peer = self.peers.get(bytes(frames[0]))
        if peer is None:
            raise ConnectionError(errno.EHOSTUNREACH, os.strerror(errno.EHOSTUNREACH))
        try:
            peer.send(frames[1:])
        except BlockingIOError:
            raise
        except OSError:
            self._drop(peer)
            raise
        peer.active_at, peer.waits_for_answer = monotonic(), False
        self._watch(peer)

    def _flush(self, peer: RouterPeer) -> None:
        try:
            peer.flush()
        except OSError:
            self._drop(peer)
        else:
            self._watch(peer)

    def _watch(self, peer: RouterPeer) -> None:
        """Let the selector report when this peer can take what is unsent."""
        waits = peer.unsent_bytes > 0
        if waits != peer.is_watched_for_writing:
            peer.is_watched_for_writing = waits
            self._selector.modify(peer.socket, READ | WRITE if waits else READ, peer)

    # ── the end ──

    def close(self, flush_s: float = FLUSH_S) -> None:
        """Close all sockets, after at most `flush_s` for messages on their way."""
        self._stop_listening()
        if self.file is not None:
            self.file.remove()
            self.file = None
        until = monotonic() + flush_s
        while (behind := [peer for peer in self.peers.values() if peer.unsent_bytes]) and monotonic() < until:
            select_writable(behind, until - monotonic())
            for peer in behind:
                self._flush(peer)
        for peer in (*self.peers.values(), *self._unnamed):
            peer.socket.close()
        self.peers.clear()
        self._unnamed.clear()
        self._ready.clear()
        self._selector.close()


def has_hung_up(sock: socket.socket) -> bool:
    """Return True if the other end of this socket is closed."""
    poll = select.poll()
    poll.register(sock, 0)
    return bool(poll.poll(0))


def select_writable(peers: Sequence[RouterPeer], timeout_s: float) -> None:
    """Wait until one of these peers can take more, for `timeout_s` at most."""
    poll = select.poll()
    for peer in peers:
        poll.register(peer.socket, select.POLLOUT)
    poll.poll(max(0.0, timeout_s) * 1000)
