"""The core's side of every connection: three ROUTER sockets, and what waits for peers that are slow."""

from __future__ import annotations

import errno
import os
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from time import monotonic
from typing import Any, NamedTuple

import msgspec
import zmq

from nblb.errors import NblbError, ProtocolError
from nblb.framing import VERSION, Buffer, Codec, Find, Refer
from nblb.messages import Message, client_to_core, core_to_client, core_to_hub, hub_to_core
from nblb.parameters import Parameters
from nblb.security import loopback_address, runtime_folder, socket_address
from nblb.transport.sockets import (
    MIB,
    TURN_MESSAGES,
    batches,
    bound,
    frames_nbytes,
    notice_silence,
    read_frames,
    write_frames,
)

WORD = VERSION[:4]  # what every version of the protocol begins with
TURN_BYTES = 64 * MIB
RUN_OF_ONE_DOOR = 64  # taken from one door before the next has its turn
OUTBOX_BYTES = 8 * MIB  # waiting for one slow client, beside what is inside ZeroMQ, before results are withheld
SILENT_BYTES = 2 * OUTBOX_BYTES  # … and before a client that takes nothing at all is given up
RETRY_S = (0.001, 0.2)  # how soon a slow peer is tried again, at first and at last


class Arrived(NamedTuple):
    """What one multipart message held: messages, or a JSON request, or the reason why it is neither."""

    sender: str
    messages: list[Any] | None = None
    json: Any = None
    error: ProtocolError | None = None


class _Door:
    """One ROUTER, what may be said at it, and in which words it answers."""

    def __init__(self, name: str, kind: str, key: str, hears: Codec, speaks: Codec) -> None:
        self.name, self.kind, self.key, self.speaks = name, kind, key, speaks
        self._reader = hears.reader()
        self.socket: zmq.Socket[bytes] = None  # type: ignore[assignment]  # until open()

    def share(self, find: Find) -> None:
        """Messages may name files from here on."""
        self._reader.find = find

    def read(self, frames: list[Buffer]) -> Arrived:
        identity = bytes(frames[0])
        if len(frames) > 1 and frames[1][: len(WORD)] == WORD:
            address = f"{self.kind}:{identity.hex()}"
            try:
                return Arrived(address, self._reader.decode(frames[1:]))
            except ProtocolError as error:
                # another, for this one's traceback holds the frames until a rare collection of garbage
                return Arrived(address, error=ProtocolError(str(error)))
        return self._read_json(identity, frames)

    def _read_json(self, identity: bytes, frames: list[Buffer]) -> Arrived:
        """What a REQ socket sends: its envelope up to an empty frame, and one frame of JSON."""
        parts = [bytes(frame) for frame in frames[1:3]]
        end = parts.index(b"") if b"" in parts else -1  # a REQ_CORRELATE socket puts the request's number before it
        bare = end < 0 and len(frames) == 2 and parts[0][:1] == b"{"
        if (end < 0 and not bare) or (end == 1 and len(parts[0]) > 16):
            said = parts[0][:16] if parts else b""
            return Arrived(
                f"{self.kind}:{identity.hex()}", error=ProtocolError(f"not an nblb message: it begins with {said!r}")
            )
        envelope = [identity, *parts[: end + 1]]
        address = f"json-{self.name}:{'.'.join(part.hex() for part in envelope)}"
        if len(frames) != len(envelope) + 1:
            return Arrived(address, error=ProtocolError("a JSON request is one frame"))
        try:
            return Arrived(address, json=msgspec.json.decode(frames[-1]))
        except (msgspec.MsgspecError, UnicodeError, ValueError, RecursionError) as error:
            return Arrived(address, error=ProtocolError(f"the request is not JSON: {error}"))


class _Outbox:
    """What a slow peer has not taken yet, in order."""

    __slots__ = ("nbytes", "pause_s", "try_at", "waiting", "withheld")

    def __init__(self, now: float) -> None:
        self.waiting: deque[tuple[list[Buffer], int]] = deque()
        self.nbytes = 0
        self.pause_s = RETRY_S[0]
        self.try_at = now + self.pause_s
        self.withheld = False


