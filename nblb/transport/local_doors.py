"""The core's side of connections from its own computer: a listener beside each door, a stream socket for each peer.

`Doors` looks peers up here first; a peer that is not found is a ZeroMQ peer.
"""

from __future__ import annotations

import contextlib
import errno
import selectors
import socket
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from time import monotonic

from nblb.errors import ProtocolError
from nblb.protocol.framing import VERSION, Buffer
from nblb.transport.descriptors import are_few, is_spare, refusal
from nblb.transport.door import WORD, Arrived, Door
from nblb.transport.local_line import SCHEME, linger
from nblb.transport.packets import GREETING_BYTES, Inflow, Outflow, widen
from nblb.transport.routers import MOST_REFUSED
from nblb.transport.socket_file import SocketFile
from nblb.transport.sockets import FLUSH_S, MIB

BACKLOG = 1024
ACCEPTED_AT_ONCE = 32
REFUSED_AT_ONCE = 256  # a second, at each door: those beyond wait
PACKETS_OF_ONE = 250  # read from one peer before the next one's turn

GREETED_S = 5.0  # time for a greeting, while other connections wait
OUT_OF_DESCRIPTORS = (errno.EMFILE, errno.ENFILE)

READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE


class Peer:
    """One connection; it gets its address from its greeting."""

    def __init__(self, door: Door, sock: socket.socket, max_bytes: int) -> None:
        self.door, self.socket = door, sock
        self.address = ""
        self.since = monotonic()
        self.is_open = True
        self.refused = 0  # malformed packets minus valid ones
        self.is_waited_for = False  # the selector reports when it can take more
        self.inflow, self.outflow = Inflow(max_bytes), Outflow()
        self._greeting = b""

    def greeted(self) -> bool:
        """Return True once the greeting is complete; raise ProtocolError if malformed, OSError if the peer is gone."""
        said = self.socket.recv(GREETING_BYTES - len(self._greeting))
        if not said:
            raise ConnectionResetError("hung up")
        said = self._greeting = self._greeting + said
        if said[: len(WORD)] != WORD[: len(said)]:
            raise ProtocolError("not an nblb party")
        if len(said) < GREETING_BYTES:
            return False
        self.address = f"{self.door.kind}:{said[len(VERSION) :].hex()}"
        return True

    @property
    def speaks_our_version(self) -> bool:
        return self._greeting.startswith(VERSION)


class Listener:
    """The listening socket of one door."""

    def __init__(self, door: Door, path: Path) -> None:
        self.door = door
        path.unlink(missing_ok=True)  # left by a killed core: the lock on the state folder allows only one
        self.socket = socket.socket(socket.AF_UNIX)
        try:
            self.socket.bind(str(path))
            self.file = SocketFile(path)
            self.socket.listen(BACKLOG)
        except OSError:
            self.socket.close()
            raise
        self.socket.setblocking(False)

    def refuse(self) -> None:
        """Tell some of those that wait for their connection why they have none; they dial again."""
        frames = self.door.speaks.encode([refusal()], None)
        with contextlib.suppress(OSError):  # BlockingIOError if there are no others
            for _ in range(REFUSED_AT_ONCE):
                sock, _ = self.socket.accept()
                with sock, contextlib.suppress(OSError):
                    sock.setblocking(False)
                    Outflow().write(sock, frames)


