"""Detects through the kernel whether a buffer was written to since its last comparison, to save reading it again.

Linux 6.7 and later can write-protect pages and lift the protection at the first write (userfaultfd's asynchronous
mode); a scan of the page table then finds the pages that are still protected. Before a large buffer is compared with
its copy, its pages are protected; while all of them still are, the result of the comparison holds. Writes by any
thread, by C code and by system calls all go through the page table.

In doubt, and where the kernel cannot do this, the bytes are compared. Hence:

- only private anonymous memory is watched: writes through the pages of another process or a device are not detected;
- a page counts as unwritten only if it is present, protected and anonymous. A page that was dropped, moved or swapped
  does not count, because some kernels report a dropped page as unwritten;
- a new watch ends every other watch that shares a page with it, because protecting a page again hides earlier writes;
- a forked child inherits no watch;
- the bytes before the first whole page and after the last one are compared each time.

Writes that bypass the page table, by a device into pages that a driver has pinned, are not detected. So buffers are
compared while the kernel counts pinned pages in this process, and when a sample of one word in each 64 KiB, at another
place each time, differs: this detects a device that fills a buffer, but perhaps not one that changes a few bytes.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import mmap
import os
import random
import struct
import sys
import threading
import weakref

from nblb.protocol.framing import Buffer
from nblb.shared_files.memory_map import address_of, are_equal

SMALLEST = 1024 * 1024  # bytes: comparing a smaller buffer is as fast
MOST_RESTLESS = 64  # buffers on record as frequently written to
LONGEST_WAIT = 31  # comparisons before such a buffer is watched again
WORTH = 4  # comparisons that a watch should save
_SAMPLE = 64 * 1024 // 8  # one in this many words is compared

_PAGE = mmap.PAGESIZE
_SYSCALL = {"x86_64": 323, "aarch64": 282}.get(os.uname().machine) if sys.maxsize > 2**32 else None
_USER_MODE_ONLY = 1
_API, _WP_UNPOPULATED, _WP_ASYNC, _MODE_WP = 0xAA, 1 << 13, 1 << 15, 1 << 1
_UFFDIO_API, _UFFDIO_REGISTER, _UFFDIO_UNREGISTER = 0xC018AA3F, 0xC020AA00, 0x8010AA01
_PAGEMAP_SCAN, _WP_MATCHING, _CHECK_WPASYNC = 0xC0606610, 1, 2
_WPALLOWED, _IS_WRITTEN, _IS_FILE, _IS_PRESENT = 1, 2, 4, 8


class _Unable(Exception):
    """Raised when the kernel or the memory does not allow a watch."""


_Key = tuple[int, int]  # the address of a buffer and its size


class _Watched:
    """The whole pages of one buffer, which are protected."""

    def __init__(self, start: int, end: int, key: _Key, copy: Buffer) -> None:
        self.start, self.end, self.copy = start, end, weakref.ref(copy)
        self.finalizer = weakref.finalize(copy, _end, key)
        self.finalizer.atexit = False
        self.proved = False  # found equal to the copy since it was protected
        self.saved = 0  # number of comparisons saved


_lock = threading.RLock()  # reentrant: a copy may be collected at any moment, which ends its watch
_watched: dict[_Key, _Watched] = {}
_restless: dict[_Key, tuple[int, int]] = {}  # comparisons to wait for, and how many of them are left
_opened: tuple[int, int] | None = None  # the userfaultfd and its process


def are_same(buffer: Buffer, copy: Buffer) -> bool:
    """Return True if a buffer equals its copy, which never changes; read it only if the kernel cannot answer that."""
    key = address_of(buffer), memoryview(buffer).nbytes
    if key[1] < SMALLEST or _SYSCALL is None:
        return are_equal(buffer, copy)
    if not _is_alike(_view(*key), _view(address_of(copy), key[1])):
        return False
    with _lock:
        watched = _watched.get(key)
        if watched is not None and watched.proved and watched.copy() is copy and _is_unwritten(watched):
            watched.saved += 1
            return True
        _end(key)
        watched = _begin(key, copy)  # before the comparison, so that concurrent writes are detected
    equal = are_equal(buffer, copy)
    with _lock:
        if watched is not None and _watched.get(key) is watched:
            watched.proved = equal
            if not equal:
                _end(key)
    return equal


def _view(address: int, nbytes: int) -> memoryview:
    """Return the memory at an address as bytes."""
    return memoryview((ctypes.c_ubyte * nbytes).from_address(address)).cast("B")


def _is_alike(one: memoryview, other: memoryview) -> bool:
    """Return True if the edges and a sample are equal; the sample is at another place each time."""
    words, first = one.nbytes // 8 * 8, random.randrange(_SAMPLE)
    sampled = [part[:words].cast("Q")[first::_SAMPLE] for part in (one, other)]
    return one[:_PAGE] == other[:_PAGE] and one[-_PAGE:] == other[-_PAGE:] and sampled[0] == sampled[1]


def _begin(key: _Key, copy: Buffer) -> _Watched | None:
    """Protect the buffer, unless that is impossible, or writes have soon followed each time."""
    wait, left = _restless.get(key, (0, 0))
    if left:
        _restless[key] = wait, left - 1
        return None
    start, end = -(-key[0] // _PAGE) * _PAGE, (key[0] + key[1]) // _PAGE * _PAGE
    for other, watched in list(_watched.items()):
        if watched.start < end and start < watched.end:
            _end(other)
    try:
        if not _is_private(start, end):
            raise _Unable
        _ioctl(_userfaultfd(), _UFFDIO_REGISTER, struct.pack("=4Q", start, end - start, _MODE_WP, 0))
        watched = _Watched(start, end, key, copy)
        _watched[key] = watched
        if _scan(start, end, _WP_MATCHING | _CHECK_WPASYNC) is None:
            raise _Unable
    except (OSError, TypeError, _Unable):  # TypeError: the end of the copy cannot be watched
        _end(key)
        _be_patient(key, LONGEST_WAIT)
        return None
    return watched


def _end(key: _Key) -> None:
    with _lock:
        watched = _watched.pop(key, None)
        if watched is None:
            return
        watched.finalizer.detach()
        if watched.proved and watched.saved < WORTH:
            _be_patient(key, 2 * _restless.get(key, (0, 0))[0] + 1)
        elif watched.proved:
            _restless.pop(key, None)
        if _opened is not None and _opened[1] == os.getpid():
            with contextlib.suppress(OSError):  # the memory may be unmapped
                _ioctl(_opened[0], _UFFDIO_UNREGISTER, struct.pack("=2Q", watched.start, watched.end - watched.start))


def _be_patient(key: _Key, wait: int) -> None:
    _restless[key] = (min(wait, LONGEST_WAIT),) * 2
    while len(_restless) > MOST_RESTLESS:
        del _restless[next(iter(_restless))]


def _is_unwritten(watched: _Watched) -> bool:
    """Return True if every page is present, anonymous and still protected, and the process has no pinned pages."""
    if _opened is None or _opened[1] != os.getpid():
        return False
    try:
        with open("/proc/self/status", "rb") as status:
            pinned = next((line.split()[1] for line in status if line.startswith(b"VmPin:")), b"?")
        return pinned == b"0" and _scan(watched.start, watched.end, _CHECK_WPASYNC) == (watched.start, watched.end)
    except OSError:
        return False


def _scan(start: int, end: int, flags: int) -> tuple[int, int] | None:
    """Protect all pages, or find the first range of pages still protected; return None if the scan stopped early."""
    region = (ctypes.c_uint64 * 3)()
    if flags & _WP_MATCHING:
        wanted, inverted, vector = 0, 0, (0, 0)
    else:
        wanted, inverted = _WPALLOWED | _IS_WRITTEN | _IS_FILE | _IS_PRESENT, _IS_WRITTEN | _IS_FILE
        vector = ctypes.addressof(region), 1
    argument = struct.pack("=12Q", 96, flags, start, end, 0, *vector, 0, inverted, wanted, 0, 0)
    fd = os.open("/proc/self/pagemap", os.O_RDONLY | os.O_CLOEXEC)
    try:
        answer = struct.unpack("=12Q", _ioctl(fd, _PAGEMAP_SCAN, argument))
    finally:
        os.close(fd)
    if flags & _WP_MATCHING:
        return (start, end) if answer[4] == end else None
    return int(region[0]), int(region[1])


def _is_private(start: int, end: int) -> bool:
    """Return True if a range is private anonymous memory of this process."""
    with open("/proc/self/maps", "rb") as maps:
        for line in maps:
            bounds, mode, _, device, inode, *name = line.split(maxsplit=5)
            first, last = (int(bound, 16) for bound in bounds.split(b"-"))
            if last <= start:
                continue
            if first > start:
                return False  # a hole
            named = name[0].strip() if name else b""
            plain = named in (b"", b"[heap]") or named.startswith(b"[anon:")
            if mode[:2] != b"rw" or mode[3:4] != b"p" or (device, inode) != (b"00:00", b"0") or not plain:
                return False
            start = last
            if start >= end:
                return True
    return False


def _userfaultfd() -> int:
    """Return the process's userfaultfd, opened at the first call."""
    global _opened
    if _opened is not None and _opened[1] == os.getpid():
        return _opened[0]
    if _SYSCALL is None or not sys.platform.startswith("linux"):
        raise _Unable
    fd = ctypes.CDLL(None, use_errno=True).syscall(_SYSCALL, os.O_CLOEXEC | os.O_NONBLOCK | _USER_MODE_ONLY)
    if fd < 0:
        raise OSError(ctypes.get_errno(), "userfaultfd")
    try:
        _ioctl(fd, _UFFDIO_API, struct.pack("=3Q", _API, _WP_ASYNC | _WP_UNPOPULATED, 0))
    except OSError:
        os.close(fd)
        raise
    _opened = fd, os.getpid()
    return int(fd)


def _ioctl(fd: int, request: int, argument: bytes) -> bytes:
    return fcntl.ioctl(fd, request, argument)


def _start_anew() -> None:
    """Reset in a forked child, where nothing is protected and the descriptor is the parent's.

    The descriptor is not closed, because its number may belong to another file by now.
    """
    global _lock, _opened
    _lock = threading.RLock()
    _watched.clear()
    _restless.clear()
    _opened = None


os.register_at_fork(after_in_child=_start_anew)
