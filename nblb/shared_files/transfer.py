"""Transfer of large buffers between processes of one computer, by files that both see and neither copies.

The sender writes the buffers once, into `incoming` of the core's state folder, and names the file in its message. The
core makes a hard link to it in `blobs`; a process that needs the bytes maps the file. So each name has one owner,
which removes it: the sender when its message is acknowledged, the core when it drops the submission.

A file is complete before a message names it and is never written to again. Mappings are private: a change of an array
in one is invisible to other processes. The first digits of a name identify the process that owns it, so that the
files of dead processes can be swept.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import re
import stat
import weakref
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path

from nblb.host import began, boot_mark, is_alive
from nblb.protocol.framing import IN_MEMORY, Buffer, Part, Payload
from nblb.shared_files.memory_map import private_memory, untouched

BY_FILE = 256 * 1024  # payloads of this size and more travel by file, which costs less from here on
IN_FILE = 32 * 1024  # smaller buffers of such a payload travel in the message
INCOMING, BLOBS, TOKEN = "incoming", "blobs", "token"
WRITE_AT_ONCE = 512  # buffers in one writev; the system allows 1024

_PAGE = mmap.PAGESIZE
_PADDING = memoryview(bytes(_PAGE))
_NAME = re.compile(r"[0-9a-f]{44}")


# ── names ───────────────────────────────────────────────────────────────────────────────────────────────────


def owner() -> str:
    """Return the first digits of the names of this process's files: its machine, its pid, and its start time."""
    pid = os.getpid()
    return f"{boot_mark()}{pid:08x}{began(pid) or 0:012x}"


def process_name() -> str:
    """Return a name by which others can test whether this process still runs, even if its pid is reused."""
    return f"{owner()}{0:016x}"


def has_ended(name: str) -> bool:
    """Return True if the process that owns this name is known to have ended; False for another machine's process."""
    if not _NAME.fullmatch(name) or name[:8] != boot_mark():
        return False
    return not is_alive(int(name[8:16], 16), began_at=int(name[16:28], 16))


def is_of_this_boot(name: str) -> bool:
    """Return True if the name was made since this computer or container started, so that its pid is valid here."""
    return _NAME.fullmatch(name) is not None and name[:8] == boot_mark()


# ── reading ─────────────────────────────────────────────────────────────────────────────────────────────────


class FilePart:
    """A buffer in a file of this folder; a framing.Part. The file's name stays while `keeper` is referenced."""

    __slots__ = ("at", "keeper", "name", "nbytes", "root")

    def __init__(self, root: str, name: str, at: int, nbytes: int, keeper: object = None) -> None:
        self.root, self.name, self.at, self.nbytes, self.keeper = root, name, at, nbytes, keeper

    def read(self) -> Buffer:
        """Return the bytes as private writable memory, which outlives the file's name."""
        fd = open_file(self.root, self.name, self.at + self.nbytes)
        try:
            return private_memory(fd, self.at, self.nbytes, FilePart(self.root, self.name, self.at, self.nbytes))
        finally:
            os.close(fd)

    @property
    def is_copied(self) -> bool:
        """Return True if the core has only a copy, under another name: the folder is a mirror (transport/bulk)."""
        return _NAME.fullmatch(os.path.basename(self.root)) is not None  # noqa: PTH119  # which is named as a file is

    @property
    def is_there(self) -> bool:
        """Return True if the file exists; it disappears before its owner removes it only with the whole folder."""
        return any(os.path.exists(f"{self.root}/{folder}/{self.name}") for folder in (INCOMING, BLOBS))  # noqa: PTH110

    def __repr__(self) -> str:
        return f"<{self.nbytes:,} bytes at {self.at} of {self.name}>"


def open_file(root: str, name: str, size: int) -> int:
    """Open the file of this name; raise OSError unless nblb has written it and it is long enough."""
    fd = _open_either(root, name)
    if not _is_whole(os.fstat(fd), size):
        os.close(fd)
        raise OSError(f"the file {name} in {root} is not one that nblb has written, or was cut short")
    return fd


def is_whole(root: str, name: str, size: int) -> bool:
    """Return True if `open_file` would succeed; needs no descriptor."""
    for folder in (BLOBS, INCOMING):
        with contextlib.suppress(OSError):
            return _is_whole(os.lstat(f"{root}/{folder}/{name}"), size)
    return False


