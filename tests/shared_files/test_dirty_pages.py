"""Memory that the kernel reports as unwritten is not read again, and no change is ever missed."""

from __future__ import annotations

import ctypes
import gc
import mmap
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nblb.protocol.framing import Buffer
from nblb.shared_files import dirty_pages, memory_map
from nblb.shared_files.dirty_pages import SMALLEST, are_same
from nblb.shared_files.memory_map import address_of

PAGE = mmap.PAGESIZE
HUGE = 2 * 1024 * 1024
SIZE = 4 * HUGE
MIDDLE = SIZE // 2 + PAGE + 100


@pytest.fixture(autouse=True)
def afresh() -> Iterator[None]:
    forget()
    yield
    forget()


def forget() -> None:
    """As a process that has watched nothing yet."""
    if dirty_pages._opened is not None:
        os.close(dirty_pages._opened[0])
    dirty_pages._start_anew()


@pytest.fixture
def compared(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of what was read and compared; the sample, which would see much of what tests change, is blind."""
    sizes: list[int] = []

    def are_equal(one: Buffer, other: Buffer) -> bool:
        sizes.append(memoryview(one).nbytes)
        return memory_map.are_equal(one, other)

    monkeypatch.setattr(dirty_pages, "are_equal", are_equal)
    monkeypatch.setattr(dirty_pages, "_SAMPLE", SIZE)
    monkeypatch.setattr("nblb.shared_files.dirty_pages.random.randrange", lambda _: SIZE)
    return sizes


@pytest.fixture
def able(compared: list[int]) -> None:
    buffer, copy = bytearray(2 * SMALLEST), memoryview(bytearray(2 * SMALLEST))
    assert are_same(buffer, copy)
    if not dirty_pages._watched:
        pytest.skip("this kernel does not say which pages were written to, or not to this user")
    compared.clear()


def filled() -> bytearray:
    return bytearray(b"nblb" * (SIZE // 4))


def copy_of(buffer: Buffer) -> memoryview:
    return memoryview(bytearray(memoryview(buffer).cast("B")))


def private(huge: bool) -> mmap.mmap:
    memory = mmap.mmap(-1, SIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.madvise(mmap.MADV_HUGEPAGE if huge else mmap.MADV_NOHUGEPAGE)
    memory[:] = bytes(filled())
    return memory


def watch(buffer: Buffer, compared: list[int]) -> memoryview:
    """A copy that the kernel vouches for from now on."""
    copy = copy_of(buffer)
    assert are_same(buffer, copy)
    assert are_same(buffer, copy)
    assert compared == [len(copy)]
    compared.clear()
    return copy


@pytest.mark.usefixtures("able")
def test_what_was_not_written_to_is_not_read_again(compared: list[int]) -> None:
    buffer = filled()
    copy = watch(buffer, compared)
    assert bytes(memoryview(buffer)[:PAGE]) == bytes(copy[:PAGE])  # reading is not writing
    for _ in range(20):
        assert are_same(buffer, copy)
    assert compared == []
    assert are_same(buffer, copy_of(buffer))  # another copy is
    assert compared == [SIZE]


def by_index(at: int) -> Callable[[Buffer, Path], None]:
    def change(buffer: Buffer, _folder: Path) -> None:
        memoryview(buffer)[at] ^= 1

    return change


def by_thread(buffer: Buffer, folder: Path) -> None:
    thread = threading.Thread(target=by_index(MIDDLE), args=(buffer, folder))
    thread.start()
    thread.join()


def by_c(buffer: Buffer, _folder: Path) -> None:
    ctypes.memset(address_of(buffer) + MIDDLE, 0, 3)


def by_readinto(buffer: Buffer, folder: Path) -> None:
    (folder / "bytes").write_bytes(b"12345")
    with open(folder / "bytes", "rb", buffering=0) as file:
        assert file.readinto(memoryview(buffer)[MIDDLE : MIDDLE + 5]) == 5


def by_socket(buffer: Buffer, _folder: Path) -> None:
    one, other = socket.socketpair()
    with one, other:
        one.send(b"12345")
        assert other.recv_into(memoryview(buffer)[MIDDLE : MIDDLE + 5]) == 5


def by_debugger(buffer: Buffer, _folder: Path) -> None:
    with open("/proc/self/mem", "r+b", buffering=0) as memory:
        memory.seek(address_of(buffer) + MIDDLE)
        memory.write(b"12345")


def by_dropping(at: int, nbytes: int) -> Callable[[Buffer, Path], None]:
    def change(buffer: Buffer, _folder: Path) -> None:
        start = -(-(address_of(buffer) + at) // nbytes) * nbytes
        assert start + nbytes < address_of(buffer) + SIZE
        libc = ctypes.CDLL(None)
        assert libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(nbytes), mmap.MADV_DONTNEED) == 0

    return change


def by_mapping_over(buffer: Buffer, _folder: Path) -> None:
    libc = ctypes.CDLL(None)
    libc.mmap.restype = ctypes.c_void_p
    place = -(-(address_of(buffer) + HUGE) // PAGE) * PAGE
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x10  # MAP_FIXED
    arguments = ctypes.c_void_p(place), ctypes.c_size_t(PAGE), mmap.PROT_READ | mmap.PROT_WRITE, flags, -1
    assert libc.mmap(*arguments, ctypes.c_long(0)) == place


CHANGES = {
    "middle": by_index(MIDDLE),
    "first byte": by_index(0),
    "last byte": by_index(SIZE - 1),
    "first whole page": by_index(PAGE),
    "last whole page": by_index(SIZE - PAGE - 1),
    "thread": by_thread,
    "C": by_c,
    "readinto": by_readinto,
    "socket": by_socket,
    "debugger": by_debugger,
    "dropped page": by_dropping(MIDDLE, PAGE),
    "dropped page table": by_dropping(100, HUGE),
    "mapped over": by_mapping_over,
}


@pytest.mark.usefixtures("able")
@pytest.mark.parametrize("memory", ["bytearray", "small pages", "huge pages"])
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_every_change_is_seen(
    memory: str, change: Callable[[Buffer, Path], None], compared: list[int], tmp_path: Path
) -> None:
    buffer = filled() if memory == "bytearray" else private(huge=memory == "huge pages")
    copy = watch(buffer, compared)
    change(buffer, tmp_path)
    assert not are_same(buffer, copy)
    assert not are_same(buffer, copy)
    assert are_same(buffer, copy_of(buffer))


@pytest.mark.usefixtures("able")
def test_a_write_while_it_is_compared_is_seen_the_next_time(
    compared: list[int], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    buffer = filled()
    copy = copy_of(buffer)

    def are_equal(one: Buffer, other: Buffer) -> bool:
        equal = memory_map.are_equal(one, other)
        by_thread(buffer, tmp_path)
        return equal

    with monkeypatch.context() as during:
        during.setattr(dirty_pages, "are_equal", are_equal)
        assert are_same(buffer, copy)
    assert not are_same(buffer, copy)


@pytest.mark.usefixtures("able")
def test_a_watch_ends_those_it_shares_a_page_with(compared: list[int]) -> None:
    buffer = filled()
    copy = watch(buffer, compared)
    buffer[MIDDLE] ^= 1
    part = memoryview(buffer)[PAGE:]
    other = watch(part, compared)  # which protects anew what was written to
    assert not are_same(buffer, copy)
    assert are_same(part, other)


@pytest.mark.usefixtures("able")
@pytest.mark.parametrize("writer", ["child", "parent"])
def test_a_forked_child_watches_for_itself(writer: str, compared: list[int]) -> None:
    buffer = private(huge=False)
    copy = watch(buffer, compared)
    go_on, tell = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.read(go_on, 1)
            if writer == "child":
                buffer[MIDDLE] = 0
            right = are_same(buffer, copy) is (writer == "parent") and len(compared) == 1
            os._exit(0 if right else 1)
        finally:
            os._exit(2)
    if writer == "parent":
        buffer[MIDDLE] = 0
    os.write(tell, b"g")
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert are_same(buffer, copy) is (writer == "child")
    assert compared == ([] if writer == "child" else [SIZE])
    for fd in (go_on, tell):
        os.close(fd)


@pytest.mark.usefixtures("able")
@pytest.mark.parametrize("kind", ["shared", "file, shared", "file, private"])
def test_memory_that_others_reach_is_compared_each_time(kind: str, compared: list[int], tmp_path: Path) -> None:
    if kind == "shared":
        memory = mmap.mmap(-1, SIZE)
    else:
        (tmp_path / "file").write_bytes(bytes(SIZE))
        flags = mmap.MAP_SHARED if kind == "file, shared" else mmap.MAP_PRIVATE
        with open(tmp_path / "file", "r+b") as file:
            memory = mmap.mmap(file.fileno(), SIZE, flags=flags)
    copy = copy_of(memory)
    assert [are_same(memory, copy) for _ in range(3)] == [True] * 3
    assert compared == [SIZE] * 3
    assert address_of(memory) not in {key[0] for key in dirty_pages._watched}


@pytest.mark.usefixtures("able")
def test_what_is_watched_can_grow(compared: list[int]) -> None:
    buffer = filled()
    copy = watch(buffer, compared)
    buffer.extend(bytes(SIZE))
    assert buffer[:SIZE] == copy
    del buffer[SIZE:]
    buffer[MIDDLE] ^= 1
    assert not are_same(buffer, copy)
    anonymous = private(huge=False)
    compared.clear()
    kept = watch(anonymous, compared)
    anonymous.resize(2 * SIZE)
    assert anonymous[:SIZE] == kept


@pytest.mark.usefixtures("able")
def test_a_watch_goes_with_the_copy(compared: list[int]) -> None:
    buffer = filled()
    copy = watch(buffer, compared)
    key = address_of(buffer), SIZE
    assert key in dirty_pages._watched
    del copy
    gc.collect()
    assert key not in dirty_pages._watched


@pytest.mark.usefixtures("able")
def test_what_is_written_to_again_and_again_is_soon_left_alone() -> None:
    buffer, watched = filled(), 0
    for number in range(60):
        buffer[MIDDLE] = number
        copy = copy_of(buffer)
        assert are_same(buffer, copy)
        watched += (address_of(buffer), SIZE) in dirty_pages._watched
    assert 1 <= watched <= 6


@pytest.mark.usefixtures("able")
@pytest.mark.parametrize("fault", ["no such call", "not allowed", "no page map", "closed"])
def test_without_the_kernel_everything_is_compared(
    fault: str, compared: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> int:
        raise PermissionError(1, "Operation not permitted")

    buffer = filled()
    copy = watch(buffer, compared)
    if fault == "no such call":
        monkeypatch.setattr(dirty_pages, "_SYSCALL", None)
    elif fault == "not allowed":
        forget()
        monkeypatch.setattr(dirty_pages, "_userfaultfd", refuse)
    elif fault == "no page map":
        monkeypatch.setattr(dirty_pages, "_scan", refuse)
    else:
        assert dirty_pages._opened is not None
        os.close(dirty_pages._opened[0])
    assert are_same(buffer, copy)
    assert are_same(buffer, copy)
    assert compared == [SIZE] * 2
    buffer[MIDDLE] ^= 1
    assert not are_same(buffer, copy)
    if fault == "closed":
        dirty_pages._opened = None


def test_a_device_that_fills_a_buffer_is_seen_by_the_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    buffer = filled()
    copy = copy_of(buffer)
    assert are_same(buffer, copy)
    monkeypatch.setattr(dirty_pages, "_is_unwritten", lambda _: True)
    monkeypatch.setattr(dirty_pages, "are_equal", lambda *_: True)
    for at in range(0, SIZE, 64 * 1024):
        buffer[at : at + 64 * 1024] = bytes(64 * 1024)
    assert not are_same(buffer, copy)


@pytest.mark.usefixtures("able")
@settings(deadline=None, max_examples=40, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    writes=st.lists(st.tuples(st.integers(0, SMALLEST + 5000), st.integers(0, 9), st.integers(0, 255)), max_size=8),
    start=st.integers(0, PAGE + 1),
)
def test_random_writes(writes: list[tuple[int, int, int]], start: int) -> None:
    dirty_pages._restless.clear()
    buffer = bytearray(start + SMALLEST + 5000)
    view = memoryview(buffer)[start:]
    copy = copy_of(view)
    assert are_same(view, copy)
    for at, length, value in writes:
        at = min(at, len(view) - length)
        view[at : at + length] = bytes([value]) * length
        assert are_same(view, copy) == (view == copy)
