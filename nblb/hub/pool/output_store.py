"""The store of task output and displays: files (shared_files/output_log.py) with head and tail up to a bound.

The hub writes them itself, so that output does not pass through the core. Output has the lowest priority: none is
written to a nearly full disk, which leaves space for the journal, and omitted output is counted where it is missing.
"""

from __future__ import annotations

import contextlib
import os
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic

from nblb.hub.pool.worker_handle import Key, WorkerHandle
from nblb.protocol.framing import Payload
from nblb.protocol.messages import OutputKept
from nblb.shared_files.output_log import CHUNK, HEAD, MAGIC, STREAMS, folder_name, remove_folder, segments
from nblb.shared_files.transfer import BY_FILE, Folder

RESERVE_BYTES = 256 * 1024 * 1024  # disk space that output leaves to the journal …
RESERVE_SHARE = 20  # … or this fraction (1/n) of a small disk
TAIL_SEGMENTS = 4  # segments in which the tail is dropped
EVICTED_TO = 0.9  # of the total bound
AGAIN_S = 1.0  # until the next attempt after a refused write
SCANNED_AT_ONCE = 20
SHOWN_SHARE = 4  # displays may use this fraction (1/n) of the bound for text
STREAM_NUMBER = {name: number for number, name in enumerate(STREAMS)}


class SliceFile:
    """The output of one kind of one attempt at a slice, in segments of at most `most` bytes in total."""

    def __init__(self, folder: str, key: Key, kind: str, most: int, sync: bool) -> None:
        task, first, attempt = key
        self._what = folder, key, kind
        self._place = Path(folder) / folder_name(task)
        self._stem = f"{self._place}/{first}-{attempt}.{kind}."
        self._most, self._sync = most, sync
        self._fd = -1
        self._size = 0  # of the open segment, without its head
        self._held = 0  # in all existing segments
        self._end = 0  # length of the output, kept or not
        self._number = -1
        self._tail: list[tuple[int, int]] = []  # (number, size) of the segments behind the first
        self._refused_at: float | None = None

    def _take_up(self) -> None:
        """Continue behind earlier output, when late output arrives."""
        folder, (task, first, attempt), kind = self._what
        for segment in segments(folder, task, kind):
            if (segment.first, segment.attempt) == (first, attempt):
                with open(segment.path, "rb") as file:
                    head = file.read(HEAD.size)
                    size = max(0, os.fstat(file.fileno()).st_size - HEAD.size)
                self._number = segment.number
                self._held += size
                if len(head) == HEAD.size:
                    self._end = max(self._end, HEAD.unpack(head)[1] + size)
                if segment.number:
                    self._tail.append((segment.number, size))

    def write(self, item: int, stream: str, data: bytes, is_refused: bool) -> int:
        """Append a chunk; return the growth on disk. Raises OSError at the first refused write."""
        now = monotonic()
        wait = self._refused_at is not None and now < self._refused_at + AGAIN_S
        if is_refused or wait:
            self._refuse(len(data), now if is_refused else None)
            return 0
        freed = self._make_room(CHUNK.size + len(data))
        chunk = CHUNK.pack(len(data), item, STREAM_NUMBER[stream])
        try:
            if self._fd < 0:
                self._open()
            written = os.writev(self._fd, [chunk, data])
            if written < len(chunk) + len(data):
                os.ftruncate(self._fd, HEAD.size + self._size)
                raise OSError("no room for all of it")
        except OSError:
            self._refuse(len(data), now)
            raise
        self._size += written
        self._held += written
        self._end += written
        return written - freed

    def _refuse(self, length: int, now: float | None) -> None:
        """Count output that is not kept; the next segment's head contains the number."""
        self._end += CHUNK.size + length
        if now is not None:
            self._refused_at = now
        self.close()

    def _make_room(self, length: int) -> int:
        """Begin a new segment if this one is full, and drop the oldest of a too long tail; return the bytes freed."""
        limit = self._most // 2 if self._number <= 0 else self._most // (2 * TAIL_SEGMENTS)
        if self._fd >= 0 and self._size >= limit:
            self.close()
        freed = 0
        while self._tail and self._held + length > self._most:
            number, size = self._tail.pop(0)
            freed += size
            self._held -= size
            with contextlib.suppress(OSError):
                Path(f"{self._stem}{number}").unlink()
        return freed

    def _open(self) -> None:
        try:
            self._fd = self._make()
        except FileNotFoundError:
            self._place.mkdir(0o700)
            self._fd = self._make()
        except FileExistsError:
            self._take_up()
            self._fd = self._make()
        self._number, self._size, self._refused_at = self._number + 1, 0, None
        os.write(self._fd, HEAD.pack(MAGIC, self._end))

    def _make(self) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
        return os.open(f"{self._stem}{self._number + 1}", flags, 0o600)

    def close(self) -> None:
        if self._fd < 0:
            return
        if self._sync:
            with contextlib.suppress(OSError):
                os.fsync(self._fd)
                _sync_folder(self._place)
        os.close(self._fd)
        self._fd = -1
        if self._number:
            self._tail.append((self._number, self._size))


