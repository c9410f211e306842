"""The core's side of every connection: three doors, and the unsent messages of slow peers.

A door is a ROUTER for any program that speaks ZeroMQ (unix_router.py; zmq_router.py for TCP), and a plain Unix socket
for nblb's own parties on this computer (local_doors.py), which costs fewer system calls for each message.
"""

from __future__ import annotations

import errno
import os
import selectors
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from time import monotonic

import msgspec
import zmq

from nblb.errors import NblbError
from nblb.parameters import Parameters
from nblb.protocol.framing import Buffer, Find, Refer
from nblb.protocol.messages import Message, client_to_core, core_to_client, core_to_hub, hub_to_core
from nblb.system.core_file import core_files
from nblb.system.private_folder import loopback_address, runtime_folder, socket_address
from nblb.transport.curve.remote_door import Guard, RemoteDoor
from nblb.transport.curve.zap import ZapHandler
from nblb.transport.dialing import local_address
from nblb.transport.door import RETRY_S, Arrived, Door, Outbox
from nblb.transport.local_doors import Listener, LocalDoors, Peer
from nblb.transport.routers import Routers
from nblb.transport.sockets import (
    MIB,
    TURN_MESSAGES,
    TURN_WORDS,
    batches,
    frames_nbytes,
    holder_of,
    notice_silence,
    turned,
)
from nblb.transport.tcp_watch import TcpWatch
from nblb.transport.unix_router import UnixRouter
from nblb.transport.zmq_router import ZmqRouter

OUTBOX_BYTES = 2 * MIB  # queued for one slow client, beyond ZeroMQ's queue, before results are withheld
SILENT_BYTES = 16 * MIB  # … and before a client that takes nothing at all is dropped
INFINITY = float("inf")
BUSY = BlockingIOError, zmq.Again
GONE = OSError, zmq.ZMQError