def _is_whole(found: os.stat_result, size: int) -> bool:
    return stat.S_ISREG(found.st_mode) and found.st_uid == os.getuid() and found.st_size >= size


def _open_either(root: str, name: str) -> int:
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    for folder in (BLOBS, INCOMING):
        with contextlib.suppress(FileNotFoundError):
            return os.open(f"{root}/{folder}/{name}", flags)
    raise FileNotFoundError(f"the file {name} in {root} has been removed, and its contents are lost")


# ── writing ─────────────────────────────────────────────────────────────────────────────────────────────────


class _Name:
    """A file's name in `incoming` that this process owns; it is removed with the last reference to this object."""

    __slots__ = ("__weakref__", "_path", "_pid")

    def __init__(self, path: str) -> None:
        self._path, self._pid = path, os.getpid()

    def remove(self) -> None:
        if os.getpid() == self._pid:  # a forked child has a copy of this, but does not own the name
            with contextlib.suppress(OSError):
                os.unlink(self._path)  # noqa: PTH108  # runs while the interpreter ends, too

    __del__ = remove


_folders: weakref.WeakSet[Folder] = weakref.WeakSet()


def close_folders() -> None:
    """Remove all names that this process owns, at the end of the program."""
    for folder in list(_folders):
        folder.close()


