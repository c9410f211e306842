"""A party's whole connection to a core on another computer: messages, and files beside them.

To its owner it is a line like any other. The Welcome that it gives names a folder of this computer (mirror.py) instead
of the core's; parts that lie in it are sent up before the message that names them, and files that the core names are
fetched before their message is given out.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from time import monotonic
from typing import Any

import msgspec
import zmq

from nblb.access.connection_file import ConnectionFile
from nblb.access.key_store import key_mark
from nblb.protocol.framing import Buffer, Codec, Find, Part, Payload, Refer
from nblb.protocol.messages import Message, Welcome
from nblb.shared_files.transfer import FilePart, checked
from nblb.transport.bulk.chunks import GET
from nblb.transport.bulk.held_back import HeldBack
from nblb.transport.bulk.mirror import Mirror
from nblb.transport.bulk.transfers import BulkLine
from nblb.transport.curve.line import CurveLine

log = logging.getLogger("nblb")

CONNECT_S = 1.0  # how long a Welcome waits for the bulk door; without it large buffers go with the messages
LOOK_S = 0.05  # between two looks at a file that another process of this computer fetches
TIDY_S = 1.0


class RemoteLine(CurveLine):
    """A CurveLine that moves the files which messages name."""

    def __init__(
        self,
        found: ConnectionFile,
        speaks: Codec,
        hears: Codec,
        max_message_mb: int = 1024,
        door: str = "",
    ) -> None:
        self._mirrors = mirrors_folder()
        self._mirror: Mirror | None = None
        self._bulk: BulkLine | None = None
        self._mark = key_mark(found.public_key)
        self._shares = False
        self._welcome: tuple[Welcome, float] | None = None  # waits for the bulk door until that time
        self._without_files: Welcome | None = None  # given out before the bulk door had answered
        self._bulk_works = False  # it has answered: what is large waits for it, and never goes with the messages
        self._behind: list[Any] = []  # what has arrived after it
        self._in, self._out = HeldBack(), HeldBack()
        self._parts: dict[str, list[FilePart]] = {}  # by name: those that wait for the file
        self._found: dict[str, str] = {}  # own name of a part -> name and ticket of its file
        self._asked: dict[str, str] = {}  # name -> name and ticket of a file that another process fetches
        self._up: set[str] = set()  # own files that are up …
        self._going_up: set[str] = set()  # … or on their way
        self._has_more = False
        self._tidy_at = 0.0
        super().__init__(found, speaks, hears, max_message_mb, door)

    # ── receiving ──

    def receive(self, timeout_s: float | None = None, fds: Sequence[int] = ()) -> list[Any]:
        """Return arrived messages whose files have come; wait as a Line does."""
        bulk = self._bulk
        if bulk is None:
            arrived = super().receive(timeout_s, fds)
        else:
            arrived = super().receive(self._until(timeout_s), fds)
            self._has_more = bulk.turn()
            self._bulk_works = self._bulk_works or bulk.connected
        messages = self._give_out(arrived)
        if self._without_files is not None and self._bulk_works:
            messages.append(self._as_seen_here(self._without_files))  # once more: now with a folder
        if bulk is not None:
            messages += self._moved(bulk)
            self._tidy(bulk)
        return messages

    def _until(self, timeout_s: float | None) -> float | None:
        """Return how long to wait at most."""
        if self._has_more:
            return 0.0
        now, times = monotonic(), list[float]()
        if timeout_s is not None:
            times.append(timeout_s)
        if self._welcome is not None:
            times.append(self._welcome[1] - now)
        if self._asked:
            times.append(LOOK_S)
        if self._up or self._asked:
            times.append(TIDY_S)
        if self._bulk is not None and (due := self._bulk.deadline()) is not None:
            times.append(due - now)
        return max(0.0, min(times)) if times else None

    def _give_out(self, arrived: list[Any]) -> list[Any]:
        """Return the messages that may be handled now."""
        messages: list[Any] = []
        if self._welcome is not None:
            welcome, until = self._welcome
            if not self._bulk_works and monotonic() < until:
                self._behind += arrived
                return []
            self._welcome = None
            messages.append(self._as_seen_here(welcome))
            arrived, self._behind = self._behind + arrived, []
        for at, message in enumerate(arrived):
            if type(message) is Welcome and self._wait_for_bulk(message):
                self._behind = arrived[at + 1 :]
                break
            if type(message) is Welcome:
                message = self._as_seen_here(message)
            missing = self._missing_of(message) if self._found else ()
            if self._in.pass_on(message, missing):
                messages.append(message)
        return messages

    def _wait_for_bulk(self, welcome: Welcome) -> bool:
        """Dial the bulk door that a Welcome names; return True if the Welcome must wait for it."""
        if not (welcome.files and welcome.bulk):
            self._hang_up_bulk()
            return False
        if self._bulk is None or self._bulk.port != welcome.bulk:
            self._hang_up_bulk()
            self._bulk = BulkLine(self.connection_file, welcome.bulk)
            for socket in self._bulk.sockets:  # not their descriptors, which are silent about what a `send` has noticed
                self._poller.register(socket, zmq.POLLIN)
        if self._bulk_works:
            return False
        self._welcome = welcome, monotonic() + CONNECT_S
        return True

    def _as_seen_here(self, welcome: Welcome) -> Welcome:
        """Return a Welcome with the folders of this computer."""
        self._without_files = None
        if self._bulk is None or not self._bulk_works:
            if welcome.bulk:
                self._without_files = welcome
                log.warning("the bulk door at %s port %d does not answer; large buffers go with the messages, slowly",
                            self.connection_file.host, welcome.bulk)  # fmt: skip
            return msgspec.structs.replace(welcome, files="", output="")
        if self._mirror is None:
            self._mirror = Mirror(self._mirrors / key_mark(self.connection_file.server_key))
        self._mirror.write_token(welcome.token)
        return msgspec.structs.replace(welcome, files=self._mirror.root, output="")

    # ── files that come ──

    def share(self, find: Find | None, refer: Refer | None) -> None:
        """Allow messages to name files: those of the mirror, which stand for the core's."""
        self._shares = find is not None and self._mirror is not None
        super().share(self._find if self._shares else None, self._name if self._shares and refer is not None else None)

    def _find(self, said: str, at: int, nbytes: int) -> Part | Buffer:
        """Return the part that a message names, which is still to be fetched."""
        assert self._mirror is not None
        checked(said.partition(".")[0])
        part = self._mirror.expect(at, nbytes)
        self._found[part.name] = said
        return part

    def _missing_of(self, message: Message) -> list[str]:
        """Return the names of the files that must come before this message is handled, and have them fetched."""
        missing = []
        for part in _parts(message):
            said = self._found.pop(part.name, "")
            if said:
                name = said.partition(".")[0]
                missing.append(name)
                self._fetch(name, said, part)
        return [name for name in dict.fromkeys(missing) if name in self._parts]

    def _fetch(self, name: str, said: str, part: FilePart) -> None:
        assert self._mirror is not None
        waiting = self._parts.get(name)
        if waiting is not None:
            waiting.append(part)
        elif self._mirror.has(name):
            self._mirror.link(name, part)
        else:
            self._parts[name] = [part]
            self._start(name, said)

    def _start(self, name: str, said: str) -> None:
        """Fetch a file, unless another process of this computer does."""
        assert self._mirror is not None
        try:
            fd = self._mirror.begin(name)
        except OSError as error:
            log.error("a file of the core cannot be stored here: %s", error)
            self._asked.pop(name, None)
            self._arrive(name)
            return
        if fd is None or self._bulk is None:
            self._asked[name] = said
        else:
            self._asked.pop(name, None)
            self._bulk.get(said, fd)

    def _arrive(self, name: str) -> None:
        for part in self._parts.pop(name, ()):
            if self._mirror is not None:
                self._mirror.link(name, part)

    def _moved(self, bulk: BulkLine) -> list[Any]:
        """Take the transfers that have ended; return the messages that waited for them."""
        come: list[str] = []
        gone_up: list[str] = []
        done, bulk.done = bulk.done, []
        for transfer in done:
            name = transfer.name.partition(".")[0]
            if transfer.problem:
                log.error("the file %s was not moved: %s", name, transfer.problem)
            if transfer.word == GET and self._mirror is not None:
                self._mirror.finish(name, transfer.problem)
                come.append(name)
            elif transfer.word != GET:
                own = self._own_name(name)
                self._going_up.discard(own)
                if not transfer.problem:
                    self._up.add(own)
                gone_up.append(own)
        for name, said in list(self._asked.items()):
            if self._mirror is not None and self._mirror.has(name):
                del self._asked[name]
                come.append(name)
            else:
                self._start(name, said)
        for name in come:
            self._arrive(name)
        if gone_up:
            super().send(self._out.moved(gone_up))
        return self._in.moved(come) if come else []

    # ── files that go ──

    def _name(self, part: Part) -> bool | str:
        """Return the name by which the core knows a file of the mirror, once it is up."""
        return self._core_name(part.name) if part.name in self._up else False

    def _core_name(self, own: str) -> str:
        return f"{self._mark}{own[8:]}"

    def _own_name(self, name: str) -> str:
        assert self._mirror is not None
        return f"{Path(self._mirror.root).name[:8]}{name[8:]}"

    def send(self, messages: Sequence[Message]) -> None:
        """Send the messages, each after the files that it names; never blocks."""
        if self._mirror is None or not self._shares:
            super().send(messages)
            return
        free = [message for message in messages if self._out.pass_on(message, self._to_go_up(message))]
        if free:
            super().send(free)

    def _to_go_up(self, message: Message) -> list[str]:
        """Return the names of the message's files that are not up, and send them up."""
        assert self._mirror is not None
        waiting = []
        for part in _parts(message):
            if not self._mirror.is_own(part) or part.name in self._up:
                continue
            if part.name not in self._going_up:
                try:
                    fd = self._mirror.open(part.name)
                except OSError:
                    continue  # it is read, and fails, when the message is encoded
                if self._bulk is None:
                    continue
                self._bulk.put(self._core_name(part.name), fd)
                self._going_up.add(part.name)
            waiting.append(part.name)
        return waiting

    @property
    def unsent_bytes(self) -> int:
        """The bytes that have not left."""
        return self._unsent_bytes + (self._bulk.unsent_bytes if self._bulk is not None else 0) + bool(self._out)

    def _tidy(self, bulk: BulkLine) -> None:
        """Let the core drop the files that this process has dropped."""
        now = monotonic()
        if self._mirror is None or now < self._tidy_at:
            return
        self._tidy_at = now + TIDY_S
        for own in [own for own in self._up if not self._mirror.is_there(own)]:
            self._up.discard(own)
            bulk.drop(self._core_name(own))
        if self._up:
            bulk.keep(self._core_name(next(iter(self._up)))[:28])
        self._mirror.sweep(now)

    # ── the end ──

    def _hang_up_bulk(self) -> None:
        if self._bulk is not None:
            for socket in self._bulk.sockets:
                self._poller.unregister(socket)
            self._bulk.close()
            self._bulk, self._bulk_works = None, False
            self._give_up_files()

    def _give_up_files(self) -> None:
        """Forget what was on its way, and the messages that waited for it: they are sent again, either way."""
        for name in self._parts:
            if self._mirror is not None:
                self._mirror.finish(name, "its transfer was given up")
        for waiting in (self._parts, self._found, self._asked, self._going_up):
            waiting.clear()
        self._in.clear()
        self._out.clear()

    def close(self) -> None:
        """Disconnect, and remove the folder of this process."""
        if not self.socket.closed:
            super().close()
            if self._bulk is not None:
                for own in self._up:  # no message names them any more, and the core has links to those that one named
                    self._bulk.drop(self._core_name(own))
            self._hang_up_bulk()
            if self._mirror is not None:
                self._mirror.close()


def mirrors_folder() -> Path:
    """Return the folder of all mirrors of this account."""
    import platformdirs

    return platformdirs.user_state_path("nblb", appauthor=False) / "remote" / "mirrors"


def _parts(value: Any) -> Iterator[FilePart]:
    """Yield the parts in files of all payloads of a message."""
    if isinstance(value, Payload):
        for part in value.parts or ():
            if isinstance(part, FilePart):
                yield part
    elif isinstance(value, msgspec.Struct):
        for field in value.__struct_fields__:
            yield from _parts(getattr(value, field))
    elif isinstance(value, tuple):
        for each in value:
            yield from _parts(each)