class Doors:
    """The core's sockets: one door for clients, one for hubs, one for the Health Check and the Monitor.

    Each `send` and `receive` may add to these lists, which their reader empties: `untaken` messages (the peer is
    gone, or too slow for more results), peers that are `gone`, and peers that have `drained` after results were
    withheld from them.
    """

    def __init__(self, parameters: Parameters) -> None:
        self.parameters = parameters
        self.addresses: dict[str, str] = {}
        self.untaken: list[tuple[str, Message]] = []
        self.unsayable: list[tuple[str, Message, Exception]] = []  # cannot be encoded: a bug, or a missing file
        self.gone: list[str] = []
        self.drained: list[str] = []
        self._doors = (
            Door("clients", "client", "LB_CLIENTPULLPORT", client_to_core, core_to_client),
            Door("hubs", "hub", "LB_WKPULLPORT", hub_to_core, core_to_hub),
            Door("health", "health", "LB_HCREPPORT", client_to_core, core_to_client),
        )
        self._tcp: tuple[Door, ...] = ()
        self._remote: tuple[RemoteDoor, ...] = ()
        self._guard: Guard | None = None
        self._zap: ZapHandler | None = None
        self._zap_has_more = False
        self._watches: list[TcpWatch] = []
        self._set_up_routers()
        self._outboxes: dict[str, Outbox] = {}
        self._refer: Refer | None = None
        self._see_files: dict[str, Refer | None] = {}  # peers to which payloads can be sent as file names
        self._turn = 0
        self._selector: selectors.BaseSelector | None = None
        self._local: LocalDoors
        self._context: zmq.Context[zmq.Socket[bytes]] | None = None
        self._wake_read, self._wake_write = -1, -1
        self.folder: Path | None = None  # of the Unix sockets

    def _set_up_routers(self) -> None:
        if self.parameters.LB_SECURITY == "none":
            self._tcp = tuple(Door(door.name, door.kind, door.key, *door.codecs) for door in self._doors)
        doors = (*self._tcp, *self._doors, *self._remote)
        self._routers = Routers(doors)
        self._by_kind: dict[str, Door] = {door.kind: door for door in doors}
        self._by_kind |= {f"json-{door.name}": door for door in doors}

    def admit_remote(self, guard: Guard) -> None:
        """Let `open` bind doors for other computers, too; before it is called."""
        clients, hubs, _ = self._doors
        self._guard = guard
        self._remote = (
            RemoteDoor(clients, client_to_core, core_to_client),
            RemoteDoor(hubs, hub_to_core, core_to_hub),
        )
        self._set_up_routers()

    def open(self) -> None:
        """Bind the doors; raise NblbError that names the program if an address is taken."""
        folder = self.folder = runtime_folder(self.parameters)
        self._context = zmq.Context()
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)
        selector = self._selector = selectors.DefaultSelector()
        selector.register(self._wake_read, selectors.EVENT_READ)
        self._local = LocalDoors(selector, self.parameters.LB_MAX_MESSAGE_MB)
        try:
            for door in self._doors:
                door.socket = UnixRouter(self.parameters.LB_MAX_MESSAGE_MB)
                path = folder / f"{door.name}.local"
                socket_address(path)  # raises if the path is too long
                self._bind(door, folder / door.name)
                self.addresses[f"{door.name}_local"] = self._local.listen(door, path)
            for door in self._tcp:
                door.socket = self._tcp_router(selector)
                self.addresses[f"{door.name}_tcp"] = self._bind_tcp(door, door.socket.socket)
            if self._guard is not None:
                self._open_remote(self._guard, selector)
            self._routers.watch(selector)
        except GONE as error:
            self.close()
            raise NblbError(f"The core cannot listen in {folder}: {error.strerror}.") from None
        except BaseException:
            self.close()
            raise

    def _open_remote(self, guard: Guard, selector: selectors.BaseSelector) -> None:
        assert self._context is not None
        self._zap = ZapHandler(self._context, guard.admits)  # first: without it every handshake would be let in
        selector.register(self._zap.fileno(), selectors.EVENT_READ, self._zap)
        for door in self._remote:
            door.socket = self._tcp_router(selector)
            self.addresses[door.name] = door.bind(guard, getattr(self.parameters, door.key))

    def _tcp_router(self, selector: selectors.BaseSelector) -> ZmqRouter:
        """Return a ROUTER for TCP whose connections leave the last descriptors free."""
        assert self._context is not None
        router = ZmqRouter(self._context, self.parameters.LB_MAX_MESSAGE_MB)
        watch = TcpWatch(router.socket)
        self._watches.append(watch)
        selector.register(watch.fileno(), selectors.EVENT_READ, watch)
        return router

    def _bind(self, door: Door, path: Path) -> None:
        assert isinstance(door.socket, UnixRouter)
        self.addresses[door.name] = socket_address(path)
        door.socket.bind(path)

    def are_there(self) -> bool:
        """Return True unless `keep` has something to do."""
        folder = self.parameters.runtime_dir
        return self._local.are_there(folder) and all(
            router.is_at(folder / name) and not router.is_full for name, router in self._unix_routers()
        )

    def _unix_routers(self) -> Iterator[tuple[str, UnixRouter]]:
        for door in self._doors:
            assert isinstance(door.socket, UnixRouter)
            yield door.name, door.socket

    @property
    def is_full(self) -> bool:
        """True while connections wait because too few descriptors are left."""
        routers = any(router.is_full for _, router in self._unix_routers())
        return self._local.is_full or routers or any(watch.is_full for watch in self._watches)

    def keep(self) -> bool:
        """Bind the Unix sockets again whose files somebody has removed; return True if there was one.

        Where connections wait because few descriptors are left, accept them if others have left meanwhile.
        """
        folder = self.folder = runtime_folder(self.parameters)
        changed = False
        self._local.go_on()
        try:
            for door, (_, router) in zip(self._doors, self._unix_routers(), strict=True):
                router.go_on()
                if not router.is_at(folder / door.name):
                    self._bind(door, folder / door.name)
                    changed = True
                local = folder / f"{door.name}.local"
                if self._local.keep(door, local):
                    self.addresses[f"{door.name}_local"] = local_address(folder, door.name)
                    changed = True
        except GONE as error:
            raise NblbError(f"The core cannot listen in {folder}: {error.strerror}.") from None
        return changed

    def _bind_tcp(self, door: Door, socket: zmq.Socket[bytes]) -> str:
        ip = loopback_address(self.parameters.LB_IP, "LB_IP")
        port: int = getattr(self.parameters, door.key)
        host = f"[{ip}]" if ":" in ip else ip
        socket.setsockopt(zmq.IPV6, ":" in ip)
        notice_silence(socket)  # affects later binds only
        try:
            socket.bind(f"tcp://{host}:{port or '*'}")
        except zmq.ZMQError as error:
            if error.errno != errno.EADDRINUSE:
                raise NblbError(f"{door.key}: cannot listen on {ip} port {port}: {error.strerror}.") from None
            holder = holder_of(port, core_files(self.parameters))
            raise NblbError(
                f"{door.key}: port {port} of {ip} is taken{holder}; stop that, or choose "
                "another port (0 for any free one)."
            ) from None
        return socket.getsockopt_string(zmq.LAST_ENDPOINT)

    def share(self, find: Find, refer: Refer) -> None:
        """Allow messages to name files: `find` finds the files that peers name, `refer` tests a part."""
        self._refer = refer
        for door in (*self._doors, *self._tcp, *self._remote):
            door.share(find)

    def name_files_to(self, peer: str, refer: Refer | None = None) -> None:
        """Send payloads to this peer as file names from here on, since it can get the files.

        `refer` gives the names for a peer on another computer, which have tickets.
        """
        self._see_files[peer] = refer or self._refer

    def close(self) -> None:
        """Close all sockets, after at most FLUSH_S for messages on their way."""
        if self._selector is not None:
            self._local.close({to: [frames for frames, _ in box.waiting] for to, box in self._outboxes.items()})
            self._selector.close()
            self._selector = None
        for watch in self._watches:
            watch.close()
        self._watches = []
        for door in (*self._doors, *self._tcp, *self._remote):
            if door.socket is not None:
                door.socket.close()
        if self._zap is not None:
            self._zap.close()
            self._zap = None
        if self._context is not None:
            self._context.term()
            self._context = None
            os.close(self._wake_read)
            os.close(self._wake_write)
        self.addresses = {}
        if self.folder is not None:
            try:
                self.folder.rmdir()
            except OSError:
                pass  # other processes of the cluster still use it

    def wake(self) -> None:
        """Make a waiting `receive` return; may be called from any thread or signal handler."""
        try:
            os.write(self._wake_write, b"w")
        except OSError:
            pass  # full: it will wake anyway; closed: no receive waits

    def receive(self, timeout_s: float | None) -> list[Arrived]:
        """Return arrived messages, a bounded number; wait up to `timeout_s` for the first."""
        assert self._selector is not None
        timeout_s = self._routers.until_looked_at(timeout_s)
        active = self._routers.with_input()
        if active or self._local.has_more or self._zap_has_more:
            timeout_s = 0.0
        elif self._outboxes:
            timeout_s = self._until_retry(timeout_s)
        peers: list[Peer] = []
        for key, events in self._selector.select(None if timeout_s is None else max(0.0, timeout_s)):
            what = key.data
            if type(what) is Peer:
                if events & selectors.EVENT_WRITE:
                    self._write_on(what)
                if events & selectors.EVENT_READ:
                    peers.append(what)
            elif isinstance(what, Door):
                if what not in active:
                    active.append(what)
            elif type(what) is Listener:
                self._local.accept(what)
            elif type(what) is ZapHandler:
                self._zap_has_more = True
            elif type(what) is TcpWatch:
                what.look()
            else:
                self._take_wake_up()
        if self._zap_has_more and self._zap is not None:
            self._zap_has_more = self._zap.answer()
        if self._outboxes:
            self._retry(monotonic())
        self._turn += 1
        return self._drain(turned(active, self._turn), turned(self._local.readable(peers), self._turn))

    def _until_retry(self, timeout_s: float | None) -> float | None:
        at = min(box.try_at for box in self._outboxes.values())
        if at == INFINITY:
            return timeout_s
        retry_s = max(0.0, at - monotonic())
        return retry_s if timeout_s is None else min(timeout_s, retry_s)

    def _take_wake_up(self) -> None:
        with suppress(BlockingIOError):
            os.read(self._wake_read, 4096)

    def _drain(self, active: list[Door], peers: list[Peer]) -> list[Arrived]:
        arrived: list[Arrived] = []
        words = 0
        for at, peer in enumerate(peers):
            heard = self._local.read(peer)
            arrived += heard
            words += sum(len(one.messages) for one in heard if one.messages)
            if len(arrived) >= TURN_MESSAGES or words >= TURN_WORDS:
                self._local.put_off(peers[at + 1 :])
                break
        if self._local.gone:
            for address in self._local.gone:
                self._outboxes.pop(address, None)
                self._lost(address)
            self._local.gone.clear()
        if active:
            self._routers.drain(active, arrived)
        return arrived

    def send(self, to: str, messages: Sequence[Message]) -> bool:
        """Send, or queue for a slow peer; return False if some were not taken, which are then in `untaken`."""
        door, identity = self._where(to)
        before = len(self.untaken) + len(self.unsayable)
        for batch in batches(messages):
            if to in self._outboxes and not (batch := self._withhold(to, door, batch)):
                continue
            for part, frames in self._encode(to, door, batch):
                self._deliver(to, door, identity, frames, part)
        return len(self.untaken) + len(self.unsayable) == before

    @property
    def garbage(self) -> int:
        """The number of malformed messages received."""
        return self._routers.garbage + (self._local.garbage if self._selector is not None else 0)

    def is_slow(self, to: str) -> bool:
        """Return True if messages for this peer are queued."""
        return to in self._outboxes

    def _withhold(self, to: str, door: Door, messages: Sequence[Message]) -> Sequence[Message]:
        """Move results to `untaken` if too much is queued for a client; their payloads are not read."""
        box = self._outboxes[to]
        if box.nbytes <= OUTBOX_BYTES or door.is_for_hubs:  # a hub's load bounds what it is sent
            return messages
        large = [message for message in messages if getattr(message, "payload", None) is not None]
        if not large:
            return messages
        box.withheld = True
        self.untaken += [(to, message) for message in large]
        return [message for message in messages if getattr(message, "payload", None) is None]

    def _where(self, to: str) -> tuple[Door, bytes]:
        kind, _, identity = to.partition(":")
        return self._door_of(kind, bytes.fromhex(identity)), bytes.fromhex(identity)

    def _door_of(self, kind: str, identity: bytes) -> Door:
        """Return the door of this kind to which the peer is connected: that with TCP, if the other has no such peer."""
        door = self._by_kind[kind]
        if self._tcp and isinstance(door.socket, UnixRouter) and identity not in door.socket.peers:
            return self._tcp[self._doors.index(door)]
        return door

    def _encode(self, to: str, door: Door, batch: Sequence[Message]) -> list[tuple[Sequence[Message], list[Buffer]]]:
        """Return the batch as frames; if one message cannot be encoded, send the others one by one."""
        try:
            return [(batch, door.speaks.encode(batch, self._see_files.get(to)))]
        except Exception as error:
            if len(batch) == 1:
                self.unsayable.append((to, batch[0], error))
                return []
            return [pair for message in batch for pair in self._encode(to, door, [message])]

    def _deliver(self, to: str, door: Door, identity: bytes, frames: list[Buffer], messages: Sequence[Message]) -> None:
        box = self._outboxes.get(to)
        if box is None:
            try:
                self._write(to, door, identity, frames)
                return
            except BUSY:
                box = self._outboxes[to] = Outbox(INFINITY if to in self._local.peers else monotonic())
            except GONE:  # the peer has closed
                self.untaken += [(to, message) for message in messages]
                self._lost(to)
                return
        if box.nbytes > SILENT_BYTES and not door.is_for_hubs:
            del self._outboxes[to]
            self._lost(to)  # it notices at its next message, greets again and fetches what it missed
            return
        size = frames_nbytes(frames)
        box.waiting.append((frames, size))
        box.nbytes += size

    def _write(self, to: str, door: Door, identity: bytes, frames: list[Buffer]) -> None:
        """Write the frames; raise an exception of GONE if the peer is gone, of BUSY if it takes nothing now."""
        peer = self._local.peers.get(to)
        if peer is not None:
            self._local.write(peer, frames)
        else:
            door.is_stirred = True
            door.socket.send([identity, *frames])

    def _lost(self, to: str) -> None:
        if to not in self.gone:
            self.gone.append(to)

    def _write_on(self, peer: Peer) -> None:
        """Write queued messages to a peer that can take more."""
        try:
            if not peer.outflow.flush(peer.socket):
                return
        except OSError:
            return  # the next read notices that it is gone
        if peer.address in self._outboxes:
            self._empty(peer.address, self._outboxes[peer.address], 0.0)
        if peer.outflow.is_clear and peer.address not in self._outboxes:
            self._local.wait_for(peer, False)

    def _retry(self, now: float) -> None:
        for to, box in tuple(self._outboxes.items()):
            if box.try_at <= now:
                self._empty(to, box, now)

    def _empty(self, to: str, box: Outbox, now: float) -> None:
        (door, identity), moved = self._where(to), False
        try:
            while box.waiting:
                self._write(to, door, identity, box.waiting[0][0])
                box.nbytes -= box.waiting.popleft()[1]
                moved = True
        except BUSY:
            if to not in self._local.peers:
                box.pause_s = RETRY_S[0] if moved else min(RETRY_S[1], box.pause_s * 2)
                box.try_at = now + box.pause_s
            return
        except GONE:
            self._lost(to)
        else:
            if box.withheld:
                self.drained.append(to)
        del self._outboxes[to]

    def drop(self, to: str) -> None:
        """Drop the queued messages of this peer, and the note that it sees the files."""
        self._outboxes.pop(to, None)
        self._see_files.pop(to, None)

    def answer_json(self, to: str, value: object) -> None:
        """Send the one reply to a JSON request."""
        kind, _, envelope = to.partition(":")
        parts = [bytes.fromhex(part) for part in envelope.split(".")]
        try:
            text = msgspec.json.encode(value)
        except Exception as error:
            text = msgspec.json.encode({"error": f"The answer cannot be written as JSON: {error}."})
        door = self._door_of(kind, parts[0])
        try:
            door.is_stirred = True
            door.socket.send([*parts, text])
        except GONE:
            pass  # the client is gone, or never reads its replies