class Folder:
    """A core's state folder, as used by one process that writes and names files there."""

    def __init__(self, root: str, prefix: str = "", tag: int = 0, token: str = "") -> None:
        self.root, self.token = root, token
        self.prefix = prefix or owner()  # identifies the owner of the names
        self._tag = tag or int.from_bytes(os.urandom(4), "big")
        self._count = count(1)
        self._names: weakref.WeakValueDictionary[str, _Name] = weakref.WeakValueDictionary()
        _folders.add(self)

    @classmethod
    def seen(cls, root: str, token: str) -> Folder | None:
        """Return the folder if this process sees the one into which the core has put this token, else None."""
        try:
            found = Path(f"{root}/{INCOMING}").lstat()
            if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
                return None
            if Path(f"{root}/{INCOMING}/{TOKEN}").read_text() != token or not token:
                return None
        except (OSError, ValueError):
            return None
        return cls(root, token=token)

    def refers(self, part: Part) -> bool:
        """Return True if a process that sees this folder can find the part by its name."""
        return isinstance(part, FilePart) and part.root == self.root

    def find(self, name: str, at: int, nbytes: int) -> FilePart:
        """Return the part that a message names; raise ValueError if no file can have this name."""
        return FilePart(self.root, checked(name), at, nbytes)

    def adopt(self, name: str, at: int, nbytes: int) -> FilePart:
        """Return the part, and own the file's name from here on."""
        return FilePart(self.root, checked(name), at, nbytes, self._keeper(name))

    def read(self, name: str, at: int, nbytes: int) -> Buffer | FilePart:
        """Return the bytes, which outlast the name; if the file is missing, the later read raises."""
        part = self.find(name, at, nbytes)
        try:
            return part.read()
        except OSError:
            return part

    def write(self, buffers: Sequence[Buffer], owned: bool = True) -> list[Buffer | Part]:
        """Return the buffers, with those of IN_FILE bytes and more written to files; an OSError leaves no file.

        An unchanged mapping of a file is not written again: the file gets another name.
        """
        views = [memoryview(buffer).cast("B") for buffer in buffers]
        placed = [self._again(view, owned) if view.nbytes >= IN_FILE else bytes(view) for view in views]
        rest = [view for view, place in zip(views, placed, strict=True) if place is None]
        try:
            others = iter(self._write(rest, owned) if rest else ())
        except BaseException:
            self.remove([place for place in placed if place is not None])
            raise
        return [next(others) if place is None else place for place in placed]

    def _again(self, view: memoryview, owned: bool) -> FilePart | None:
        part = untouched(view)
        if not isinstance(part, FilePart) or part.root != self.root:
            return None
        try:
            return self._link(FilePart(part.root, part.name, part.at, view.nbytes), owned)
        except OSError:
            return None

    def _write(self, views: Sequence[memoryview], owned: bool) -> list[FilePart]:
        name = self._new_name()
        path = f"{self.root}/{INCOMING}/{name}"
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        keeper = self._keeper(name) if owned else None
        try:
            placed: list[FilePart] = []
            queue: list[memoryview] = []
            at = 0
            for view in views:
                placed.append(FilePart(self.root, name, at, view.nbytes, keeper))
                gap = -view.nbytes % _PAGE
                queue += [view, _PADDING[:gap]] if gap else [view]
                at += view.nbytes + gap
            write_all(fd, queue)
        except BaseException:
            with contextlib.suppress(OSError):
                Path(path).unlink()
            raise
        finally:
            os.close(fd)
        return placed

    def link(self, part: Part) -> Part:
        """Return the part under a name of this process's own, which stays when others remove theirs."""
        if not isinstance(part, FilePart) or part.root != self.root or part.keeper is not None:
            return part
        return self._link(part, True)

    def _link(self, part: FilePart, owned: bool) -> FilePart:
        name = self._new_name()
        path = f"{self.root}/{INCOMING}/{name}"
        try:
            os.link(f"{self.root}/{BLOBS}/{part.name}", path, follow_symlinks=False)
        except FileNotFoundError:
            os.link(f"{self.root}/{INCOMING}/{part.name}", path, follow_symlinks=False)
        return FilePart(self.root, name, part.at, part.nbytes, self._keeper(name) if owned else None)

    def take_in(self, path: str, nbytes: int) -> FilePart:
        """Return the part of a whole file of this file system, which gets a name of this process's own."""
        name = self._new_name()
        os.link(path, f"{self.root}/{INCOMING}/{name}", follow_symlinks=False)
        return FilePart(self.root, name, 0, nbytes, self._keeper(name))

    def _new_name(self) -> str:
        return f"{self.prefix}{self._tag:08x}{next(self._count):08x}"

    def reserve(self) -> tuple[str, object]:
        """Return a new name of this process, which somebody else will give to a file, and its keeper."""
        name = self._new_name()
        return name, self._keeper(name)

    def _keeper(self, name: str) -> _Name:
        keeper = self._names.get(name)
        if keeper is None:
            keeper = self._names[name] = _Name(f"{self.root}/{INCOMING}/{name}")
        return keeper

    def remove(self, parts: Sequence[Buffer | Part]) -> None:
        """Remove written files that no message will name."""
        for name in {part.name for part in parts if not isinstance(part, IN_MEMORY)}:
            with contextlib.suppress(OSError):
                Path(f"{self.root}/{INCOMING}/{name}").unlink()

    def sweep(self, tag: int) -> None:
        """Remove the files that a process has left under this tag, except those in use here."""
        for name in swept_names(self.root):
            if name.startswith(f"{self.prefix}{tag:08x}") and name not in self._names:
                with contextlib.suppress(OSError):
                    Path(f"{self.root}/{INCOMING}/{name}").unlink()

    def close(self) -> None:
        """Remove all names that this process owns, when it sends no more messages."""
        for keeper in list(self._names.values()):
            keeper.remove()


def write_all(fd: int, queue: list[memoryview]) -> None:
    """Write all buffers, end to end."""
    while queue:
        written = os.writev(fd, queue[:WRITE_AT_ONCE])
        done = 0
        while done < len(queue) and written >= queue[done].nbytes:
            written -= queue[done].nbytes
            done += 1
        del queue[:done]
        if queue and written:
            queue[0] = queue[0][written:]


def are_there(payload: Payload) -> bool:
    """Return True if all parts of a payload can still be read."""
    parts = payload.parts
    return parts is None or all(part.is_there for part in parts if isinstance(part, FilePart))


def is_handed_over(name: str) -> bool:
    """Return True if a file of this name was handed over by a sender."""
    return _NAME.fullmatch(name) is not None


def checked(name: str) -> str:
    """Return the name, or raise ValueError if no file in these folders can have it."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name[:60]!r} cannot be the name of a file that is handed over")
    return name


def swept_names(root: str) -> Iterator[str]:
    """Return the names of the files in `incoming`."""
    try:
        found = list(Path(f"{root}/{INCOMING}").iterdir())
    except OSError:
        return
    yield from (path.name for path in found if _NAME.fullmatch(path.name))