def _sync_folder(path: Path) -> None:
    """Make the names of a new file and its folder survive a power loss."""
    for each in (path, path.parent):
        fd = os.open(each, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


class OutputStore:
    """All output files of a hub. It keeps nothing before the core has named a folder on this machine (`open`)."""

    def __init__(self, max_mb: int, total_mb: int, sync: bool, log: Callable[[str, str], None]) -> None:
        self._most, self._total, self._sync, self._log = max_mb << 20, total_mb << 20, sync, log
        self._folder = ""
        self._is_own = False  # it is a folder of this hub, whose files go to the core at the end of each slice
        self._handover: Folder | None = None  # the folder through which large ones go
        self._reserve = 0
        self._sizes: OrderedDict[str, int] = OrderedDict()  # by submission's folder, the latest last
        self._nbytes = 0
        self._scan: Iterator[os.DirEntry[str]] | None = None
        self._told_at = float("-inf")

    @classmethod
    def none(cls) -> OutputStore:
        """Return a store that keeps nothing."""
        return cls(0, 0, False, lambda *_: None)

    def open(self, folder: str, own: Callable[[], str] = lambda: "", handover: Folder | None = None) -> None:
        """Use the folder that the core created; without access to it, this hub is another computer's or account's.

        Such a hub writes to a folder of its own, `own()`, and what is there is sent to the core with the end of each
        slice: through `handover` if it is large, and if there is one.
        """
        if not self._most:
            return
        is_seen = bool(folder) and os.access(folder, os.W_OK) and Path(folder).is_dir()
        self._is_own, self._handover = not is_seen, handover
        chosen = folder if is_seen else own()
        if chosen == self._folder:
            return
        self._folder = folder = chosen
        if self._folder:
            about = os.statvfs(folder)
            self._reserve = min(RESERVE_BYTES, about.f_blocks * about.f_frsize // RESERVE_SHARE)
            self._sizes.clear()
            self._nbytes = 0
            self._scan = os.scandir(folder)

    def write(self, handle: WorkerHandle, key: Key, item: int, stream: str, data: bytes) -> None:
        """Write output; errors of the disk do not stop the task."""
        if not self._folder:
            return
        if handle.kept_key != key:
            self.end(handle)
            handle.kept_key = key
        kind = "shown" if stream == "display" else "said"
        file = handle.kept.get(kind)
        if file is None:
            most = self._most // SHOWN_SHARE if kind == "shown" else self._most
            file = handle.kept[kind] = SliceFile(self._folder, key, kind, most, self._sync)
        try:
            self._count(key[0], file.write(item, stream, data, self._is_nearly_full()))
        except OSError as error:
            if monotonic() - self._told_at > 60:
                self._told_at = monotonic()
                self._log("warning", f"output of tasks cannot be kept in {self._folder}: {error.strerror or error}")

    def end(self, handle: WorkerHandle) -> list[OutputKept]:
        """Close the files of a slice that has ended, and return those that go to the core.

        Later output is still appended, but not sent to a core elsewhere.
        """
        messages: list[OutputKept] = []
        for kind, file in handle.kept.items():
            file.close()
            if self._is_own:
                with contextlib.suppress(OSError):  # a full disk: the tail that was sent live is all there is
                    messages += self._sent(handle.kept_key, kind)
        if self._is_own and handle.kept:
            self._forget(handle.kept_key[0])
        handle.kept.clear()
        return messages

    def _sent(self, key: Key, kind: str) -> Iterator[OutputKept]:
        """Yield a message with each segment of a slice's output, whose file is removed."""
        task, first, attempt = key
        for segment in segments(self._folder, task, kind):
            if (segment.first, segment.attempt) != (first, attempt):
                continue
            nbytes = Path(segment.path).stat().st_size
            if self._handover is not None and nbytes >= BY_FILE:
                payload = Payload.of([self._handover.take_in(segment.path, nbytes)])
            else:
                payload = Payload([Path(segment.path).read_bytes()])
            Path(segment.path).unlink()
            yield OutputKept(
                task=task, attempt=attempt, first=first, kind=kind, numbers=(segment.number,), payload=payload
            )

    def _forget(self, record: str) -> None:
        """Remove a submission's folder that has become empty."""
        with contextlib.suppress(OSError):
            (Path(self._folder) / folder_name(record)).rmdir()
            self._nbytes -= self._sizes.pop(folder_name(record), 0)

    def _is_nearly_full(self) -> bool:
        try:
            about = os.statvfs(self._folder)
        except OSError:
            return True
        return about.f_bavail * about.f_frsize < self._reserve

    # ── the total bound ──

    def _count(self, record: str, grown: int) -> None:
        name = folder_name(record)
        self._sizes[name] = self._sizes.get(name, 0) + grown
        self._sizes.move_to_end(name)
        self._nbytes += grown
        if self._scan is not None:
            self._scan_on(self._scan)
        if self._nbytes > self._total:
            self._evict(name)

    def _scan_on(self, scan: Iterator[os.DirEntry[str]]) -> None:
        """Measure the existing files, a few at each write."""
        for _ in range(SCANNED_AT_ONCE):
            entry = next(scan, None)
            if entry is None:
                self._scan = None
                return
            if entry.name not in self._sizes:
                with contextlib.suppress(OSError):
                    self._sizes[entry.name] = held = sum(each.stat().st_size for each in os.scandir(entry.path))
                    self._sizes.move_to_end(entry.name, last=False)
                    self._nbytes += held

    def _evict(self, latest: str) -> None:
        """Remove output of tasks that the core has dropped, then the output written longest ago."""
        folder = Path(self._folder)
        for name in [name for name in self._sizes if not (folder / name).is_dir()]:
            self._nbytes -= self._sizes.pop(name)
        while self._nbytes > self._total * EVICTED_TO:
            name = next(iter(self._sizes))
            if name == latest:
                return
            self._nbytes -= self._sizes.pop(name)
            remove_folder(folder / name)
