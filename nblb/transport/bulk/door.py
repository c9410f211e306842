"""The core's side: serves the files of its state folder by name, over CURVE, in a process of its own.

A process of its own, because each chunk costs a millisecond, and the core has no threads. It knows no tasks. A party
may read a file for which the core has given it a ticket, and write files whose names begin with the mark of its key.
"""

from __future__ import annotations

import contextlib
import os
import stat
import sys
from collections import OrderedDict, deque
from collections.abc import Sequence
from pathlib import Path
from time import monotonic, time
from typing import TYPE_CHECKING

import zmq

from nblb.access.key_file import KeyFile
from nblb.access.key_store import key_mark
from nblb.access.tickets import is_valid
from nblb.errors import NblbError, ProtocolError
from nblb.shared_files.transfer import BLOBS, INCOMING, is_handed_over, swept_names
from nblb.transport.bulk.chunks import CHUNK, DROP, FAIL, GET, KEEP, PUT, WINDOW, Head, packed, unpacked
from nblb.transport.curve.keys import KeyPair, guard
from nblb.transport.curve.remote_door import SOCKET_FD, USER_ID
from nblb.transport.curve.zap import ZapHandler
from nblb.transport.sockets import notice_silence

if TYPE_CHECKING:
    from nblb.access.key_store import Verdict

ROLES = ("user", "admin", "hub")
REFRESH_S = 0.25  # between two looks at the key store
SWEEP_S = 60.0
DROP_AFTER_S = 5.0  # the message that names a file takes another way than its DROP, and the core may be busy
FORGOTTEN_S = 3600.0  # after which a file is removed that no message has named, of a party that is silent
MOST_OPEN = 256
PREFIX = 28  # digits of a name that are the same for all files of one process