class Doors:
    """The core's sockets: one door for clients, one for hubs, one for the Health Check and the Monitor.

    After each `send` and `receive` these lists say what did not go smoothly, until their reader empties them:
    `untaken` messages (the peer is gone, or too slow for more results), peers that are `gone`, and peers that
    have `drained` after results were withheld from them.
    """

    def __init__(self, parameters: Parameters) -> None:
        self.parameters = parameters
        self.addresses: dict[str, str] = {}
        self.untaken: list[tuple[str, Message]] = []
        self.unsayable: list[tuple[str, Message, Exception]] = []  # not to be encoded: a bug, or a file that is gone
        self.gone: list[str] = []
        self.drained: list[str] = []
        self.garbage = 0
        self._doors = (
            _Door("clients", "client", "LB_CLIENTPULLPORT", client_to_core, core_to_client),
            _Door("hubs", "hub", "LB_WKPULLPORT", hub_to_core, core_to_hub),
            _Door("health", "health", "LB_HCREPPORT", client_to_core, core_to_client),
        )
        self._by_kind = {door.kind: door for door in self._doors}
        self._by_kind |= {f"json-{door.name}": door for door in self._doors}
        self._outboxes: dict[str, _Outbox] = {}
        self._refer: Refer | None = None
        self._see_files: set[str] = set()  # peers that files can be named to
        self._turn = 0
        self._context: zmq.Context[zmq.Socket[bytes]] | None = None
        self._wake_read, self._wake_write = -1, -1
        self._folder: Path | None = None

    def open(self) -> None:
        """Bind; raises NblbError with the holder's name where an address is taken."""
        folder = self._folder = runtime_folder(self.parameters)
        self._context = zmq.Context()
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)
        self._poller = zmq.Poller()
        self._poller.register(self._wake_read, zmq.POLLIN)
        try:
            for door in self._doors:
                door.socket = self._context.socket(zmq.ROUTER)
                bound(door.socket, self.parameters.LB_MAX_MESSAGE_MB)
                door.socket.setsockopt(zmq.ROUTER_MANDATORY, 1)  # a message that cannot go is an error, not dropped
                address = socket_address(folder / door.name)
                door.socket.bind(address)
                self.addresses[door.name] = address
                if self.parameters.LB_SECURITY == "none":
                    self.addresses[f"{door.name}_tcp"] = self._bind_tcp(door)
                self._poller.register(door.socket, zmq.POLLIN)
        except zmq.ZMQError as error:
            self.close()
            raise NblbError(f"The core cannot listen in {folder}: {error.strerror}.") from None
        except BaseException:
            self.close()
            raise

    def _bind_tcp(self, door: _Door) -> str:
        ip = loopback_address(self.parameters.LB_IP, "LB_IP")
        port: int = getattr(self.parameters, door.key)
        host = f"[{ip}]" if ":" in ip else ip
        door.socket.setsockopt(zmq.IPV6, ":" in ip)
        notice_silence(door.socket)  # holds for what is bound from here on
        try:
            door.socket.bind(f"tcp://{host}:{port or '*'}")
        except zmq.ZMQError as error:
            if error.errno != errno.EADDRINUSE:
                raise NblbError(f"{door.key}: cannot listen on {ip} port {port}: {error.strerror}.") from None
            raise NblbError(
                f"{door.key}: port {port} of {ip} is taken{self._holder(f':{port}', port)}; stop that, or choose "
                "another port (0 for any free one)."
            ) from None
        return door.socket.getsockopt_string(zmq.LAST_ENDPOINT)

    def _holder(self, ending: str, port: int) -> str:
        """Who has this port, as far as this account can see."""
        for file in self.parameters.runtime_base.glob("*/core.json"):
            try:
                core = msgspec.json.decode(file.read_bytes())
                if any(address.endswith(ending) for address in core["addresses"].values()):
                    return f" by the core {core['name']!r} (pid {core['pid']})"
            except (OSError, msgspec.MsgspecError, KeyError, TypeError, AttributeError):
                continue
        import psutil  # only when something is wrong already

        try:
            for connection in psutil.net_connections("tcp"):
                listens = connection.status == psutil.CONN_LISTEN and getattr(connection.laddr, "port", 0) == port
                if listens and connection.pid:
                    return f" by {psutil.Process(connection.pid).name()} (pid {connection.pid})"
        except (psutil.Error, OSError):
            pass
        return " by another program"

    def share(self, find: Find, refer: Refer) -> None:
        """Let messages name files: `find` finds what peers name, `refer` says what can be named to them."""
        self._refer = refer
        for door in self._doors:
            door.share(find)

    def name_files_to(self, peer: str) -> None:
        """This peer sees the files that are shared."""
        self._see_files.add(peer)

    def close(self) -> None:
        """Let go of everything; messages on their way have a moment to leave."""
        for door in self._doors:
            if door.socket is not None:
                door.socket.close()
        if self._context is not None:
            self._context.term()
            self._context = None
            os.close(self._wake_read)
            os.close(self._wake_write)
        for address in self.addresses.values():
            if address.startswith("ipc://"):
                Path(address[6:]).unlink(missing_ok=True)
        self.addresses = {}
        if self._folder is not None:
            try:
                self._folder.rmdir()
            except OSError:
                pass  # others of the cluster still use it

    def wake(self) -> None:
        """End a `receive` that waits; from any thread or signal handler."""
        try:
            os.write(self._wake_write, b"w")
        except OSError:
            pass  # full: it will wake anyway; closed: nobody waits

    def receive(self, timeout_s: float | None) -> list[Arrived]:
        """What has arrived, or what arrives first within the time; a bounded number of messages."""
        if self._outboxes:
            retry_s = max(0.0, min(box.try_at for box in self._outboxes.values()) - monotonic())
            timeout_s = retry_s if timeout_s is None else min(timeout_s, retry_s)
        # rounded up, so that whoever waits for a deadline does not wake just before it and wait again
        ready = dict(self._poller.poll(None if timeout_s is None else int(max(0.0, timeout_s) * 1000 + 0.999)))
        if self._outboxes:
            self._retry(monotonic())
        if self._wake_read in ready:
            try:
                os.read(self._wake_read, 4096)
            except BlockingIOError:
                pass
        self._turn += 1
        active = [door for door in self._doors if door.socket in ready]
        if len(active) > 1:
            active = active[self._turn % len(active) :] + active[: self._turn % len(active)]
        return self._drain(active)

    def _drain(self, active: list[_Door]) -> list[Arrived]:
        arrived: list[Arrived] = []
        nbytes = 0
        while active and len(arrived) < TURN_MESSAGES and nbytes < TURN_BYTES:
            for door in tuple(active):
                try:
                    for _ in range(RUN_OF_ONE_DOOR):
                        frames = read_frames(door.socket, small=4)
                        nbytes += frames_nbytes(frames)
                        one = door.read(frames)
                        arrived.append(one)
                        if one.error is not None:
                            self.garbage += 1
                except zmq.Again:
                    active.remove(door)
        return arrived

    def send(self, to: str, messages: Sequence[Message]) -> bool:
        """Send, or queue for a slow peer; False if some were not taken, which then stand in `untaken`."""
        door, identity = self._where(to)
        before = len(self.untaken) + len(self.unsayable)
        for batch in batches(messages):
            if to in self._outboxes and not (batch := self._withhold(to, door, batch)):
                continue
            for part, frames in self._encode(to, door, batch):
                self._deliver(to, door, [identity, *frames], part)
        return len(self.untaken) + len(self.unsayable) == before

    def is_slow(self, to: str) -> bool:
        """Something waits for this peer already."""
        return to in self._outboxes

    def _withhold(self, to: str, door: _Door, messages: Sequence[Message]) -> Sequence[Message]:
        """Without the results, where too much waits already; they are not even read from where they lie."""
        box = self._outboxes[to]
        if box.nbytes <= OUTBOX_BYTES or door.kind == "hub":  # what a hub is sent is bounded by what it is given to do
            return messages
        large = [message for message in messages if getattr(message, "payload", None) is not None]
        if not large:
            return messages
        box.withheld = True
        self.untaken += [(to, message) for message in large]
        return [message for message in messages if getattr(message, "payload", None) is None]

    def _where(self, to: str) -> tuple[_Door, bytes]:
        kind, _, identity = to.partition(":")
        return self._by_kind[kind], bytes.fromhex(identity)

    def _encode(self, to: str, door: _Door, batch: Sequence[Message]) -> list[tuple[Sequence[Message], list[Buffer]]]:
        """The batch as frames; should one message not be encodable, the others go each by itself."""
        try:
            return [(batch, door.speaks.encode(batch, self._refer if to in self._see_files else None))]
        except Exception as error:
            if len(batch) == 1:
                self.unsayable.append((to, batch[0], error))
                return []
            return [pair for message in batch for pair in self._encode(to, door, [message])]

    def _deliver(self, to: str, door: _Door, frames: list[Buffer], messages: Sequence[Message]) -> None:
        box = self._outboxes.get(to)
        if box is None:
            try:
                write_frames(door.socket, frames)
                return
            except zmq.Again:
                box = self._outboxes[to] = _Outbox(monotonic())
            except zmq.ZMQError:  # EHOSTUNREACH: the peer has closed
                self.untaken += [(to, message) for message in messages]
                self.gone.append(to)
                return
        if box.nbytes > SILENT_BYTES and door.kind != "hub":
            del self._outboxes[to]
            self.gone.append(to)  # it finds out with its next word, greets again and fetches what it missed
            return
        size = frames_nbytes(frames)
        box.waiting.append((frames, size))
        box.nbytes += size

    def _retry(self, now: float) -> None:
        for to, box in tuple(self._outboxes.items()):
            if box.try_at > now:
                continue
            door, moved = self._where(to)[0], False
            try:
                while box.waiting:
                    write_frames(door.socket, box.waiting[0][0])
                    box.nbytes -= box.waiting.popleft()[1]
                    moved = True
            except zmq.Again:
                box.pause_s = RETRY_S[0] if moved else min(RETRY_S[1], box.pause_s * 2)
                box.try_at = now + box.pause_s
                continue
            except zmq.ZMQError:
                self.gone.append(to)
            else:
                if box.withheld:
                    self.drained.append(to)
            del self._outboxes[to]

    def drop(self, to: str) -> None:
        """Forget what waits for this peer, and what it sees."""
        self._outboxes.pop(to, None)
        self._see_files.discard(to)

    def answer_json(self, to: str, value: object) -> None:
        """The one reply to a JSON request."""
        kind, _, envelope = to.partition(":")
        parts = [bytes.fromhex(part) for part in envelope.split(".")]
        try:
            text = msgspec.json.encode(value)
        except Exception as error:
            text = msgspec.json.encode({"error": f"The answer cannot be said in JSON: {error}."})
        try:
            self._by_kind[kind].socket.send_multipart([*parts, text], zmq.NOBLOCK)
        except zmq.ZMQError:
            pass  # who asked has gone, or asks without ever reading