class LocalDoors:
    """The peers by address; the addresses of lost peers are in `gone` until its reader empties it."""

    def __init__(self, selector: selectors.BaseSelector, max_message_mb: int) -> None:
        self.peers: dict[str, Peer] = {}
        self.gone: list[str] = []
        self.garbage = 0
        self._selector, self._max_bytes = selector, max_message_mb * MIB
        self._listeners: dict[str, Listener] = {}  # by the door's name
        self.is_full = False  # too few descriptors are left for other connections
        self._unnamed: dict[Peer, None] = {}
        self._more: dict[Peer, None] = {}  # peers whose packets have been read but not decoded

    @property
    def has_more(self) -> bool:
        return bool(self._more)

    def listen(self, door: Door, path: Path) -> str:
        """Listen for parties of this door; return the address to dial."""
        listener = Listener(door, path)
        self._listeners[door.name] = listener
        if not self.is_full:
            self._selector.register(listener.socket, READ, listener)
        return f"{SCHEME}{path}"

    def are_there(self, folder: Path) -> bool:
        """Return True if all sockets are in this folder, and accept connections."""
        found = (listener.file.is_at(folder / listener.file.path.name) for listener in self._listeners.values())
        return all(found) and not self.is_full

    def keep(self, door: Door, path: Path) -> bool:
        """Listen at this path, again if somebody has removed the socket's file; return True if that was necessary.

        Connections that were accepted before go on.
        """
        before = self._listeners.get(door.name)
        if before is not None and before.file.is_at(path):
            return False
        self.listen(door, path)
        if before is not None:
            if not self.is_full:
                self._selector.unregister(before.socket)
            before.socket.close()
        return True

    def close(self, waiting: Mapping[str, Sequence[Sequence[Buffer]]]) -> None:
        """Close all sockets, after at most FLUSH_S for messages `waiting` for peers."""
        for listener in self._listeners.values():
            listener.socket.close()
            listener.file.remove()
        until = monotonic() + FLUSH_S
        for address, peer in self.peers.items():
            linger(peer.socket, peer.outflow, waiting.get(address, ()), until)
        for peer in (*self.peers.values(), *self._unnamed):
            peer.socket.close()
        self.peers.clear()
        self._unnamed.clear()
        self._listeners.clear()

    # ── receiving ──

    def accept(self, listener: Listener) -> None:
        """Accept waiting connections; only a few at once, so that other peers do not wait for them."""
        for _ in range(0 if self.is_full else ACCEPTED_AT_ONCE):
            try:
                sock, _ = listener.socket.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in OUT_OF_DESCRIPTORS:
                    self._pause()
                return  # the selector reports others again
            if is_spare(sock.fileno(), for_own=True):
                sock.close()  # its party dials again
                self._pause()
                return
            widen(sock)
            peer = Peer(listener.door, sock, self._max_bytes)
            self._unnamed[peer] = None
            self._selector.register(sock, READ, peer)

    def _pause(self) -> None:
        """Accept no connection before `go_on`: connections wait at their sockets until then."""
        self.is_full = True
        for listener in self._listeners.values():
            self._selector.unregister(listener.socket)

    def go_on(self) -> None:
        """Accept connections again after a pause, if there are enough descriptors; call it once a second.

        Connections without a greeting are closed first. If there are still too few, refuse connections that wait.
        """
        if not self.is_full:
            return
        until = monotonic() - GREETED_S
        for peer in [peer for peer in self._unnamed if peer.since < until]:
            self.hang_up(peer)
        if not are_few(for_own=True):
            self.is_full = False
            for listener in self._listeners.values():
                self._selector.register(listener.socket, READ, listener)
            return
        for listener in self._listeners.values():
            listener.refuse()

    def readable(self, ready: Iterable[Peer]) -> list[Peer]:
        """Return the ready peers, and those whose packets have been read already."""
        if not self._more:
            return list(ready)
        peers = {**self._more, **dict.fromkeys(ready)}
        self._more.clear()
        return list(peers)

    def put_off(self, peers: Iterable[Peer]) -> None:
        """Serve these peers first next time, whether or not the selector reports them again."""
        self._more.update((peer, None) for peer in peers if peer.inflow.has_more)

    def read(self, peer: Peer) -> list[Arrived]:
        """Return the messages of this peer, up to a bound; a peer found gone is disconnected."""
        arrived: list[Arrived] = []
        if not peer.is_open:
            return arrived  # it has been replaced in this turn
        try:
            if not peer.address and not self._greet(peer, arrived):
                return arrived
            decode = peer.door.reader.decode_parts
            for packet in peer.inflow.read(peer.socket, PACKETS_OF_ONE):
                try:
                    arrived.append(Arrived(peer.address, decode(*packet)))
                    peer.refused = max(0, peer.refused - 1)
                except ProtocolError as error:
                    self.garbage += 1
                    arrived.append(Arrived(peer.address, error=ProtocolError(str(error))))  # as in door.py
                    peer.refused += 1
                    if peer.refused >= MOST_REFUSED:
                        self.hang_up(peer)  # and drop the rest
                        return arrived
            if peer.inflow.has_more:
                self._more[peer] = None
        except BlockingIOError:
            pass
        except ProtocolError:
            self.garbage += 1
            self.hang_up(peer)
        except OSError:
            self.hang_up(peer)
        return arrived

    def _greet(self, peer: Peer, arrived: list[Arrived]) -> bool:
        if not peer.greeted():
            return False
        del self._unnamed[peer]
        before = self.peers.get(peer.address)
        if before is not None:  # a new connection of the same party: the old one is dead, though not yet noticed
            self._forget(before)
            self.wait_for(peer, before.is_waited_for)
        self.peers[peer.address] = peer
        if not peer.speaks_our_version:
            said = peer.address.partition(":")[2]
            error = ProtocolError(f"another version of the protocol (this is {VERSION!r}, that is of party {said})")
            arrived.append(Arrived(peer.address, error=error))
        return True

    def hang_up(self, peer: Peer) -> None:
        """Disconnect this peer."""
        if not peer.is_open:
            return
        self._forget(peer)
        if self.peers.get(peer.address) is peer:
            del self.peers[peer.address]
            self.gone.append(peer.address)

    def _forget(self, peer: Peer) -> None:
        self._unnamed.pop(peer, None)
        self._more.pop(peer, None)
        peer.is_open = False
        self._selector.unregister(peer.socket)
        peer.socket.close()

    # ── sending ──

    def write(self, peer: Peer, frames: Sequence[Buffer]) -> None:
        """Send, or begin to; raise BlockingIOError if the peer takes nothing now, another OSError if it is gone."""
        try:
            peer.outflow.write(peer.socket, frames)
        except BlockingIOError:
            self.wait_for(peer, True)
            raise
        if not peer.outflow.is_clear:
            self.wait_for(peer, True)

    def wait_for(self, peer: Peer, waits: bool) -> None:
        """Set whether the selector reports when this peer can take more."""
        if peer.is_waited_for != waits:
            peer.is_waited_for = waits
            self._selector.modify(peer.socket, READ | WRITE if waits else READ, peer)