class BulkDoor:
    """Serves one state folder; `serve` returns when the descriptor `until` is closed at its other end."""

    def __init__(self, state_dir: Path, ip: str, port: int) -> None:
        self._root = str(state_dir.absolute())
        self._keys = KeyFile(state_dir)
        self._tickets = self._keys.ticket_key()
        self._open: OrderedDict[tuple[str, int], int] = OrderedDict()
        self._dropped: deque[tuple[float, str]] = deque()  # when to remove a file
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._zap = ZapHandler(self._context, lambda key, _ip: self._is_admitted(key))
        self._door = self._context.socket(zmq.ROUTER)
        for option, value in ((zmq.SNDHWM, 4 * WINDOW), (zmq.RCVHWM, 4 * WINDOW), (zmq.LINGER, 0),
                              (zmq.MAXMSGSIZE, 2 * CHUNK), (zmq.ROUTER_MANDATORY, 1)):  # fmt: skip
            self._door.setsockopt(option, value)
        guard(self._door, KeyPair(*self._keys.server_pair()))
        self._door.setsockopt(zmq.IPV6, ":" in ip)
        notice_silence(self._door)
        host = f"[{ip}]" if ":" in ip else ip
        try:
            self._door.bind(f"tcp://{host}:{port or '*'}")
        except zmq.ZMQError as error:
            self.close()
            raise NblbError(f"WKHUB_LBPORT: cannot listen on {ip} port {port}: {error.strerror}.") from None
        self.port = int(self._door.getsockopt_string(zmq.LAST_ENDPOINT).rpartition(":")[2])
        self._heard: dict[str, float] = {}  # beginnings of names -> when their owner was heard
        self._refresh_at, self._sweep_at = 0.0, monotonic() + SWEEP_S

    def serve(self, until: int) -> None:
        """Answer requests; returns when `until` is readable, because its other end is closed."""
        poller = zmq.Poller()
        poller.register(self._door, zmq.POLLIN)
        poller.register(self._zap.socket, zmq.POLLIN)
        poller.register(until, zmq.POLLIN)
        while True:
            wait_s = SWEEP_S if not self._dropped else max(0.0, self._dropped[0][0] - monotonic())
            ready = dict(poller.poll(int(1000 * min(wait_s, SWEEP_S)) + 1))
            now = monotonic()
            while self._dropped and self._dropped[0][0] <= now:
                self._drop(self._dropped.popleft()[1])
            if until in ready:
                return
            if now >= self._refresh_at:
                self._refresh_at = now + REFRESH_S
                with contextlib.suppress(NblbError):  # it is being written by hand: the keys of before stay
                    self._keys.refresh()
            if self._zap.socket in ready:
                self._zap.answer()
            if self._door in ready:
                self._read(now)
            if now >= self._sweep_at:
                self._sweep_at = now + SWEEP_S
                self._sweep(now)

    def close(self) -> None:
        """Close all sockets and files, and remove what was dropped."""
        while self._dropped:
            self._drop(self._dropped.popleft()[1])
        for fd in self._open.values():
            os.close(fd)
        self._open.clear()
        self._zap.close()
        self._door.close()
        self._context.term()

    # ── requests ──

    def _verdict(self, key: str) -> Verdict:
        return self._keys.store.verdict(key, time())

    def _is_admitted(self, key: str) -> bool:
        verdict = self._verdict(key)
        return verdict.state == "known" and verdict.role in ROLES

    def _read(self, now: float) -> None:
        """Answer the requests that have arrived, a bounded number."""
        for _ in range(4 * WINDOW):
            try:
                frames = self._door.recv_multipart(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                return
            key = str(frames[0].get(USER_ID))
            if not self._is_admitted(key):  # revoked since the handshake
                self._cut(int(frames[0].get(SOCKET_FD)))
                continue
            reply = self._answer(key, frames[1:], now)
            if reply:
                with contextlib.suppress(zmq.ZMQError):  # gone, or far behind: it asks again
                    self._door.send_multipart([frames[0].bytes, *reply], zmq.NOBLOCK, copy=False)

    @staticmethod
    def _cut(fd: int) -> None:
        import socket

        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(fd)) as connection:
            connection.shutdown(socket.SHUT_RDWR)

    def _answer(self, key: str, frames: Sequence[zmq.Frame], now: float) -> list[bytes | memoryview]:
        head = Head(b"?", 0, 0, "")
        try:
            if not 1 <= len(frames) <= 2:
                raise ProtocolError(f"a request of {len(frames)} frames is none of the bulk door's")
            head = unpacked(frames[0].bytes)
            if head.word == GET:
                return self._get(key, head)
            self._heard[head.name[:PREFIX]] = now
            self._check_owner(key, head)
            if head.word == PUT and len(frames) == 2:
                return self._put(head, frames[1].buffer)
            if head.word == DROP:
                self._dropped.append((now + DROP_AFTER_S, head.name))
            elif head.word != KEEP:
                raise ProtocolError("the bulk door knows GET, PUT, DROP and KEEP")
            return []
        except (ProtocolError, OSError) as error:
            reason = (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
            return [packed(FAIL, head.name, head.at), reason.encode()]

    def _get(self, key: str, head: Head) -> list[bytes | memoryview]:
        name, _, said = head.name.partition(".")
        if not is_handed_over(name) or not is_valid(self._tickets, key, name, said):
            raise ProtocolError("the core has given this key no ticket for this file")
        fd = self._opened(name, os.O_RDONLY)
        size = os.fstat(fd).st_size
        return [packed(GET, head.name, head.at, size), os.pread(fd, CHUNK, head.at)]

    @staticmethod
    def _check_owner(key: str, head: Head) -> None:
        whole = head.word == KEEP or is_handed_over(head.name)
        if not whole or head.name[:8] != key_mark(key):
            raise ProtocolError("a party writes only files whose names begin with the mark of its key")

    def _put(self, head: Head, chunk: memoryview) -> list[bytes | memoryview]:
        if chunk.nbytes > CHUNK:
            raise ProtocolError(f"a chunk has {CHUNK:,} bytes at most")
        fd, at = self._opened(head.name, os.O_WRONLY | os.O_CREAT), head.at
        found, named = os.fstat(fd), Path(f"{self._root}/{INCOMING}/{head.name}").lstat()
        if found.st_nlink != 1 or found.st_ino != named.st_ino:  # the core has a link, and others may have mapped it
            raise ProtocolError("nobody writes to a file that a message has named")
        while chunk.nbytes:
            written = os.pwrite(fd, chunk, at)
            chunk, at = chunk[written:], at + written
        return [packed(PUT, head.name, head.at)]

    def _drop(self, name: str) -> None:
        self._close(name)
        with contextlib.suppress(OSError):
            Path(f"{self._root}/{INCOMING}/{name}").unlink()

    def _opened(self, name: str, flags: int) -> int:
        """Return a descriptor of this file; the least recently used are closed."""
        fd = self._open.get((name, flags))
        if fd is not None:
            self._open.move_to_end((name, flags))
            return fd
        folders = (INCOMING,) if flags & os.O_CREAT else (BLOBS, INCOMING)
        for folder in folders:
            with contextlib.suppress(FileNotFoundError):
                fd = os.open(f"{self._root}/{folder}/{name}", flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
                break
        if fd is None:
            raise FileNotFoundError(2, "the file has been removed")
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise OSError(22, "not a file that nblb has written")
        self._open[name, flags] = fd
        if len(self._open) > MOST_OPEN:
            os.close(self._open.popitem(last=False)[1])
        return fd

    def _close(self, name: str) -> None:
        for key in [key for key in self._open if key[0] == name]:
            os.close(self._open.pop(key))

    def _sweep(self, now: float) -> None:
        """Remove what silent parties have left, and close files."""
        while self._open:
            os.close(self._open.popitem()[1])
        marks = {key_mark(party.key) for party in self._keys.store.parties()}
        self._heard = {prefix: at for prefix, at in self._heard.items() if now < at + FORGOTTEN_S}
        for name in swept_names(self._root):
            if name[:8] in marks and name[:PREFIX] not in self._heard:
                path = Path(f"{self._root}/{INCOMING}/{name}")
                with contextlib.suppress(OSError):
                    if path.stat().st_mtime < time() - FORGOTTEN_S:
                        path.unlink()


def main(arguments: Sequence[str]) -> int:
    """Serve the folder, address and port of the arguments; write the port to stdout, and end with stdin."""
    state_dir, ip, port = arguments
    door = BulkDoor(Path(state_dir), ip, int(port))
    sys.stdout.write(f"{door.port}\n")
    sys.stdout.flush()
    try:
        door.serve(sys.stdin.fileno())
    except KeyboardInterrupt:
        pass
    finally:
        door.close()
    return 0
