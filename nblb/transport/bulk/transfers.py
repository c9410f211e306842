"""A party's connection to the bulk door: files up and down in chunks, never blocking, resumed after a cut."""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Iterator
from time import monotonic

import zmq

from nblb.access.connection_file import ConnectionFile
from nblb.access.join_line import bracketed
from nblb.errors import ProtocolError
from nblb.transport.bulk.chunks import CHUNK, DROP, FAIL, GET, KEEP, PUT, WINDOW, Chunks, packed, unpacked
from nblb.transport.curve.keys import KeyPair, identify
from nblb.transport.sockets import FLUSH_S, notice_silence

AT_ONCE = 4  # files that are moved at the same time; further ones wait
TURN_CHUNKS = 8  # handled in one turn, so that their owner's loop goes on
AGAIN_S = 20.0  # without a reply, after which what is on its way is asked for again
KEEP_S = 300.0  # between two messages that this party still uses what it has put up


class Transfer:
    """One file on its way: `word` is GET or PUT, `name` what the door is told, `fd` the file on this side."""

    def __init__(self, word: bytes, name: str, fd: int, size: int | None) -> None:
        self.word, self.name, self.fd = word, name, fd
        self.chunks = Chunks(size)
        self.problem = ""  # why it failed


class BulkLine:
    """The transfers of one party; `done` has those that have ended, until their owner takes them."""

    def __init__(self, found: ConnectionFile, port: int) -> None:
        self.port = port
        self.connected = False
        self.done: list[Transfer] = []
        self._active: dict[str, Transfer] = {}
        self._waiting: deque[Transfer] = deque()
        self._heard_at = self._kept_at = monotonic()
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.socket = self._context.socket(zmq.DEALER)
        for option, value in ((zmq.SNDHWM, 4 * WINDOW), (zmq.RCVHWM, 4 * WINDOW), (zmq.LINGER, 0),
                              (zmq.MAXMSGSIZE, 2 * CHUNK), (zmq.RECONNECT_IVL, 50), (zmq.RECONNECT_IVL_MAX, 1000),
                              (zmq.IPV6, ":" in found.host)):  # fmt: skip
            self.socket.setsockopt(option, value)
        notice_silence(self.socket)
        identify(self.socket, KeyPair(found.public_key, found.secret_key), found.server_key)
        self._events = self.socket.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED)
        self.socket.connect(f"tcp://{bracketed(found.host)}:{port}")

    @property
    def sockets(self) -> tuple[zmq.Socket[bytes], zmq.Socket[bytes]]:
        """The sockets that are readable while `turn` has something to do."""
        return self.socket, self._events

    @property
    def is_busy(self) -> bool:
        """True while files are on their way."""
        return bool(self._active or self._waiting)

    @property
    def unsent_bytes(self) -> int:
        """The bytes that are still to go up, about."""
        return sum(transfer.chunks.left_bytes for transfer in self._all() if transfer.word == PUT)

    def _all(self) -> Iterator[Transfer]:
        yield from self._active.values()
        yield from self._waiting

    def put(self, name: str, fd: int) -> None:
        """Send a file up under this name; the descriptor is closed when it is up."""
        self._begin(Transfer(PUT, name, fd, os.fstat(fd).st_size))

    def get(self, name: str, fd: int) -> None:
        """Fetch the file of this name, with its ticket, into a descriptor, which is closed when it is here."""
        self._begin(Transfer(GET, name, fd, None))

    def _begin(self, transfer: Transfer) -> None:
        self._waiting.append(transfer)
        self._ask()

    def drop(self, name: str) -> None:
        """Let the door remove a file that this party has put up."""
        self._send(packed(DROP, name))

    def keep(self, prefix: str) -> None:
        """Tell the door now and then that this party still uses the files whose names begin so."""
        now = monotonic()
        if self.connected and now >= self._kept_at + KEEP_S:
            self._kept_at = now
            self._send(packed(KEEP, prefix))

    # ── chunks ──

    def turn(self) -> bool:
        """Handle replies, a bounded number, and ask for more; return True if there may be more at once."""
        self._note_events()
        more = False
        for number in range(TURN_CHUNKS + 1):
            if number == TURN_CHUNKS:
                more = True
                break
            try:
                frames = self.socket.recv_multipart(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                break
            self._heard_at = monotonic()
            self._reply(frames)
        if self._active and monotonic() > self._heard_at + AGAIN_S:
            self._heard_at = monotonic()
            self._repeat()
        self._ask()
        return more

    def deadline(self) -> float | None:
        """Return when `turn` has something to do without a reply."""
        return self._heard_at + AGAIN_S if self._active else None

    def _note_events(self) -> None:
        while int(self._events.getsockopt(zmq.EVENTS)) & zmq.POLLIN:
            event = int.from_bytes(self._events.recv_multipart()[0][:2], sys.byteorder)
            self.connected = event == zmq.EVENT_HANDSHAKE_SUCCEEDED
            self._repeat()

    def _repeat(self) -> None:
        for transfer in self._active.values():
            transfer.chunks.again()

    def _ask(self) -> None:
        """Ask for, or send, as many chunks as may be on their way."""
        if not self.connected:
            return
        while self._waiting and len(self._active) < AT_ONCE:
            transfer = self._waiting.popleft()
            self._active[transfer.name] = transfer
            if transfer.chunks.is_done:  # an empty file
                self._end(transfer)
        free = WINDOW - sum(transfer.chunks.on_their_way for transfer in self._active.values())
        while free > 0:
            before = free
            for transfer in list(self._active.values()):
                if free <= 0:
                    return
                at = transfer.chunks.take()
                if at is None:
                    continue
                if not self._request(transfer, at):
                    transfer.chunks.again()
                    return
                free -= 1
            if free == before:
                return

    def _request(self, transfer: Transfer, at: int) -> bool:
        if transfer.word == GET:
            return self._send(packed(GET, transfer.name, at))
        return self._send(packed(PUT, transfer.name, at), os.pread(transfer.fd, CHUNK, at))

    def _send(self, *frames: bytes) -> bool:
        try:
            self.socket.send_multipart(frames, zmq.NOBLOCK, copy=False)
        except zmq.Again:
            return False
        return True

    def _reply(self, frames: list[zmq.Frame]) -> None:
        try:
            head = unpacked(frames[0].bytes)
        except ProtocolError:
            return
        transfer = self._active.get(head.name)
        if transfer is None:
            return
        if head.word == FAIL:
            transfer.problem = frames[1].bytes.decode("utf-8", "replace") if len(frames) > 1 else "refused"
            self._end(transfer)
            return
        if not transfer.chunks.moved(head.at):
            return  # it was asked for twice
        if head.word == GET and len(frames) > 1:
            transfer.chunks.learn(head.size)
            chunk, at = frames[1].buffer, head.at
            try:
                while chunk.nbytes:
                    written = os.pwrite(transfer.fd, chunk, at)
                    chunk, at = chunk[written:], at + written
            except OSError as error:
                transfer.problem = f"it cannot be stored here: {error.strerror}"
                self._end(transfer)
                return
        if transfer.chunks.is_done:
            self._end(transfer)

    def _end(self, transfer: Transfer) -> None:
        self._active.pop(transfer.name, None)
        os.close(transfer.fd)
        self.done.append(transfer)

    def close(self) -> None:
        """Give up all transfers."""
        for transfer in self._all():
            os.close(transfer.fd)
        self._active.clear()
        self._waiting.clear()
        self.socket.disable_monitor()
        self._events.close(0)
        self.socket.close(int(1000 * FLUSH_S) if self.connected else 0)  # for the last DROPs
        self._context.term()
