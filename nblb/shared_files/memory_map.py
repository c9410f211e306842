"""Private memory mappings of files, and a test whether one has been written to."""

from __future__ import annotations

import ctypes
import mmap
import os
import sys
import weakref
from functools import cache
from typing import Any

from nblb.protocol.framing import Buffer

_PAGE = mmap.PAGESIZE


def private_memory(fd: int, at: int, nbytes: int, source: object = None) -> memoryview:
    """Return a part of a file as copy-on-write memory, without an open descriptor, since there may be thousands.

    `untouched` returns `source` for this memory.
    """
    start = at - at % _PAGE
    length = at - start + nbytes
    address = _libc().mmap(None, length, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_PRIVATE, fd, start)
    if address == ctypes.c_void_p(-1).value:
        number = ctypes.get_errno()
        raise OSError(number, f"{nbytes:,} bytes of a file cannot be mapped: {os.strerror(number)}")
    memory = (ctypes.c_ubyte * length).from_address(address)
    unmap = weakref.finalize(memory, _unmap, address, length, address + at - start)
    unmap.atexit = False  # its memory may be needed until the interpreter ends
    if source is not None:
        _sources[address + at - start] = source, nbytes
    return memoryview(memory)[at - start :].cast("B")


_sources: dict[int, tuple[object, int]] = {}  # address of a mapping -> source, and size


def _unmap(address: int, length: int, place: int) -> None:
    _sources.pop(place, None)
    _libc().munmap(address, length)


def untouched(buffer: Buffer) -> object:
    """Return the source of which this memory (or its beginning) is an unchanged mapping, else None."""
    address, nbytes = address_of(buffer), memoryview(buffer).nbytes
    source, length = _sources.get(address, (None, 0))
    return source if source is not None and nbytes <= length and _is_unwritten(address, nbytes) else None


def _is_unwritten(address: int, nbytes: int) -> bool:
    """Return True if each page of a private mapping is the file's, or was never accessed; False if that is unknown."""
    first, end = address // _PAGE, -(-(address + nbytes) // _PAGE)
    try:
        fd = os.open("/proc/self/pagemap", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        words = os.pread(fd, 8 * (end - first), 8 * first)
    except OSError:
        return False
    finally:
        os.close(fd)
    if sys.byteorder != "little" or len(words) != 8 * (end - first):
        return False
    # The first bits of a page's entry: present, swapped, of a file. A written page is a copy, and no longer of a file.
    return all(bits & 0xC0 == 0 or bits & 0xE0 == 0xA0 for bits in set(words[7::8]))


class _Address(ctypes.Structure):
    """CPython's Py_buffer, from which the address is read."""

    _fields_ = (
        ("address", ctypes.c_void_p),
        ("object", ctypes.c_void_p),
        ("length", ctypes.c_ssize_t),
        ("rest", ctypes.c_byte * 128),  # more than the struct has
    )


def address_of(buffer: Buffer) -> int:
    """Return the address of a buffer's bytes, of a read-only buffer, too."""
    found = _Address()
    ctypes.pythonapi.PyObject_GetBuffer(ctypes.py_object(buffer), ctypes.byref(found), 0)
    try:
        return int(found.address or 0)
    finally:
        ctypes.pythonapi.PyBuffer_Release(ctypes.byref(found))


def are_equal(one: Buffer, other: Buffer) -> bool:
    """Return True if two buffers of one size have the same bytes, at the speed of memory."""
    return bool(_libc().memcmp(address_of(one), address_of(other), memoryview(one).nbytes) == 0)


@cache
def _libc() -> Any:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [
        ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long
    ]  # fmt: skip
    libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    libc.memcmp.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t]
    return libc
