"""Payloads too large for the database, as files named by their content, so that equal payloads are stored once.

A payload in a file need not be in the core's memory: `unload` replaces its bytes by their place in the file, from
which they are read when they are sent.
"""

from __future__ import annotations

import hashlib
import mmap
import os
from collections import Counter
from collections.abc import Iterable
from io import FileIO
from itertools import count
from pathlib import Path
from typing import Any

import msgspec

from nblb.broker.journal.file_checks import Checked, DamagedFile, FileChecks
from nblb.broker.journal.file_claims import FileClaims, StoredPart
from nblb.errors import JournalError
from nblb.protocol.framing import Buffer, Payload
from nblb.shared_files.transfer import checked, write_all
from nblb.system.private_folder import private_folder
from nblb.system.state_mark import STORED

DIGEST_BYTES = 20
MAPPED = 1024 * 1024  # files of this size and more are mapped; mapping smaller ones costs more than reading


class StoredBytes:
    """A payload's bytes in its file; a `framing.Away`.

    The file is named by its content. It is compared with its name when it is first read after a start, when it has
    been changed since, and when the last comparison is older than `file_checks.TRUST_S`.
    """

    __slots__ = ("_checked", "_lengths", "_path", "_start", "nbytes")

    def __init__(self, path: str, start: int, lengths: tuple[int, ...], checked: Checked | None = None) -> None:
        self._path, self._start, self._lengths = path, start, lengths  # str, as a Path is larger
        self._checked = checked
        self.nbytes = sum(lengths)

    def read(self) -> tuple[Buffer, ...]:
        """Return all buffers; they stay valid while referenced, even when the file is removed.

        Raises
        ------
        JournalError
            The file is missing, or its content is not what was written.
        """
        try:
            with open(self._path, "rb", buffering=0) as file:
                whole = self._whole(file)
                self._check(file, whole)
        except (OSError, ValueError) as error:
            raise _unreadable(self._path, error) from None
        at, buffers = self._start, list[Buffer]()
        for length in self._lengths:
            buffers.append(whole[at : at + length])
            at += length
        return tuple(buffers)

    def cut(self, start: int, end: int) -> bytes:
        """Return a part of the first buffer; raise JournalError as `read` does."""
        try:
            with open(self._path, "rb", buffering=0) as file:
                self._check(file)
                return os.pread(file.fileno(), end - start, self._start + start)
        except (OSError, ValueError) as error:
            raise _unreadable(self._path, error) from None

    def _whole(self, file: FileIO) -> memoryview:
        if self.nbytes < MAPPED:
            return memoryview(file.read())
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))

    def _check(self, file: FileIO, whole: memoryview | None = None) -> None:
        """Compare the file's content with its name; raise DamagedFile if they differ."""
        found = os.fstat(file.fileno())
        if self._checked is not None and self._checked.is_valid(found):
            return
        content = hashlib.blake2b(self._whole(file) if whole is None else whole, digest_size=DIGEST_BYTES)
        if content.hexdigest() != self._path.rpartition("/")[2]:
            raise DamagedFile(f"its {found.st_size:,} bytes are not those that were written")
        self._checked = Checked.now(found)


class LostBytes:
    """A payload whose bytes are lost; a `framing.Away`."""

    __slots__ = ("reason",)
    nbytes = 0

    def __init__(self, reason: str) -> None:
        self.reason = reason

    def read(self) -> tuple[Buffer, ...]:
        """Raise JournalError with the reason."""
        raise JournalError(self.reason)

    def cut(self, _start: int, _end: int) -> bytes:
        """Raise JournalError with the reason."""
        raise JournalError(self.reason)


def lost_reason(payload: Payload | None) -> str:
    """Return why the bytes of this payload are known to be lost; "" if they are not."""
    return payload.away.reason if payload is not None and isinstance(payload.away, LostBytes) else ""


