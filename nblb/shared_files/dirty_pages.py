"""Whether memory was written to since it was last compared, as the kernel tells it, so that it need not be read again.

Linux since 6.7 can protect pages against writing and lift that by itself at the first write (userfaultfd's asynchronous
mode); a scan of the page table then says which pages are still protected. Before a large buffer is compared with its
copy, its pages are protected; as long as every one still is, the two are as equal as they were. Writes by any thread,
by C code and by system calls all go through the page table.

In doubt the bytes are compared, as they are where the kernel cannot do this. Hence:

- only private memory of no file: what another process or a device can reach by pages of its own stays unseen here;
- a page must be there, unwritten and of no file to count. One that was dropped, moved or swapped does not: some kernels
  call a dropped page unwritten;
- a new watch ends every other that shares a page with it, for protecting anew hides what was written before;
- a forked child watches nothing that its parent did;
- the bytes before the first whole page and after the last one are compared each time.

What is written past the page table, by a device into pages that a driver has pinned, is not seen. So nothing is taken
for equal while the kernel counts pinned pages in this process, nor when one word in each 64 KiB, at another place each
time, differs: a device that fills a buffer will not escape that, one that changes a few bytes of it might.
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

SMALLEST = 1024 * 1024  # what is smaller is as soon compared
MOST_RESTLESS = 64  # places of which it is known that they are written to again and again
LONGEST_WAIT = 31  # comparisons, before such a place is watched again
WORTH = 4  # comparisons that a watch should save
_SAMPLE = 64 * 1024 // 8  # words, of which one is compared

_PAGE = mmap.PAGESIZE
_SYSCALL = {"x86_64": 323, "aarch64": 282}.get(os.uname().machine) if sys.maxsize > 2**32 else None
_USER_MODE_ONLY = 1
_API, _WP_UNPOPULATED, _WP_ASYNC, _MODE_WP = 0xAA, 1 << 13, 1 << 15, 1 << 1
_UFFDIO_API, _UFFDIO_REGISTER, _UFFDIO_UNREGISTER = 0xC018AA3F, 0xC020AA00, 0x8010AA01
_PAGEMAP_SCAN, _WP_MATCHING, _CHECK_WPASYNC = 0xC0606610, 1, 2
_WPALLOWED, _IS_WRITTEN, _IS_FILE, _IS_PRESENT = 1, 2, 4, 8


class _Unable(Exception):
    """The kernel, or this memory, does not allow it."""


_Key = tuple[int, int]  # the address of a buffer and its size


class _Watched:
    """The whole pages of one buffer, protected."""

    def __init__(self, start: int, end: int, key: _Key, copy: Buffer) -> None:
        self.start, self.end, self.copy = start, end, weakref.ref(copy)
        self.finalizer = weakref.finalize(copy, _end, key)
        self.finalizer.atexit = False
        self.proved = False  # equal to the copy, at some time since it was protected
        self.saved = 0  # comparisons


_lock = threading.RLock()  # a copy may be collected, and its watch be ended, at any moment
_watched: dict[_Key, _Watched] = {}
_restless: dict[_Key, tuple[int, int]] = {}  # how many comparisons to wait for, and how many are left
_opened: tuple[int, int] | None = None  # the userfaultfd and the process it belongs to


def are_same(buffer: Buffer, copy: Buffer) -> bool:
    """Whether a buffer holds the bytes of its copy, which nobody writes to; read only if the kernel cannot vouch."""
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
        watched = _begin(key, copy)  # before comparing: what another thread writes meanwhile counts as written
    equal = are_equal(buffer, copy)
    with _lock:
        if watched is not None and _watched.get(key) is watched:
            watched.proved = equal
            if not equal:
                _end(key)
    return equal


def _view(address: int, nbytes: int) -> memoryview:
    """The bytes at a place, whatever the buffer there says that they are."""
    return memoryview((ctypes.c_ubyte * nbytes).from_address(address)).cast("B")


def _is_alike(one: memoryview, other: memoryview) -> bool:
    """Whether the edges and a sample are equal; the sample is at another place each time."""
    words, first = one.nbytes // 8 * 8, random.randrange(_SAMPLE)
    sampled = [part[:words].cast("Q")[first::_SAMPLE] for part in (one, other)]
    return one[:_PAGE] == other[:_PAGE] and one[-_PAGE:] == other[-_PAGE:] and sampled[0] == sampled[1]


def _begin(key: _Key, copy: Buffer) -> _Watched | None:
    """Protect the buffer, unless it cannot be, or was written to soon after each time."""
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
    except (OSError, TypeError, _Unable):  # or nobody can tell when the copy goes
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
            with contextlib.suppress(OSError):  # the memory may be gone
                _ioctl(_opened[0], _UFFDIO_UNREGISTER, struct.pack("=2Q", watched.start, watched.end - watched.start))


def _be_patient(key: _Key, wait: int) -> None:
    _restless[key] = (min(wait, LONGEST_WAIT),) * 2
    while len(_restless) > MOST_RESTLESS:
        del _restless[next(iter(_restless))]


def _is_unwritten(watched: _Watched) -> bool:
    """Whether every page is there, of no file and still protected, and no driver is known to have pinned any."""
    if _opened is None or _opened[1] != os.getpid():
        return False
    try:
        with open("/proc/self/status", "rb") as status:
            pinned = next((line.split()[1] for line in status if line.startswith(b"VmPin:")), b"?")
        return pinned == b"0" and _scan(watched.start, watched.end, _CHECK_WPASYNC) == (watched.start, watched.end)
    except OSError:
        return False


def _scan(start: int, end: int, flags: int) -> tuple[int, int] | None:
    """Protect all pages, or find the first stretch of such as are protected still; None if it stopped too early."""
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
    """Whether a range is memory that this process alone writes to, and of no file or device."""
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
    """The descriptor of this process, opened when it is first needed."""
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
    """In a forked child: nothing of it is protected, and the descriptor is the parent's.

    It stays open, which does no harm: by now its number may be another file's.
    """
    global _lock, _opened
    _lock = threading.RLock()
    _watched.clear()
    _restless.clear()
    _opened = None


os.register_at_fork(after_in_child=_start_anew)