class BlobFiles:
    """A folder of payload files with a reference count each; a file without references is removed.

    A file is complete before it gets its name, and gets its name before the row that needs it is committed. A file
    without a row is therefore a leftover of a crash, which `sweep` removes.
    """

    def __init__(self, folder: Path, *, sync: bool) -> None:
        self.folder, self.sync = folder, sync
        self._users: Counter[str] = Counter()
        self._fresh: set[str] = set()  # on disk, not yet committed
        self._released: list[str] = []  # needed by no row, but perhaps by messages about to be sent
        self._number = count()
        private_folder(folder)
        self.checks = FileChecks(str(folder))
        self.claims = FileClaims(folder.parent, self._users, self.checks)

    def write(self, payload: Payload) -> str:
        """Write the payload to disk, unless an equal one is there already; return the name of its file."""
        parts = _parts(payload)
        content = hashlib.blake2b(digest_size=DIGEST_BYTES)
        for part in parts:
            content.update(part)
        name = content.hexdigest()
        path = self.folder / name
        if name not in self._users and name not in self._fresh:
            rough = self.folder / f"tmp-{next(self._number)}"
            try:
                self._write(rough, parts)
                rough.rename(path)
            except BaseException:
                rough.unlink(missing_ok=True)
                raise
            self._fresh.add(name)
        return name

    def unload(self, name: str, payload: Payload) -> None:
        """Replace the payload's bytes in memory by their place in the file."""
        if name in self._users and not payload.is_away:
            lengths = tuple(memoryview(part).nbytes for part in payload.buffers)
            path = f"{self.folder}/{name}"
            try:
                written = Checked.now(os.stat(path))  # noqa: PTH116
            except OSError:
                written = None  # the next reader reports it
            payload.put_away(StoredBytes(path, len(_layout(payload)), lengths, written))

    def _write(self, path: Path, parts: list[Buffer]) -> None:
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            write_all(file, [memoryview(part).cast("B") for part in parts if memoryview(part).nbytes])
            if self.sync:
                os.fsync(file)
        finally:
            os.close(file)

    def secure(self, name: str) -> None:
        """Take over a file from a sender, because a row is about to need it."""
        if name not in self._users and name not in self._fresh:
            if self.sync:
                file = os.open(self.folder / name, os.O_RDONLY | os.O_CLOEXEC)
                try:
                    os.fsync(file)
                finally:
                    os.close(file)
            self._fresh.add(name)

    def settle(self) -> None:
        """Make the names of new files survive a power loss, before rows that need them are committed."""
        if self.sync and self._fresh:
            folder = os.open(self.folder, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)

    def read(self, name: str) -> Payload:
        """Return the payload of a file, with the place of its bytes instead of the bytes; LostBytes if it is damaged.

        The content is compared with the name later, when it is needed.
        """
        path = self.folder / name
        try:
            with open(path, "rb") as file:
                start = 4 + int.from_bytes(file.read(4), "big")
                size = os.fstat(file.fileno()).st_size
                if size < start:
                    raise ValueError(f"it has {size:,} bytes and should have more")
                sizes, lengths = msgspec.json.decode(file.read(start - 4), type=tuple[list[int], list[int]])
                if start + sum(lengths) != size:
                    raise ValueError(f"it has {size:,} bytes and should have {start + sum(lengths):,}")
        except (OSError, ValueError, msgspec.MsgspecError) as error:
            return Payload((), (), LostBytes(str(_unreadable(path, error))))
        return Payload((), sizes, StoredBytes(str(path), start, tuple(lengths)))

    def lying(self, parts: Iterable[Any]) -> Payload:
        """Return a payload from its row, some of whose buffers were handed over in files."""
        placed: list[Buffer | StoredPart] = []
        for part in parts:
            if type(part) is bytes:
                placed.append(part)
                continue
            name, at, nbytes = part
            try:
                size = os.stat(self.folder / checked(name)).st_size  # noqa: PTH116
            except OSError as error:
                return Payload((), (), LostBytes(f"The file {self.folder / name} is gone: {error.strerror}."))
            if size < at + nbytes:
                return Payload((), (), LostBytes(f"The file {self.folder / name} is cut short, to {size:,} bytes."))
            placed.append(StoredPart(self.checks, self.claims.root, name, at, nbytes))
        return Payload.of(placed)

    def is_needed(self, name: str) -> bool:
        """Return True if a row needs this file."""
        return name in self._users

    def take(self, names: Iterable[str]) -> None:
        """Count references to these files by rows that have been committed."""
        self._users.update(names)

    def drop_unneeded(self) -> None:
        """Remove new files that no committed row needs, because their commit failed or another row replaced theirs."""
        if not self._fresh:
            return
        for name in self._fresh - self._users.keys():
            if name not in self.claims:  # a claimed file stays: the next commit may need it
                (self.folder / name).unlink(missing_ok=True)
        self._fresh.clear()

    def release(self, names: Iterable[str]) -> None:
        """Drop the references of rows that are gone; `remove_released` removes the files."""
        for name in names:
            self._users[name] -= 1
            if self._users[name] <= 0:
                del self._users[name]
                self._released.append(name)

    def remove_released(self) -> None:
        """Remove the released files, once the messages that may refer to them have been sent."""
        if not self._released:
            return
        released, self._released = self._released, []
        for name in released:
            if name not in self._users and name not in self._fresh and name not in self.claims:
                (self.folder / name).unlink(missing_ok=True)
                self.checks.drop(name)

    def sweep(self, all_of_it: bool = False, aside: Path | None = None) -> int:
        """Remove the files of nblb that no row needs, or move them to `aside`; return how many there were."""
        swept = 0
        for path in self.folder.iterdir():
            if STORED.fullmatch(path.name) and (all_of_it or path.name not in self._users) and not path.is_dir():
                if aside is not None:
                    aside.mkdir(mode=0o700, exist_ok=True)
                    path.rename(aside / path.name)
                else:
                    path.unlink(missing_ok=True)
                swept += 1
        return swept


def _unreadable(path: Path | str, error: Exception) -> JournalError:
    return JournalError(f"The journal's file {path} cannot be read: {error}.")


def _layout(payload: Payload) -> bytes:
    layout = msgspec.json.encode([list(payload.sizes), [memoryview(b).nbytes for b in payload.buffers]])
    return len(layout).to_bytes(4, "big") + layout


def _parts(payload: Payload) -> list[Buffer]:
    """Return the parts that `Payload.tobytes` would join."""
    return [_layout(payload), *payload.buffers]
